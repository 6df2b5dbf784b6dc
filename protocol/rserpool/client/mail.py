# SPDX-License-Identifier: Apache-2.0
"""Messages to pools, each to the element whose turn it is: RFC 5352's DataSendRequest and Data.Received (6.5, 6.6)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from rserpool.client.carrier import Received
from rserpool.client.directory import Directory
from rserpool.client.errors import BY_FAILURE, NoElementError, PoolUserError, QueueFullError
from rserpool.client.session import PoolElementHandle, Session
from rserpool.session.cache import CachedPool, Missing
from rserpool.session.sending import SendOptions, check, recipients
from rserpool.wire import PoolElement, readable_handle

MOST_SESSIONS: Final = 256
"""Elements that are spoken with at a time; the one longest unused makes room."""
MOST_RECEIVED: Final = 1024
"""Pieces that may wait to be received before elements have to wait."""
MOST_WAITING: Final = 1024
"""Messages that may wait for a resolution."""
MOST_WAITING_OCTETS: Final = 1024 * 1024
"""Octets that may wait for a resolution."""

OpenSession = Callable[[PoolElementHandle], Session]
"""Makes a session with one element, that goes to another one only for a message that says so."""
_Key = tuple[bytes, int, bool]
"""Pool handle, PE identifier, and whether its messages may go to another element."""


class Mail:
    """Sessions with single elements, opened as messages go there.

    Args:
        directory: what is known of pools.
        open_session: makes a session.
        own: PE identifier of this process, if it is an element itself.
    """

    def __init__(self, directory: Directory, open_session: OpenSession, own: int | None) -> None:
        self._directory = directory
        self._open_session = open_session
        self._own = own
        self._sessions: OrderedDict[_Key, Session] = OrderedDict()
        self._moved: set[Session] = set()
        self._readers: dict[Session, asyncio.Task[None]] = {}
        self._last: dict[bytes, int] = {}
        self._received: asyncio.Queue[Received] = asyncio.Queue(MOST_RECEIVED)
        self._waiting = 0
        self._waiting_octets = 0

    async def send(
        self, to: bytes | PoolElementHandle, octets: bytes, options: SendOptions
    ) -> tuple[PoolElementHandle, ...]:
        """Send a message; returns which elements got it.

        Raises:
            NoElementError: nobody got it.
            PoolUserError: the handle could not be resolved.
            QueueFullError: too many wait for the pool to be resolved.
            ValueError: the options contradict each other, or the destination.
        """
        check(options)
        if isinstance(to, PoolElementHandle):
            if options & (SendOptions.SEND_TO_ALL | SendOptions.SEND_TO_LAST):
                raise ValueError("SEND_TO_ALL and SEND_TO_LAST choose among a pool's elements: name the pool")
            moves = SendOptions.SEND_FAILOVER in options
            return (await self._deliver(to, octets, moves=moves),)
        pool = await self._look_up(to, octets)
        found = recipients(options, pool.elements, pool.choose, self._last.get(to), self._own)
        if not found:
            raise NoElementError(f"{readable_handle(to)!r} has no element to send to")
        if SendOptions.SEND_TO_ALL in options:
            return await self._deliver_to_all(to, found, octets)
        moves = SendOptions.SEND_NO_FAILOVER not in options
        reached = await self._deliver(PoolElementHandle(to, found[0].identifier), octets, moves=moves)
        self._last[to] = reached.identifier
        return (reached,)

    async def receive(self) -> Received:
        """The next piece that any element has sent."""
        return await self._received.get()

    async def close(self) -> None:
        """End all sessions."""
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            reader.cancel()
        await asyncio.gather(*(session.aclose() for session in readers), *readers.values(), return_exceptions=True)
        self._sessions.clear()
        self._moved.clear()

    async def _look_up(self, handle: bytes, octets: bytes) -> CachedPool:
        """The pool; the message waits while a registrar is asked (RFC 5352 6.5.1)."""
        known = self._directory.cached(handle) if self._directory.is_running else None
        if isinstance(known, CachedPool):
            return known
        if self._waiting >= MOST_WAITING or self._waiting_octets + len(octets) > MOST_WAITING_OCTETS:
            raise QueueFullError(f"{self._waiting} messages wait for pools to be resolved; wait until one is sent")
        self._waiting += 1
        self._waiting_octets += len(octets)
        try:
            found = await self._directory.look_up(handle)
        finally:
            self._waiting -= 1
            self._waiting_octets -= len(octets)
        if isinstance(found, Missing):
            raise BY_FAILURE[found.failure](found.reason)
        return found

    async def _deliver_to_all(
        self, handle: bytes, elements: Sequence[PoolElement], octets: bytes
    ) -> tuple[PoolElementHandle, ...]:
        """A copy to each; a copy is meant for that element, and goes to no other."""
        copies = [self._deliver(PoolElementHandle(handle, e.identifier), octets, moves=False) for e in elements]
        outcomes = await asyncio.gather(*copies, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, PoolUserError):
                raise outcome
        reached = tuple(o for o in outcomes if isinstance(o, PoolElementHandle))
        if not reached:
            reasons = "; ".join(str(o) for o in outcomes)
            raise NoElementError(f"no element of {readable_handle(handle)!r} could be reached: {reasons}")
        return reached

    async def _deliver(self, to: PoolElementHandle, octets: bytes, *, moves: bool) -> PoolElementHandle:
        key = (to.handle, to.identifier, moves)
        session = await self._session(to, key)
        await session.send(octets, SendOptions.SEND_FAILOVER if moves else SendOptions.USE_DEFAULT)
        await session.flush()
        if session.element.identifier != to.identifier and self._sessions.get(key) is session:
            del self._sessions[key]  # it has fallen over: not the one for this element any more, but it may be answered
            self._moved.add(session)
        return session.element_handle

    async def _session(self, to: PoolElementHandle, key: _Key) -> Session:
        session = self._sessions.get(key)
        if session is not None and not session.is_over:
            self._sessions.move_to_end(key)
            return session
        session = self._sessions[key] = self._open_session(to)
        session.begin()
        self._readers[session] = asyncio.create_task(self._read(key, session))
        if len(self._sessions) + len(self._moved) > MOST_SESSIONS:
            await (self._moved.pop() if self._moved else self._sessions.popitem(last=False)[1]).aclose()
        return session

    async def _read(self, key: _Key, session: Session) -> None:
        """Take what the session receives until it ends; of why it ends, whoever sends hears."""
        try:
            while (received := await session.receive_from()) is not None:
                await self._received.put(received)
        except PoolUserError:
            pass
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._moved.discard(session)
        self._readers.pop(session, None)
        await session.aclose()
