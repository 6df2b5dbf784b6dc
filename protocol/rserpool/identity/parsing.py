# SPDX-License-Identifier: Apache-2.0
"""Certificates and requests from octets: whatever is wrong with them is a ``ValueError``.

``cryptography`` raises another exception for a version that does not exist, which every ``except ValueError`` misses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cryptography import x509

T = TypeVar("T")


def _read(read: Callable[[bytes], T], octets: bytes) -> T:
    try:
        return read(octets)
    except x509.InvalidVersion as e:
        raise ValueError(str(e)) from None


def certificates_from_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a text, at least one.

    Raises:
        ValueError: there is none, or one cannot be read.
    """
    return tuple(_read(x509.load_pem_x509_certificates, pem))


def certificate_from_pem(pem: bytes) -> x509.Certificate:
    """The first certificate of a text.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    return _read(x509.load_pem_x509_certificate, pem)


def certificate_from_der(der: bytes) -> x509.Certificate:
    """One certificate.

    Raises:
        ValueError: it cannot be read.
    """
    return _read(x509.load_der_x509_certificate, der)


def request_from_pem(pem: bytes) -> x509.CertificateSigningRequest:
    """One certificate signing request.

    Raises:
        ValueError: it cannot be read.
    """
    return _read(x509.load_pem_x509_csr, pem)
