# SPDX-License-Identifier: Apache-2.0
"""The pool user: resolves handles, stays informed of pools, reports elements out of reach (RFC 5352 3.3, 3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Final

from rserpool.asap.authorisation import Authoriser
from rserpool.asap.effects import Association, AssociationId, Effect, Endpoint
from rserpool.asap.endpoint import EndpointMachine
from rserpool.asap.events import Failure, PoolUpdated, Resolved
from rserpool.asap.hunt import Hunter
from rserpool.asap.limits import Buckets, Rate, TokenBucket
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.asap.replacement import Replacement
from rserpool.wire import (
    RFC,
    CauseCode,
    Dialect,
    Message,
    asap,
    readable_handle,
)

REPORTS: Final = Rate(1, 5)
REPORT_INTERVAL: Final = 10.0
"""Seconds in which one element is reported once at most (threat 2.13)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    """What a pool user is told.

    Attributes:
        registrars: where registrars may be.
        patience: seconds after which a resolution has failed, whatever is still being tried.
    """

    registrars: tuple[Endpoint, ...] = ()
    patience: float = 1.0
    timers: EndpointTimers = field(default_factory=lambda: FAST.endpoint)
    dialect: Dialect = RFC


@dataclass(slots=True)
class _Resolution:
    """One that is under way."""

    token: int
    handle: bytes
    items: int | None
    retransmissions: int = 0
    asked: dict[AssociationId, float] = field(default_factory=dict)
    places: set[Endpoint] = field(default_factory=set)

    @property
    def registrars(self) -> int:
        return len(self.places)


class User(EndpointMachine):
    """A pool user's machine."""

    def __init__(self, config: UserConfig, authoriser: Authoriser, rng: Random) -> None:
        super().__init__(config.dialect, rng)
        self._config = config
        self._timers = config.timers
        self._hunter = Hunter(self.desk, config.timers, authoriser)
        self._hunter.on_found = self._found
        self._hunter.on_failed = self._not_found
        self._hunter.set_registrars(config.registrars)
        self._home: AssociationId | None = None
        self._replacement = Replacement(self.desk, self._hunter, lambda: self._home)
        self._replacement.on_replaced = self._replaced
        self._tokens = count(1)
        self._open: dict[int, _Resolution] = {}
        self._watched: set[bytes] = set()
        self._subscribed: set[bytes] = set()  # at the home registrar, as long as it stays home
        self._no_registrar = ""
        self._reports = TokenBucket(REPORTS, 0.0)
        self._reported = Buckets(Rate(1 / REPORT_INTERVAL, 1))

    # -- what the caller asks

    def resolve(self, handle: bytes, now: float, items: int | None = None) -> tuple[int, list[Effect]]:
        """Begin a resolution.

        Args:
            handle: the pool handle.
            now: the time.
            items: how many elements to ask for; ``None`` leaves it to the registrar.

        Returns:
            A token; the :class:`Resolved` that ends the resolution bears it.
        """
        self._enter(now)
        resolution = _Resolution(next(self._tokens), handle, items)
        self._open[resolution.token] = resolution
        over = partial(self._over, resolution.token)
        self.desk.after(("patience", resolution.token), self._config.patience, over)
        self._ask(resolution)
        return resolution.token, self._leave()

    def cancel(self, token: int, now: float) -> list[Effect]:
        """Nobody waits for this resolution any more."""
        self._enter(now)
        self._forget(token)
        return self._leave()

    def watch(self, handle: bytes, now: float) -> list[Effect]:
        """Stay informed of a pool: :class:`PoolUpdated` at once and with each change, wherever the home is."""
        self._enter(now)
        self._watched.add(handle)
        self._check_home_later()
        if self._home is None:
            self._hunter.hunt()
        else:
            self._subscribe(handle)
        return self._leave()

    def unwatch(self, handle: bytes, now: float) -> list[Effect]:
        """Stay informed no more."""
        self._enter(now)
        if handle in self._watched:
            self._watched.discard(handle)
            self.desk.timers.cancel(("subscribe", handle))
            if self._home is not None and handle in self._subscribed:  # without the S flag: it need not tell us
                self.desk.send(self._home, asap.HandleResolution(pool_handle=handle))
            self._subscribed.discard(handle)
        return self._leave()

    def subscription(self, handle: bytes) -> AssociationId | None:
        """The association over which a registrar has promised to tell of the pool's changes; ``None``: none has.

        What was learnt of the pool is fresh as long as this stays the same (RFC 5352 3.3 C4).
        """
        return self._home if handle in self._subscribed else None

    def report(self, handle: bytes, pe_identifier: int, now: float) -> list[Effect]:
        """Tell the registrar that an element could not be reached; at most once in a while (RFC 5352 3.5)."""
        self._enter(now)
        if self._home is None or self._reports.wait(now) > 0:
            return self._leave()
        if self._reported.take((handle, pe_identifier), now) and self._reports.take(now):
            self.desk.send(self._home, asap.EndpointUnreachable(pool_handle=handle, pe_identifier=pe_identifier))
        return self._leave()

    def renewed(self, now: float, within: float = 0.0) -> list[Effect]:
        """Its own leaf is another one: the association to the home is replaced within so many seconds."""
        self._enter(now)
        self._replacement.begin(within)
        return self._leave()

    def set_registrars(self, registrars: Iterable[Endpoint], now: float) -> list[Effect]:
        """Say anew where registrars may be."""
        self._enter(now)
        self._hunter.set_registrars(registrars)
        return self._leave()

    # -- resolution

    def _ask(self, resolution: _Resolution) -> None:
        """NR1 to NR4: ask the home, or find one first."""
        timer = ("T1", resolution.token)
        self.desk.after(timer, self._timers.t1, partial(self._unanswered, resolution.token))
        if self._home is None:
            self._hunter.hunt()
            return
        self._send(resolution, self._home)

    def _send(self, resolution: _Resolution, association: AssociationId) -> None:
        resolution.asked.setdefault(association, self.desk.now)
        place = self._endpoint_of(association)
        if place is not None:
            resolution.places.add(place)
        self.desk.send(
            association,
            asap.HandleResolution(
                pool_handle=resolution.handle,
                items=resolution.items,
                send_updates=resolution.handle in self._watched,
            ),
        )

    def _unanswered(self, token: int) -> None:
        """T1: ask again, and look for another registrar at the same time (RFC 5352 3.3)."""
        resolution = self._open.get(token)
        if resolution is None:
            return
        resolution.retransmissions += 1
        if resolution.retransmissions > self._timers.max_attempts:
            self._over(token)
            return
        if self._home is not None:
            self._send(resolution, self._home)
        self.desk.after(("T1", token), self._timers.t1, partial(self._unanswered, token))
        self._hunter.hunt(avoid=self._endpoint_of(self._home))

    def _endpoint_of(self, association: AssociationId | None) -> Endpoint | None:
        known = self.desk.associations.get(association) if association is not None else None
        if known is None:
            return None
        return Endpoint(known.kind, known.peer_addresses, known.peer_port)

    def _over(self, token: int) -> None:
        """Nobody has answered in time: say what it was that failed."""
        resolution = self._open.get(token)
        if resolution is None:
            return
        if resolution.asked:
            for asked, since in sorted(resolution.asked.items()):
                if self.desk.now - since >= min(self._timers.t1, self._config.patience / 2):
                    self._leave_silent(asked)
            reason = f"{resolution.registrars} registrar(s) asked, none answered in {self._config.patience:g} s"
            self._end(resolution, Failure.TIMEOUT, reason)
        else:
            reason = self._no_registrar or f"no registrar was found in {self._config.patience:g} s"
            self._end(resolution, Failure.NO_REGISTRAR, reason)

    def _leave_silent(self, association: AssociationId) -> None:
        """A registrar that did not answer in all that time is not asked again; its association ends."""
        self.desk.close(association, "it does not answer", abort=True)
        if association == self._home:
            self._at_home(None)
            if self._watched:
                self._hunter.hunt()

    def _found(self, association: Association) -> None:
        """A registrar: it is asked all that is open, and becomes home at once if there is none, else by answering."""
        self._no_registrar = ""
        if self._home is not None and not self._open:
            self.desk.close(association.id, "nobody needs it any more")
            return
        if self._home is None:
            self._at_home(association.id)
            for handle in sorted(self._watched):
                self._subscribe(handle)
        for resolution in list(self._open.values()):
            self._send(resolution, association.id)

    def _not_found(self, reason: str) -> None:
        self._no_registrar = reason
        if self._home is None and not self._open and not self._watched:
            self._hunter.stop()

    def _responded(self, association: Association, response: asap.HandleResolutionResponse) -> None:
        handle = response.pool_handle
        self._rehome(association)
        resolution = next(
            (r for r in self._open.values() if r.handle == handle and association.id in r.asked),
            None,
        )
        if handle in self._watched:
            self._update(response)
        if resolution is None:
            return
        if not response.error:
            self._forget(resolution.token)
            self.desk.emit(
                Resolved(
                    token=resolution.token,
                    pool_handle=handle,
                    policy=response.policy,
                    elements=response.elements,
                )
            )
        elif any(cause.code == CauseCode.UNKNOWN_POOL_HANDLE for cause in response.error):
            self._end(resolution, Failure.UNKNOWN_POOL, f"there is no pool {readable_handle(handle)!r}")
        else:
            self._end(resolution, Failure.REFUSED, ", ".join(str(cause) for cause in response.error))

    def _rehome(self, association: Association) -> None:
        """An alternate registrar that answers becomes the home (RFC 5352 3.3)."""
        self._hunter.confirmed()
        if association.id == self._home:
            return
        before = self._home
        self._at_home(association.id)
        self.desk.close(before, "another registrar answers")
        self._hunter.stop()
        for handle in sorted(self._watched):
            self._subscribe(handle)

    def _replaced(self, association: Association) -> None:
        """There is a newer association to the home: what was asked over the former one is asked again over it."""
        before = self._home
        assert before is not None
        self._at_home(association.id)
        for handle in sorted(self._watched):
            self._subscribe(handle)
        for resolution in self._open.values():
            resolution.asked.pop(before, None)
            self._send(resolution, association.id)
        self.desk.close(before, "another association to this registrar has taken its place")

    def _at_home(self, home: AssociationId | None) -> None:
        """Another registrar is home, or none is: what the former one promised is void."""
        self._replacement.stop()
        self._home = home
        self._subscribed.clear()

    def _end(self, resolution: _Resolution, failure: Failure, reason: str) -> None:
        self._forget(resolution.token)
        self.desk.emit(Resolved(token=resolution.token, pool_handle=resolution.handle, failure=failure, reason=reason))

    def _forget(self, token: int) -> None:
        self._open.pop(token, None)
        self.desk.timers.cancel(("T1", token))
        self.desk.timers.cancel(("patience", token))
        if self._home is None:
            return
        if not self._open:
            self._hunter.stop()
        needed = {self._home}.union(*(r.asked for r in self._open.values()))
        for other in [a for a in self.desk.associations if a not in needed]:
            self.desk.close(other, "another registrar answers")

    # -- subscriptions

    def _subscribe(self, handle: bytes) -> None:
        if handle in self._watched and self._home is not None:
            self.desk.send(self._home, asap.HandleResolution(pool_handle=handle, send_updates=True))

    def _check_home_later(self) -> None:
        if not self.desk.timers.is_set("check"):
            self.desk.after("check", self._timers.silent_home or self._timers.t1, self._check_home)

    def _check_home(self) -> None:
        """A home that is frozen sends no updates and closes nothing: ask it something, and leave it if it is silent."""
        if not self._watched:
            return
        self._check_home_later()
        if self._home is None:
            self._hunter.hunt()
            return
        question = _Resolution(next(self._tokens), min(self._watched), None)
        self._open[question.token] = question
        self.desk.after(("patience", question.token), self._config.patience, partial(self._over, question.token))
        self._ask(question)

    def _update(self, response: asap.HandleResolutionResponse) -> None:
        handle = response.pool_handle
        gone = any(cause.code == CauseCode.UNKNOWN_POOL_HANDLE for cause in response.error)
        if response.accept_updates and not response.error:
            self._subscribed.add(handle)
        else:  # the pool is gone, or the registrar cannot: ask again from time to time
            self._subscribed.discard(handle)
            self.desk.after(("subscribe", handle), self._timers.t1, partial(self._subscribe, handle))
        if gone or not response.error:
            elements = () if gone else response.elements  # none of a negative answer is believed
            self.desk.emit(PoolUpdated(pool_handle=handle, policy=response.policy, elements=elements))

    # -- inputs

    def _accepted(self, association: Association) -> None:
        self.desk.close(association.id, "a pool user is not called", abort=True)

    def _understood(self, association: Association, message: Message) -> bool:
        if not isinstance(message, asap.HandleResolutionResponse):
            return False
        self._responded(association, message)
        return True

    def _ageing(self, association: Association) -> None:
        if association.id == self._home:
            self._replacement.begin()

    def _lost(self, association: Association, _reason: str) -> None:
        for resolution in self._open.values():
            resolution.asked.pop(association.id, None)
        if association.id != self._home:
            return
        avoid = Endpoint(association.kind, association.peer_addresses, association.peer_port)
        self._at_home(None)
        self._hunter.lost()
        if self._open or self._watched:
            self._hunter.hunt(avoid=avoid)
