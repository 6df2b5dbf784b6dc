# SPDX-License-Identifier: Apache-2.0
"""Which element a pool user's session takes next: the lost one's business card, the policy, and who is avoided."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from rserpool.wire import PoolElement

REMEMBERED: Final = 1024
"""Elements that are avoided; so many have failed one after the other only in a pool that is very ill."""


class Pool(Protocol):
    """What is known of the session's pool; it may change while it is held."""

    @property
    def elements(self) -> Sequence[PoolElement]:
        """The elements that are known, in the order received."""

    @property
    def since(self) -> float:
        """When a registrar said so."""

    def choose(self, without: Collection[int] = ()) -> PoolElement | None:
        """The element whose turn it is by the policy."""

    def find(self, identifier: int) -> PoolElement | None:
        """The element with this PE identifier."""


class Search:
    """One session's search.

    Args:
        wanted: PE identifier of the one element that is to be found (a PE handle); ``None``: whoever is chosen.

    Attributes:
        card: the elements that the present one would rather see in its place, best first (RFC 5352 3.9).
        moving: the element that was wanted is lost, and any other will do.
    """

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.card: tuple[PoolElement, ...] = ()
        self.moving = False
        self._pool: Pool | None = None
        self._asked_at = 0.0
        self._failed: set[int] = set()
        self._declined: set[int] = set()

    @property
    def fresh(self) -> bool:
        """Whether what is known of the pool was said after :meth:`asked`."""
        return self._pool is not None and self._pool.since >= self._asked_at

    def avoids(self, identifier: int) -> bool:
        """Whether this element has failed, or was declined by the application."""
        return identifier in self._failed or identifier in self._declined

    def failed(self, identifier: int) -> None:
        """An element could not be reached: never the next one, until a fresh answer names it and nobody else."""
        _remember(self._failed, identifier)

    def declined(self, identifier: int) -> None:
        """The application does not want this element: never, in this session."""
        _remember(self._declined, identifier)

    def asked(self, now: float) -> None:
        """What was said of the pool before this moment is not fresh."""
        self._asked_at = now

    def answered(self, pool: Pool) -> None:
        """It has been."""
        self._pool = pool
        if self.fresh and all(self.avoids(e.identifier) for e in pool.elements):
            self._failed.clear()

    def next(self, *, may_move: bool) -> PoolElement | None:
        """The next element to try; ``None``: there is none that is known.

        Args:
            may_move: another element may take the place of the one that is wanted.
        """
        assert self._pool is not None
        if self.wanted is not None and not self.moving:
            found = self._pool.find(self.wanted)
            if found is not None and not self.avoids(self.wanted):
                return found
            if not self.fresh or not may_move:
                return None
            self.moving = True
        for element in self.card:
            if not self.avoids(element.identifier):  # where it is, a registrar knows better
                return self._pool.find(element.identifier) or element
        return self._pool.choose(self._failed | self._declined)


def _remember(avoided: set[int], identifier: int) -> None:
    if len(avoided) >= REMEMBERED:
        avoided.clear()
    avoided.add(identifier)
