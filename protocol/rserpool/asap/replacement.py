# SPDX-License-Identifier: Apache-2.0
"""A newer association to the same registrar, before the one that stands ends with a leaf (RFC 5352 9.3).

TLS proves who the far end is when an association is opened. When one's own leaf was renewed, or the peer's ends soon, a
newer association takes the place of the one that stands; nothing is closed before the newer one is up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rserpool.asap.effects import Association, AssociationId, Endpoint, RequestId
from rserpool.asap.hunt import Hunter
from rserpool.asap.machine import Desk
from rserpool.wire import Ppid

AGAIN: Final = (2.0, 4.0)
"""Seconds, at random between these, after which an association is tried again that could not be opened."""


class Replacement:
    """Replaces the association to the home of an element or a user.

    Args:
        desk: of the machine.
        hunter: knows where registrars are, and who is one.
        home: the association to replace, whenever it is asked; ``None`` while there is none.

    Attributes:
        on_replaced: called with the newer association, while the former one is still up and still home.
    """

    def __init__(self, desk: Desk, hunter: Hunter, home: Callable[[], AssociationId | None]) -> None:
        self._desk = desk
        self._hunter = hunter
        self._home = home
        self._request: RequestId | None = None
        self.on_replaced: Callable[[Association], None] = lambda _: None

    def begin(self, within: float = 0.0) -> None:
        """Open a newer association at a random time within so many seconds."""
        if self._home() is None:
            return
        if within:
            self._desk.after("replace", self._desk.rng.uniform(0.0, within), self._dial)
        else:
            self._dial()

    def stop(self) -> None:
        """The home is another one: there is nothing to replace."""
        self._desk.timers.cancel("replace")
        self._desk.abandon(self._request)
        self._request = None

    def _dial(self) -> None:
        home = self._home()
        known = self._desk.associations.get(home) if home is not None else None
        place = self._place_of(known) if known is not None else None
        if known is None or place is None or self._request is not None:
            return
        if self._hunter.hunting:  # never more than three attempts at once (RFC 5352 3.6 SH1)
            self._later()
            return
        self._desk.timers.cancel("replace")
        self._request = self._desk.connect(Ppid.ASAP, place, self._hunter.timers.connect, self._outcome)

    def _place_of(self, home: Association) -> Endpoint | None:
        """Where the home can be called; of one that called us only the configuration knows the port."""
        if home.outbound:
            return Endpoint(home.kind, home.peer_addresses, home.peer_port)
        at = set(home.peer_addresses)
        return next((e for e in self._hunter.registrars if at & set(e.addresses)), None)

    def _outcome(self, association: Association | None, _reason: str) -> None:
        """Whoever has another home has stopped this before."""
        self._request = None
        if association is not None and self._hunter.refusal(association, "newer association") is None:
            self.on_replaced(association)
        else:  # the one that stands is good a while still
            self._later()

    def _later(self) -> None:
        self._desk.after("replace", self._desk.rng.uniform(*AGAIN), self._dial)
