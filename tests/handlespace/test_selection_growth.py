# SPDX-License-Identifier: Apache-2.0
"""Choosing a few elements, adding and removing costs no more than log n, counted in steps of the interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

import pytest

from rserpool.handlespace import Selector
from rserpool.wire import PoolElement, policies
from rserpool.wire.policies import MAX_LOAD, Policy
from support.samples import element
from support.steps import steps

SMALL, LARGE = 100, 10_000
POLICIES: Final[dict[str, Callable[[Random], Policy]]] = {
    "RoundRobin": lambda _: policies.RoundRobin(),
    "WeightedRoundRobin": lambda rng: policies.WeightedRoundRobin(rng.randrange(1, 100)),
    "Random": lambda _: policies.Random(),
    "WeightedRandom": lambda rng: policies.WeightedRandom(rng.randrange(1, 100)),
    "Priority": lambda rng: policies.Priority(rng.randrange(10)),
    "LeastUsed": lambda rng: policies.LeastUsed(rng.randrange(MAX_LOAD)),
    "LeastUsedDegradation": lambda rng: policies.LeastUsedDegradation(rng.randrange(MAX_LOAD), 1 << 20),
    "PriorityLeastUsed": lambda rng: policies.PriorityLeastUsed(rng.randrange(MAX_LOAD), 1 << 20),
    "RandomizedLeastUsed": lambda rng: policies.RandomizedLeastUsed(rng.randrange(MAX_LOAD)),
    "PriorityLeastUsedDegradation": lambda rng: policies.PriorityLeastUsedDegradation(rng.randrange(MAX_LOAD), 1 << 20),
}


class OnlyLookedUp(Mapping[int, PoolElement]):
    """A pool's elements, for whoever does not go through all of them."""

    def __init__(self, elements: dict[int, PoolElement]) -> None:
        self.elements = elements

    def __getitem__(self, identifier: int) -> PoolElement:
        return self.elements[identifier]

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("goes through all elements")

    def __len__(self) -> int:
        return len(self.elements)


class Rig:
    def __init__(self, kind: str, n: int) -> None:
        self.rng = Random(n)
        self.kind = kind
        self.elements = {i: self.element(i) for i in range(n)}
        self.selector = Selector(self.elements[0].policy.TYPE, Random(1))
        for one in self.elements.values():
            self.selector.add(one)

    def element(self, identifier: int) -> PoolElement:
        return element(identifier, policy=POLICIES[self.kind](self.rng))

    def choose(self) -> None:
        self.selector.select(OnlyLookedUp(self.elements), 3)

    def peek(self) -> None:
        self.selector.peek(OnlyLookedUp(self.elements), 3)

    def add(self) -> None:
        one = self.element(len(self.elements))
        self.elements[one.identifier] = one
        self.selector.add(one)

    def replace(self) -> None:
        identifier = self.rng.choice(list(self.elements))
        one = self.element(identifier)
        self.selector.replace(self.elements[identifier], one)
        self.elements[identifier] = one

    def remove(self) -> None:
        identifier = self.rng.choice(list(self.elements))
        del self.elements[identifier]
        self.selector.remove(identifier)


@pytest.mark.parametrize("kind", POLICIES)
def test_choosing_three_adding_changing_and_removing_grows_no_faster_than_log_n(kind: str) -> None:
    small, large = Rig(kind, SMALL), Rig(kind, LARGE)
    allowed = math.log(LARGE) / math.log(SMALL) * 1.25  # chances are not the same in both
    for job in ("choose", "peek", "replace", "remove", "add"):
        few, many = steps(getattr(small, job), 40), steps(getattr(large, job), 40)
        assert few > 10, job
        assert many <= few * allowed, f"{job}: {few:.0f} steps with {SMALL} elements, {many:.0f} with {LARGE}"


def test_the_count_of_steps_notices_what_goes_through_all_elements() -> None:
    rig = Rig("LeastUsed", LARGE)
    memory: Any = rig.selector._memory
    assert steps(lambda: None, 1) == 0
    assert steps(lambda: memory._order.first(0), 1) > LARGE
