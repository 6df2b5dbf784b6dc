# SPDX-License-Identifier: Apache-2.0
"""How a pool user's session finds an element: resolve, choose, connect, verify; and again, with back-off."""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import count
from random import Random
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Failure
from rserpool.asap.timers import Timers
from rserpool.session.backlog import Backlog
from rserpool.session.channel import Channel
from rserpool.session.search import Pool, Search
from rserpool.session.user_config import SessionConfig
from rserpool.session.user_effects import (
    Attempt,
    Dial,
    ElementLost,
    Ended,
    Ending,
    Far,
    HangUp,
    Peer,
    Report,
    Resolve,
    SessionEffect,
    SessionEvent,
    Tell,
    Unsent,
)
from rserpool.wire import PoolElement, readable_handle

REASONS: Final = 8
"""Failures named in the reason why no element could be reached."""


class State(Enum):
    """Where a session stands."""

    NEW = "new"
    RESOLVING = "resolving"
    CONNECTING = "connecting"
    ASKING = "asking the application"
    OPEN = "open"
    PAUSING = "waiting before it asks again"
    ENDED = "ended"


class Seeker:
    """The seeking half of a session.

    Attributes:
        state: where it stands.
        far: the element it speaks with, or spoke with last; ``None`` before the first.
    """

    def __init__(self, config: SessionConfig, rng: Random) -> None:
        self.state = State.NEW
        self.far: Far | None = None
        self._config = config
        self._rng = rng
        self._now = 0.0
        self._timers = Timers()
        self._effects: list[SessionEffect] = []
        self._attempts = count(1)
        self._attempt = Attempt(0)
        self._search = Search(config.element)
        self._backlog = Backlog(config.queue_messages, config.queue_octets)
        self._channel = Channel(framed=config.framed)
        self._dialled: PoolElement | None = None
        self._pauses = 0
        self._give_up_at = 0.0
        self._reasons: deque[str] = deque(maxlen=REASONS)

    @property
    def attempt(self) -> Attempt:
        """The connection in use, or being opened."""
        return self._attempt

    def deadline(self) -> float | None:
        """When to call :meth:`wake`; ``None`` for never."""
        return self._timers.next()

    def resolved(self, pool: Pool, now: float) -> list[SessionEffect]:
        """The pool's handle stands for this."""
        self._now = now
        if self.state is State.RESOLVING:
            self._search.answered(pool)
            self._next()
        return self._leave()

    def unresolved(self, failure: Failure, reason: str, now: float) -> list[SessionEffect]:
        """The pool's handle could not be resolved."""
        self._now = now
        if self.state is State.RESOLVING:
            if self.far is None:
                self._end(Ending.UNRESOLVED, reason, failure)
            else:  # registrars fail too, and pools come back: it is tried again for as long as there is patience
                self._reasons.append(reason)
                self._pause()
        return self._leave()

    def not_connected(self, attempt: Attempt, reason: str, now: float) -> list[SessionEffect]:
        """A connection could not be opened."""
        self._now = now
        if self.state is State.CONNECTING and attempt == self._attempt:
            assert self._dialled is not None
            self._attempt_failed(self._dialled, reason)
        return self._leave()

    def wake(self, now: float) -> list[SessionEffect]:
        """A deadline has come."""
        self._now = now
        while action := self._timers.pop_due(now):
            action()
        return self._leave()

    # -- seeking

    @property
    def _may_move(self) -> bool:
        """Whether another element may take this one's place."""
        return self._config.direct is None and (self._config.failover or self._backlog.insists)

    @property
    def _bound(self) -> bool:
        """Whether there is one element only that will do."""
        return self._config.direct is not None or (self._config.element is not None and not self._may_move)

    def _resolve(self, *, fresh: bool) -> None:
        self.state = State.RESOLVING
        self._search.asked(self._now)
        self._do(Resolve(fresh))

    def _next(self) -> None:
        """The next element; when there is none, a registrar is asked: at first at once, then with back-off."""
        element = self._search.next(may_move=self._may_move)
        if element is not None:
            self._dial(element)
        elif not self._search.fresh:
            self._resolve(fresh=True)
        elif self._bound:
            self._end(Ending.NO_ELEMENT, f"PE identifier {self._config.element:#010x} is not in the pool")
        else:
            self._pause()

    def _dial(self, element: PoolElement) -> None:
        self.state = State.CONNECTING
        self._attempt = Attempt(next(self._attempts))
        self._dialled = element
        self._channel = Channel(framed=self._config.framed)
        self._do(Dial(self._attempt, element, self._config.connect))

    def _distrust(self, element: PoolElement, peer: Peer) -> str:
        """Why this far end is not the element it should be; empty if it is (threats 2.3 and 2.9)."""
        principal = peer.principal
        if not self._config.secure:
            return ""
        if not peer.security.protected:
            return "it speaks without TLS"
        if principal.role is not Role.ELEMENT:
            return f"{principal} is of role {principal.role.value}, not an element"
        if self._config.direct is None and element.identifier not in principal.pe_identifiers:
            return f"PE identifier {element.identifier:#010x} is not one of {principal}"
        if self.far is not None and peer.security.weaker_than(self.far.security):
            return f"it offers {peer.security.version}, less than the {self.far.security.version} of before"
        return ""

    def _attempt_failed(self, element: PoolElement, reason: str) -> None:
        """An element that was to be the next is none."""
        self._failure(element, reason, report=True)
        if self._bound:
            self._end(Ending.NO_ELEMENT, self._reasons[-1])
            return
        self._give_back(element, reason)
        self._next()

    def _failure(self, element: PoolElement, reason: str, *, report: bool) -> None:
        self._tell(ElementLost(element, reason))
        self._reasons.append(f"{element.identifier:#010x}: {reason}" if element.identifier else reason)
        self._search.failed(element.identifier)
        if report and self._config.direct is None:
            self._do(Report(element))

    def _pause(self) -> None:
        self.state = State.PAUSING
        longest = min(self._config.pause * 2.0**self._pauses, self._config.longest_pause)
        self._pauses = min(self._pauses + 1, 30)
        wait = longest * self._rng.uniform(0.5, 1.0)
        self._timers.set("again", self._now + wait, lambda: self._resolve(fresh=True))

    def _be_patient(self, seconds: float) -> None:
        self._give_up_at = self._now + seconds
        self._timers.set("patience", self._give_up_at, self._give_up)

    def _give_up(self) -> None:
        """No element in all that time."""
        if self.state is State.CONNECTING:
            self._do(HangUp(self._attempt, abort=True))
        tried = "; ".join(self._reasons) or "no answer from a registrar"
        name = readable_handle(self._config.handle)
        self._end(Ending.NO_ELEMENT, f"no element of {name!r} within {self._config.patience:g} s: {tried}")

    def _give_back(self, element: PoolElement, reason: str) -> None:
        """Messages that may not go elsewhere go back to the application (RFC 5352 6.5.5)."""
        stays = self.far is not None and not self._config.failover
        back = self._backlog.remove(lambda m: m.may_move is False or (stays and m.may_move is None))
        if back:
            self._tell(Unsent(element, back, reason))

    def _end(self, how: Ending, reason: str, failure: Failure | None = None) -> None:
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        for timer in ("patience", "again"):
            self._timers.cancel(timer)
        unsent = self._backlog.remove(lambda _: True)
        element = self.far.element if self.far is not None else None
        self._do(Ended(how=how, reason=reason, failure=failure, element=element, unsent=unsent))

    # -- effects

    def _do(self, effect: SessionEffect) -> None:
        self._effects.append(effect)

    def _tell(self, event: SessionEvent) -> None:
        self._do(Tell(event))

    def _leave(self) -> list[SessionEffect]:
        effects, self._effects = self._effects, []
        return effects
