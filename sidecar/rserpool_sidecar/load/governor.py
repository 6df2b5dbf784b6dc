# SPDX-License-Identifier: Apache-2.0
"""When a load is worth a registration: every one goes to all registrars (RFC 5352 6.5.2; PROTOCOL 5).

Measurements are smoothed by a moving average and rounded to 1/256, so that idle elements are equal and take turns. A
load is registered when it is the configured change away from the registered one, and twice that where it turns back:
what swings about a value is not registered again and again. What is left of a difference is registered after a while.
Knows no clock: times are arguments, in seconds.
"""

from __future__ import annotations

import math
from typing import Final

from rserpool_sidecar.load.section import LoadSection

GRAIN: Final = 256
UNKNOWN: Final = 1.0
"""An element that does not know its load gets work when the others are as full."""
TURNING: Final = 2


class Governor:
    """One element's load.

    Args:
        section: its rules.
        measured: the load is measured; else it is 0 until it is told.
        now: the time; the element is about to register.

    Attributes:
        registered: the load that is, or is about to be, registered.
    """

    def __init__(self, section: LoadSection, now: float, *, measured: bool) -> None:
        self._rules = section
        self._measured = measured
        self._average: float | None = None
        self._measured_at = now
        self._told: float | None = None
        self.registered = UNKNOWN if measured else 0.0
        self._registered_at = now
        self._rose: bool | None = None
        self._differs_since: float | None = None

    def reconfigure(self, section: LoadSection, *, measured: bool) -> None:
        """Go on by other rules; what was measured in another way counts no longer."""
        if measured != self._measured or section.source != self._rules.source:
            self._average = None
        self._rules, self._measured = section, measured

    def measure(self, load: float, now: float) -> None:
        """Take a measurement into account; beyond 0 to 1 it counts as the nearer of them."""
        load = min(max(load, 0.0), 1.0)
        passed = now - self._measured_at
        fresh = self._average is None or passed > self._rules.keep or not self._rules.smoothing
        weight = 1.0 if fresh else -math.expm1(-max(passed, 0.0) / self._rules.smoothing)
        average = load if self._average is None else self._average + weight * (load - self._average)
        self._average, self._measured_at = average, now

    def tell(self, load: float | None) -> None:
        """Take the application's word for its load, from 0 to 1; ``None``: measure it again."""
        self._told = load

    def known(self, now: float) -> bool:
        """Whether somebody has told the load, or it was measured lately."""
        return self._told is not None or (self._average is not None and now - self._measured_at <= self._rules.keep)

    def load(self, now: float) -> float:
        """The load as it is."""
        if self._told is not None:
            return self._told
        if self._average is not None and self.known(now):
            return round(self._average * GRAIN) / GRAIN
        return UNKNOWN if self._measured else self.registered

    def due(self, now: float) -> float | None:
        """The load to register now, if there is one; then it counts as registered."""
        load = self.load(now)
        if load == self.registered:
            self._differs_since = None
            return None
        if self._differs_since is None:
            self._differs_since = now
        if now < self._when(load):
            return None
        self._rose = load > self.registered
        self.registered, self._registered_at, self._differs_since = load, now, None
        return load

    def next_due(self, now: float) -> float | None:
        """When to ask :meth:`due` again if nothing else happens; ``None``: no need to."""
        load = self.load(now)
        return None if load == self.registered else self._when(load)

    def _when(self, load: float) -> float:
        """From when on a load that is not the registered one may be registered."""
        needed = self._rules.minimum_change
        if self._rose is not None and self._rose != (load > self.registered):
            needed *= TURNING
        enough = abs(load - self.registered) >= needed
        soonest = self._registered_at + self._rules.minimum_interval
        if enough or load == self._told or self._differs_since is None:
            return soonest
        return max(soonest, self._differs_since + self._rules.settle)
