# SPDX-License-Identifier: Apache-2.0
"""The paths between hosts, each direction for itself: delay, spikes, cuts, and how much passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from simulation.clock import Clock


@dataclass(slots=True)
class Path:
    """One direction between two hosts.

    Attributes:
        is_open: packets pass.
        extra: delay beyond the usual one, in seconds.
        rate: octets a second; 0 for as many as there are.
        free_at: when what was sent before has left, where the rate is limited.
        changed_at: when it was last cut, healed, or made slower or faster.
    """

    rng: Random
    is_open: bool = True
    extra: float = 0.0
    rate: float = 0.0
    free_at: float = 0.0
    changed_at: float = float("-inf")

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong with it."""
        return self.is_open and not self.extra and not self.rate


@dataclass
class Paths:
    """All paths, made when they are first used. Each has randomness of its own: who sends more disturbs nobody else.

    Attributes:
        latency: of one way, in seconds; each packet takes between half and one and a half of it.
    """

    clock: Clock
    seed: int
    latency: float
    _paths: dict[tuple[str, str], Path] = field(default_factory=dict)

    def path(self, a: str, b: str) -> Path:
        """The way from one host to another."""
        path = self._paths.get((a, b))
        if path is None:
            path = self._paths[a, b] = Path(Random(f"{self.seed} {a} {b}"))
        return path

    def transit(self, a: str, b: str, octets: int) -> float | None:
        """When a packet that leaves now arrives; ``None`` if it is lost. It may still be lost on arrival."""
        path = self.path(a, b)
        if not path.is_open:
            return None
        leaves = self.clock.now
        if path.rate:
            path.free_at = leaves = max(leaves, path.free_at) + octets / path.rate
        delay = self.latency * path.rng.uniform(0.5, 1.5)
        if path.extra:
            delay += path.extra * path.rng.uniform(0.5, 1.0)
        return leaves + delay

    def change(
        self, a: str, b: str, *, is_open: bool | None = None, extra: float | None = None, rate: float | None = None
    ) -> None:
        """Change one direction; ``None`` leaves it as it is."""
        path = self.path(a, b)
        path.is_open = path.is_open if is_open is None else is_open
        path.extra = path.extra if extra is None else extra
        path.rate = path.rate if rate is None else rate
        path.free_at = self.clock.now if rate is not None else path.free_at
        path.changed_at = self.clock.now

    def both_open(self, a: str, b: str) -> bool:
        """Whether packets pass in both directions, as an association needs it."""
        return self.path(a, b).is_open and self.path(b, a).is_open

    def clean_since(self, a: str, b: str) -> float | None:
        """Since when nothing has been wrong with either direction; ``None`` if something is."""
        there, back = self.path(a, b), self.path(b, a)
        if not (there.is_clean and back.is_clean):
            return None
        return max(there.changed_at, back.changed_at)

    def repair(self) -> list[tuple[str, str]]:
        """Let everything pass as it should; returns what had not."""
        broken = [names for names, path in self._paths.items() if not path.is_clean]
        for a, b in broken:
            self.change(a, b, is_open=True, extra=0.0, rate=0.0)
        return broken
