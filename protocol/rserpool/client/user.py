# SPDX-License-Identifier: Apache-2.0
"""`PoolUser`: the asyncio face of a pool user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from types import TracebackType
from typing import Self
from weakref import WeakSet

from rserpool.asap.announce import Multicast
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.client.carrier import OnEvent, OnFailover, Received
from rserpool.client.connection import Connection, open_connection
from rserpool.client.directory import Directory, Resolution
from rserpool.client.errors import BY_FAILURE, NoElementError, PoolUserError
from rserpool.client.line import Line, Listener
from rserpool.client.mail import Mail
from rserpool.client.scope import Scope, find_scope
from rserpool.client.session import PoolElementHandle, Session
from rserpool.handlespace import describe_transport
from rserpool.session.cache import CachedPool, Missing
from rserpool.session.sending import SendOptions
from rserpool.session.user_config import SessionConfig
from rserpool.transport.stream import describe
from rserpool.transport.tls import Credentials
from rserpool.wire import PoolElement, TcpTransport, canonical_address, policies, readable_handle

Destination = str | bytes | PoolElementHandle | tuple[str, int]
"""A pool handle, one element of a pool, or an address and port (RFC 5352 6.5.1, 6.5.3, 6.5.4)."""


class PoolUser:
    """A user of server pools.

    Args:
        scope: where registrars are and whom to trust; found by itself if not given.
        timers: of the protocol.
        patience: seconds after which a resolution has failed, whatever is still being tried.
        connect_timeout: seconds for one attempt to connect to an element, TLS included.
        stale_after: seconds for which an answer is used before a registrar is asked again; ``None``: by the pool's
            policy (30, or 0 where it is about loads and weights).
        credentials: a leaf of one's own, for a pool that anonymous users may not use; of role user, or the process's
            own as an element of the pool.
        own_identifier: PE identifier of this process, if it is an element of the pool itself.
        multicast: also ask registrars that announce themselves there, while none of the scope's answers (RFC 5352 3.6).
            An announcement is a hint: who is met there has to prove to be a registrar like everybody else.

    Raises:
        ScopeError: no scope was given or found.
        ValueError: there is no address of one's own to listen to announcements at.
    """

    def __init__(
        self,
        scope: Scope | None = None,
        *,
        timers: EndpointTimers = FAST.endpoint,
        patience: float = 1.0,
        connect_timeout: float = 1.0,
        stale_after: float | None = None,
        credentials: Credentials | None = None,
        own_identifier: int | None = None,
        multicast: Multicast | None = None,
    ) -> None:
        self._scope = scope if scope is not None else find_scope()
        self._connect_timeout = connect_timeout
        self._directory = Directory(self._scope, timers, patience, stale_after, credentials, multicast)
        self._mail = Mail(self._directory, self._session_for_mail, own_identifier)
        self._sessions: WeakSet[Session] = WeakSet()
        self._watchers: set[asyncio.Queue[Resolution | None]] = set()

    async def __aenter__(self) -> Self:
        await self._directory.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._mail.close()
        await asyncio.gather(*(session.aclose() for session in list(self._sessions)))
        await self._directory.close()
        for queue in self._watchers:
            queue.put_nowait(None)

    # -- handles

    async def resolve(self, handle: str | bytes, *, items: int | None = None, fresh: bool = False) -> Resolution:
        """Which elements a pool has (RFC 5352 3.3): as remembered while that is not stale, else by a registrar.

        Args:
            handle: the pool handle.
            items: how many elements to ask for; a registrar is asked then. ``None`` leaves it to the registrar.
            fresh: ask a registrar in any case.

        Raises:
            NoRegistrarError: none could be reached and believed.
            UnknownPoolError: nobody is registered in such a pool.
            RefusedError: the registrar does not answer this user.
            NoAnswerError: registrars were asked, and none answered in time.
            ValueError: there cannot be such a handle, or so many items.
        """
        octets = _octets(handle)
        if items is None:
            pool = _found(await self._directory.look_up(octets, fresh=fresh))
            return Resolution(octets, pool.policy, pool.elements)
        if not 0 <= items <= 0xFFFFFFFF:
            raise ValueError(f"items is {items}; write a number from 0 to {0xFFFFFFFF}")
        answer = await self._directory.ask(octets, items)
        if isinstance(answer, Missing):
            raise BY_FAILURE[answer.failure](answer.reason)
        return answer

    async def populate(self, handle: str | bytes | PoolElementHandle) -> None:
        """Have a pool remembered, as a registrar knows it now (RFC 5352 6.3).

        Raises:
            PoolUserError: as :meth:`resolve`.
        """
        await self.resolve(handle.handle if isinstance(handle, PoolElementHandle) else handle, fresh=True)

    def purge(self, handle: str | bytes | PoolElementHandle | None = None) -> None:
        """Forget what is remembered of a pool, or of all pools (RFC 5352 6.4)."""
        octets = handle.handle if isinstance(handle, PoolElementHandle) else handle
        self._directory.cache.purge(None if octets is None else _octets(octets))

    async def watch(self, handle: str | bytes) -> AsyncIterator[Resolution]:
        """Stay informed of a pool: yields it at once, and again whenever it has changed.

        A pool that is gone, or not there yet, is one without elements.

        Raises:
            ValueError: there cannot be such a handle.
        """
        octets = _octets(handle)
        queue: asyncio.Queue[Resolution | None] = asyncio.Queue()
        stop = self._directory.follow(octets, queue.put_nowait)
        self._watchers.add(queue)
        last: Resolution | None = None
        try:
            while True:
                update = await queue.get()
                if update is None:  # the pool user was closed
                    return
                if last is None or _seen(update) != _seen(last):
                    last = update
                    yield update
        finally:
            self._watchers.discard(queue)
            stop()

    # -- elements

    def session(
        self,
        to: Destination,
        *,
        failover: bool | None = None,
        on_failover: OnFailover | None = None,
        on_event: OnEvent | None = None,
        ends_with_element: bool = False,
        leave_removed: bool = False,
        follow: bool = True,
        patience: float = 10.0,
    ) -> Session:
        """A session: bytes to and from one element, and another one when that fails. Use it with ``async with``.

        In a pool with a control channel every element has to prove who it is before it gets anything, and cookies go
        with the session. In any other it is plain TCP, and :attr:`Session.security` says so.

        Args:
            to: a pool handle; a :class:`PoolElementHandle` for one element of a pool; or an address and port, which is
                connected to without any of RSerPool.
            failover: go on at another element when this one fails; by default for a pool handle, not for one element.
                Never for an address.
            on_failover: asked before anything goes to another element, with the old and the new one and the security
                of both; ``False`` refuses it. May be a coroutine function.
            on_event: told what happens to the session.
            ends_with_element: when the element closes its end in good order, the session has ended. By default that is
                a failure, as an element that is killed does the same.
            leave_removed: leave an element as soon as it is not in the pool any more, though it still serves.
            follow: be told by a registrar when the pool changes; else nobody says that the element has left it.
            patience: seconds in which an element must be found, at the beginning and at each fail-over.

        Raises:
            ValueError: there cannot be such a destination.
        """
        config = self._config_for(to, patience)
        if config.direct is not None and failover:
            raise ValueError("an address has no fail-over: name a pool or an element of one")
        moves = isinstance(to, str | bytes) if failover is None else failover
        config = replace(config, failover=moves, ends_with_element=ends_with_element, leave_removed=leave_removed)
        session = Session(
            self._directory, config, self._dial, follow=follow, on_failover=on_failover, on_event=on_event
        )
        self._sessions.add(session)
        return session

    def _config_for(self, to: Destination, patience: float) -> SessionConfig:
        framed = self._scope.control_channel
        config = SessionConfig(
            handle=b"",
            framed=framed,
            secure=framed and self._scope.bundle is not None,
            connect=self._connect_timeout,
            patience=patience,
        )
        if isinstance(to, PoolElementHandle):
            return replace(config, handle=_octets(to.handle), element=to.identifier)
        if isinstance(to, str | bytes):
            return replace(config, handle=_octets(to))
        return replace(config, direct=_at(*to))

    def _dial(self, element: PoolElement, deadline: float, listener: Listener) -> Line:
        security = self._directory.security if self._scope.control_channel else None
        return Line(element, security, self._scope.local, deadline, listener)

    def _session_for_mail(self, to: PoolElementHandle) -> Session:
        return self.session(to, failover=False, follow=False)

    async def send(
        self,
        to: str | bytes | PoolElementHandle,
        octets: bytes,
        options: SendOptions = SendOptions.USE_DEFAULT,
    ) -> tuple[PoolElementHandle, ...]:
        """Send one message to a pool: each to the element whose turn it is by the policy (RFC 5352 6.5).

        Args:
            to: a pool handle, or one element of a pool.
            octets: the message.
            options: to whom, and what to do if it cannot be reached.

        Returns:
            Which elements got it; with ``SEND_TO_ALL`` those that could be reached.

        Raises:
            NoElementError: nobody could be reached.
            SessionLostError: the element was lost, and the message may not go to another one.
            QueueFullError: too many messages wait for pools to be resolved.
            PoolUserError: as :meth:`resolve`.
            ValueError: the options contradict each other.
        """
        where = to if isinstance(to, PoolElementHandle) else _octets(to)
        return await self._mail.send(where, bytes(octets), options)

    async def receive(self) -> Received:
        """What any element has sent to whom something was sent with :meth:`send` (RFC 5352 6.6)."""
        return await self._mail.receive()

    async def connect(self, handle: str | bytes) -> Connection:
        """Connect to an element over plain TCP: the one whose turn it is, then the next, as long as there is one.

        Each that cannot be reached is reported to the registrar (RFC 5352 3.5).

        Raises:
            NoElementError: there are elements, but none could be reached.
            PoolUserError: as :meth:`resolve`; or the pool has a control channel, which plain streams know nothing of.
        """
        octets = _octets(handle)
        name = readable_handle(octets)
        if self._scope.control_channel:
            raise PoolUserError(f"the pool {name!r} has a control channel; use session() instead of connect()")
        failures: list[str] = []
        tried: set[int] = set()
        for fresh in (False, True):  # once more with a fresh answer: the pool may have changed meanwhile
            pool = _found(await self._directory.look_up(octets, fresh=fresh))
            while (element := pool.choose(tried)) is not None:
                tried.add(element.identifier)
                try:
                    return await open_connection(element, self._scope.local, self._connect_timeout, len(failures))
                except OSError as e:
                    failures.append(f"{describe_transport(element.transport)}: {describe(e)}")
                    self._directory.report(octets, element)
        raise NoElementError(f"no element of {name!r} could be reached: {'; '.join(failures)}")


def _found(answer: CachedPool | Missing) -> CachedPool:
    if isinstance(answer, Missing):
        raise BY_FAILURE[answer.failure](answer.reason)
    return answer


def _octets(handle: str | bytes) -> bytes:
    octets = handle.encode() if isinstance(handle, str) else handle
    if not 1 <= len(octets) <= 255:
        raise ValueError(f"a pool handle has 1 to 255 octets, not {len(octets)}")
    return octets


def _at(host: str, port: int) -> PoolElement:
    """Nobody knows which element is at this address, if it is one."""
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is none; write one from 1 to 65535")
    try:
        address = canonical_address(ip_address(host))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; resolve names first") from None
    transport = TcpTransport(port=port, address=address)
    return PoolElement(identifier=0, home=0, life=1, transport=transport, policy=policies.RoundRobin())


def _seen(resolution: Resolution) -> set[PoolElement]:
    """What a user sees of a pool; which registrar is an element's home is none of its business."""
    return {replace(element, home=0) for element in resolution.elements}
