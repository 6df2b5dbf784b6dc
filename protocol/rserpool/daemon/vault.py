# SPDX-License-Identifier: Apache-2.0
"""What survives a restart of the container: key, leaf, bundle and settings, in a folder that only it mounts.

The folder is memory-backed and goes with the pod, so nothing is flushed to a disk. Each file is replaced whole and is
its owner's alone. What cannot be read, or is not this pod's, is left aside with a warning and replaced by what comes
next; no contents are ever shown.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.identity import LeafIdentity
from rserpool.identity.certificates import leaf_of
from rserpool.transport.tls import Credentials

_log: Final = logging.getLogger(__name__)
IDENTITY: Final = "identity.pem"
"""The key, then the chain: one file, since the one is nothing without the other."""
BUNDLE: Final = "bundle.pem"
SETTINGS: Final = "settings.json"
RENEWED: Final = "renewed"
"""The last order to renew that was carried out."""
MOST: Final = 1024 * 1024
Tables = Mapping[str, Mapping[str, object]]


class Vault:
    """One process's folder.

    Args:
        directory: made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._complained: set[str] = set()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            _log.warning("the folder %s cannot be made, nothing will survive a restart: %s", directory, e.strerror)

    # -- identity

    def keep(self, credentials: Credentials) -> None:
        """Keep credentials; the bundle first, since an older leaf is good with a newer bundle and not vice versa."""
        if credentials.key is None:
            return
        key = credentials.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(BUNDLE, _pem(credentials.bundle))
        self._write(IDENTITY, key + _pem(credentials.chain))

    def restore(self, identity: LeafIdentity) -> Credentials | None:
        """What was kept, if it still is this pod's identity."""
        found, bundle = self._read(IDENTITY), self._read(BUNDLE)
        if found is None or bundle is None:
            return None
        try:
            key = serialization.load_pem_private_key(found, password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError("its key is of another kind")  # noqa: TRY301 - judged with what parsers have to say
            credentials = Credentials.from_pem(found, bundle, key)
            leaf = leaf_of(credentials.chain[0])
        except Exception as e:  # noqa: BLE001 - whatever a parser has to say; its text is not ours to repeat
            self._complain(IDENTITY, f"holds no identity ({type(e).__name__})")
            return None
        if leaf.identity != identity:
            self._complain(IDENTITY, f"is of {leaf.identity}, not of {identity}")
            return None
        if leaf.not_after <= datetime.now(UTC):
            self._complain(IDENTITY, f"has expired at {leaf.not_after.isoformat()}")
            return None
        return credentials

    # -- what the operator said

    def keep_settings(self, version: str, tables: Tables) -> None:
        """Keep the settings in force."""
        self._write(SETTINGS, json.dumps({"version": version, "tables": tables}).encode())

    def settings(self) -> tuple[str, Tables] | None:
        """The settings that were in force, and their version."""
        octets = self._read(SETTINGS)
        if octets is None:
            return None
        try:
            return settings_of(json.loads(octets))
        except (ValueError, RecursionError):
            self._complain(SETTINGS, "holds no settings")
            return None

    def keep_renewed(self, version: str) -> None:
        """Keep which order to renew has been carried out."""
        self._write(RENEWED, version.encode())

    def renewed(self) -> str:
        """The last order to renew that was carried out; empty if there was none."""
        octets = self._read(RENEWED) or b""
        return octets.decode("utf-8", "replace")

    # -- files

    def _read(self, name: str) -> bytes | None:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                octets = file.read(MOST + 1)
        except FileNotFoundError:
            return None
        except OSError as e:
            self._complain(name, f"cannot be read: {e.strerror}")
            return None
        if len(octets) > MOST:
            self._complain(name, "is too long")
            return None
        return octets

    def _write(self, name: str, octets: bytes) -> None:
        path = self._directory / name
        fresh = path.with_name(f".{name}.new")
        try:
            fresh.unlink(missing_ok=True)
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as out:
                out.write(octets)
            fresh.replace(path)
        except OSError as e:
            self._complain(name, f"cannot be written, and will be missing after a restart: {e.strerror}")

    def _complain(self, name: str, message: str) -> None:
        if message not in self._complained and len(self._complained) < 100:
            self._complained.add(message)
            _log.warning("%s %s", self._directory / name, message)


def settings_of(value: Any) -> tuple[str, Tables]:
    """Version and tables of a settings object.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    if not isinstance(value, dict) or not isinstance(value.get("version"), str):
        raise ValueError("settings without a version")
    tables = value.get("tables")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError("settings whose tables are none")
    return value["version"], tables


def _pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
