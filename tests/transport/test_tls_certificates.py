# SPDX-License-Identifier: Apache-2.0
"""Whose certificates the TLS engine believes, and in which words it refuses the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.transport.tls import Credentials, TlsEngine, TlsError, make_context
from support.rig_transport import (
    CA,
    NOBODYS,
    OTHER_CA,
    PEM,
    Peer,
    authority,
    converse,
    credentials,
    peer_context,
    pem_of,
)

PAST = timedelta(hours=3)
OLD_CA = authority(ago=PAST)
FUTURE_CA = authority(ago=-PAST)


def met(own: Credentials, *, server: bool, required: bool = True, ours: Credentials | None = None) -> TlsEngine:
    """Our side's engine after it has met a peer with these credentials, which trusts whatever is needed."""
    ours = ours or credentials()
    engine = TlsEngine(make_context(ours, require_certificate=required), server=server)
    trusting = replace(own, bundle=(CA.certificate, OTHER_CA.certificate))
    peer = Peer(peer_context(trusting, server=not server), server=not server)
    converse(engine, peer)
    assert peer.error is None
    return engine


@pytest.mark.rfc("RFC 5352 9.2: element and registrar authenticate each other")
@pytest.mark.parametrize("server", [True, False], ids=["we serve", "we call"])
@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT])
def test_each_side_learns_the_others_leaf(server: bool, role: Role) -> None:
    own = credentials(role, 3)
    assert met(own, server=server).peer_certificate == own.chain[0].public_bytes(serialization.Encoding.DER)


def test_a_user_is_known_where_it_calls_and_may_not_serve() -> None:
    own = credentials(Role.USER)
    assert met(own, server=True).peer_certificate is not None
    with pytest.raises(TlsError, match="depth 0: it may not be used for this side"):
        met(own, server=False)


def test_who_shows_no_certificate_is_anonymous_where_that_is_allowed_and_refused_elsewhere() -> None:
    assert met(NOBODYS, server=True, required=False).peer_certificate is None
    with pytest.raises(TlsError, match="peer did not return a certificate"):
        met(NOBODYS, server=True, required=True)


BAD: list[tuple[str, Callable[[], Credentials], str]] = [
    ("another authority", lambda: credentials(signer=OTHER_CA), "not .*an authority of this pool"),
    ("expired", lambda: credentials(signer=OLD_CA, trusted=OLD_CA, ago=PAST), "has expired"),
    ("of tomorrow", lambda: credentials(signer=FUTURE_CA, trusted=FUTURE_CA, ago=-PAST), "is not valid yet"),
]


@pytest.mark.rfc("RFC 5352 9.2: certificates are validated against roots of one's own")
@pytest.mark.parametrize("required", [True, False], ids=["required", "anonymous allowed"])
@pytest.mark.parametrize("server", [True, False], ids=["we serve", "we call"])
@pytest.mark.parametrize(("make", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_certificate_that_does_not_hold_is_refused_in_words_even_where_none_is_needed(
    make: Callable[[], Credentials], why: str, server: bool, required: bool
) -> None:
    own = make()
    bundle = (CA.certificate, OLD_CA.certificate, FUTURE_CA.certificate)
    with pytest.raises(TlsError, match=f"^certificate at depth [01]: .*{why}$"):
        met(own, server=server, required=required, ours=replace(credentials(), bundle=bundle))


@pytest.mark.rfc("RFC 5352 9.2: certificates are validated against roots of one's own")
def test_an_authority_of_the_same_name_with_another_key_is_refused() -> None:
    """A CA that was made anew: names prove nothing."""
    false = authority("echo")
    with pytest.raises(TlsError, match="certificate at depth 0: "):
        met(credentials(signer=false), server=True)


def test_a_leaf_signs_no_leaf() -> None:
    """An element's key is no authority's, however its chain is put together."""
    element = credentials(Role.ELEMENT, 5)
    assert element.key is not None
    impostor = type(CA)(element.chain[0], timedelta(hours=1), element.key)
    made = credentials(Role.REGISTRAR, 1, "echo", impostor)
    with pytest.raises(TlsError, match=r"certificate at depth [01]: "):
        met(replace(made, chain=(*made.chain, element.chain[0])), server=True)


def test_two_authorities_are_trusted_while_one_replaces_the_other() -> None:
    both = replace(credentials(), bundle=(CA.certificate, OTHER_CA.certificate))
    for signer in (CA, OTHER_CA):
        assert met(credentials(signer=signer), server=True, ours=both).peer_certificate is not None


def test_a_key_that_is_not_the_leafs_is_refused_before_it_is_used() -> None:
    own, other = credentials(), credentials(Role.ELEMENT)
    chain = own.chain[0].public_bytes(PEM)
    with pytest.raises(ValueError, match=r"^the private key is not that of the certificate$"):
        Credentials.from_pem(chain, CA.bundle, other.key)
    with pytest.raises(ValueError, match=r"^the private key is not that of the certificate$"):
        Credentials.from_pem(b"", CA.bundle, other.key)
    with pytest.raises(SSL.Error):
        make_context(replace(own, key=other.key), require_certificate=True)
    assert Credentials.from_pem(chain, CA.bundle, own.key).chain == own.chain


@pytest.mark.parametrize(
    "bundle",
    [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["none", "no PEM", "damaged"],
)
def test_a_bundle_without_a_certificate_is_refused(bundle: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Credentials.trusting(bundle)


def test_no_key_is_shown_with_its_credentials() -> None:
    own = credentials()
    assert isinstance(own.key, ec.EllipticCurvePrivateKey)
    secret = str(own.key.private_numbers().private_value)
    assert secret not in repr(own)
    assert "key" not in repr(own).replace("public_key", "")
    assert b"PRIVATE KEY" in pem_of(own)
