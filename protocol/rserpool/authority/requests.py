# SPDX-License-Identifier: Apache-2.0
"""Keys and certificate requests. A key is made where it is used, and never leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.identity import LeafIdentity


@dataclass(frozen=True, slots=True)
class KeyAndRequest:
    """A new private key, and the request for its certificate (PEM)."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    request: bytes


def subject_alternative_names(identity: LeafIdentity, dns_names: Sequence[str] = ()) -> x509.SubjectAlternativeName:
    """The names an identity's certificate carries: its URI first, then a registrar's host names in their order."""
    uri = x509.UniformResourceIdentifier(str(identity))
    return x509.SubjectAlternativeName([uri, *(x509.DNSName(name) for name in dns_names)])


def make_request(identity: LeafIdentity, dns_names: Sequence[str] = ()) -> KeyAndRequest:
    """Make a P-256 key and ask for a certificate of that identity."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(subject_alternative_names(identity, dns_names), critical=True)
    request = builder.sign(key, hashes.SHA256())
    return KeyAndRequest(key, request.public_bytes(serialization.Encoding.PEM))


def names_of_request(request: x509.CertificateSigningRequest) -> bytes:
    """The octets of the request's subjectAltName, to be compared with what an identity's must be.

    Raises:
        ValueError: the request has no subjectAltName, or any other extension or attribute beside it.
    """
    extensions = list(request.extensions)
    if (
        len(list(request.attributes)) != 1
        or len(extensions) != 1
        or not isinstance(extensions[0].value, x509.SubjectAlternativeName)
    ):
        raise ValueError("a request must have a subjectAltName and no other extension or attribute")
    return extensions[0].value.public_bytes()
