# SPDX-License-Identifier: Apache-2.0
"""The home registrar of an element: by which association, since when, and what takes that association's place."""

from __future__ import annotations

from typing import Final

from rserpool.asap.effects import Association, AssociationId, Endpoint
from rserpool.asap.hunt import Hunter
from rserpool.asap.machine import Desk
from rserpool.asap.replacement import Replacement

PATIENCE: Final = 5.0
"""Seconds between two changes of the home, unless the former one is gone or silent."""
SILENCE: Final = 1.0
"""Seconds without a keep-alive of its own after which a home counts as silent."""


class Home:
    """Where an element is registered, or about to be.

    Attributes:
        association: the one to the home; ``None`` while there is none.
        server_id: who that is, 0 while unknown.
        replacement: opens a newer association to the same registrar.
        former: the one that a newer one has replaced, up until the element is registered on that.
    """

    def __init__(self, desk: Desk, hunter: Hunter) -> None:
        self._desk = desk
        self._hunter = hunter
        self._since = float("-inf")
        self._heard_at = 0.0
        self.association: AssociationId | None = None
        self.server_id = 0
        self.replacement = Replacement(desk, hunter, lambda: self.association)
        self.former: AssociationId | None = None

    def move_to(self, association: AssociationId, server_id: int) -> None:
        """Another registrar is home now."""
        self.association, self.server_id = association, server_id
        self._since = self._heard_at = self._desk.now

    def heard(self, server_id: int) -> None:
        """The home has said who it is."""
        self.server_id, self._heard_at = server_id, self._desk.now

    def may_change(self) -> bool:
        """Whether somebody else may say that it is home: homes that change too often are not true."""
        now = self._desk.now
        return self.association is None or now - self._heard_at > SILENCE or now - self._since >= PATIENCE

    def replace(self, newer: AssociationId) -> None:
        """A newer association is home; the former one stays for a while."""
        self.end_former()
        self.association, self.former = newer, self.association

    def end_former(self) -> None:
        """Nothing depends on the former association any more."""
        self._desk.close(self.former, "another association to the home has taken its place")
        self.former = None

    def adopted_by(self, association: AssociationId, server_id: int) -> None:
        """A registrar has said by H = 1 that it is home; that may be the one we have a newer association to."""
        self.replacement.stop()
        if self.former != association:
            self.end_former()
        self.former = None
        self._desk.close(self.association, "another registrar is home now")
        self.move_to(association, server_id)

    def fall_back(self) -> bool:
        """The association to the home is gone; returns whether the former one is home instead."""
        if self.former is None:
            return False
        self.association, self.former = self.former, None
        return True

    def drop(self, reason: str) -> Endpoint | None:
        """Have no home any more; returns where it was, if the configuration knows that place."""
        known = self._desk.associations.get(self.association) if self.association is not None else None
        self._desk.close(self.association, reason, abort=True)
        self.association, self.server_id = None, 0
        self.replacement.stop()
        self.end_former()
        return self.place_of(known) if known is not None else None

    def place_of(self, association: Association) -> Endpoint | None:
        """Where a registrar is by the configuration."""
        at = set(association.peer_addresses)
        places = (e for e in self._hunter.registrars if e.port == association.peer_port and at & set(e.addresses))
        return next(places, None)
