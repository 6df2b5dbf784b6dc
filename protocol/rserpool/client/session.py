# SPDX-License-Identifier: Apache-2.0
"""A session with a pool: one element at a time, and another one when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rserpool.client.carrier import Carrier, Received
from rserpool.client.errors import (
    BY_FAILURE,
    NoElementError,
    PoolUserError,
    QueueFullError,
    SessionClosedError,
    SessionLostError,
)
from rserpool.session.backlog import QueueFull
from rserpool.session.seeker import State
from rserpool.session.sending import SendOptions, check_within_session
from rserpool.session.user import SessionOver
from rserpool.session.user_effects import ChannelSecurity, Ended, Ending, Far
from rserpool.wire import PoolElement


@dataclass(frozen=True, slots=True)
class PoolElementHandle:
    """One element of a pool: what to name to speak with that very element again (RFC 5352 6.5.3).

    Attributes:
        handle: the pool handle.
        identifier: its PE identifier.
    """

    handle: bytes
    identifier: int


class Session(Carrier):
    """A session; used inside its ``async with``. Made by :meth:`rserpool.client.PoolUser.session`."""

    async def __aenter__(self) -> Self:
        self.begin()
        try:
            await self.opened()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._finish()
        finally:
            await self.aclose()

    async def _finish(self) -> None:
        """What was sent is still given to the element, unless that does not take it."""
        patience = self._config.patience
        try:
            async with asyncio.timeout(patience):
                await self.flush()
        except TimeoutError:
            text = f"the element has not taken {self._machine.unsent} octets within {patience:g} s"
            raise SessionLostError(text, self.element) from None

    # -- what it is

    @property
    def element(self) -> PoolElement:
        """The element it speaks with, or spoke with last."""
        return self._far.element

    @property
    def security(self) -> ChannelSecurity:
        """What protects the connection with that element."""
        return self._far.security

    @property
    def element_handle(self) -> PoolElementHandle:
        """Names that element, for another session with it."""
        return PoolElementHandle(self._config.handle, self.element.identifier)

    @property
    def cookie(self) -> bytes | None:
        """The newest cookie an element has given; the next element gets it first."""
        return self._machine.cookie

    @property
    def failovers(self) -> int:
        """How often it has gone on at another element."""
        return self._failovers

    @property
    def is_open(self) -> bool:
        """Whether there is an element to speak with at this moment."""
        return self._machine.state is State.OPEN

    @property
    def is_over(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self._ended is not None

    @property
    def _far(self) -> Far:
        if self._machine.far is None:
            raise RuntimeError("a Session is used inside its `async with`")
        return self._machine.far

    # -- what people do with it

    async def send(self, octets: bytes, options: SendOptions = SendOptions.USE_DEFAULT) -> None:
        """Send a message; waits while the element takes no more.

        While the session is between two elements the message is queued, and goes to the next one.

        Args:
            octets: any number of them. Where one message ends and the next begins is not seen at the far end.
            options: how to send it.

        Raises:
            QueueFullError: the session is between two elements, and as much waits as may.
            SessionClosedError: the session was closed, or has said that it has no more to say.
            SessionLostError: the session has lost its element; the message is among its ``unsent``.
            ValueError: the options contradict each other, or do not fit a session.
        """
        check_within_session(options)
        await self._until(lambda: self._ended is not None or not self._machine.wants_to_write)
        self._raise_if_over()
        try:
            effects = self._machine.send(bytes(octets), options, asyncio.get_running_loop().time())
        except QueueFull as e:
            raise QueueFullError(f"{e}: the session has no element now; wait until it has one, or send less") from None
        except SessionOver as e:
            raise SessionClosedError(f"{e}; open another session") from None
        self._input(lambda _: effects)
        await self._until(lambda: self._ended is not None or not self._machine.wants_to_write)
        self._raise_if_over()

    async def flush(self) -> None:
        """Wait until all that was sent has been given to a connection.

        Raises:
            SessionLostError: the session has lost its element before.
        """
        await self._until(lambda: self._ended is not None or not self._machine.unsent)
        if self._ended is not None and self._ended.unsent:
            self._raise_if_over()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; what the element still has to say can be received."""
        self._raise_if_over()
        self._input(self._machine.end_data)
        await self.flush()

    async def receive(self) -> bytes:
        """What an element has sent next, as it came; ``b""`` when the session has ended in good order.

        Raises:
            SessionLostError: the session has lost its element for good.
        """
        received = await self.receive_from()
        return b"" if received is None else received.octets

    async def receive_from(self) -> Received | None:
        """As :meth:`receive`, with the element that has sent it; ``None`` at the end."""
        await self._until(lambda: bool(self._inbox) or self._ended is not None)
        if self._inbox:
            received = self._inbox.popleft()
            self._inbox_octets -= len(received.octets)
            self._hold()
            return received
        assert self._ended is not None
        if self._ended.how not in {Ending.FINISHED, Ending.CLOSED} or self._fault is not None:
            self._raise_if_over()
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while octets := await self.receive():
            yield octets

    async def report_failure(self, reason: str = "the application says that it does not work") -> None:
        """The element answers, but not as it should: leave it for another one (RFC 5352 6.9.2).

        A registrar is told, unless nothing was ever sent to that element.

        Raises:
            SessionLostError: the session may not fail over.
        """
        self._raise_if_over()
        self._input(lambda now: self._machine.report(reason, now))
        self._raise_if_over()

    async def aclose(self) -> None:
        """End it at once; what was not sent is dropped."""
        self._input(self._machine.close)
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self) -> None:
        """Find an element; :meth:`opened` waits for it."""
        if self._machine.state is State.NEW:
            self._input(self._machine.begin)

    async def opened(self) -> None:
        """Wait until there is an element.

        Raises:
            NoElementError: there is none that could be reached and believed.
            PoolUserError: the pool's handle could not be resolved.
        """
        await self._until(lambda: self._ended is not None or self.is_open)
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        if self._ended is None:
            return
        if self._fault is not None:
            raise self._fault
        raise _error(self._ended, opened=self._machine.far is not None)


def _error(ended: Ended, *, opened: bool) -> PoolUserError:
    if ended.failure is not None:
        return BY_FAILURE[ended.failure](ended.reason)
    if ended.how in {Ending.CLOSED, Ending.FINISHED}:
        return SessionClosedError(f"{ended.reason}; open another session")
    if not opened:
        return NoElementError(ended.reason)
    return SessionLostError(ended.reason, ended.element, ended.unsent)
