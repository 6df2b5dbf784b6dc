# SPDX-License-Identifier: Apache-2.0
"""Timers as data: named deadlines in a heap, and what to do when one comes.

A process that was frozen, throttled or stalled wakes with deadlines that passed while it could not listen. Nothing
may be held against others for that time: *expiry* timers, those that judge somebody's silence, are moved by it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import Final

LAG: Final = 0.2
"""A wake-up later than this, in seconds, counts as lag."""

Action = Callable[[], None]


class _Armed:
    """One timer. A registrar sets several for each message: what it costs to look at one counts."""

    __slots__ = ("action", "at", "expiry", "live", "serial")

    def __init__(self, at: float, serial: int, action: Action, expiry: bool) -> None:
        self.at = at
        self.serial = serial
        self.action = action
        self.expiry = expiry
        self.live = True


class Timers:
    """All timers of one machine. A key names one timer; setting it again replaces it."""

    def __init__(self) -> None:
        self._armed: dict[Hashable, _Armed] = {}
        self._heap: list[tuple[float, int, Hashable, _Armed]] = []
        self._serial = count()

    def __len__(self) -> int:
        return len(self._armed)

    def set(self, key: Hashable, at: float, action: Action, *, expiry: bool = False) -> None:
        """Arm a timer.

        Args:
            key: its name.
            at: when, on the clock of ``now``.
            action: called once when it has come.
            expiry: it judges somebody's silence, and is moved by the lag of the process.
        """
        serial = next(self._serial)
        before = self._armed.get(key)
        if before is not None:
            before.live = False
        armed = self._armed[key] = _Armed(at, serial, action, expiry)
        heapq.heappush(self._heap, (at, serial, key, armed))
        if len(self._heap) > 64 + 4 * len(self._armed):  # timers that are always set anew must not pile up
            self._rebuild()

    def cancel(self, key: Hashable) -> None:
        """Disarm a timer, if it is armed."""
        armed = self._armed.pop(key, None)
        if armed is not None:
            armed.live = False

    def is_set(self, key: Hashable) -> bool:
        """Whether a timer is armed."""
        return key in self._armed

    def next(self) -> float | None:
        """When the earliest timer comes; ``None`` if none is armed."""
        heap = self._heap
        while heap:
            at, _, _, armed = heap[0]
            if armed.live:
                return at
            heapq.heappop(heap)
        return None

    def pop_due(self, now: float) -> Action | None:
        """Disarm the earliest timer that has come and return its action; ``None`` if there is none."""
        at = self.next()
        if at is None or at > now:
            return None
        _, _, key, armed = heapq.heappop(self._heap)
        del self._armed[key]
        return armed.action

    def lag(self, before: float, now: float) -> float:
        """For how long the process did not run although a timer had come; 0 if that is too short to be called lag.

        Args:
            before: when it ran last; lag until then has been counted.
            now: when it runs again.
        """
        if not self._heap or now - self._heap[0][0] <= LAG:  # live or not: nothing else is earlier
            return 0.0
        at = self.next()
        late = 0.0 if at is None else now - max(at, before)
        return late if late > LAG else 0.0

    def shift_expiries(self, by: float) -> None:
        """Move all expiry timers into the future."""
        for armed in self._armed.values():
            if armed.expiry:
                armed.at += by
        self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(armed.at, armed.serial, key, armed) for key, armed in self._armed.items()]
        heapq.heapify(self._heap)
