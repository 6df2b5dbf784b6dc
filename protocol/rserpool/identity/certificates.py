# SPDX-License-Identifier: Apache-2.0
"""What a leaf certificate says, read strictly: anything beyond the one form is refused, not interpreted.

The chain has been verified by TLS before; here it is decided whose the leaf is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rserpool.asap.authorisation import Principal, Role
from rserpool.identity.decisions import principal_of
from rserpool.identity.parsing import certificate_from_der
from rserpool.identity.uri import IdentityError, LeafIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf certificate's contents.

    Attributes:
        identity: whose it is.
        dns_names: names of a registrar, for clients that verify host names (RFC 5352 9.2).
        serial: its serial number.
        not_before, not_after: when it is valid, in UTC.
    """

    identity: LeafIdentity
    dns_names: tuple[str, ...]
    serial: int
    not_before: datetime
    not_after: datetime


def read_leaf(der: bytes) -> Leaf:
    """Read a leaf certificate.

    Args:
        der: the certificate as it came over TLS.

    Raises:
        IdentityError: it is not a leaf of ours; the text says why.
    """
    try:
        return leaf_of(certificate_from_der(der))
    except IdentityError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever a parser has to say to octets of a stranger
        raise IdentityError(f"not a certificate that can be read: {type(e).__name__}") from None


def proven_by(leaf: Leaf) -> Principal:
    """What a verified leaf makes of its holder."""
    return replace(
        principal_of(leaf.identity),
        serial=leaf.serial,
        not_before=leaf.not_before.timestamp(),
        not_after=leaf.not_after.timestamp(),
    )


def leaf_of(certificate: x509.Certificate) -> Leaf:
    """As :func:`read_leaf`, of a certificate that is parsed already.

    Raises:
        IdentityError: it is not a leaf of ours.
    """
    extensions = certificate.extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise IdentityError("the certificate has no subjectAltName") from None
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    dns_names = tuple(name.value for name in names if isinstance(name, x509.DNSName))
    if len(uris) != 1:
        raise IdentityError(f"the certificate names {len(uris)} URIs, not one")
    identity = LeafIdentity.parse(uris[0])
    others = len(names) - len(uris) - len(dns_names)
    if others:
        raise IdentityError(f"the certificate names {others} things that are neither its URI nor a host")
    if dns_names and identity.role is not Role.REGISTRAR:
        raise IdentityError(f"a certificate of role {identity.role.value} names a host")
    _check_usage(extensions, identity.role)
    return Leaf(
        identity=identity,
        dns_names=dns_names,
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _check_usage(extensions: x509.Extensions, role: Role) -> None:
    """A leaf signs nothing but handshakes."""
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        pass
    else:
        if constraints.ca:
            raise IdentityError("the certificate is that of an authority, not a leaf")
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        raise IdentityError("the certificate does not say what it may be used for") from None
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise IdentityError("the certificate's key usage is not that of a leaf")
    serves = ExtendedKeyUsageOID.SERVER_AUTH in purposes  # a user calls and is never called
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes or serves is (role is Role.USER):
        raise IdentityError(f"the certificate may not be used as a {role.value}'s")
