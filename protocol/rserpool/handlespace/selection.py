# SPDX-License-Identifier: Apache-2.0
"""Which elements a handle resolution returns, in which order (RFC 5356 4 and 5, the registrar's side).

Every element appears at most once in an answer. What a policy remembers from one answer to the next (whose turn it is,
the degradation counters) is local to the registrar, as RFC 5356 1 has it. A few elements out of n are chosen, and one
is added, changed or removed, in no more than log n steps.

Round Robin, Priority and the Least Used policies are one thing: elements in the order of a number, and among equal ones
whoever was first in an answer goes to the end. With Round Robin all numbers are equal, which makes RFC 5356 4.1.2's
circle with its head; it stays where it is while others come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from random import Random as RandomSource
from typing import Final, Protocol

from rserpool.handlespace.lots import Lots
from rserpool.handlespace.order import Order
from rserpool.wire import PolicyType, PoolElement, policies

_CAP: Final = policies.MAX_LOAD
_ONE_LAP: Final = 1 << 64
"""Virtual time in which Weighted Round Robin gives an element of weight w its w turns."""


class Increment(StrEnum):
    """Whose degradation counters an answer raises."""

    ALL = "all"
    """Those of all elements in it, by RFC 5356 5.2.2."""
    FIRST = "first"
    """That of the first alone, as rsplib has it: the others are only there in case it fails."""


class Selector:
    """The memory of one pool's policy.

    Args:
        policy_type: the pool's policy; an unknown one is treated as Round Robin, which everybody supports.
        rng: where the random policies take their chances from.
        increment: whose degradation counters an answer raises.
    """

    __slots__ = ("_memory",)

    def __init__(self, policy_type: int, rng: RandomSource, increment: Increment = Increment.ALL) -> None:
        self._memory: _Memory
        match policy_type:
            case PolicyType.WEIGHTED_ROUND_ROBIN:
                self._memory = _Turns()
            case PolicyType.RANDOM | PolicyType.WEIGHTED_RANDOM | PolicyType.RANDOMIZED_LEAST_USED:
                self._memory = _Chances(rng)
            case PolicyType.LEAST_USED_DEGRADATION | PolicyType.PRIORITY_LEAST_USED_DEGRADATION:
                self._memory = _Degrading(increment)
            case _:
                self._memory = _Ranks()

    def add(self, element: PoolElement) -> None:
        """A new element has joined."""
        self._memory.add(element)

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        """An element has registered again, or a registrar has announced it anew (RFC 5356 5.2.2)."""
        self._memory.replace(before, element)

    def remove(self, identifier: int) -> None:
        """An element has left."""
        self._memory.remove(identifier)

    def select(self, elements: Mapping[int, PoolElement], limit: int) -> list[PoolElement]:
        """Answer one resolution.

        Args:
            elements: the pool's elements by identifier.
            limit: how many at most; 0 for all.

        Returns:
            Elements in the order in which a user should try them.
        """
        chosen = [elements[identifier] for identifier in self._memory.choose(limit)]
        if chosen:
            self._memory.given(chosen)
        return chosen

    def peek(self, elements: Mapping[int, PoolElement], limit: int) -> list[PoolElement]:
        """As :meth:`select`, for an update nobody asked for: neither heads nor counters move."""
        return [elements[identifier] for identifier in self._memory.choose(limit)]


class _Memory(Protocol):
    """What a family of policies remembers."""

    def add(self, element: PoolElement) -> None: ...

    def replace(self, before: PoolElement, element: PoolElement) -> None: ...

    def remove(self, identifier: int) -> None: ...

    def choose(self, limit: int) -> list[int]: ...

    def given(self, chosen: list[PoolElement]) -> None:
        """These, at least one, were the answer to a resolution."""


class _Ranks:
    """Round Robin, Priority, Least Used, Priority Least Used: by rank, in turn among equals."""

    def __init__(self) -> None:
        self._order = Order()

    def add(self, element: PoolElement) -> None:
        self._order.add(element.identifier, self._rank(element))

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        if before.policy != element.policy:
            self._order.move(element.identifier, self._rank(element))

    def remove(self, identifier: int) -> None:
        self._order.remove(identifier)

    def choose(self, limit: int) -> list[int]:
        return self._order.first(limit)

    def given(self, chosen: list[PoolElement]) -> None:
        self._order.move(chosen[0].identifier, self._rank(chosen[0]), behind=True)

    def _rank(self, element: PoolElement) -> int:
        """The lowest is the first; sums are capped so that all nodes rank alike."""
        match element.policy:
            case policies.Priority(priority):
                return -priority
            case policies.LeastUsed(load):
                return load
            case policies.PriorityLeastUsed(load, degradation):
                return min(load + degradation, _CAP)
            case _:
                return 0


class _Degrading(_Ranks):
    """The two policies with a degradation counter: each time an element is given out, it counts as more loaded."""

    def __init__(self, increment: Increment) -> None:
        super().__init__()
        self._increment = increment
        self._counters: dict[int, int] = {}  # of those that have been given out since they registered

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        given_out = self._counters.pop(element.identifier, 0)
        if given_out or before.policy != element.policy:
            self._order.move(element.identifier, self._rank(element))

    def remove(self, identifier: int) -> None:
        super().remove(identifier)
        self._counters.pop(identifier, None)

    def given(self, chosen: list[PoolElement]) -> None:
        for place, element in enumerate(chosen if self._increment is Increment.ALL else chosen[:1]):
            self._counters[element.identifier] = self._counters.get(element.identifier, 0) + 1
            self._order.move(element.identifier, self._rank(element), behind=place == 0)

    def _rank(self, element: PoolElement) -> int:
        given_out = self._counters.get(element.identifier, 0)
        match element.policy:
            case policies.LeastUsedDegradation(load, degradation):
                return min(load + given_out * degradation, _CAP)
            case policies.PriorityLeastUsedDegradation(load, degradation):
                return min(load + (given_out + 1) * degradation, _CAP)
            case _:
                return 0


class _Turns:
    """Weighted Round Robin: an element of weight w has its turns at (k + 1/2) / w, which spreads them evenly.

    An answer holds the elements by their next turns: the circular list of RFC 5356 4.2.2 from its head on, each element
    where it occurs first. Those of weight 0 go round if there are no others.
    """

    def __init__(self) -> None:
        self._now = 0
        self._turns = Order()
        self._weightless = Order()

    def add(self, element: PoolElement) -> None:
        weight = _weight(element.policy)
        if weight:
            self._turns.add(element.identifier, self._now + _ONE_LAP // (2 * weight))
        else:
            self._weightless.add(element.identifier, 0)

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        old, new = _weight(before.policy), _weight(element.policy)
        if old == new:  # its turn stays what it was
            return
        if old and new:  # so does the part of the wait for it that is over: nobody gains by changing often
            wait = self._turns.number(element.identifier) - self._now
            self._turns.move(element.identifier, self._now + wait * old // new)
        else:
            self.remove(element.identifier)
            self.add(element)

    def remove(self, identifier: int) -> None:
        (self._turns if identifier in self._turns else self._weightless).remove(identifier)

    def choose(self, limit: int) -> list[int]:
        return (self._turns or self._weightless).first(limit)

    def given(self, chosen: list[PoolElement]) -> None:
        identifier, weight = chosen[0].identifier, _weight(chosen[0].policy)
        if weight:
            self._now = self._turns.number(identifier)
            self._turns.move(identifier, self._now + _ONE_LAP // weight, behind=True)
        else:
            self._weightless.move(identifier, 0, behind=True)


class _Chances:
    """Random, Weighted Random, Randomized Least Used: nothing is remembered but the weights."""

    def __init__(self, rng: RandomSource) -> None:
        self._lots = Lots(rng)

    def add(self, element: PoolElement) -> None:
        self._lots.add(element.identifier, _weight(element.policy))

    def replace(self, before: PoolElement, element: PoolElement) -> None:
        if before.policy != element.policy:
            self._lots.change(element.identifier, _weight(element.policy))

    def remove(self, identifier: int) -> None:
        self._lots.remove(identifier)

    def choose(self, limit: int) -> list[int]:
        return self._lots.draw(limit)

    def given(self, chosen: list[PoolElement]) -> None:
        """Chances do not change."""


def _weight(policy: policies.Policy) -> int:
    """An element's weight; 0 if it has none, as all of policy Random."""
    match policy:
        case policies.WeightedRoundRobin(weight) | policies.WeightedRandom(weight):
            return weight
        case policies.RandomizedLeastUsed(load):
            return max(_CAP - load, 1)  # RFC 5356 5.4.1, but never nothing
        case _:
            return 0
