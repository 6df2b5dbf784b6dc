# SPDX-License-Identifier: Apache-2.0
"""The server hunt: how elements and users find a registrar (RFC 5352 3.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from rserpool.asap.authorisation import Action, Authoriser
from rserpool.asap.effects import Association, Endpoint, RequestId
from rserpool.asap.events import Failure, HuntChanged, Refused
from rserpool.asap.machine import Desk
from rserpool.asap.profiles import EndpointTimers
from rserpool.wire import Ppid

AT_ONCE: Final = 3
"""Registrars tried at the same time; never more (RFC 5352 3.6 SH1)."""


class Hunter:
    """Looks for a registrar: one address, the next a little later, three at once; a round ends after T5, which doubles.

    Attributes:
        on_found: called with an association to an authenticated registrar; the hunt is over then.
        on_failed: called when a whole round found none, with the reason; the hunt goes on.
    """

    def __init__(self, desk: Desk, timers: EndpointTimers, authoriser: Authoriser) -> None:
        self._desk = desk
        self._timers = timers
        self._authoriser = authoriser
        self._registrars: tuple[Endpoint, ...] = ()
        self._attempts: dict[Endpoint, RequestId] = {}
        self._untried: list[Endpoint] = []
        self._tried: set[Endpoint] = set()
        self._round = 0.0
        self._is_silent = False
        self._left = 0
        self._left_since = 0.0
        self._reason = ""
        self.hunting = False
        self.on_found: Callable[[Association], None] = lambda _: None
        self.on_failed: Callable[[str], None] = lambda _: None

    def reconfigured(self, timers: EndpointTimers) -> None:
        """Go on with other timers; a round that has begun ends as it would have."""
        self._timers = timers

    def reauthorise(self, authoriser: Authoriser) -> None:
        """Go on with other rules of who is a registrar."""
        self._authoriser = authoriser

    @property
    def timers(self) -> EndpointTimers:
        """Those in force."""
        return self._timers

    @property
    def registrars(self) -> tuple[Endpoint, ...]:
        """Where registrars may be."""
        return self._registrars

    def set_registrars(self, registrars: Iterable[Endpoint]) -> None:
        """Say where registrars may be; a hunt that goes on uses the new addresses at once."""
        before, self._registrars = self._registrars, tuple(dict.fromkeys(registrars))
        if self.hunting and set(before) != set(self._registrars):
            self._untried = [e for e in self._untried if e in self._registrars]
            self._untried += [e for e in self._registrars if e not in self._tried and e not in self._untried]
            self._try_next()

    def hunt(self, *, avoid: Endpoint | None = None) -> None:
        """Begin to look, unless that is being done.

        Args:
            avoid: a registrar that has just failed; tried last.
        """
        if self.hunting:
            return
        self.hunting = True
        self._tried = set()
        if not self._round:
            self._round = self._timers.t5
        if not self._is_turned_away():
            self._begin_round(avoid)

    def stop(self) -> None:
        """Give the hunt up."""
        self.hunting = False
        for timer in ("hunt", "round"):
            self._desk.timers.cancel(timer)
        for request in self._attempts.values():
            self._desk.abandon(request)
        self._attempts.clear()

    def confirmed(self) -> None:
        """A registrar has spoken: it is up, and the next hunt begins with a short round (SH3)."""
        self._round = 0.0
        self._is_silent = False
        self._left = 0

    def lost(self) -> None:
        """The association that was found has ended by itself."""
        if self._is_silent:
            self._left += 1

    def _is_turned_away(self) -> bool:
        """Whether registrars, as many as there are, took and left us without a word, all within a round.

        The rest of the round is waited for then, as after one in which all of them have failed.
        """
        if not self._registrars or self._left < len(self._registrars):
            return False
        self._left = 0
        left = self._round - (self._desk.now - self._left_since)
        if left <= 0:
            return False
        self._untried = []
        self._reason = "every registrar ends the association before it says anything"
        self._await_end_of_round(left)
        self._failed()
        return True

    def _await_end_of_round(self, left: float) -> None:
        self._desk.after("round", left * self._desk.rng.uniform(0.9, 1.1), self._round_over)

    def _begin_round(self, avoid: Endpoint | None) -> None:
        """Addresses that were not tried come first, in random order, so that elements spread over registrars."""
        if self._tried >= set(self._registrars):
            self._tried.clear()
        order = [e for e in self._registrars if e not in self._tried]
        self._desk.rng.shuffle(order)
        late = [e for e in self._registrars if e in self._tried]
        self._untried = sorted((*order, *late), key=lambda e: e == avoid)
        self._reason = "" if self._registrars else "no registrar's address is known"
        self._await_end_of_round(self._round)
        self._try_next()

    def _try_next(self) -> None:
        if not self.hunting or not self._untried or len(self._attempts) >= AT_ONCE:
            return
        endpoint = self._untried.pop(0)
        self._tried.add(endpoint)
        then = partial(self._outcome, endpoint)
        self._attempts[endpoint] = self._desk.connect(Ppid.ASAP, endpoint, self._timers.connect, then)
        if self._untried:
            self._desk.after("hunt", self._timers.hunt_stagger, self._try_next)

    def _outcome(self, endpoint: Endpoint, association: Association | None, reason: str) -> None:
        del self._attempts[endpoint]
        if association is not None:
            refusal = self.refusal(association, "server hunt")
            if refusal is None:
                self.stop()
                self._is_silent = True
                if not self._left:
                    self._left_since = self._desk.now
                self._desk.emit(HuntChanged(found=True, registrar=str(association)))
                self.on_found(association)
                return
            reason = refusal
        self._reason = f"{endpoint}: {reason}"
        self._try_next()
        if not self._attempts and not self._untried:
            self._failed()

    def refusal(self, association: Association, what: str) -> str | None:
        """Why whoever answered is no registrar of ours; ``None``: it is one (threats 2.6, 2.7).

        Somebody else has been reported, and the association has ended.
        """
        denial = self._authoriser.may(association.principal, Action.HOME)
        if denial is None:
            return None
        self._desk.emit(Refused(threat=denial.threat, peer=str(association), what=what, reason=denial.reason))
        self._desk.close(association.id, denial.reason, abort=True)
        return denial.reason

    def _failed(self) -> None:
        """All addresses of the round have failed; the rest of it is waited for."""
        reason = self._reason or "no registrar answers"
        self._desk.emit(HuntChanged(found=False, reason=reason))
        self.on_failed(reason)

    def _round_over(self) -> None:
        """T5 has come: stop these attempts, wait twice as long the next time, try other addresses (SH5)."""
        unfinished = bool(self._attempts) or not self._registrars
        for endpoint, request in self._attempts.items():
            self._reason = self._reason or f"{endpoint}: {Failure.TIMEOUT.value}"
            self._desk.abandon(request)
        self._attempts.clear()
        if unfinished:
            self._failed()
        if not self.hunting:  # whoever heard of the failure gave up
            return
        self._round = min(max(self._round * 2, self._timers.t5), self._timers.retran_max)
        self._begin_round(None)
