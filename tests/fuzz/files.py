# SPDX-License-Identifier: Apache-2.0
"""Readers of files, of settings that an operator tells, and of what an application says of its load."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from fuzz.trial import Read, Target, always
from rserpool.asap.authorisation import Role
from rserpool.daemon import parsers
from rserpool.daemon.live import OWN
from rserpool.daemon.settings import SettingsError, example, load, overlay
from rserpool.daemon.vault import BUNDLE, IDENTITY, SETTINGS, Vault, settings_of
from rserpool.pool import ServerPool
from rserpool.pool.manifest import read_manifests, read_text
from rserpool.pool.problems import ManifestError
from rserpool.pool.settings import registrar_tables, sidecar_tables
from rserpool.transport.names import literal
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.load.asking import UnmeasuredError, metric, number
from support.far_ends import leaf
from support.rig_transport import CA, credentials, pem_of

GOOD: Final = Path(__file__).parent.parent / "pool" / "manifests" / "good"
DAEMONS: Final = (RegistrarSettings, SidecarSettings)
SELECTOR: Final = 'load{app="x"}'


@contextmanager
def _configuration(root: type[Any]) -> Iterator[Read]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"

        def read(octets: bytes) -> None:
            path.write_bytes(octets)
            load(root, path, {})

        yield read


class _NoTablesError(Exception):
    """What :func:`rserpool.daemon.vault.settings_of` refuses before anything is laid over anything."""


@contextmanager
def _told(root: type[Any]) -> Iterator[Read]:
    """Tables as they come over the control channel: JSON that has been read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_text(example(root))
        base = load(root, path, {})

    def read(octets: bytes) -> None:
        try:
            _, tables = settings_of({"version": "1", "tables": json.loads(octets)})
        except (ValueError, RecursionError):
            raise _NoTablesError from None
        overlay(base, tables, OWN)

    yield read


@contextmanager
def _manifest() -> Iterator[Read]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.yaml"

        def read(octets: bytes) -> None:
            path.write_bytes(octets)
            read_manifests(path)

        yield read


@contextmanager
def _kept(name: str) -> Iterator[Read]:
    """A folder that survived a restart, with one file in it that is not as it was; it is looked at, and believed or not."""
    with tempfile.TemporaryDirectory() as folder:
        directory, identity = Path(folder), leaf(Role.ELEMENT)
        Vault(directory).keep(credentials(Role.ELEMENT))

        def read(octets: bytes) -> None:
            (directory / name).write_bytes(octets)
            vault = Vault(directory)
            vault.settings()
            found = vault.restore(identity)
            assert found is None or found.key is not None

        yield read


def _place(octets: bytes) -> None:
    host, port = parsers.host_and_port(octets.decode("latin-1"))
    assert 0 < port < 65536
    assert literal(host) is not None or host.isascii()


def _metric(octets: bytes) -> None:
    assert 0 <= metric(octets.decode("latin-1"), SELECTOR) <= 1


def _number(octets: bytes) -> None:
    assert 0 <= number(octets.decode("latin-1")) <= 1


def _examples(root: type[Any]) -> Iterator[bytes]:
    yield example(root).encode()
    yield example(root, comment_defaults=False).encode()


def _tellings(tables: Callable[[ServerPool, str], Mapping[str, object]]) -> Iterator[bytes]:
    yield json.dumps(tables(_pool(), "cluster.local")).encode()
    yield b"{}"


def _only(seed: Callable[[], bytes]) -> Iterator[bytes]:
    yield seed()


def _manifests() -> Iterator[bytes]:
    for file in sorted(GOOD.iterdir()):
        yield file.read_bytes()


def _pool() -> ServerPool:
    return read_text((GOOD / "full.yaml").read_text(), "file")[0].pool


TARGETS: Final = (
    *(
        Target(
            name=f"settings-{root.__name__.removesuffix('Settings').lower()}",
            open=partial(_configuration, root),
            refuses=(SettingsError,),
            seeds=partial(_examples, root),
            longest=16384,
            octets=16 * 1024 * 1024,
        )
        for root in DAEMONS
    ),
    *(
        Target(
            name=f"told-{root.__name__.removesuffix('Settings').lower()}",
            open=partial(_told, root),
            refuses=(SettingsError, _NoTablesError),
            seeds=partial(_tellings, tables),
            longest=16384,
            octets=16 * 1024 * 1024,
        )
        for root, tables in ((RegistrarSettings, registrar_tables), (SidecarSettings, sidecar_tables))
    ),
    Target(
        name="manifest",
        open=_manifest,
        refuses=(ManifestError,),
        seeds=_manifests,
        longest=8192,
        octets=32 * 1024 * 1024,
    ),
    *(
        Target(
            name=f"kept-{name.partition('.')[0]}",
            open=partial(_kept, name),
            seeds=partial(_only, seed),
        )
        for name, seed in (
            (IDENTITY, lambda: pem_of(credentials(Role.ELEMENT))),
            (BUNDLE, lambda: CA.bundle),
            (SETTINGS, lambda: b'{"version": "1", "tables": {"pool": {"handle": "echo"}}}'),
        )
    ),
    Target(
        name="place",
        open=always(_place),
        refuses=(ValueError,),
        seeds=lambda: [b"10.0.0.7:3864", b"[fd00::7]:3864", b"echo.demo.svc.cluster.local.:3864"],
        longest=512,
    ),
    Target(
        name="metric",
        open=always(_metric),
        refuses=(UnmeasuredError,),
        seeds=lambda: [
            b'# TYPE load gauge\nload{app="x",b="\\"y"} 0.5\nother 1\n',
            b'load{app="x"} 1e-3 1395066363000\n',
        ],
        octets=8 * 1024 * 1024,
    ),
    Target(
        name="number",
        open=always(_number),
        refuses=(UnmeasuredError,),
        seeds=lambda: [b"0.5", b'{"load": 1}'],
        longest=512,
    ),
)
