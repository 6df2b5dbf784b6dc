# SPDX-License-Identifier: Apache-2.0
"""The installation's authority certifies servers, and nothing that a pool would take for one of its own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.authority.embedded import SKEW
from rserpool.authority.serving import InstallationAuthority
from rserpool.identity import IdentityError
from rserpool.identity.certificates import read_leaf
from rserpool.transport.tls import Credentials, TlsError, make_context
from support.rig_identity import DAY, HOUR, NOW, SERVER, authority, pem_key, shake_hands

CA = InstallationAuthority.create("installation", NOW, life=10 * DAY)
V4, V6 = IPv4Address("127.0.0.1"), IPv6Address("fd00::7")
SERVED = CA.issue(["enrol.rserpool.svc"], [V4, V6], NOW, life=HOUR)
LEAF = x509.load_pem_x509_certificate(SERVED.chain)


def test_a_server_is_certified_for_its_names_and_addresses_and_as_a_server_only() -> None:
    names = LEAF.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("enrol.rserpool.svc"), x509.IPAddress(V4), x509.IPAddress(V6)]
    assert list(LEAF.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [SERVER]
    assert not LEAF.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    LEAF.verify_directly_issued_by(CA.certificate)
    assert LEAF.public_key() == SERVED.key.public_key()
    assert isinstance(SERVED.key.curve, ec.SECP256R1)


def test_it_lasts_as_long_as_asked_and_never_longer_than_its_authority() -> None:
    assert (LEAF.not_valid_before_utc, LEAF.not_valid_after_utc) == (NOW - SKEW, NOW + HOUR)
    long = x509.load_pem_x509_certificate(CA.issue(["a"], [], NOW, life=100 * DAY).chain)
    assert long.not_valid_after_utc == CA.certificate.not_valid_after_utc == NOW + 10 * DAY


def test_no_key_is_shown() -> None:
    for key, shown in ((SERVED.key, repr(SERVED)), (CA._key, repr(CA) + CA.bundle.decode())):
        assert not any(line in shown for line in pem_key(key).decode().splitlines()[1:-1])


def test_no_pool_takes_a_servers_certificate_for_a_members() -> None:
    with pytest.raises(IdentityError, match="names 0 URIs"):
        read_leaf(LEAF.public_bytes(serialization.Encoding.DER))


def test_first_contact_is_pinned_to_the_installation() -> None:
    """Who trusts it talks to its server; who trusts a pool's authority, or another installation's, does not."""
    server = make_context(Credentials.from_pem(SERVED.chain, CA.bundle, SERVED.key), require_certificate=False)
    shake_hands(make_context(Credentials.trusting(CA.bundle), require_certificate=True), server)
    same_name = InstallationAuthority.create("installation", NOW, life=DAY)
    for bundle in (authority().bundle, same_name.bundle):
        with pytest.raises(TlsError, match="certificate at depth"):
            shake_hands(make_context(Credentials.trusting(bundle), require_certificate=True), server)


def test_a_servers_certificate_is_not_taken_from_a_client() -> None:
    own = Credentials.from_pem(SERVED.chain, CA.bundle, SERVED.key)
    contexts = (make_context(own, require_certificate=True) for _ in range(2))
    with pytest.raises(TlsError, match="it may not be used for this side"):
        shake_hands(*contexts)
