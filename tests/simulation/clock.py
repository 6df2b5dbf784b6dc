# SPDX-License-Identifier: Apache-2.0
"""Virtual time: what is to happen, in order; of equal times in the order in which it was said."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Clock:
    """The time of the world.

    Attributes:
        now: seconds, of no particular origin.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have something happen at a time; at once, if that has passed."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._serial), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Have something happen later."""
        self.at(self.now + delay, action)

    def run_until(self, condition: Callable[[], bool] | None, within: float) -> float | None:
        """Let time pass until something holds; returns how long that took, ``None`` if it never did."""
        began = self.now
        until = began + within
        if condition is not None and condition():
            return 0.0
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, action = heapq.heappop(queue)
            action()
            if condition is not None and condition():
                return self.now - began
        self.now = until
        return None
