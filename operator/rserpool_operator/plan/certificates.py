# SPDX-License-Identifier: Apache-2.0
"""What a plan reads of a CA's certificate, or of those of a bundle: its key's hash, and when it is over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rserpool.identity.parsing import certificates_from_pem

REPLACED_AT: Final = 2 / 3
"""Of a CA's life: then its key is replaced without being asked for."""
LATE_AT: Final = 5 / 6
"""Of a CA's life: if it still signs then, somebody has to look."""


def key_hash(pem: bytes) -> str:
    """SHA-256 of a CA's SubjectPublicKeyInfo, by which its key is recorded; empty of what is no certificate.

    Of several, the hash of each, separated by blanks.
    """
    if not is_certificate(pem):
        return ""
    return " ".join(sorted({key_hash_of(certificate) for certificate in certificates_from_pem(pem)}))


def key_hash_of(certificate: x509.Certificate) -> str:
    """The same of a certificate that has been read."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def is_certificate(pem: bytes) -> bool:
    """Whether those are certificates that can be read, with keys of a kind we know; one at least."""
    try:
        for certificate in certificates_from_pem(pem):
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def is_recorded(pem: bytes, known: str) -> bool:
    """Whether a CA has the key that was recorded."""
    return bool(known) and key_hash(pem) == known


def is_of(issuer: str, known: str) -> bool:
    """Whether a leaf's issuer, by its key's hash, is one of those that are recorded so."""
    return issuer in known.split()


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether a certificate carries the signature of an authority."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


class Life(NamedTuple):
    """From when to when a CA is valid."""

    begin: datetime
    end: datetime

    def is_over(self, part: float, now: datetime) -> bool:
        """Whether that part of it is over."""
        return now >= self.begin + (self.end - self.begin) * part


def life_of(pem: bytes) -> Life | None:
    """The life of a CA, of several that of the one that is over first; ``None``: that is no certificate."""
    if not is_certificate(pem):
        return None
    first = min(certificates_from_pem(pem), key=lambda c: c.not_valid_after_utc)
    return Life(first.not_valid_before_utc, first.not_valid_after_utc)


def has_lived(pem: bytes, part: float, now: datetime) -> bool:
    """Whether that part of a CA's life is over; of what is no certificate it is not."""
    life = life_of(pem)
    return life is not None and life.is_over(part, now)


def joined(pems: Iterable[bytes]) -> bytes:
    """One bundle of several, PEM.

    A CA that is in them twice, by subject and key, is in it once, by the certificate that lasts longer.

    Raises:
        ValueError: one of them cannot be read.
    """
    texts = tuple(pems)
    if len(texts) == 1:
        return texts[0]
    found: dict[tuple[x509.Name, str], x509.Certificate] = {}
    for certificate in (c for pem in texts for c in certificates_from_pem(pem)):
        name = (certificate.subject, key_hash_of(certificate))
        if name not in found or found[name].not_valid_after_utc < certificate.not_valid_after_utc:
            found[name] = certificate
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in found.values())
