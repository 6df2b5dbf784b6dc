# SPDX-License-Identifier: Apache-2.0
"""What all machines share: a clock that is told, timers, connections wished for, and effects collected in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from itertools import count
from random import Random
from typing import Final

from rserpool.asap.effects import (
    Abandon,
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Emit,
    Endpoint,
    RequestId,
    Send,
)
from rserpool.asap.events import Event, Lagged
from rserpool.asap.timers import Timers
from rserpool.wire import Dialect, Message, Ppid, encode

AT_ONCE: Final = 64
"""Timers carried out at once: what has come in meanwhile does not wait for hundreds of them."""

Dialled = Callable[[Association | None, str], None]
"""How a wish to connect ends: the association, or ``None`` and why not."""


class Desk:
    """The clock, timers, associations and outgoing effects of one machine; its parts share it.

    Attributes:
        now: time of the input that is being handled.
        timers: all timers of the machine.
        rng: all randomness of the machine.
        dialect: how messages are written.
        associations: those that are up.
    """

    def __init__(self, rng: Random, dialect: Dialect) -> None:
        self.now = 0.0
        self.timers = Timers()
        self.rng = rng
        self.dialect = dialect
        self.associations: dict[AssociationId, Association] = {}
        self._effects: list[Effect] = []
        self._requests = count(1)
        self._dialling: dict[RequestId, Dialled] = {}

    def enter(self, now: float) -> float:
        """Begin to handle an input; returns the lag of the process, by which expiries have been moved (else 0)."""
        before, self.now = self.now, max(now, self.now)
        lag = self.timers.lag(before, self.now)
        if lag:
            self.timers.shift_expiries(lag)
            self.emit(Lagged(lag))
        return lag

    def leave(self) -> list[Effect]:
        """All effects since :meth:`enter`."""
        effects, self._effects = self._effects, []
        return effects

    def send(self, association: AssociationId, message: Message) -> None:
        """Send a message, if the association is still up."""
        if association in self.associations:
            self._effects.append(Send(association, encode(message, self.dialect)))

    def send_octets(self, association: AssociationId, octets: bytes) -> None:
        """Send a message that has been encoded already."""
        if association in self.associations:
            self._effects.append(Send(association, octets))

    def connect(self, service: Ppid, endpoint: Endpoint, deadline: float, then: Dialled) -> RequestId:
        """Open an association; ``then`` is called with the outcome, unless the wish is abandoned."""
        request = RequestId(next(self._requests))
        self._dialling[request] = then
        self._effects.append(Connect(request, service, endpoint, deadline))
        return request

    def abandon(self, request: RequestId | None) -> None:
        """Give up a wish to connect, if it is still open."""
        if request is not None and self._dialling.pop(request, None) is not None:
            self._effects.append(Abandon(request))

    def close(self, association: AssociationId | None, reason: str, *, abort: bool = False) -> None:
        """End an association, if it is still up."""
        if association is not None and self.associations.pop(association, None) is not None:
            self._effects.append(Close(association, reason, abort))

    def emit(self, event: Event) -> None:
        """Report an event."""
        self._effects.append(Emit(event))

    def dialled(self, request: RequestId) -> Dialled | None:
        """Who waits for the outcome of a wish to connect; asked once."""
        return self._dialling.pop(request, None)

    def after(self, key: Hashable, delay: float, action: Callable[[], None], *, expiry: bool = False) -> None:
        """Arm a timer ``delay`` seconds from now."""
        self.timers.set(key, self.now + delay, action, expiry=expiry)


class MachineBase(ABC):
    """The inputs of :class:`~rserpool.asap.effects.Machine`, over the methods a machine overrides."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._read_first = False

    def connected(self, association: Association, request: RequestId | None, now: float) -> list[Effect]:
        """An association is up."""
        self._enter(now)
        then = self.desk.dialled(request) if request is not None else None
        self.desk.associations[association.id] = association
        if request is not None and then is None:  # abandoned while it was being opened
            self.desk.close(association.id, "not wanted any more")
        elif then is not None:
            then(association, "")
        else:
            self._accepted(association)
        return self._leave()

    def connect_failed(self, request: RequestId, reason: str, now: float) -> list[Effect]:
        """A wish to connect came to nothing."""
        self._enter(now)
        then = self.desk.dialled(request)
        if then is not None:
            then(None, reason)
        return self._leave()

    def received(self, association: AssociationId, octets: bytes, now: float) -> list[Effect]:
        """One message's octets have come in."""
        self._enter(now)
        known = self.desk.associations.get(association)
        if known is not None:
            self._received(known, octets)
        return self._leave()

    def lost(self, association: AssociationId, reason: str, now: float) -> list[Effect]:
        """An association ended by itself."""
        self._enter(now)
        known = self.desk.associations.pop(association, None)
        if known is not None:
            self._lost(known, reason)
        return self._leave()

    def ageing(self, association: AssociationId, now: float) -> list[Effect]:
        """The peer's credential ends soon, and the association with it."""
        self._enter(now)
        known = self.desk.associations.get(association)
        if known is not None:
            self._ageing(known)
        return self._leave()

    def wake(self, now: float) -> list[Effect]:
        """Carry out the timers that have come; of very many some, and the deadline says that there are more.

        After a lag it carries out none the first time: what has come in meanwhile is to be read before anybody is
        judged.
        """
        if self._enter(now) and not self._read_first:
            self._read_first = True
            return self._leave()
        self._read_first = False
        for _ in range(AT_ONCE):
            action = self.desk.timers.pop_due(self.desk.now)
            if action is None:
                break
            action()
        return self._leave()

    def deadline(self) -> float | None:
        """When the next timer comes."""
        return self.desk.timers.next()

    def _enter(self, now: float) -> float:
        lag = self.desk.enter(now)
        if lag:
            self._lagged(lag)
        return lag

    def _leave(self) -> list[Effect]:
        return self.desk.leave()

    @abstractmethod
    def _accepted(self, association: Association) -> None:
        """A peer opened an association to us."""

    @abstractmethod
    def _received(self, association: Association, octets: bytes) -> None:
        """A message has come in on an association that is up."""

    @abstractmethod
    def _lost(self, association: Association, reason: str, /) -> None:
        """An association, no longer among the desk's, has ended."""

    @abstractmethod
    def _ageing(self, association: Association) -> None:
        """An association is to be replaced by another one to the same peer, if that is this machine's affair."""

    def _lagged(self, by: float) -> None:  # noqa: B027 - most machines have nothing to add
        """The process did not run for a while, in seconds; expiries have been moved."""
