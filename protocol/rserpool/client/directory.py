# SPDX-License-Identifier: Apache-2.0
"""What a pool user knows of pools: its registrars, its cache, and who wants to be told of changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from rserpool.asap.announce import Multicast
from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Effect, Endpoint
from rserpool.asap.events import Event, Failure, PoolUpdated, Refused, Resolved
from rserpool.asap.profiles import EndpointTimers
from rserpool.asap.user import User, UserConfig
from rserpool.client.bundle import follow_bundle
from rserpool.client.errors import PoolUserError
from rserpool.client.scope import Scope
from rserpool.identity import InsecureScope, SecureScope
from rserpool.session.cache import Cache, CachedPool, Missing
from rserpool.transport.discovery import Listening, Registrars
from rserpool.transport.driver import Driver
from rserpool.transport.names import Resolver
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.transport.tls import Credentials
from rserpool.wire import RFC, Policy, PoolElement


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


Follower = Callable[[Resolution], None]
"""Who is told of a pool's changes."""


@dataclass(eq=False, slots=True)
class _Question:
    """One that a registrar is asked; whoever wants to know the same waits for the same answer."""

    token: int
    handle: bytes
    waiting: list[asyncio.Future[Resolved]] = field(default_factory=list)


class Directory:
    """Registrars and what they say.

    Args:
        scope: where registrars are and whom to trust.
        timers: of the protocol.
        patience: seconds after which a resolution has failed, whatever is still being tried.
        stale_after: seconds after which an answer is stale; ``None``: by the pool's policy.
        credentials: a leaf of one's own; ``None``: an anonymous user.
        multicast: where registrars announce themselves; ``None``: nobody listens.

    Raises:
        ValueError: without an own address nobody knows on which link to listen.
    """

    def __init__(
        self,
        scope: Scope,
        timers: EndpointTimers,
        patience: float,
        stale_after: float | None,
        credentials: Credentials | None,
        multicast: Multicast | None,
    ) -> None:
        if multicast is not None and scope.local is None:
            raise ValueError("to listen to announcements takes an address of one's own: give the scope a local one")
        self.security = _security(scope, credentials)
        self.rng = Random(secrets.randbits(128))  # noqa: S311 - not secrets
        self.cache = Cache(self.rng, stale_after)
        self._scope = scope
        self._timers = timers
        self._patience = patience
        self._driver: Driver | None = None
        self._questions: dict[int, _Question] = {}
        self._asked: dict[bytes, _Question] = {}
        self._followers: dict[bytes, list[Follower]] = {}
        self._refusal = ""
        self._multicast = multicast
        self._known = Registrars(self._set_registrars)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Be ready to ask.

        Raises:
            OSError: announcements cannot be listened to.
        """
        resolver = Resolver(self._scope.registrars)
        registrars = await resolver.resolve()
        config = UserConfig(registrars=registrars, patience=self._patience, timers=self._timers)
        self.machine = User(config, _authoriser(self._scope), self.rng)
        network = TcpNetwork(self._scope.local, self.security, TcpLimits(idle=0.0))
        self._driver = Driver(self.machine, network, self._event)
        if self.security is not None and self._scope.bundle_file is not None:
            trusts = self.security.credentials.bundle == Credentials.trusting(self._scope.bundle or b"").bundle
            if trusts:  # who brings other authorities with a leaf of its own looks after them, too
                self._tasks.append(asyncio.create_task(follow_bundle(self._scope.bundle_file, self.security)))
        self._known.configured(registrars)
        resolver.on_changed = self._known.configured
        if resolver.needs_dns:
            self._tasks.append(asyncio.create_task(resolver.run()))
        if self._multicast is not None and self._scope.local is not None:
            listening = Listening(self._multicast, (self._scope.local,), self._timers.t7, RFC)
            listening.on_changed = self._known.announced
            await self._begin(asyncio.create_task(listening.run()))

    async def _begin(self, task: asyncio.Task[None]) -> None:
        """Have a task run; what goes wrong at its first step is raised here."""
        self._tasks.append(task)
        await asyncio.sleep(0)
        if task.done():
            await self.close()
            task.result()

    def _set_registrars(self, found: tuple[Endpoint, ...]) -> None:
        if self._driver is not None:
            self._driver.call(lambda now: self.machine.set_registrars(found, now))

    async def close(self) -> None:
        """Ask no more; whoever waits is told."""
        for task in self._tasks:
            task.cancel()
        if self._driver is not None:
            driver, self._driver = self._driver, None
            await driver.close()
        for question in self._questions.values():
            for done in question.waiting:
                if not done.done():
                    done.set_exception(PoolUserError("the pool user was closed"))

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and not closed."""
        return self._driver is not None

    @property
    def _running(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("a PoolUser is used inside its `async with`")
        return self._driver

    # -- resolving

    def cached(self, handle: bytes) -> CachedPool | Missing | None:
        """What is known of a pool and not stale; ``None``: ask."""
        now = asyncio.get_running_loop().time()
        return self.cache.look(handle, now, self.machine.subscription(handle))

    async def look_up(self, handle: bytes, *, fresh: bool = False) -> CachedPool | Missing:
        """What a pool consists of (RFC 5352 3.3 C1): the cache first, then a registrar.

        Args:
            handle: the pool handle.
            fresh: ask a registrar in any case.
        """
        driver = self._running
        known = None if fresh else self.cached(handle)
        if known is not None:
            return known
        outcome = await self._ask(driver, handle, None)
        if outcome.failure is not None:
            return Missing(outcome.failure, self._reason(outcome))
        found = self.cache.known(handle)
        return found if found is not None else self._learn(outcome)  # it may have been made room for others already

    async def ask(self, handle: bytes, items: int | None) -> Resolution | Missing:
        """Ask a registrar for so many elements; what it says is not remembered, since it is not the pool."""
        outcome = await self._ask(self._running, handle, items)
        if outcome.failure is not None:
            return Missing(outcome.failure, self._reason(outcome))
        return Resolution(handle, outcome.policy, outcome.elements)

    async def _ask(self, driver: Driver, handle: bytes, items: int | None) -> Resolved:
        question = self._asked.get(handle) if items is None else None
        if question is None:
            question = self._question(driver, handle, items)
        done: asyncio.Future[Resolved] = asyncio.get_running_loop().create_future()
        question.waiting.append(done)
        try:
            return await done
        finally:
            question.waiting.remove(done)
            if not question.waiting and self._forget(question):
                driver.call(lambda now: self.machine.cancel(question.token, now))

    def _question(self, driver: Driver, handle: bytes, items: int | None) -> _Question:
        made: list[_Question] = []

        def begin(now: float) -> list[Effect]:
            token, effects = self.machine.resolve(handle, now, items)
            made.append(_Question(token, handle))
            self._questions[token] = made[0]
            if items is None:
                self._asked[handle] = made[0]
            return effects

        driver.call(begin)
        return made[0]

    def _forget(self, question: _Question) -> bool:
        """Returns whether it had not been answered."""
        if self._asked.get(question.handle) is question:
            del self._asked[question.handle]
        return self._questions.pop(question.token, None) is not None

    def _reason(self, outcome: Resolved) -> str:
        if outcome.failure is Failure.NO_REGISTRAR and self._refusal:
            return self._refusal
        return outcome.reason

    # -- following

    def follow(self, handle: bytes, follower: Follower) -> Callable[[], None]:
        """Be told of a pool at once and whenever it changes, until the function that is returned is called."""
        driver = self._running
        followers = self._followers.setdefault(handle, [])
        followers.append(follower)
        driver.call(lambda now: self.machine.watch(handle, now))

        def stop() -> None:
            if follower not in followers:
                return
            followers.remove(follower)
            if not followers and self._followers.get(handle) is followers:
                del self._followers[handle]
                if self._driver is not None:
                    self._driver.call(lambda now: self.machine.unwatch(handle, now))

        return stop

    # -- reporting

    def report(self, handle: bytes, element: PoolElement) -> None:
        """Tell a registrar that an element could not be reached, and do not offer it any more (RFC 5352 3.5)."""
        self.cache.drop(handle, element.identifier)
        if self._driver is not None:
            self._driver.call(lambda now: self.machine.report(handle, element.identifier, now))

    # -- what the machine says

    def _event(self, event: Event) -> None:
        self._known.event(event)
        match event:
            case Resolved():
                self._resolved(event)
            case PoolUpdated():
                self._updated(event)
            case Refused(peer=peer, reason=reason):
                self._refusal = f"the registrar at {peer} was not believed: {reason}"
            case _:
                pass

    def _resolved(self, event: Resolved) -> None:
        question = self._questions.get(event.token)
        if question is None:
            return  # the machine's own, to see whether a registrar is there
        whole = self._asked.get(event.pool_handle) is question
        self._forget(question)
        if event.failure is None:
            self._refusal = ""
            if whole:
                self._learn(event)
        elif event.failure is Failure.UNKNOWN_POOL:
            now = asyncio.get_running_loop().time()
            self.cache.learn_missing(event.pool_handle, event.failure, event.reason, now)
        for done in question.waiting:
            if not done.done():
                done.set_result(event)

    def _learn(self, event: Resolved) -> CachedPool:
        now = asyncio.get_running_loop().time()
        handle = event.pool_handle
        return self.cache.learn(handle, event.policy, event.elements, now, self.machine.subscription(handle))

    def _updated(self, event: PoolUpdated) -> None:
        now, handle = asyncio.get_running_loop().time(), event.pool_handle
        if event.elements:
            subscription = self.machine.subscription(handle)
            self.cache.learn(handle, event.policy, event.elements, now, subscription, pushed=True)
        else:
            self.cache.purge(handle)
        update = Resolution(handle, event.policy, event.elements)
        for follower in list(self._followers.get(handle, ())):
            follower(update)


def _authoriser(scope: Scope) -> Authoriser:
    if scope.bundle is None:
        return InsecureScope()
    return SecureScope(pool_handle=b"", registrar_threat="2.7")


def _security(scope: Scope, credentials: Credentials | None) -> Security | None:
    if scope.bundle is None:
        return None
    return Security(
        trust_domain=scope.trust_domain,
        namespace=scope.namespace,
        pool=scope.pool,
        role=Role.USER,
        credentials=credentials if credentials is not None else Credentials.trusting(scope.bundle),
    )
