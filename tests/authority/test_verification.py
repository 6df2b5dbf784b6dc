# SPDX-License-Identifier: Apache-2.0
"""The leaves of a pool's authority pass TLS, on both sides; those of others, of other times and of no one do not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Role
from rserpool.identity.certificates import read_leaf
from rserpool.transport.tls import Credentials, TlsError, make_context
from support.rig_identity import CLIENT, HOUR, NOW, SERVER, Craft, authority, credentials, identity, shake_hands, usage

CA, OTHER, SAME_NAME = authority(), authority("other"), authority()
NAMES = [x509.UniformResourceIdentifier(str(identity()))]
REGISTRAR = credentials(CA, identity(Role.REGISTRAR))
MINUTE = timedelta(minutes=1)
BAD: dict[str, tuple[Credentials, str]] = {
    "expired": (Craft(names=NAMES, begin=NOW - 2 * HOUR, end=NOW - MINUTE).credentials(CA, CA), "it has expired"),
    "early": (Craft(names=NAMES, begin=NOW + HOUR, end=NOW + 2 * HOUR).credentials(CA, CA), "it is not valid yet"),
    "of another pool": (credentials(OTHER, identity()), "not signed by an authority of this pool"),
    "of an authority of the same name": (credentials(SAME_NAME, identity()), "certificate at depth 0"),
    "signed by itself": (Craft(names=NAMES).credentials(CA), "certificate at depth 0"),
    "a server's as a client": (
        Craft(names=NAMES, purposes=[SERVER]).credentials(CA, CA),
        "may not be used for this side",
    ),
}


def pair(client: Credentials, server: Credentials) -> tuple[bytes | None, bytes | None]:
    """Both with certificates: what the server sees of the client, and the client of the server."""
    contexts = (make_context(who, require_certificate=True) for who in (client, server))
    ours, theirs = shake_hands(*contexts)
    return theirs.peer_certificate, ours.peer_certificate


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER])
def test_a_member_and_a_registrar_of_one_pool_know_each_other(role: Role) -> None:
    seen, registrar = pair(credentials(CA, identity(role)), REGISTRAR)
    assert seen is not None
    assert registrar is not None
    assert read_leaf(seen).identity == identity(role)
    assert read_leaf(registrar).identity == identity(Role.REGISTRAR)


def test_a_user_cannot_play_a_server() -> None:
    with pytest.raises(TlsError, match="may not be used for this side"):
        pair(REGISTRAR, credentials(CA, identity(Role.USER)))


@pytest.mark.parametrize("what", BAD)
def test_a_client_with_a_bad_leaf_is_refused(what: str) -> None:
    bad, why = BAD[what]
    with pytest.raises(TlsError, match=why):
        pair(Credentials(bad.chain, REGISTRAR.bundle, bad.key), REGISTRAR)


@pytest.mark.parametrize("what", [what for what in BAD if "server's" not in what])
def test_a_server_with_a_bad_leaf_is_refused(what: str) -> None:
    bad, why = BAD[what]
    with pytest.raises(TlsError, match=why):
        pair(REGISTRAR, Credentials(bad.chain, REGISTRAR.bundle, bad.key))


def test_a_leaf_signs_no_other_leaf() -> None:
    """An element that certifies itself as a registrar with its own key."""
    element = Craft(names=NAMES)
    forged = Craft(names=[x509.UniformResourceIdentifier(str(identity(Role.REGISTRAR)))], purposes=[CLIENT, SERVER])
    issuer = element.certificate(CA)
    by_element = type(CA)(issuer, HOUR, element.key)
    chain = (forged.certificate(by_element), issuer)
    with pytest.raises(TlsError, match="certificate at depth"):
        pair(Credentials(chain, REGISTRAR.bundle, forged.key), REGISTRAR)


def test_an_authority_below_the_pools_signs_nothing_either() -> None:
    """Path length 0: even a certificate that says it is an authority's gives none."""
    below = Craft(
        names=None,
        constraints=x509.BasicConstraints(ca=True, path_length=None),
        usage=usage("key_cert_sign", "crl_sign"),
        purposes=None,
        subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "below")]),
    )
    issuer = below.certificate(CA)
    forged = Craft(names=NAMES)
    chain = (forged.certificate(type(CA)(issuer, HOUR, below.key)), issuer)
    with pytest.raises(TlsError, match="certificate at depth"):
        pair(Credentials(chain, REGISTRAR.bundle, forged.key), REGISTRAR)


def test_a_fresh_leaf_is_good_for_a_clock_that_is_a_little_behind() -> None:
    """Signed by an authority whose clock is four minutes ahead of ours."""
    ahead = credentials(CA, identity(), NOW + timedelta(minutes=4))
    assert pair(ahead, REGISTRAR)[0] == ahead.chain[0].public_bytes(serialization.Encoding.DER)
    with pytest.raises(TlsError, match="not valid yet"):
        pair(credentials(CA, identity(), NOW + timedelta(minutes=30)), REGISTRAR)
