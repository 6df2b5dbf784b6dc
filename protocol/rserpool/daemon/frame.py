# SPDX-License-Identifier: Apache-2.0
"""The frame around both daemons: their logs and identity at the start, and what they show besides the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.daemon import logs
from rserpool.daemon.channel import Channel, State
from rserpool.daemon.control_channel import Ended, one_line
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.identity import Operator, keeper_of, operator_of
from rserpool.daemon.live import LiveSettings
from rserpool.daemon.process import ended, first_of
from rserpool.daemon.sections import LogSection, OperatorSection, PoolSection, SecuritySection
from rserpool.daemon.settings import SettingsError
from rserpool.daemon.vault import Tables
from rserpool.transport.http import HttpServer, Routes
from rserpool.transport.security import Security
from rserpool.wire import Address

_log: Final = logging.getLogger(__name__)
OPERATOR_PATIENCE: Final = 2.0
"""Seconds for which a process that has settings of before waits for the operator's."""


async def with_identity(
    role: Role,
    address: Address,
    pool: PoolSection,
    security: SecuritySection,
    operator: OperatorSection,
    log: LogSection,
    run: Callable[[Keeper | None, Operator | None], Awaitable[int]],
) -> int:
    """Set up logs, and run a daemon with who keeps its credentials; returns the exit status, 2 if there is nobody."""
    logs.set_up(form=log.format, level=log.level)
    try:
        told_by = operator_of(operator, security, address)
        keeper = keeper_of(pool, security, role, address, operated=told_by is not None)
    except SettingsError as e:
        for line in e.lines:
            _log.error("%s", line)
        return 2
    return await run(keeper, told_by)


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


class Beginning:
    """How a daemon begins: its identity first, then its settings; what each waits for, it says.

    Args:
        role: of the daemon.
        keeper: of its credentials; ``None`` in a scope without security and without an operator.
        operator: who says the settings; ``None``: nobody, they are complete.
        live: the settings.
        state: how the daemon is, for the operator.

    Attributes:
        security: of the daemon, if its scope has any; once it has begun.
        channel: to the operator, once there is an identity.
        tasks: what runs from the beginning on, as long as the daemon does.
    """

    def __init__(
        self,
        role: Role,
        keeper: Keeper | None,
        operator: Operator | None,
        live: LiveSettings[Any],
        state: Callable[[], State],
    ) -> None:
        self._role = role
        self._keeper = keeper
        self._operator = operator
        self._live = live
        self._state = state
        self._over = False
        self._settled = asyncio.Event()
        self.security: Security | None = None
        self.channel: Channel | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.on_ended: Callable[[Ended], None] = lambda _: None

    @property
    def waiting(self) -> str:
        """What is being waited for, in one line; empty if for nothing."""
        if self._over:
            return ""
        if self._keeper is not None and self._keeper.leaf is None:
            what, problem = "its identity", self._keeper.problem
        elif self.channel is not None:
            what, problem = "its settings", self.channel.problem or "the operator has not said any that can be used"
        else:
            what, problem = "its beginning", ""
        return one_line(f"waiting for {what}" + (f": {problem}" if problem else ""))

    async def begin(self, stop: asyncio.Event) -> bool:
        """Wait for identity and settings; returns whether there are both, or it was told to stop before."""
        if self._keeper is not None:
            self.security = await first_of(self._keeper.first(), stop)
            if self.security is None:
                return False
            self.tasks.append(asyncio.ensure_future(self._keeper.run()))
            if self._operator is not None and not await self._settings(self._keeper, self._operator, stop):
                await ended(self.tasks)
                return False
        if not self._live.value.security.secure:
            self.security = None
        self._over = True
        return True

    async def _settings(self, keeper: Keeper, operator: Operator, stop: asyncio.Event) -> bool:
        """The operator's, or after a restart those of before, if the operator does not answer soon."""
        self._live.restore()
        channel = self.channel = Channel(operator.client, keeper, self._role, self._state, operator.vault)
        channel.has_settings(self._live.version)
        channel.on_settings = self._take
        channel.on_ended = self.on_ended
        self.tasks.append(asyncio.ensure_future(channel.run()))
        return bool(await first_of(self._either(channel), stop, self.tasks))

    def _take(self, version: str, tables: Tables) -> str:
        in_force = self._live.take(version, tables)
        if self._live.complete:
            self._settled.set()
        return in_force

    async def _either(self, channel: Channel) -> bool:
        if self._live.complete:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(channel.tried.wait(), OPERATOR_PATIENCE)
        else:
            await self._settled.wait()
        return True
