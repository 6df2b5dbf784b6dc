# SPDX-License-Identifier: Apache-2.0
"""Which elements a handle resolution returns, in which order (RFC 5356 4 and 5, the registrar's side).

Every element appears at most once in an answer. What a policy remembers from one answer to the next (the head of the
circle, the weighted schedule, the degradation counters) is local to the registrar, as RFC 5356 1 has it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from random import Random as RandomSource
from typing import Final

from rserpool.handlespace.ring import Ring
from rserpool.wire import PolicyType, PoolElement, policies

_CAP: Final = policies.MAX_LOAD
_SORTED: Final = frozenset(
    {
        PolicyType.PRIORITY,
        PolicyType.LEAST_USED,
        PolicyType.LEAST_USED_DEGRADATION,
        PolicyType.PRIORITY_LEAST_USED,
    }
)
"""Policies whose answers have an order that means something."""
Key = Callable[[PoolElement], float]


class Selector:
    """The memory of one pool's policy.

    Args:
        policy_type: the pool's policy; an unknown one is treated as Round Robin, which everybody supports.
        rng: where the random policies take their chances from.
    """

    def __init__(self, policy_type: int, rng: RandomSource) -> None:
        self._type = policy_type
        self._rng = rng
        self._ring = Ring()
        self._schedule: dict[int, float] = {}  # weighted round robin: identifier -> virtual time of its next turn
        self._counters: dict[int, int] = {}  # least used with degradation

    def add(self, element: PoolElement) -> None:
        """A new element has joined."""
        self._ring.add(element.identifier)
        self._counters[element.identifier] = 0
        self._plan(element)

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        """An element has registered again, or a registrar has announced it anew (RFC 5356 5.2.2)."""
        self._counters[element.identifier] = 0
        if element.policy != before.policy:  # else its turn in the weighted schedule stays what it was
            self._plan(element)

    def remove(self, identifier: int) -> None:
        """An element has left."""
        self._ring.remove(identifier)
        self._schedule.pop(identifier, None)
        self._counters.pop(identifier, None)

    def _plan(self, element: PoolElement) -> None:
        if isinstance(element.policy, policies.WeightedRoundRobin):
            now = min(self._schedule.values(), default=0.0)
            self._schedule[element.identifier] = now + 0.5 / max(element.policy.weight, 1)

    def select(self, elements: Mapping[int, PoolElement], limit: int) -> list[PoolElement]:
        """Answer one resolution.

        Args:
            elements: the pool's elements by identifier.
            limit: how many at most; 0 for all.

        Returns:
            Elements in the order in which a user should try them.
        """
        chosen = self._chosen([elements[i] for i in self._ring.from_head()], limit or len(elements))
        self._ring.advance()
        return chosen

    def peek(self, elements: Mapping[int, PoolElement], limit: int) -> list[PoolElement]:
        """As :meth:`select`, for an update nobody asked for: neither heads nor counters move."""
        circle = [elements[i] for i in self._ring.from_head()]
        if self._type not in _SORTED:
            return circle[: limit or None]
        before = dict(self._counters)
        chosen = self._chosen(circle, limit or len(circle))
        self._counters = before
        return chosen

    def _chosen(self, circle: list[PoolElement], limit: int) -> list[PoolElement]:
        match self._type:
            case PolicyType.WEIGHTED_ROUND_ROBIN:
                return self._by_schedule(circle, limit)
            case PolicyType.RANDOM:
                return self._rng.sample(circle, min(limit, len(circle)))
            case PolicyType.WEIGHTED_RANDOM | PolicyType.RANDOMIZED_LEAST_USED:
                return self._by_chance(circle, limit)
            case PolicyType.PRIORITY:
                return _lowest(circle, limit, lambda e: -_number(e.policy))
            case PolicyType.LEAST_USED:
                return _lowest(circle, limit, lambda e: _number(e.policy))
            case PolicyType.PRIORITY_LEAST_USED:
                return _lowest(circle, limit, lambda e: min(sum(_pair(e.policy)), _CAP))
            case PolicyType.LEAST_USED_DEGRADATION:
                return self._by_degraded_load(circle, limit)
            case _:
                return circle[:limit]

    def _by_schedule(self, circle: Iterable[PoolElement], limit: int) -> list[PoolElement]:
        """Weighted Round Robin: an element of weight w has its turns at (k + 1/2) / w, which spreads them evenly."""
        usable, weight = _weights(circle)
        turns = self._schedule
        chosen = heapq.nsmallest(limit, usable, key=lambda e: turns[e.identifier])
        if chosen:
            turns[chosen[0].identifier] += 1 / weight(chosen[0])
            if turns[chosen[0].identifier] > 1e6:  # keep the numbers small enough to stay exact
                base = min(turns.values())
                self._schedule = {i: turn - base for i, turn in turns.items()}
        return chosen

    def _by_chance(self, circle: Iterable[PoolElement], limit: int) -> list[PoolElement]:
        """Draw without putting back, by weight: whose exponential clock of rate w rings first."""
        usable, weight = _weights(circle)
        rings = {e.identifier: self._rng.expovariate(1.0) / weight(e) for e in usable}
        return heapq.nsmallest(limit, usable, key=lambda e: rings[e.identifier])

    def _by_degraded_load(self, circle: list[PoolElement], limit: int) -> list[PoolElement]:
        def degraded(element: PoolElement) -> int:
            load, degradation = _pair(element.policy)
            return min(load + self._counters[element.identifier] * degradation, _CAP)

        chosen = _lowest(circle, limit, degraded)
        for element in chosen:
            self._counters[element.identifier] += 1
        return chosen


def _lowest(circle: list[PoolElement], limit: int, key: Key) -> list[PoolElement]:
    """The elements of lowest key in ascending order; ties go round, since the circle's head does."""
    return heapq.nsmallest(limit, circle, key=key)


def _number(policy: policies.Policy) -> int:
    match policy:
        case policies.Priority(number) | policies.LeastUsed(number):
            return number
    return 0


def _pair(policy: policies.Policy) -> tuple[int, int]:
    match policy:
        case policies.LeastUsedDegradation(load, degradation) | policies.PriorityLeastUsed(load, degradation):
            return load, degradation
    return 0, 0


def _weights(circle: Iterable[PoolElement]) -> tuple[list[PoolElement], Callable[[PoolElement], int]]:
    """The elements that may be chosen by weight, and their weights: weight 0 only if there is nothing else."""
    everybody = list(circle)
    weighted = [e for e in everybody if _weight(e.policy) > 0]
    if weighted:
        return weighted, lambda e: _weight(e.policy)
    return everybody, lambda _: 1


def _weight(policy: policies.Policy) -> int:
    match policy:
        case policies.WeightedRoundRobin(weight) | policies.WeightedRandom(weight):
            return weight
        case policies.RandomizedLeastUsed(load):
            return max(_CAP - load, 1)
    return 1
