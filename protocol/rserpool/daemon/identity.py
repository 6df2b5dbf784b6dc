# SPDX-License-Identifier: Apache-2.0
"""From the configuration to a process's identity: where its credentials come from, and what they are good for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.daemon.credentials import EnrolmentSource, FilesSource, Keeper, Source
from rserpool.daemon.enrolment import EnrolmentClient
from rserpool.daemon.sections import PoolSection, SecuritySection
from rserpool.daemon.settings import SettingsError
from rserpool.identity import IdentityError, InsecureScope, LeafIdentity, SecureScope
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from rserpool.wire import Address


def keeper_of(pool: PoolSection, section: SecuritySection, role: Role, address: Address | None) -> Keeper | None:
    """Who keeps this process's credentials fresh; ``None`` in a scope without security.

    Raises:
        SettingsError: the section does not say enough.
    """
    if not section.secure:
        return None

    def make(credentials: Credentials) -> Security:
        return Security(
            trust_domain=pool.trust_domain,
            namespace=pool.namespace,
            pool=pool.name,
            role=role,
            credentials=credentials,
        )

    source = _files(pool, section, role) if section.source == "files" else _enrolment(pool, section, role, address)
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
        "authority_file": section.authority_file,
        "pod_uid": section.pod_uid or None,
    }
    _require(needed, "enrolment")
    assert section.token_file is not None
    assert section.authority_file is not None
    try:
        authority = section.authority_file.read_bytes()
        Credentials.trusting(authority)
    except OSError as e:
        raise SettingsError([f"[security] authority_file {section.authority_file}: {e.strerror}"]) from None
    except ValueError:
        raise SettingsError(
            [f"[security] authority_file {section.authority_file}: holds no certificate; write a PEM file's path"]
        ) from None
    try:
        client = EnrolmentClient(section.url, authority, address)
    except ValueError as e:
        raise SettingsError([f"[security] {e}"]) from None
    return EnrolmentSource(client, section.token_file, leaf_identity(pool, section, role), section.dns_names)


def _require(values: Mapping[str, str | Path | None], source: str) -> None:
    missing = [f"[security] {key} is required with source = {source!r}" for key, value in values.items() if not value]
    if missing:
        raise SettingsError(missing)
