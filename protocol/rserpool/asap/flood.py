# SPDX-License-Identifier: Apache-2.0
"""A pool element's second line against a flood of keep-alives; the first is the registrar's own limit (threat 2.14)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from rserpool.asap.limits import Buckets, Rate

KEEP_ALIVES: Final = Rate(4, 10)
"""Keep-alives answered to one registrar."""
PATIENCE: Final = 60.0
"""Seconds after which a registrar that goes on flooding is left."""
PAUSE: Final = 2.0
"""Seconds without one too many after which a flood is over."""


class Verdict(Enum):
    """What to do about a keep-alive."""

    ANSWER = "answer"
    DROP = "drop"
    LEAVE = "leave the registrar"


class FloodGuard:
    """Counts keep-alives by registrar."""

    def __init__(self) -> None:
        self._rate = Buckets(KEEP_ALIVES, most=64)
        self._floods: dict[str, tuple[float, float]] = {}

    def judge(self, registrar: str, now: float) -> Verdict:
        """Count one keep-alive, and say what to do about it."""
        if self._rate.take(registrar, now):
            return Verdict.ANSWER
        self._floods = {name: flood for name, flood in self._floods.items() if now - flood[1] <= PAUSE}
        since, _ = self._floods.get(registrar, (now, now))
        self._floods[registrar] = (since, now)
        if now - since <= PATIENCE:
            return Verdict.DROP
        del self._floods[registrar]
        return Verdict.LEAVE
