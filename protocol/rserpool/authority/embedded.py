# SPDX-License-Identifier: Apache-2.0
"""The embedded authority: a pool's CA whose key is in this process (ECDSA P-256).

Times are given a tolerance to the past, so that a pod whose clock is a little behind accepts a fresh certificate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rserpool.asap.authorisation import Role
from rserpool.authority.requests import names_of_request, subject_alternative_names
from rserpool.identity import LeafIdentity
from rserpool.identity.parsing import request_from_pem

SKEW: Final = timedelta(minutes=5)
"""How far a clock may be behind."""
CURVES: Final = ("secp256r1", "secp384r1")
"""Of the keys we certify: P-256 and P-384."""


class SigningError(ValueError):
    """A request that is not signed; the text says what is wrong with it, and is meant for its sender."""


class Authority(Protocol):
    """Signs leaves. Who may have which identity has been decided before."""

    def sign(self, identity: LeafIdentity, request: bytes, now: datetime, dns_names: Sequence[str] = ()) -> bytes:
        """Sign a leaf.

        Args:
            identity: whom the certificate is for.
            request: PKCS #10, PEM, carrying exactly the names of that identity.
            now: the time, UTC.
            dns_names: host names of a registrar.

        Returns:
            The certificate chain, PEM, leaf first, without the root.

        Raises:
            SigningError: the request is not one for that identity.
        """


@dataclass(frozen=True, slots=True)
class EmbeddedAuthority:
    """A CA with its key in memory.

    Attributes:
        certificate: self-signed.
        leaf_life: how long the leaves it signs are valid.
    """

    certificate: x509.Certificate
    leaf_life: timedelta
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime, *, life: timedelta, leaf_life: timedelta) -> EmbeddedAuthority:
        """Make a new CA.

        Args:
            name: its common name, 64 characters at most.
            now: the time, UTC.
            life: how long the CA is valid.
            leaf_life: how long its leaves are.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(self_signed(key, name, now, life), leaf_life, key)

    @property
    def bundle(self) -> bytes:
        """What must be trusted: the CA's own certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, identity: LeafIdentity, request: bytes, now: datetime, dns_names: Sequence[str] = ()) -> bytes:
        """Sign a leaf, as :class:`Authority` has it."""
        if now >= self.certificate.not_valid_after_utc:
            raise SigningError(f"the authority has expired at {self.certificate.not_valid_after_utc.isoformat()}")
        key = _verified_key(request, subject_alternative_names(identity, dns_names))
        return self.certify(identity, key, now - SKEW, now + self.leaf_life, dns_names)

    def certify(
        self,
        identity: LeafIdentity,
        key: ec.EllipticCurvePublicKey,
        not_before: datetime,
        not_after: datetime,
        dns_names: Sequence[str] = (),
    ) -> bytes:
        """Make a leaf of a key whose possession has been proved; it is never valid beyond the CA itself.

        Args:
            identity: whom the certificate is for.
            key: on P-256 or P-384.
            not_before: from when it is valid, UTC.
            not_after: until when.
            dns_names: host names of a registrar.

        Raises:
            SigningError: the role names no hosts, or the key is on another curve.
            ValueError: the validity would end before it begins.
        """
        if dns_names and identity.role is not Role.REGISTRAR:
            raise SigningError(f"a certificate of role {identity.role.value} names no hosts")
        if key.curve.name not in CURVES:
            raise SigningError(f"the key is on {key.curve.name}, not on P-256 or P-384")
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if identity.role is not Role.USER:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(new_serial())
            .not_valid_before(max(not_before, self.certificate.not_valid_before_utc))
            .not_valid_after(min(not_after, self.certificate.not_valid_after_utc))
            .add_extension(subject_alternative_names(identity, dns_names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        """How a leaf names its issuer: as that names itself, since others derive the identifier otherwise than we."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _verified_key(pem: bytes, names: x509.SubjectAlternativeName) -> ec.EllipticCurvePublicKey:
    """The key of a request that is what it should be: sound, for exactly these names, of a kind we use."""
    try:
        request = request_from_pem(pem)
        request.extensions, request.attributes  # noqa: B018 - they are parsed when they are looked at
        sound = request.is_signature_valid
        key = request.public_key()
    except Exception as e:  # noqa: BLE001 - whatever a parser has to say to octets of a stranger
        raise SigningError(f"not a certificate request that can be read: {type(e).__name__}") from None
    try:
        asked = names_of_request(request)
    except ValueError as e:
        raise SigningError(str(e)) from None
    if not sound:
        raise SigningError("the request is not signed by its own key")
    if asked != names.public_bytes():
        raise SigningError(f"the request asks for other names than {', '.join(str(n.value) for n in names)}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise SigningError("the request's key is not an elliptic curve key of P-256 or P-384")
    return key


def self_signed(key: ec.EllipticCurvePrivateKey, name: str, now: datetime, life: timedelta) -> x509.Certificate:
    """A CA's own certificate, for leaves only (path length 0)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(new_serial())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(sign_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def new_serial() -> int:
    """159 random bits: unpredictable, positive, of at most 20 octets (RFC 5280 4.1.2.2)."""
    return int.from_bytes(os.urandom(20)) >> 1 | 1


def key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    """What a key may do: sign certificates, or handshakes."""
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
