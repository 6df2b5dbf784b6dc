# SPDX-License-Identifier: Apache-2.0
"""The embedded authority signs what its caller has decided: that identity, those octets, and not a day longer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, SigningError, make_request
from rserpool.authority.embedded import SKEW
from rserpool.authority.requests import subject_alternative_names
from rserpool.identity import LeafIdentity
from support.rig_identity import (
    CLIENT,
    DAY,
    HOUR,
    NOW,
    PADDING,
    SERVER,
    authority,
    identity,
    pem,
    pem_key,
    two_lists,
)

CA = authority(leaf_life=HOUR)
HOSTS = ["echo-0.echo-peers.demo.svc", "echo.demo.svc"]
OWN = x509.UniformResourceIdentifier(str(identity()))
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def sign(ca: EmbeddedAuthority, whose: LeafIdentity, hosts: list[str] | None = None) -> x509.Certificate:
    chain = ca.sign(whose, make_request(whose, hosts or []).request, NOW, hosts or [])
    (leaf,) = x509.load_pem_x509_certificates(chain)
    return leaf


def request(*names: x509.GeneralName, key: SigningKey | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    used = key or ec.generate_private_key(ec.SECP256R1())
    digest = None if isinstance(used, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(used, digest).public_bytes(serialization.Encoding.PEM)


def refusal(asked: bytes, whose: LeafIdentity | None = None, hosts: list[str] | None = None) -> str:
    with pytest.raises(SigningError) as raised:
        CA.sign(whose or identity(), asked, NOW, hosts or [])
    return str(raised.value)


def extensions(certificate: x509.Certificate) -> dict[str, tuple[bool, x509.ExtensionType]]:
    return {type(e.value).__name__: (e.critical, e.value) for e in certificate.extensions}


# -- the authority itself


def test_an_authority_is_a_p256_key_that_signs_leaves_only() -> None:
    root = CA.certificate
    has = extensions(root)
    assert root.subject == root.issuer
    assert root.subject.rfc4514_string() == "CN=pool"
    root.verify_directly_issued_by(root)
    key = root.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert isinstance(root.signature_hash_algorithm, hashes.SHA256)
    assert has["BasicConstraints"] == (True, x509.BasicConstraints(ca=True, path_length=0))
    critical, usage = has["KeyUsage"]
    assert critical
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert x509.load_pem_x509_certificates(CA.bundle) == [root]


def test_an_authority_lasts_as_long_as_asked_and_began_a_little_ago() -> None:
    root = authority(life=30 * DAY).certificate
    assert (root.not_valid_before_utc, root.not_valid_after_utc) == (NOW - SKEW, NOW + 30 * DAY)
    assert timedelta(minutes=1) <= SKEW <= timedelta(minutes=10)


def test_two_authorities_of_one_name_have_nothing_else_in_common() -> None:
    one, other = authority("same").certificate, authority("same").certificate
    assert one.subject == other.subject
    assert one.serial_number != other.serial_number
    assert one.public_key() != other.public_key()


def test_an_authority_does_not_show_its_key() -> None:
    secret = pem_key(CA._key).decode().splitlines()[1:-1]
    text = f"{CA!r} {CA.bundle.decode()} {CA!s}"
    assert "_key" not in text
    assert not any(line in text for line in secret)


# -- what it signs


@pytest.mark.parametrize(
    ("role", "purposes"),
    [(Role.REGISTRAR, {CLIENT, SERVER}), (Role.ELEMENT, {CLIENT, SERVER}), (Role.USER, {CLIENT})],
)
def test_a_leaf_has_the_usages_of_its_role(role: Role, purposes: set[x509.ObjectIdentifier]) -> None:
    has = extensions(sign(CA, identity(role)))
    extended = has["ExtendedKeyUsage"][1]
    assert isinstance(extended, x509.ExtendedKeyUsage)
    assert set(extended) == purposes
    assert has["BasicConstraints"] == (True, x509.BasicConstraints(ca=False, path_length=None))
    critical, usage = has["KeyUsage"]
    assert critical
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)


def test_a_leaf_carries_the_names_of_its_identity_and_no_subject() -> None:
    whose = identity(Role.REGISTRAR)
    leaf = sign(CA, whose, HOSTS)
    assert extensions(leaf)["SubjectAlternativeName"] == (True, subject_alternative_names(whose, HOSTS))
    assert list(leaf.subject) == []


def test_a_leaf_is_for_the_key_that_asked_and_names_the_key_that_signed() -> None:
    made = make_request(identity())
    leaf = x509.load_pem_x509_certificate(CA.sign(identity(), made.request, NOW))
    assert leaf.public_key() == made.key.public_key()
    leaf.verify_directly_issued_by(CA.certificate)
    has, root = extensions(leaf), extensions(CA.certificate)
    issuer, own = has["AuthorityKeyIdentifier"][1], root["SubjectKeyIdentifier"][1]
    assert isinstance(issuer, x509.AuthorityKeyIdentifier)
    assert isinstance(own, x509.SubjectKeyIdentifier)
    assert issuer.key_identifier == own.digest


def test_serial_numbers_are_unpredictable_and_never_the_same() -> None:
    """Positive and of at most 20 octets (RFC 5280 4.1.2.2)."""
    asked = make_request(identity()).request
    serials = {x509.load_pem_x509_certificate(CA.sign(identity(), asked, NOW)).serial_number for _ in range(64)}
    assert len(serials) == 64
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert max(serials) > 1 << 150
    assert len({serial >> 140 for serial in serials}) > 32


@pytest.mark.parametrize(
    ("after", "begin", "end"),
    [
        (timedelta(0), -SKEW, HOUR),
        (HOUR, HOUR - SKEW, 2 * HOUR),
        (DAY - HOUR / 2, DAY - HOUR / 2 - SKEW, DAY),
        (-timedelta(minutes=1), -SKEW, HOUR - timedelta(minutes=1)),
    ],
    ids=["at once", "later", "at the authority's end", "by a clock that is behind"],
)
def test_a_leaf_begins_a_little_ago_and_never_outlasts_its_authority(
    after: timedelta, begin: timedelta, end: timedelta
) -> None:
    leaf = x509.load_pem_x509_certificate(CA.sign(identity(), make_request(identity()).request, NOW + after))
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW + begin, NOW + end)


@pytest.mark.parametrize("after", [DAY, DAY + SKEW / 2, DAY + SKEW, 30 * DAY])
def test_an_authority_that_has_expired_signs_nothing_and_says_so(after: timedelta) -> None:
    with pytest.raises(SigningError, match=r"authority .*expired"):
        CA.sign(identity(), make_request(identity()).request, NOW + after)


# -- what it does not sign


@pytest.mark.parametrize(
    "names",
    [
        (),
        (OWN, OWN),
        (OWN, x509.DNSName("echo.demo.svc")),
        (OWN, x509.RFC822Name("pod@demo.svc")),
        (OWN, x509.UniformResourceIdentifier(str(identity(Role.REGISTRAR)))),
        (x509.UniformResourceIdentifier(str(identity(Role.REGISTRAR))),),
        (x509.UniformResourceIdentifier(str(identity(uid="1f8fad5b-d9cb-469f-a165-70867728950e"))),),
        (x509.UniformResourceIdentifier(str(identity(pool="other"))),),
        (x509.UniformResourceIdentifier(OWN.value + "/"),),
        (x509.UniformResourceIdentifier(OWN.value.replace("cluster.local", "Cluster.local")),),
        (x509.UniformResourceIdentifier(OWN.value.replace("echo", "%65cho")),),
        (x509.DNSName(OWN.value),),
        (x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01x"), OWN),
    ],
    ids=lambda names: "+".join(name.value if isinstance(name.value, str) else "other" for name in names) or "none",
)
def test_a_request_for_other_names_than_the_decided_ones_is_refused(names: tuple[x509.GeneralName, ...]) -> None:
    assert refusal(request(*names)) == f"the request asks for other names than {OWN.value}"


@pytest.mark.parametrize(
    "asked",
    [HOSTS[::-1], HOSTS[:1], [*HOSTS, "evil.demo.svc"], [HOSTS[0], HOSTS[1].upper()], [*HOSTS, HOSTS[0]], []],
    ids=["turned round", "one less", "one more", "in capitals", "one twice", "none"],
)
def test_a_registrars_hosts_are_compared_octet_by_octet(asked: list[str]) -> None:
    registrar = identity(Role.REGISTRAR)
    text = refusal(make_request(registrar, asked).request, registrar, HOSTS)
    assert text == f"the request asks for other names than {registrar}, {', '.join(HOSTS)}"


@pytest.mark.parametrize("role", [Role.ELEMENT, Role.USER])
def test_only_a_registrar_gets_hosts(role: Role) -> None:
    made = make_request(identity(role), HOSTS)
    assert refusal(made.request, identity(role), HOSTS) == f"a certificate of role {role.value} names no hosts"


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP192R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["RSA", "Ed25519", "secp256k1", "P-192", "P-521"],
)
def test_a_key_of_another_kind_is_refused(key: SigningKey) -> None:
    assert "not an elliptic curve key of P-256 or P-384" in refusal(request(OWN, key=key))


def test_a_p384_key_is_taken() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = x509.load_pem_x509_certificate(CA.sign(identity(), request(OWN, key=key), NOW))
    assert leaf.public_key() == key.public_key()


def test_a_request_somebody_else_signed_is_refused() -> None:
    """Else one could have another's public key certified as one's own."""
    octets = bytearray(x509.load_pem_x509_csr(request(OWN)).public_bytes(serialization.Encoding.DER))
    octets[-1] ^= 1
    assert refusal(pem("CERTIFICATE REQUEST", bytes(octets))) == "the request is not signed by its own key"


@pytest.mark.parametrize(
    "asked",
    [b"", b"\xff" * 100, request(OWN)[:-40], b"-----BEGIN CERTIFICATE REQUEST-----\n", CA.bundle],
    ids=["nothing", "noise", "half", "a beginning", "a certificate"],
)
def test_what_is_no_request_is_refused(asked: bytes) -> None:
    assert refusal(asked).startswith("not a certificate request that can be read: ")


def test_a_request_that_smuggles_names_in_a_second_list_is_refused() -> None:
    smuggled = x509.SubjectAlternativeName([x509.DNSName("registrar.demo.svc"), *PADDING])
    assert "subjectAltName" in refusal(two_lists(x509.SubjectAlternativeName([OWN]), smuggled))


def test_who_asks_for_more_than_names_is_told_what_is_wrong() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([OWN]), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    asked = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    text = refusal(asked.public_bytes(serialization.Encoding.PEM))
    assert "subjectAltName and no other extension" in text


@pytest.mark.parametrize("named", [True, False])
def test_leaves_of_a_ca_that_others_made_are_believed_however_it_names_its_key(named: bool) -> None:
    """OpenSSL looks for an issuer by that name: cert-manager's is another part of another hash than ours."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "others")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if named:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(b"by other means, 20 o"), critical=False)
    ca = EmbeddedAuthority(builder.sign(key, hashes.SHA256()), HOUR, key)
    leaf = sign(ca, identity())
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(ca.certificate))
    store.set_time(NOW)
    crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf)).verify_certificate()
