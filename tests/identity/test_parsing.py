# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a certificate or a request is one kind of error, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rserpool.asap.authorisation import Role
from rserpool.authority import make_request
from rserpool.identity import parsing
from support.far_ends import leaf
from support.rig_transport import CA

VERSION_3, VERSION_35 = bytes.fromhex("a003020102"), bytes.fromhex("a003020122")
(CERTIFICATE,) = parsing.certificates_from_pem(CA.bundle)
DER = CERTIFICATE.public_bytes(Encoding.DER)
READERS = [
    parsing.certificates_from_pem,
    parsing.certificate_from_pem,
    parsing.certificate_from_der,
    parsing.request_from_pem,
]


@pytest.mark.parametrize("read", READERS, ids=lambda r: r.__name__)
@pytest.mark.parametrize("octets", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_a_value_error(read: Callable[[bytes], object], octets: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own words
        read(octets)


def test_a_version_that_does_not_exist_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="34 is not a valid X509 version"):
        parsing.certificate_from_der(DER.replace(VERSION_3, VERSION_35, 1))


def test_what_is_good_is_read() -> None:
    assert parsing.certificate_from_der(DER) == CERTIFICATE == parsing.certificate_from_pem(CA.bundle)
    assert CERTIFICATE.not_valid_after_utc > datetime.now(UTC)
    made = make_request(leaf(Role.ELEMENT))
    assert parsing.request_from_pem(made.request).is_signature_valid
