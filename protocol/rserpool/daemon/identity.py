# SPDX-License-Identifier: Apache-2.0
"""From the configuration to a process's identity: where its credentials come from, and what they are good for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.daemon.channel import ControlClient
from rserpool.daemon.credentials import EnrolmentSource, FilesSource, Keeper, Source
from rserpool.daemon.enrolment import EnrolmentClient
from rserpool.daemon.pod_certificate import PodCertificateSource
from rserpool.daemon.sections import OperatorSection, PoolSection, SecuritySection
from rserpool.daemon.settings import SettingsError
from rserpool.daemon.vault import Vault
from rserpool.identity import IdentityError, InsecureScope, LeafIdentity, SecureScope
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from rserpool.wire import Address

CERTIFIED: Final = (Role.REGISTRAR, Role.ELEMENT, Role.USER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who says by the control channel what the pool shall be, and where it is kept.

    Attributes:
        client: asks it.
        vault: what survives a restart of the container; ``None``: nothing.
    """

    client: ControlClient
    vault: Vault | None


def operator_of(operator: OperatorSection, section: SecuritySection, address: Address | None) -> Operator | None:
    """The operator of this process; ``None`` if it has none.

    Raises:
        SettingsError: the sections do not say enough.
    """
    if not operator.url:
        return None
    try:
        client = ControlClient(operator.url, _authority(section), address)
    except ValueError as e:
        raise SettingsError([f"[operator] {e}"]) from None
    return Operator(client=client, vault=_vault(section))


def keeper_of(
    pool: PoolSection, section: SecuritySection, role: Role, address: Address | None, *, operated: bool = False
) -> Keeper | None:
    """Who keeps this process's credentials fresh; ``None`` in a scope without security.

    Args:
        pool: whose.
        section: where they come from.
        role: of this process.
        address: to enrol from.
        operated: there is an operator, who is shown a leaf even where the scope has no security.

    Raises:
        SettingsError: the section does not say enough.
    """
    if not section.secure and not operated:
        return None

    def make(credentials: Credentials) -> Security:
        return Security(
            trust_domain=pool.trust_domain,
            namespace=pool.namespace,
            pool=pool.name,
            role=role,
            credentials=credentials,
        )

    match section.source:
        case "files":
            source = _files(pool, section, role)
        case "pod-certificate":
            source = _pod_certificate(pool, section, role, address)
        case _:
            source = _enrolment(pool, section, role, address)
    return Keeper(source, make)


def leaf_identity(pool: PoolSection, section: SecuritySection, role: Role) -> LeafIdentity:
    """Who this process is.

    Raises:
        SettingsError: the configuration does not add up to an identity.
    """
    identity = LeafIdentity(
        trust_domain=pool.trust_domain, namespace=pool.namespace, pool=pool.name, role=role, pod_uid=section.pod_uid
    )
    try:
        return LeafIdentity.parse(str(identity))
    except IdentityError as e:
        raise SettingsError([f"[pool] and [security] pod_uid name no identity: {e}"]) from None


def names_of(pool: PoolSection, pod_uids: Iterable[str]) -> frozenset[str]:
    """All identities that certificates of these pods may have, as principals have them."""
    start = f"spiffe://{pool.trust_domain}/ns/{pool.namespace}/pool/{pool.name}"
    return frozenset(f"{start}/{role.value}/{uid}" for uid in pod_uids for role in CERTIFIED)


def scope_of(pool: PoolSection, section: SecuritySection, *, anonymous: bool, registrar_threat: str) -> Authoriser:
    """The rules of the scope."""
    if not section.secure:
        return InsecureScope()
    return SecureScope(pool_handle=pool.pool_handle, anonymous=anonymous, registrar_threat=registrar_threat)


def _files(pool: PoolSection, section: SecuritySection, role: Role) -> Source:
    needed = {"chain_file": section.chain_file, "key_file": section.key_file, "bundle_file": section.bundle_file}
    _require(needed, "files")
    assert section.chain_file is not None
    assert section.key_file is not None
    assert section.bundle_file is not None
    return FilesSource(
        section.chain_file, section.key_file, section.bundle_file, (pool.trust_domain, pool.namespace, pool.name, role)
    )


def _enrolment(pool: PoolSection, section: SecuritySection, role: Role, address: Address | None) -> Source:
    needed = {
        "url": section.url or None,
        "token_file": section.token_file,
        "authority_file": section.authority_file or section.authority,
        "pod_uid": section.pod_uid or None,
    }
    _require(needed, "enrolment")
    assert section.token_file is not None
    client = _client(section, address)
    return EnrolmentSource(
        client, section.token_file, leaf_identity(pool, section, role), section.dns_names, _vault(section)
    )


def _pod_certificate(pool: PoolSection, section: SecuritySection, role: Role, address: Address | None) -> Source:
    needed = {
        "url": section.url or None,
        "credential_file": section.credential_file,
        "authority_file": section.authority_file or section.authority,
        "pod_uid": section.pod_uid or None,
    }
    _require(needed, "pod-certificate")
    assert section.credential_file is not None
    identity = leaf_identity(pool, section, role)
    client = _client(section, address)
    return PodCertificateSource(client, section.credential_file, identity, section.dns_names, _vault(section))


def _client(section: SecuritySection, address: Address | None) -> EnrolmentClient:
    try:
        return EnrolmentClient(section.url, _authority(section), address)
    except ValueError as e:
        raise SettingsError([f"[security] {e}"]) from None


def _authority(section: SecuritySection) -> bytes:
    """The certificate of who signs the operator's and the enrolment server's, PEM."""
    file = section.authority_file
    if bool(file) is bool(section.authority):
        raise SettingsError(
            ["[security] authority and authority_file: write one of them, the certificate itself or its file's path"]
        )
    try:
        authority = section.authority.encode() if file is None else file.read_bytes()
        Credentials.trusting(authority)
    except OSError as e:
        raise SettingsError([f"[security] authority_file {file}: {e.strerror}"]) from None
    except ValueError:
        told = "authority: is" if file is None else f"authority_file {file}: holds"
        instead = "a certificate in PEM" if file is None else "a PEM file's path"
        raise SettingsError([f"[security] {told} no certificate; write {instead}"]) from None
    return authority


def _vault(section: SecuritySection) -> Vault | None:
    return Vault(section.directory) if section.directory is not None else None


def _require(values: Mapping[str, str | Path | None], source: str) -> None:
    missing = [f"[security] {key} is required with source = {source!r}" for key, value in values.items() if not value]
    if missing:
        raise SettingsError(missing)
