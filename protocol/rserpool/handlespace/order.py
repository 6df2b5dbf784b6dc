# SPDX-License-Identifier: Apache-2.0
"""Members in the order of a number; among those of one number, the longest unused comes first.

A binary heap that knows where everybody is: to add, move or take out one of n members costs no more than log n, and
the first k are found by looking at no more than 2k + 1 of them.
"""

from __future__ import annotations

from heapq import heappop, heappush

_Entry = tuple[int, int, int]
"""Number, serial number of its last turn, member."""


class Order:
    """Members, each with a number; the smallest number comes first."""

    __slots__ = ("_heap", "_places", "_serial")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._places: dict[int, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, member: int) -> bool:
        return member in self._places

    def number(self, member: int) -> int:
        """A member's number; it must be one."""
        return self._heap[self._places[member]][0]

    def add(self, member: int, number: int) -> None:
        """Take in a new member, behind all others of its number."""
        self._serial += 1
        entry = (number, self._serial, member)
        self._heap.append(entry)
        self._rise(len(self._heap) - 1, entry)

    def move(self, member: int, number: int, *, behind: bool = False) -> None:
        """Give a member another number.

        Args:
            member: it must be one.
            number: its new number; may be the old one.
            behind: it has had its turn: behind all others of that number.
        """
        place = self._places[member]
        before = self._heap[place]
        self._serial += behind
        entry = (number, self._serial if behind else before[1], member)
        if entry < before:
            self._rise(place, entry)
        else:
            self._sink(place, entry)

    def remove(self, member: int) -> None:
        """Take out a member; it must be one."""
        place = self._places.pop(member)
        gone, last = self._heap[place], self._heap.pop()
        if place == len(self._heap):
            return
        if last < gone:
            self._rise(place, last)
        else:
            self._sink(place, last)

    def first(self, limit: int) -> list[int]:
        """The first members, in order; at most ``limit``, 0 for all."""
        heap = self._heap
        if not 0 < limit < len(heap):
            return [member for _, _, member in sorted(heap)]
        found: list[int] = []
        candidates = [(heap[0], 0)]  # whoever is next is among the children of those found
        while len(found) < limit:
            entry, place = heappop(candidates)
            found.append(entry[2])
            for child in range(2 * place + 1, min(2 * place + 3, len(heap))):
                heappush(candidates, (heap[child], child))
        return found

    def _rise(self, place: int, entry: _Entry) -> None:
        """Put an entry where it belongs, at a place or nearer to the front."""
        heap, places = self._heap, self._places
        while place:
            above = (place - 1) // 2
            if heap[above] < entry:
                break
            heap[place] = heap[above]
            places[heap[place][2]] = place
            place = above
        heap[place] = entry
        places[entry[2]] = place

    def _sink(self, place: int, entry: _Entry) -> None:
        """Put an entry where it belongs, at a place or further from the front."""
        heap, places, n = self._heap, self._places, len(self._heap)
        while (child := 2 * place + 1) < n:
            if child + 1 < n and heap[child + 1] < heap[child]:
                child += 1
            if entry < heap[child]:
                break
            heap[place] = heap[child]
            places[heap[place][2]] = place
            place = child
        heap[place] = entry
        places[entry[2]] = place
