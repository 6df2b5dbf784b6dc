# SPDX-License-Identifier: Apache-2.0
"""Carries out what a session's machine says: connections, resolutions, questions. Decides nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Final

from rserpool.client.directory import Directory, Resolution
from rserpool.client.errors import PoolUserError
from rserpool.client.line import Dial as Dialler
from rserpool.client.line import Line
from rserpool.session.cache import CachedPool, Missing
from rserpool.session.seeker import State
from rserpool.session.user import UserSession
from rserpool.session.user_config import SessionConfig
from rserpool.session.user_effects import (
    Ask,
    Attempt,
    Deliver,
    Dial,
    EndData,
    Ended,
    FailedOver,
    Failover,
    HangUp,
    Peer,
    Report,
    Resolve,
    SessionEffect,
    SessionEvent,
    Suspect,
    Tell,
    Transmit,
)
from rserpool.wire import PoolElement

INBOX: Final = 256 * 1024
"""Octets that may wait to be received before the element has to wait."""
OnFailover = Callable[[Failover], bool | Awaitable[bool | None] | None]
"""Asked before a session goes on at another element: ``False`` refuses that element."""
OnEvent = Callable[[SessionEvent], None]
"""Told what happens to a session."""
_Call = Callable[[float], list[SessionEffect]]


@dataclass(frozen=True, slots=True)
class Received:
    """What an element has sent, and which one (RFC 5352 6.6)."""

    element: PoolElement
    octets: bytes


class Carrier:
    """One session's machine, in an event loop.

    Args:
        directory: what is known of pools.
        config: of the session.
        dial: opens a connection.
        follow: be told by a registrar when the pool changes.
        on_failover: asked before the session goes on at another element.
        on_event: told what happens.
    """

    def __init__(
        self,
        directory: Directory,
        config: SessionConfig,
        dial: Dialler,
        *,
        follow: bool,
        on_failover: OnFailover | None,
        on_event: OnEvent | None,
    ) -> None:
        self._directory = directory
        self._config = config
        self._dial = dial
        self._follow = follow and config.direct is None
        self._on_failover = on_failover
        self._on_event = on_event
        self._machine = UserSession(config, directory.rng)
        self._lines: dict[Attempt, Line] = {}
        self._attempts: dict[Line, Attempt] = {}
        self._calls: deque[_Call] = deque()
        self._carrying_out = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_following: Callable[[], None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._inbox: deque[Received] = deque()
        self._inbox_octets = 0
        self._held = False
        self._ended: Ended | None = None
        self._fault: Exception | None = None
        self._failovers = 0

    # -- the machine

    def _input(self, call: _Call) -> None:
        """Give the machine an input, and carry out what it answers; one after the other."""
        self._calls.append(call)
        if self._carrying_out:
            return
        self._carrying_out = True
        loop = asyncio.get_running_loop()
        try:
            while self._calls:
                for effect in self._calls.popleft()(loop.time()):
                    self._carry_out(effect)
                if not self._calls and self._may_write():
                    self._calls.append(partial(self._machine.writable, self._machine.attempt))
        finally:
            self._carrying_out = False
        self._arm()
        self._hold()
        self._wake_all()

    def _may_write(self) -> bool:
        line = self._lines.get(self._machine.attempt)
        return self._machine.wants_to_write and line is not None and not line.full

    def _carry_out(self, effect: SessionEffect) -> None:
        match effect:
            case Resolve(fresh):
                self._resolve(fresh=fresh)
            case Dial(attempt, element, deadline):
                line = self._dial(element, deadline, self)
                self._lines[attempt], self._attempts[line] = line, attempt
                self._held = False
            case Ask(attempt, failover):
                self._spawn(self._ask(attempt, failover))
            case Transmit() | EndData() | Suspect() | HangUp():
                self._carry_out_on_line(effect)
            case Report(element):
                self._directory.report(self._config.handle, element)
            case Deliver(element, octets):
                self._inbox.append(Received(element, octets))
                self._inbox_octets += len(octets)
            case Tell(event):
                self._tell(event)
            case Ended():
                self._over(effect)

    def _carry_out_on_line(self, effect: Transmit | EndData | Suspect | HangUp) -> None:
        line = self._lines.get(effect.attempt)
        if line is None:
            return  # it went down a moment ago; the machine is about to hear of it
        match effect:
            case Transmit(octets=octets):
                line.send(octets)
            case EndData():
                line.finish()
            case Suspect():
                line.suspect()
            case HangUp(abort=abort):
                del self._lines[effect.attempt], self._attempts[line]
                line.hang_up(abort=abort)

    def _resolve(self, *, fresh: bool) -> None:
        if not self._directory.is_running:  # the pool user was closed: nobody is there to ask
            self._fault = PoolUserError("the pool user was closed")
            self._calls.append(self._machine.close)
            return
        known = None if fresh else self._directory.cached(self._config.handle)
        if known is None:
            self._spawn(self._look_up())
        else:
            self._calls.append(lambda now: self._answered(known, now))

    async def _look_up(self) -> None:
        try:
            found = await self._directory.look_up(self._config.handle, fresh=True)
        except PoolUserError as e:
            self._fault = e
            self._input(self._machine.close)
            return
        self._input(lambda now: self._answered(found, now))

    def _answered(self, found: CachedPool | Missing, now: float) -> list[SessionEffect]:
        if isinstance(found, Missing):
            return self._machine.unresolved(found.failure, found.reason, now)
        return self._machine.resolved(found, now)

    async def _ask(self, attempt: Attempt, failover: Failover) -> None:
        """Ask the application; one that fails has refused all, and hears of it where it waits for the session."""
        try:
            answer = self._on_failover(failover) if self._on_failover is not None else None
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as e:  # noqa: BLE001 - whatever the application has to say
            self._fault = e
            self._input(self._machine.close)
            return
        decided = self._machine.declined if answer is False else self._machine.agreed
        self._input(lambda now: decided(attempt, now))

    def _tell(self, event: SessionEvent) -> None:
        if isinstance(event, FailedOver):
            self._failovers += 1
        if self._on_event is not None:
            asyncio.get_running_loop().call_soon(self._on_event, event)

    def _over(self, ended: Ended) -> None:
        self._ended = ended
        if self._stop_following is not None:
            self._stop_following()
        for line in self._lines.values():  # those that are over already, and are not missed
            line.hang_up(abort=False)
        self._lines.clear()
        self._attempts.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._machine.deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._wake, deadline)

    def _wake(self, due: float) -> None:
        self._timer = None
        self._input(lambda now: self._machine.wake(max(now, due)))  # a loop may be a little early

    def _updated(self, update: Resolution) -> None:
        self._input(lambda now: self._machine.updated(update.elements, now))

    # -- lines

    def up(self, line: Line, peer: Peer) -> None:
        """A connection is up."""
        self._of(line, lambda attempt, now: self._machine.connected(attempt, peer, now))
        if (
            self._machine.state is State.OPEN
            and self._follow
            and self._stop_following is None
            and self._directory.is_running
        ):
            self._stop_following = self._directory.follow(self._config.handle, self._updated)

    def came(self, line: Line, octets: bytes) -> None:
        """An element has sent something."""
        self._of(line, lambda attempt, now: self._machine.received(attempt, octets, now))

    def flows(self, line: Line) -> None:
        """A connection takes more."""
        if line in self._attempts:
            self._input(lambda _: [])

    def down(self, line: Line, reason: str, *, orderly: bool) -> None:
        """A connection has ended, or could not be opened."""
        attempt = self._attempts.pop(line, None)
        if attempt is None:
            return
        del self._lines[attempt]
        if not line.is_up:
            self._input(lambda now: self._machine.not_connected(attempt, reason, now))
        else:
            self._input(lambda now: self._machine.lost(attempt, reason, now, orderly=orderly))

    def _of(self, line: Line, call: Callable[[Attempt, float], list[SessionEffect]]) -> None:
        attempt = self._attempts.get(line)
        if attempt is not None:
            self._input(lambda now: call(attempt, now))

    def _hold(self) -> None:
        """Have the element wait where the application does not take what it sends, or has not agreed to it yet."""
        line = self._lines.get(self._machine.attempt)
        hold = self._inbox_octets > INBOX or self._machine.state is State.ASKING
        if line is not None and hold != self._held and self._machine.state in {State.OPEN, State.ASKING}:
            self._held = hold
            line.read_on(wanted=not hold)

    # -- waiting

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
