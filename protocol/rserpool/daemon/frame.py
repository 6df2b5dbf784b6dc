# SPDX-License-Identifier: Apache-2.0
"""The frame around both daemons: their logs and identity at the start, and what they show besides the protocol."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.daemon import logs
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.identity import keeper_of
from rserpool.daemon.sections import LogSection, PoolSection, SecuritySection
from rserpool.daemon.settings import SettingsError
from rserpool.transport.http import HttpServer, Routes
from rserpool.wire import Address

_log: Final = logging.getLogger(__name__)


async def with_identity(
    role: Role,
    address: Address,
    pool: PoolSection,
    security: SecuritySection,
    log: LogSection,
    run: Callable[[Keeper | None], Awaitable[int]],
) -> int:
    """Set up logs, and run a daemon with who keeps its credentials; returns the exit status, 2 if there is nobody."""
    logs.set_up(form=log.format, level=log.level)
    try:
        keeper = keeper_of(pool, security, role, address)
    except SettingsError as e:
        for line in e.lines:
            _log.error("%s", line)
        return 2
    return await run(keeper)


@asynccontextmanager
async def showing(
    address: Address, http_port: int, socket: Path | None, pages: Routes, control: Routes
) -> AsyncIterator[None]:
    """Serve health and metrics on a port (0: none), and the control socket, as long as the block runs.

    Raises:
        OSError: one of them cannot be made, or is somebody else's.
    """
    http, unix, made = HttpServer(pages), HttpServer(control), False
    try:
        if http_port:
            await http.listen(address, http_port)
        if socket is not None:
            await unix.listen_unix(socket)
            made = True
        yield
    finally:
        await http.close()
        await unix.close()
        if made and socket is not None:
            socket.unlink(missing_ok=True)
