# SPDX-License-Identifier: Apache-2.0
"""Drawing members by lot, by weight and without putting back.

The weights are kept with partial sums (a Fenwick tree), so that to draw, to add, to change or to take out one of n
members costs no more than log n. All sums are whole numbers, and exact.
"""

from __future__ import annotations

from random import Random as RandomSource


class Lots:
    """Members, each with a weight: its chance is its part of the sum of weights.

    Args:
        rng: where chances come from.
    """

    __slots__ = ("_members", "_places", "_rng", "_sums", "_total", "_weights")

    def __init__(self, rng: RandomSource) -> None:
        self._rng = rng
        self._members: list[int] = []
        self._weights: list[int] = []
        self._places: dict[int, int] = {}
        self._sums = [0]  # the i-th is that of the i & -i weights up to the i-th, counted from 1
        self._total = 0

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: int, weight: int) -> None:
        """Take in a new member."""
        self._places[member] = len(self._members)
        self._members.append(member)
        self._weights.append(weight)
        at, total = len(self._members), weight
        before, least = at - 1, at & (at - 1)
        while before > least:
            total += self._sums[before]
            before &= before - 1
        self._sums.append(total)
        self._total += weight

    def change(self, member: int, weight: int) -> None:
        """Give a member another weight; it must be one."""
        self._weigh(self._places[member], weight)

    def remove(self, member: int) -> None:
        """Take out a member; it must be one. The last one takes its place."""
        place = self._places.pop(member)
        last, weight = self._members[-1], self._weights[-1]
        if last != member:
            self._weigh(place, weight)
            self._members[place] = last
            self._places[last] = place
        self._members.pop()
        self._total -= self._weights.pop()
        self._sums.pop()

    def draw(self, limit: int) -> list[int]:
        """Draw members one after another, each once; at most ``limit``, 0 for all.

        Those without a weight are drawn only if nobody has one; then the chances of all are equal.
        """
        n = len(self._members)
        wanted = min(limit or n, n)
        if not self._total:
            return self._rng.sample(self._members, wanted)
        if wanted == n:
            return self._draw_all()
        drawn: list[tuple[int, int]] = []
        while len(drawn) < wanted and self._total:
            place = self._place_of(self._rng.randrange(self._total))
            drawn.append((place, self._weights[place]))
            self._weigh(place, 0)
        for place, weight in drawn:
            self._weigh(place, weight)
        return [self._members[place] for place, _ in drawn]

    def _draw_all(self) -> list[int]:
        """The same chances for a whole pool: each has a clock that rings at its weight's rate, the first is first."""
        rings = [
            (self._rng.expovariate(1.0) / weight, member)
            for member, weight in zip(self._members, self._weights, strict=True)
            if weight
        ]
        return [member for _, member in sorted(rings)]

    def _weigh(self, place: int, weight: int) -> None:
        change = weight - self._weights[place]
        self._weights[place] = weight
        self._total += change
        at, n = place + 1, len(self._members)
        while at <= n:
            self._sums[at] += change
            at += at & -at

    def _place_of(self, lot: int) -> int:
        """Whose part of the sum a number from 0 to below the sum falls into."""
        place, n = 0, len(self._members)
        step = 1 << (n.bit_length() - 1)
        while step:
            after = place + step
            if after <= n and self._sums[after] <= lot:
                place = after
                lot -= self._sums[after]
            step >>= 1
        return place
