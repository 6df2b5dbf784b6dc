# SPDX-License-Identifier: Apache-2.0
"""How long the leaves are good that standing associations were opened with (RFC 5352 9.3, threats 2.1 to 2.7).

An association lasts no longer than its peer's leaf. Who opened it is told before, and opens another one meanwhile: at a
time when both should have new leaves, since leaves are renewed at two thirds of their life, and again whenever half of
the rest is over. Pure: the wall clock and chance are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

Holder = TypeVar("Holder", bound=Hashable)
LAST_SECOND: Final = 1.0
"""The second that the end of a leaf's life names belongs to it, as TLS has it in a handshake (RFC 5280 4.1.2.5)."""
AGEING: Final = (0.10, 0.25)
"""What is left of a leaf's life when it begins to age: at random between these parts, so that many do not come at once;
less than the third that is left at a renewal."""
SOONEST: Final = 1.0
"""Seconds at least between two notices about one association."""


Span = tuple[float, float]
"""When a leaf is valid: from and to, in Unix time, seconds."""


@dataclass(slots=True)
class _Life:
    """Of one association: when it ends, when it has to be replaced, and when something is to be done about it next."""

    ends: float
    until: float
    due: float


class Leaves(Generic[Holder]):
    """The leaves of all associations that are up.

    Args:
        chance: a number between two others, at random.
    """

    def __init__(self, chance: Callable[[float, float], float]) -> None:
        self._chance = chance
        self._lives: dict[Holder, _Life] = {}
        self._earliest = inf

    def __len__(self) -> int:
        return len(self._lives)

    def add(self, holder: Holder, peer: Span, now: float, own: Span | None = None) -> None:
        """An association is up.

        Args:
            holder: the association.
            peer: of the leaf its peer has shown, with which it ends.
            now: Unix time.
            own: of the leaf we have shown, if we have opened it: the peer will end it then.
        """
        spans = (peer,) if own is None else (peer, own)
        ages = min(not_after - (not_after - not_before) * self._chance(*AGEING) for not_before, not_after in spans)
        life = self._lives[holder] = _Life(peer[1] + LAST_SECOND, min(to for _, to in spans), 0.0)
        life.due = max(ages, _next(life, now))
        self._earliest = min(self._earliest, life.due)

    def remove(self, holder: Holder) -> None:
        """That association has ended."""
        self._lives.pop(holder, None)

    def look(self, now: float) -> tuple[list[Holder], list[Holder]]:
        """Whose leaf is over, and whose is about to be; the first are forgotten, the second are named again later."""
        if now < self._earliest:
            return [], []
        over, ageing = [], []
        for holder, life in self._lives.items():
            if now >= life.ends:
                over.append(holder)
            elif now >= life.due:
                life.due = _next(life, now)
                ageing.append(holder)
        for holder in over:
            del self._lives[holder]
        self._earliest = min((life.due for life in self._lives.values()), default=inf)
        return over, ageing

    def next(self) -> float:
        """When to look again, in Unix time; infinite: never."""
        return self._earliest


def _next(life: _Life, now: float) -> float:
    """When half of the rest is over; near the end only the end is left."""
    left = life.until - now
    return now + left / 2 if left > 2 * SOONEST else life.ends
