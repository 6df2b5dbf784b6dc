# SPDX-License-Identifier: Apache-2.0
"""Certificates as people read them. What is no certificate is never shown."""

from __future__ import annotations

import re
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rserpool.identity.parsing import certificate_from_pem
from rserpool_operator import names

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
SHOW_LEAF: Final = (
    "import re;print(*re.findall('-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----',"
    f"open('{names.IDENTITY}/identity.pem').read()),sep=chr(10))"
)
"""A program for a container of ours: the key that is in the same file does not leave it."""


def decode(text: str) -> list[dict[str, Any]]:
    """What the certificates in a text say, in their order; what cannot be read is said to be that."""
    return [_describe(block) for block in _BLOCK.findall(text)]


def _describe(block: str) -> dict[str, Any]:
    try:
        certificate = certificate_from_pem(block.encode())
        return {
            "subject": certificate.subject.rfc4514_string(),
            "issuer": certificate.issuer.rfc4514_string(),
            "serial": f"{certificate.serial_number:x}",
            "notBefore": certificate.not_valid_before_utc.isoformat(),
            "notAfter": certificate.not_valid_after_utc.isoformat(),
            "key": _kind(certificate),
            "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
            "extensions": [_extension(e) for e in certificate.extensions],
            "pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        }
    except (ValueError, x509.DuplicateExtension) as e:
        return {"error": f"it cannot be read ({type(e).__name__})"}


def _kind(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def _extension(extension: x509.Extension[x509.ExtensionType]) -> str:
    critical = " (critical)" if extension.critical else ""
    match extension.value:
        case x509.SubjectAlternativeName() as names_:
            value = ", ".join(f"{type(n).__name__}:{n.value}" for n in names_)
        case x509.BasicConstraints(ca=ca, path_length=length):
            value = f"CA {ca}, path length {length}"
        case x509.ExtendedKeyUsage() as usages:
            value = ", ".join(u._name for u in usages)  # noqa: SLF001 - it has no other word for it
        case x509.SubjectKeyIdentifier(digest=digest):
            value = digest.hex()
        case x509.AuthorityKeyIdentifier(key_identifier=identifier):
            value = identifier.hex() if identifier else ""
        case _:
            value = str(extension.value)
    return f"{extension.oid._name}{critical}: {value}"  # noqa: SLF001 - likewise
