# SPDX-License-Identifier: Apache-2.0
"""A request carries the names of one identity and nothing else; its key is made here and is shown nowhere."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID

from rserpool.asap.authorisation import Role
from rserpool.authority import KeyAndRequest, make_request, names_of_request
from rserpool.authority.requests import subject_alternative_names
from support.rig_identity import PADDING, identity, pem_key, two_lists

HOSTS = ["echo-0.echo-peers.demo.svc", "echo.demo.svc"]
Builder = x509.CertificateSigningRequestBuilder


def read(made: KeyAndRequest) -> x509.CertificateSigningRequest:
    return x509.load_pem_x509_csr(made.request)


def test_a_request_is_for_a_fresh_p256_key_that_signed_it() -> None:
    made, other = make_request(identity()), make_request(identity())
    request = read(made)
    assert request.is_signature_valid
    assert request.public_key() == made.key.public_key() != other.key.public_key()
    assert isinstance(made.key.curve, ec.SECP256R1)
    assert isinstance(request.signature_hash_algorithm, hashes.SHA256)


def test_a_request_names_the_identity_first_and_then_the_hosts_in_their_order() -> None:
    names = read(make_request(identity(Role.REGISTRAR), HOSTS)).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.critical
    assert [name.value for name in names.value] == [str(identity(Role.REGISTRAR)), *HOSTS]


def test_the_key_is_not_shown_by_what_holds_it() -> None:
    made = make_request(identity())
    lines = pem_key(made.key).decode().splitlines()[1:-1]
    assert "key" not in repr(made).replace("KeyAndRequest", "")
    assert not any(line in repr(made) or line in made.request.decode() for line in lines)


def test_the_names_of_a_request_are_those_octets_that_its_certificate_will_carry() -> None:
    for whose, hosts in ((identity(), []), (identity(Role.REGISTRAR), HOSTS)):
        wanted = subject_alternative_names(whose, hosts)
        assert names_of_request(read(make_request(whose, hosts))) == wanted.public_bytes()


def request_of(builder: Builder) -> x509.CertificateSigningRequest:
    return builder.subject_name(x509.Name([])).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


GOOD = Builder().add_extension(subject_alternative_names(identity()), critical=True)


@pytest.mark.parametrize(
    "builder",
    [
        Builder(),
        Builder().add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True),
        GOOD.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True),
        GOOD.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False),
        GOOD.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"let me in"),
        GOOD.add_attribute(AttributeOID.UNSTRUCTURED_NAME, b"registrar"),
    ],
    ids=["nothing", "no names", "an authority's", "a server's", "a challenge password", "an unstructured name"],
)
def test_a_request_with_anything_but_names_is_refused(builder: Builder) -> None:
    with pytest.raises(ValueError, match="subjectAltName"):
        names_of_request(request_of(builder))


def test_a_request_with_two_lists_of_extensions_is_refused() -> None:
    """Some readers take the first, others all of them: the second must not slip names past the check."""
    smuggled = x509.SubjectAlternativeName([x509.DNSName("registrar.demo.svc"), *PADDING])
    request = x509.load_pem_x509_csr(two_lists(subject_alternative_names(identity()), smuggled))
    assert request.is_signature_valid
    assert len(list(request.attributes)) == 2
    with pytest.raises(ValueError, match="subjectAltName"):
        names_of_request(request)
