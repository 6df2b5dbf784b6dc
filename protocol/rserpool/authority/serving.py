# SPDX-License-Identifier: Apache-2.0
"""The installation's own authority: it signs what enrolment is served with, and nothing else.

Separate from every pool's CA. Who enrols is told its certificate beforehand, so first contact is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from rserpool.authority.embedded import SKEW, key_usage, new_serial, self_signed
from rserpool.wire import Address


@dataclass(frozen=True, slots=True)
class ServingKeyAndChain:
    """A server's key and its chain, PEM."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: bytes


@dataclass(frozen=True, slots=True)
class InstallationAuthority:
    """A CA with its key in memory.

    Attributes:
        certificate: self-signed.
    """

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime, *, life: timedelta) -> InstallationAuthority:
        """Make a new CA with that common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(self_signed(key, name, now, life), key)

    @property
    def bundle(self) -> bytes:
        """What must be trusted, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, dns_names: Sequence[str], addresses: Sequence[Address], now: datetime, *, life: timedelta
    ) -> ServingKeyAndChain:
        """Make a server's key, and certify it for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [*(x509.DNSName(n) for n in dns_names), *(x509.IPAddress(a) for a in addresses)]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(new_serial())
            .not_valid_before(now - SKEW)
            .not_valid_after(min(now + life, self.certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return ServingKeyAndChain(key, certificate.public_bytes(serialization.Encoding.PEM))
