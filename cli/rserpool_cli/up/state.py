# SPDX-License-Identifier: Apache-2.0
"""The folder of a pool that runs here: its files while it runs, and by which other commands find it. Gone with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rserpool.client.scope import STATE, runtime_directory
from rserpool.pool import ServerPool
from rserpool_cli.errors import CommandError
from rserpool_cli.up.loopback import Addresses
from rserpool_cli.up.plan import TRUST_DOMAIN, ProcessPlan, UpPlan, served_port
from rserpool_cli.up.supervisor import Supervised

SOCKET: Final = "up.sock"
"""The control socket of `rserpool up` itself."""
LONGEST_SOCKET: Final = 103
"""Octets in the path of a Unix socket; Linux takes four more."""


@contextmanager
def pool_directory(pool: ServerPool) -> Iterator[Path]:
    """A folder for this process's pool that only its owner can read; removed at the end.

    Raises:
        CommandError: it cannot be made.
    """
    base = runtime_directory()
    directory = base / f"{os.getpid()}.{pool.metadata.name}"
    longest = len(os.fsencode(directory / "s999.sock"))
    if longest > LONGEST_SOCKET:
        raise CommandError(
            f"{directory} is too long a path for sockets, by {longest - LONGEST_SOCKET} octets;"
            " set XDG_RUNTIME_DIR to a folder with a shorter one"
        )
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            raise CommandError(f"{base} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours")
        base.chmod(0o700)
        _remove_left(base)
        directory.mkdir(mode=0o700)
    except OSError as e:
        raise CommandError(f"{e.filename} cannot be made: {e.strerror}") from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with_nobody_left(base)


def with_nobody_left(base: Path) -> None:
    """Remove the common folder when it is empty."""
    try:
        base.rmdir()
    except OSError:
        return


def _remove_left(base: Path) -> None:
    """What processes left that were killed."""
    for folder in base.iterdir():
        pid = folder.name.partition(".")[0]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_process(process: ProcessPlan, token: str | None) -> None:
    """Write a process's configuration and token, for its owner's eyes only."""
    if process.configuration:
        file = Path(process.command[-1])
        write_private(file, process.configuration.encode())
        if token is not None:
            write_private(file.with_suffix(".token"), token.encode())


def remove_process(process: ProcessPlan) -> None:
    """Remove what :func:`write_process` wrote."""
    if process.configuration:
        file = Path(process.command[-1])
        file.unlink(missing_ok=True)
        file.with_suffix(".token").unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(content)


def write_state(
    directory: Path, plan: UpPlan, processes: list[Supervised], bundle: bytes | None, addresses: Addresses
) -> None:
    """Tell other commands where everything is; replaced in one step."""
    pids = {p.plan.name: p.pid for p in processes}
    state: dict[str, Any] = {
        "pid": os.getpid(),
        "directory": str(directory),
        "socket": str(directory / SOCKET),
        "namespace": plan.pool.metadata.namespace,
        "pool": plan.pool.metadata.name,
        "handle": plan.pool.handle.decode(),
        "trust_domain": TRUST_DOMAIN,
        "control_channel": plan.pool.spec.control_channel,
        "bundle": bundle.decode() if bundle is not None else None,
        "client": str(addresses.client) if addresses.client is not None else None,
        "registrars": [
            {
                "name": p.name,
                "pid": pids.get(p.name),
                "address": str(p.place.address),
                "asap_port": p.place.ports["asap"],
                "http_port": p.place.ports["http"],
                "enrp_port": p.place.ports["enrp"],
                "socket": str(Path(p.command[-1]).with_suffix(".sock")),
            }
            for p in plan.registrars
        ],
        "elements": [
            {
                "name": application.name,
                "pid": pids.get(application.name),
                "sidecar_pid": pids.get(sidecar.name),
                "address": str(application.place.address),
                "port": served_port(application.place),
                "socket": str(Path(sidecar.command[-1]).with_suffix(".sock")),
            }
            for application, sidecar in zip(plan.applications, plan.sidecars, strict=True)
        ],
    }
    fresh = directory / (STATE + ".new")
    write_private(fresh, json.dumps(state, indent=1).encode())
    fresh.replace(directory / STATE)
