# SPDX-License-Identifier: Apache-2.0
"""A leaf has one form: one URI, a registrar's hosts, and the usages of its role. Whatever has more or less is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.authority import make_request
from rserpool.identity import IdentityError
from rserpool.identity.certificates import leaf_of, read_leaf
from support.rig_identity import CLIENT, HOUR, NOW, SERVER, UID, Craft, authority, credentials, identity, usage

CA = authority()
ROLES = [Role.REGISTRAR, Role.ELEMENT, Role.USER]
HOSTS = (x509.DNSName("echo-0.echo-peers.demo.svc"), x509.DNSName("echo.demo.svc"))
OTHER_UID = UID.replace("0f8f", "1f8f")


def uri(role: Role = Role.ELEMENT, uid: str = UID) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(str(identity(role, uid)))


ELEMENT, REGISTRAR, USER = uri(), uri(Role.REGISTRAR), uri(Role.USER)
SIGNED = Craft(names=[ELEMENT]).der()
NEITHER: dict[str, x509.GeneralName] = {
    "email": x509.RFC822Name("pod@demo.svc"),
    "address": x509.IPAddress(IPv4Address("10.0.0.7")),
    "directory name": x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registrar")])),
    "registered ID": x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    "other name": x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x0c\x01x"),
}


def refused(der: bytes) -> str:
    with pytest.raises(IdentityError) as raised:
        read_leaf(der)
    return str(raised.value)


@pytest.mark.parametrize("role", ROLES)
def test_a_leaf_of_the_authority_is_read_as_what_it_was_signed_for(role: Role) -> None:
    given = credentials(CA, identity(role)).chain[0]
    leaf = read_leaf(given.public_bytes(serialization.Encoding.DER))
    assert leaf == leaf_of(given)
    assert leaf.identity == identity(role)
    assert leaf.dns_names == ()
    assert leaf.serial == given.serial_number
    assert (leaf.not_before, leaf.not_after) == (given.not_valid_before_utc, given.not_valid_after_utc)


def test_times_are_told_in_utc_and_not_judged_here() -> None:
    """TLS has verified them: a leaf that expires while its connection stands is still whose it is."""
    leaf = read_leaf(Craft(names=[ELEMENT], begin=NOW - 3 * HOUR, end=NOW - HOUR).der())
    assert (leaf.not_before, leaf.not_after) == (NOW - 3 * HOUR, NOW - HOUR)
    assert leaf.not_after.utcoffset() == timedelta(0)


def test_a_registrars_hosts_are_read_in_their_order_wherever_the_uri_stands() -> None:
    hosts = tuple(name.value for name in HOSTS)
    for names in ([REGISTRAR, *HOSTS], [*HOSTS, REGISTRAR]):
        leaf = read_leaf(Craft(names=names).der())
        assert (leaf.identity.role, leaf.dns_names) == (Role.REGISTRAR, hosts)


@pytest.mark.rfc("RFC 5352 9.2: a registrar's certificate names its host")
@pytest.mark.parametrize("role", [Role.ELEMENT, Role.USER])
def test_only_a_registrar_may_name_a_host(role: Role) -> None:
    assert f"of role {role.value} names a host" in refused(Craft(names=[uri(role), HOSTS[0]]).der())


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 0),
        ([HOSTS[0]], 0),
        ([NEITHER["email"]], 0),
        ([ELEMENT, uri(uid=OTHER_UID)], 2),
        ([ELEMENT, ELEMENT], 2),
        ([USER, REGISTRAR], 2),
        ([ELEMENT, x509.UniformResourceIdentifier("https://example.com/")], 2),
        ([ELEMENT] * 20, 20),
    ],
)
def test_a_leaf_names_exactly_one_uri(names: Sequence[x509.GeneralName], count: int) -> None:
    assert f"names {count} URIs" in refused(Craft(names=names).der())


def test_a_leaf_without_names_is_refused_whatever_its_subject_says() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.USER_ID, ELEMENT.value)])
    assert "no subjectAltName" in refused(Craft(names=None, subject=subject).der())


@pytest.mark.parametrize("kind", NEITHER)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_name_of_any_other_kind_beside_the_uri_is_refused(kind: str, first: bool) -> None:
    for own in (ELEMENT, REGISTRAR):
        names = [NEITHER[kind], own] if first else [own, NEITHER[kind]]
        assert "names 1 things that are neither its URI nor a host" in refused(Craft(names=names).der())


@pytest.mark.parametrize(
    "text",
    [
        ELEMENT.value.replace("echo", "%65cho"),
        ELEMENT.value.replace("/element/", "/%65lement/"),
        ELEMENT.value.replace("spiffe", "SPIFFE"),
        ELEMENT.value + "?role=registrar",
        ELEMENT.value.replace(UID, UID.upper()),
        ELEMENT.value.replace("/element/", "/operator/"),
        "spiffe://cluster.local/ns/demo/sa/default",
    ],
)
def test_the_uri_of_a_leaf_is_read_by_the_rules_of_identities(text: str) -> None:
    assert "is not spiffe://TRUST-DOMAIN/" in refused(Craft(names=[x509.UniformResourceIdentifier(text)]).der())


@pytest.mark.parametrize("octet", [b"\x00", b"\x0a", b"\x80", b"\xff"])
def test_octets_that_are_no_text_do_not_make_a_uri(octet: bytes) -> None:
    """What ends at a NUL for a reader in C must not be somebody else's identity for ours."""
    assert refused(SIGNED.replace(b"/echo/", b"/ech" + octet + b"/"))


@pytest.mark.parametrize("path_length", [None, 0, 3])
def test_an_authority_is_no_leaf(path_length: int | None) -> None:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    assert "of an authority" in refused(Craft(names=[ELEMENT], constraints=constraints).der())


def test_a_leaf_may_leave_out_that_it_is_no_authority() -> None:
    assert read_leaf(Craft(names=[ELEMENT], constraints=None).der()).identity == identity()


@pytest.mark.parametrize("missing", ["usage", "purposes"])
def test_a_leaf_that_does_not_say_its_use_is_refused(missing: str) -> None:
    craft = Craft(names=[ELEMENT])
    setattr(craft, missing, None)
    assert "does not say what it may be used for" in refused(craft.der())


@pytest.mark.parametrize(
    "bits",
    [
        ("key_agreement",),
        ("key_encipherment",),
        ("digital_signature", "key_cert_sign"),
        ("digital_signature", "crl_sign"),
        ("key_cert_sign", "crl_sign"),
    ],
)
def test_a_leaf_signs_handshakes_and_nothing_else(bits: tuple[str, ...]) -> None:
    assert "key usage is not that of a leaf" in refused(Craft(names=[ELEMENT], usage=usage(*bits)).der())


@pytest.mark.parametrize(
    ("role", "purposes", "good"),
    [
        *((role, [CLIENT, SERVER], role is not Role.USER) for role in ROLES),
        *((role, [CLIENT], role is Role.USER) for role in ROLES),
        *((role, [SERVER], False) for role in ROLES),
        *((role, [ExtendedKeyUsageOID.CODE_SIGNING], False) for role in ROLES),
        *((role, [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False) for role in ROLES),
    ],
)
def test_the_purposes_are_those_of_the_role(role: Role, purposes: list[x509.ObjectIdentifier], good: bool) -> None:
    der = Craft(names=[uri(role)], purposes=purposes).der()
    if good:
        assert read_leaf(der).identity == identity(role)
    else:
        assert f"may not be used as a {role.value}'s" in refused(der)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        SIGNED[:-1],
        SIGNED[: len(SIGNED) // 2],
        SIGNED + b"\0",
        SIGNED + SIGNED,
        Craft(names=[ELEMENT]).certificate().public_bytes(serialization.Encoding.PEM),
        make_request(identity()).request,
        b"\xff" * 4096,
    ],
    ids=["nothing", "tag", "indefinite", "endless", "short", "half", "longer", "two", "PEM", "request", "noise"],
)
def test_what_is_no_certificate_is_refused_in_one_line(octets: bytes) -> None:
    text = refused(octets)
    assert text.startswith("not a certificate that can be read: ")
    assert "\n" not in text


@given(at=st.integers(0, len(SIGNED) - 1), octet=st.integers(0, 255))
def test_an_octet_that_changed_gives_an_identity_or_an_identity_error(at: int, octet: int) -> None:
    try:
        read_leaf(SIGNED[:at] + bytes([octet]) + SIGNED[at + 1 :])
    except IdentityError as e:
        assert len(str(e)) < 900
        assert "\n" not in str(e)


def test_a_uri_of_any_length_makes_a_short_error() -> None:
    long = x509.UniformResourceIdentifier("spiffe://" + "a" * 100_000)
    assert len(refused(Craft(names=[long]).der())) < 300


def test_a_leaf_with_two_lists_of_names_is_refused() -> None:
    """Two subjectAltName extensions: a reader may take the first or the second, so neither counts."""
    alternative, key_usage = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d0f")
    assert SIGNED.count(alternative) == SIGNED.count(key_usage) == 1
    assert "DuplicateExtension" in refused(SIGNED.replace(key_usage, alternative))
