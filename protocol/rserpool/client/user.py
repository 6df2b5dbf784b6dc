# SPDX-License-Identifier: Apache-2.0
"""`PoolUser`: the asyncio face of a pool user."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Self

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Effect
from rserpool.asap.events import Event, Failure, PoolUpdated, Refused, Resolved
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.asap.user import User, UserConfig
from rserpool.client.errors import BY_FAILURE, NoElementError, PoolUserError
from rserpool.client.scope import Scope, find_scope
from rserpool.handlespace import describe_transport
from rserpool.identity import InsecureScope, SecureScope
from rserpool.transport.driver import Driver
from rserpool.transport.names import Resolver
from rserpool.transport.security import Security
from rserpool.transport.stream import describe
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.transport.tls import Credentials
from rserpool.wire import Policy, PoolElement, TcpTransport, readable_handle


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a pool handle stands for, now.

    Attributes:
        handle: the pool handle.
        policy: the pool's policy; ``None`` means Round Robin.
        elements: in the order in which to try them; empty only in an update that says the pool is gone.
    """

    handle: bytes
    policy: Policy | None
    elements: tuple[PoolElement, ...]


class Connection:
    """A TCP connection to an element that was chosen by the pool's policy; closes with its ``async with``.

    Attributes:
        element: which one it is.
        reader, writer: asyncio's streams.
        tried: how many elements were tried before this one and could not be reached.
    """

    def __init__(
        self, element: PoolElement, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tried: int
    ) -> None:
        self.element = element
        self.reader = reader
        self.writer = writer
        self.tried = tried

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()


class PoolUser:
    """A user of server pools.

    Args:
        scope: where registrars are and whom to trust; found by itself if not given.
        timers: of the protocol.
        patience: seconds after which a resolution has failed, whatever is still being tried.
        connect_timeout: seconds for one attempt to connect to an element.

    Raises:
        ScopeError: no scope was given or found.
    """

    def __init__(
        self,
        scope: Scope | None = None,
        *,
        timers: EndpointTimers = FAST.endpoint,
        patience: float = 1.0,
        connect_timeout: float = 1.0,
    ) -> None:
        self._scope = scope if scope is not None else find_scope()
        self._timers = timers
        self._patience = patience
        self._connect_timeout = connect_timeout
        self._driver: Driver | None = None
        self._waiting: dict[int, asyncio.Future[Resolved]] = {}
        self._watchers: dict[bytes, set[asyncio.Queue[Resolution | None]]] = {}
        self._refusal = ""
        self._names: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        resolver = Resolver(self._scope.registrars)
        config = UserConfig(registrars=await resolver.resolve(), patience=self._patience, timers=self._timers)
        self._machine = User(config, self._authoriser(), Random(secrets.randbits(128)))  # noqa: S311 - not secrets
        network = TcpNetwork(self._scope.local, self._security(), TcpLimits(idle=0.0))
        driver = self._driver = Driver(self._machine, network, self._event)
        resolver.on_changed = lambda found: driver.call(lambda now: self._machine.set_registrars(found, now))
        if resolver.needs_dns:
            self._names = asyncio.create_task(resolver.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._names is not None:
            self._names.cancel()
        if self._driver is not None:
            await self._driver.close()
            self._driver = None
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(PoolUserError("the pool user was closed"))
        for queues in self._watchers.values():
            for queue in queues:
                queue.put_nowait(None)

    def _authoriser(self) -> Authoriser:
        if self._scope.bundle is None:
            return InsecureScope()
        return SecureScope(pool_handle=b"", registrar_threat="2.7")

    def _security(self) -> Security | None:
        scope = self._scope
        if scope.bundle is None:
            return None
        return Security(
            trust_domain=scope.trust_domain,
            namespace=scope.namespace,
            pool=scope.pool,
            role=Role.USER,
            credentials=Credentials.trusting(scope.bundle),
        )

    @property
    def _running(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("a PoolUser is used inside its `async with`")
        return self._driver

    async def resolve(self, handle: str | bytes, *, items: int | None = None) -> Resolution:
        """Ask a registrar which elements a pool has (RFC 5352 3.3).

        Args:
            handle: the pool handle.
            items: how many elements to ask for; ``None`` leaves it to the registrar.

        Raises:
            NoRegistrarError: none could be reached and believed.
            UnknownPoolError: nobody is registered in such a pool.
            RefusedError: the registrar does not answer this user.
            NoAnswerError: registrars were asked, and none answered in time.
            ValueError: there cannot be such a handle, or so many items.
        """
        octets = _octets(handle)
        if items is not None and not 0 <= items <= 0xFFFFFFFF:
            raise ValueError(f"items is {items}; write a number from 0 to {0xFFFFFFFF}")
        driver = self._running
        done: asyncio.Future[Resolved] = asyncio.get_running_loop().create_future()
        tokens: list[int] = []

        def begin(now: float) -> list[Effect]:
            token, effects = self._machine.resolve(octets, now, items)
            tokens.append(token)
            self._waiting[token] = done
            return effects

        driver.call(begin)
        try:
            outcome = await done
        finally:
            self._waiting.pop(tokens[0], None)
            driver.call(lambda now: self._machine.cancel(tokens[0], now))
        if outcome.failure is not None:
            reason = outcome.reason
            if outcome.failure is Failure.NO_REGISTRAR and self._refusal:
                reason = self._refusal
            raise BY_FAILURE[outcome.failure](reason)
        self._refusal = ""
        return Resolution(octets, outcome.policy, outcome.elements)

    async def connect(self, handle: str | bytes) -> Connection:
        """Connect to an element over TCP: the one the policy puts first, then the next, as long as there is one.

        Each that cannot be reached is reported to the registrar (RFC 5352 3.5).

        Raises:
            NoElementError: there are elements, but none could be reached.
            PoolUserError: as :meth:`resolve`.
        """
        failures: list[str] = []
        tried: set[int] = set()
        for _ in range(2):  # once more with a fresh answer: the pool may have changed meanwhile
            resolution = await self.resolve(handle)
            for element in resolution.elements:
                if element.identifier in tried:
                    continue
                tried.add(element.identifier)
                try:
                    reader, writer = await self._open(element)
                except OSError as e:
                    failures.append(f"{describe_transport(element.transport)}: {describe(e)}")
                    self._report(resolution.handle, element)
                    continue
                return Connection(element, reader, writer, len(failures))
        name = readable_handle(handle.encode() if isinstance(handle, str) else handle)
        raise NoElementError(f"no element of {name!r} could be reached: {'; '.join(failures)}")

    def _report(self, handle: bytes, element: PoolElement) -> None:
        self._running.call(lambda now: self._machine.report(handle, element.identifier, now))

    async def _open(self, element: PoolElement) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        transport = element.transport
        if not isinstance(transport, TcpTransport):
            raise OSError(f"it speaks {transport.TYPE.name.removesuffix('_TRANSPORT')}, not TCP")
        local = (str(self._scope.local), 0) if self._scope.local is not None else None
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await asyncio.open_connection(str(transport.address), transport.port, local_addr=local)
        except TimeoutError:
            raise OSError(f"no answer within {self._connect_timeout:g} s") from None

    async def watch(self, handle: str | bytes) -> AsyncIterator[Resolution]:
        """Stay informed of a pool: yields it at once, and again whenever it has changed.

        A pool that is gone, or not there yet, is one without elements.

        Raises:
            ValueError: there cannot be such a handle.
        """
        octets = _octets(handle)
        queue: asyncio.Queue[Resolution | None] = asyncio.Queue()
        self._watchers.setdefault(octets, set()).add(queue)
        self._running.call(lambda now: self._machine.watch(octets, now))
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
            watchers = self._watchers[octets]
            watchers.discard(queue)
            if not watchers:
                del self._watchers[octets]
                if self._driver is not None:
                    self._driver.call(lambda now: self._machine.unwatch(octets, now))

    def _event(self, event: Event) -> None:
        match event:
            case Resolved():
                done = self._waiting.get(event.token)
                if done is not None and not done.done():
                    done.set_result(event)
            case PoolUpdated(pool_handle=handle, policy=policy, elements=elements):
                for queue in self._watchers.get(handle, ()):
                    queue.put_nowait(Resolution(handle, policy, elements))
            case Refused(peer=peer, reason=reason):
                self._refusal = f"the registrar at {peer} was not believed: {reason}"
            case _:
                pass


def _octets(handle: str | bytes) -> bytes:
    octets = handle.encode() if isinstance(handle, str) else handle
    if not 1 <= len(octets) <= 255:
        raise ValueError(f"a pool handle has 1 to 255 octets, not {len(octets)}")
    return octets


def _seen(resolution: Resolution) -> set[PoolElement]:
    """What a user sees of a pool; which registrar is an element's home is none of its business."""
    return {replace(element, home=0) for element in resolution.elements}
