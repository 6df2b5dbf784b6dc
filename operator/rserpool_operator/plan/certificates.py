# SPDX-License-Identifier: Apache-2.0
"""What a plan reads of a CA's certificate: its key's hash, and when it is over."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rserpool.identity.parsing import certificate_from_pem

REPLACED_AT: Final = 2 / 3
"""Of a CA's life: then its key is replaced without being asked for."""
LATE_AT: Final = 5 / 6
"""Of a CA's life: if it still signs then, somebody has to look."""


def key_hash(pem: bytes) -> str:
    """SHA-256 of a CA's SubjectPublicKeyInfo, by which its key is recorded; empty of what is no certificate."""
    if not is_certificate(pem):
        return ""
    return key_hash_of(certificate_from_pem(pem))


def key_hash_of(certificate: x509.Certificate) -> str:
    """The same of a certificate that has been read."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def is_certificate(pem: bytes) -> bool:
    """Whether that is a certificate that can be read, with a key of a kind we know."""
    try:
        certificate_from_pem(pem).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def is_recorded(pem: bytes, known: str) -> bool:
    """Whether a CA has the key that was recorded."""
    return bool(known) and key_hash(pem) == known


def expiry(pem: bytes) -> datetime | None:
    """When a CA expires."""
    return certificate_from_pem(pem).not_valid_after_utc if is_certificate(pem) else None


def has_lived(pem: bytes, part: float, now: datetime) -> bool:
    """Whether that part of a CA's life is over; of what is no certificate it is not."""
    if not is_certificate(pem):
        return False
    certificate = certificate_from_pem(pem)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * part
