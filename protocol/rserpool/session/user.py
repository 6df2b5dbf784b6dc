# SPDX-License-Identifier: Apache-2.0
"""A pool user's session with a pool: one element at a time, and another one when that fails (RFC 5352 3.5, 3.8, 6.5).

The machine is told what happens and answers with :data:`~rserpool.session.user_effects.SessionEffect`. Its order at a
fail-over is: report, choose, connect, verify, ask the application, echo the cookie, send what is unsent.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from rserpool.session.channel import ChannelError
from rserpool.session.seeker import Seeker, State
from rserpool.session.sending import SendOptions, check_within_session
from rserpool.session.user_config import SessionConfig
from rserpool.session.user_effects import (
    Ask,
    Attempt,
    Deliver,
    ElementRemoved,
    EndData,
    Ending,
    FailedOver,
    Failover,
    Far,
    HangUp,
    Peer,
    SessionEffect,
    Suspect,
    Transmit,
)
from rserpool.wire import PoolElement, asap

MOST_EARLY: Final = 1024 * 1024
"""Octets an element may send before the application has agreed to it."""


class SessionOver(Exception):  # noqa: N818 - the client has an error for people
    """The session has ended, or has said that it has no more to say."""


class UserSession(Seeker):
    """One session; what it begins with, it takes over from :class:`~rserpool.session.seeker.Seeker`.

    Attributes:
        cookie: the newest one an element has given, as it came.
    """

    def __init__(self, config: SessionConfig, rng: Random) -> None:
        super().__init__(config, rng)
        self.cookie: bytes | None = None
        self._offered: Far | None = None
        self._early = bytearray()
        self._ready = False
        self._sent = False
        self._eof = False
        self._said_all = False
        self._removed = False
        self._reason = ""

    # -- what is to be known

    @property
    def unsent(self) -> int:
        """Octets that no connection has been given yet."""
        return self._backlog.octets

    @property
    def wants_to_write(self) -> bool:
        """Whether :meth:`writable` is waited for."""
        return self.state is State.OPEN and len(self._backlog) > 0

    @property
    def ignored(self) -> int:
        """Frames of the present connection that were not for a pool user."""
        return self._channel.ignored

    # -- what the application wants

    def begin(self, now: float) -> list[SessionEffect]:
        """Find an element."""
        self._now = now
        self._be_patient(self._config.patience)
        if self._config.direct is not None:
            self._dial(self._config.direct)
        else:
            self._resolve(fresh=False)
        return self._leave()

    def send(self, octets: bytes, options: SendOptions, now: float) -> list[SessionEffect]:
        """Send a message, now or when there is an element to send it to.

        Raises:
            QueueFull: too much waits already.
            SessionOver: the session has ended, or nothing more was to be sent.
            ValueError: the options mean nothing for a session.
        """
        check_within_session(options)
        if self.state is State.ENDED or self._eof:
            raise SessionOver("nothing can be sent any more")
        self._now = now
        if octets:
            self._backlog.put(octets, options, flowing=self.state is State.OPEN)
            self._pump()
        return self._leave()

    def end_data(self, now: float) -> list[SessionEffect]:
        """Nothing more will be sent; the session ends when the element has said all it has to say."""
        self._now = now
        if not self._eof:
            self._eof = True
            self._pump()
        return self._leave()

    def report(self, reason: str, now: float) -> list[SessionEffect]:
        """The application has found its element out of order (RFC 5352 6.9.2): it is left."""
        self._now = now
        if self.state is State.OPEN:
            self._do(HangUp(self._attempt, abort=True))
            self._element_lost(reason, report=self._sent)  # MUST NOT without having sent to it (RFC 5352 3.5)
        return self._leave()

    def close(self, now: float) -> list[SessionEffect]:
        """End the session."""
        self._now = now
        if self.state in {State.OPEN, State.CONNECTING, State.ASKING}:
            self._do(HangUp(self._attempt, abort=self.state is not State.OPEN))
        self._end(Ending.CLOSED, "the session was closed")
        return self._leave()

    def agreed(self, attempt: Attempt, now: float) -> list[SessionEffect]:
        """The application agrees to go on at the new element."""
        self._now = now
        if self.state is State.ASKING and attempt == self._attempt:
            assert self._offered is not None
            self._tell(FailedOver(self._failover(self._offered)))
            self._open(self._offered)
        return self._leave()

    def declined(self, attempt: Attempt, now: float) -> list[SessionEffect]:
        """The application does not want that element; it is left without a word, and is none that failed."""
        self._now = now
        if self.state is State.ASKING and attempt == self._attempt:
            assert self._offered is not None
            identifier = self._offered.element.identifier
            self._do(HangUp(attempt, abort=True))
            self._search.declined(identifier)
            self._reasons.append(f"{identifier:#010x}: declined by the application")
            self._be_patient(self._give_up_at)
            self._next()
        return self._leave()

    # -- what happens

    def updated(self, elements: Sequence[PoolElement], now: float) -> list[SessionEffect]:
        """A registrar has told that the pool has changed (RFC 5352 3.3, S = 1)."""
        self._now = now
        if self.state is State.OPEN and self._config.direct is None:
            assert self.far is not None
            there = any(e.identifier == self.far.element.identifier for e in elements)
            before, self._removed = self._removed, not there
            if self._removed and not before:
                self._element_removed()
        elif self.state is State.PAUSING and any(not self._search.avoids(e.identifier) for e in elements):
            self._timers.cancel("again")
            self._resolve(fresh=False)
        return self._leave()

    def connected(self, attempt: Attempt, peer: Peer, now: float) -> list[SessionEffect]:
        """A connection is up, its handshake done."""
        self._now = now
        if attempt == self._attempt and self.state is State.CONNECTING:
            self._meet(attempt, peer)
        elif attempt != self._attempt:
            self._do(HangUp(attempt, abort=True))
        return self._leave()

    def received(self, attempt: Attempt, octets: bytes, now: float) -> list[SessionEffect]:
        """The element has sent something."""
        self._now = now
        if attempt == self._attempt and self.state is State.OPEN:
            self._read(octets)
        elif attempt == self._attempt and self.state is State.ASKING:
            self._early += octets
            if len(self._early) > MOST_EARLY:
                self._do(HangUp(attempt, abort=True))
                self._offer_lost(f"it sent {MOST_EARLY} octets before it was wanted")
        return self._leave()

    def writable(self, attempt: Attempt, now: float) -> list[SessionEffect]:
        """The connection takes more."""
        self._now = now
        if attempt == self._attempt and self.state is State.OPEN:
            self._ready = True
            self._pump()
        return self._leave()

    def lost(self, attempt: Attempt, reason: str, now: float, *, orderly: bool) -> list[SessionEffect]:
        """A connection has ended.

        Args:
            attempt: which one.
            reason: why, in one line.
            now: the time.
            orderly: the far end has said that it has no more to say; with TLS, under its seal. It can be reached, and
                is not reported.
        """
        self._now = now
        if attempt == self._attempt and self.state is State.OPEN:
            if orderly and (self._config.ends_with_element or self._eof):
                self._end(Ending.FINISHED, reason)
            else:
                self._element_lost(reason, report=not orderly)
        elif attempt == self._attempt and self.state is State.ASKING:
            self._offer_lost(reason)
        return self._leave()

    # -- an element

    def _meet(self, attempt: Attempt, peer: Peer) -> None:
        """Make sure who it is, and that the application agrees, before anything is said."""
        assert self._dialled is not None
        far = Far(self._dialled, peer.security)
        distrust = self._distrust(far.element, peer)
        if distrust:
            self._do(HangUp(attempt, abort=True))
            self._attempt_failed(far.element, distrust)
        elif self.far is None:
            self._open(far)
        else:
            self.state, self._offered = State.ASKING, far
            self._early.clear()
            self._timers.cancel("patience")
            self._give_up_at -= self._now  # what is left of it
            self._do(Ask(attempt, self._failover(far)))

    def _failover(self, new: Far) -> Failover:
        assert self.far is not None
        return Failover(self.far, new, self._reason, cookie=self.cookie is not None)

    def _offer_lost(self, reason: str) -> None:
        """The new element is gone before the application has agreed to it."""
        assert self._offered is not None
        self._be_patient(self._give_up_at)
        self._attempt_failed(self._offered.element, reason)

    def _open(self, far: Far) -> None:
        again = self.far is not None
        self.state, self.far = State.OPEN, far
        self._timers.cancel("patience")
        self._pauses, self._search.card = 0, ()
        self._reasons.clear()
        self._backlog.rewind()
        if again and self.cookie is not None:
            self._do(Transmit(self._attempt, self._channel.control(asap.CookieEcho(cookie=self.cookie))))
        self._ready, self._sent, self._said_all, self._removed = True, False, False, False
        self._pump()
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self._read(early)

    def _read(self, octets: bytes) -> None:
        assert self.far is not None
        try:
            said = self._channel.feed(octets)
        except ChannelError as e:
            self._do(HangUp(self._attempt, abort=True))
            self._element_lost(str(e), report=True)
            return
        for each in said:
            match each:
                case bytes():
                    self._do(Deliver(self.far.element, each))
                case asap.Cookie():
                    self.cookie = each.cookie
                case asap.BusinessCard():
                    if each.pool_handle == self._config.handle:
                        self._search.card = each.elements
                    else:
                        self._channel.ignored += 1

    def _pump(self) -> None:
        """Give the connection the next piece; the one after it when it takes more."""
        if self.state is not State.OPEN:
            return
        if self._ready and len(self._backlog):
            self._ready, self._sent = False, True
            self._do(Transmit(self._attempt, self._channel.data(self._backlog.take())))
        if self._eof and not len(self._backlog) and not self._said_all:
            self._said_all = True
            self._do(EndData(self._attempt))

    def _element_lost(self, reason: str, *, report: bool) -> None:
        assert self.far is not None
        self._failure(self.far.element, reason, report=report)
        self._move(reason)

    def _element_removed(self) -> None:
        assert self.far is not None
        self._tell(ElementRemoved(self.far.element))
        if self._config.leave_removed and self._may_move:
            self._do(HangUp(self._attempt, abort=False))
            self._search.failed(self.far.element.identifier)
            self._move("it is not in the pool any more")
        else:
            self._do(Suspect(self._attempt))

    def _move(self, reason: str) -> None:
        """Seek another element, if that is allowed."""
        assert self.far is not None
        if not self._may_move:
            self._end(Ending.LOST, reason)
            return
        self._reason, self._search.moving = reason, True
        self._search.asked(
            self._now
        )  # what was said before this moment is old: once it is used up, it is asked for anew
        self._give_back(self.far.element, reason)
        self._be_patient(self._config.patience)
        self._next()
