# SPDX-License-Identifier: Apache-2.0
"""Every policy against a plain model of RFC 5356, while elements come, change and go."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rserpool.handlespace import Increment, Pool
from rserpool.wire import UnknownPolicy, policies
from rserpool.wire.policies import MAX_LOAD, Policy
from support.samples import element

members = st.integers(1, 9)
data = st.one_of(st.integers(0, 3), st.sampled_from((MAX_LOAD - 1, MAX_LOAD)))
KINDS: Final[dict[type[Policy], int]] = {
    policies.RoundRobin: 0,
    policies.WeightedRoundRobin: 1,
    policies.Random: 0,
    policies.WeightedRandom: 1,
    policies.Priority: 1,
    policies.LeastUsed: 1,
    policies.LeastUsedDegradation: 2,
    policies.PriorityLeastUsed: 2,
    policies.RandomizedLeastUsed: 1,
    policies.PriorityLeastUsedDegradation: 2,
}


def rank(policy: Policy, counter: int) -> int:
    """What the RFC sorts by, ascending."""
    match policy:
        case policies.Priority(priority):
            return -priority
        case policies.LeastUsed(load):
            return load
        case policies.LeastUsedDegradation(load, degradation):
            return min(load + counter * degradation, MAX_LOAD)
        case policies.PriorityLeastUsed(load, degradation):
            return min(load + degradation, MAX_LOAD)
        case policies.PriorityLeastUsedDegradation(load, degradation):
            return min(load + degradation + counter * degradation, MAX_LOAD)
    return 0


class PoolAgainstTheRfc(RuleBasedStateMachine):
    """The model of a sorted policy is the list of elements by their last turn, and their counters."""

    kind: type[Policy]
    increment = Increment.ALL

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool | None = None
        self.turns: list[int] = []
        self.counters: dict[int, int] = {}

    def policy(self, numbers: tuple[int, int]) -> Policy:
        made: Any = self.kind
        policy: Policy = made(*numbers[: KINDS[self.kind]])
        return policy

    @property
    def sorted(self) -> bool:
        return self.kind not in (
            policies.WeightedRoundRobin,
            policies.Random,
            policies.WeightedRandom,
            policies.RandomizedLeastUsed,
        )

    @initialize(numbers=st.tuples(data, data))
    def begin(self, numbers: tuple[int, int]) -> None:
        first = element(1, policy=self.policy(numbers))
        self.pool = Pool(b"echo", first, Random(4), self.increment)
        self.pool.put(first)
        self.turns, self.counters = [1], {1: 0}

    @rule(member=members, numbers=st.tuples(data, data))
    def register(self, member: int, numbers: tuple[int, int]) -> None:
        assert self.pool is not None
        self.pool.put(element(member, policy=self.policy(numbers)))
        if member not in self.turns:
            self.turns.append(member)
        self.counters[member] = 0

    @rule(member=members)
    def register_again_as_before(self, member: int) -> None:
        assert self.pool is not None
        if member in self.turns:
            self.pool.put(self.pool.elements[member])
            self.counters[member] = 0

    @rule(member=members)
    def leave(self, member: int) -> None:
        assert self.pool is not None
        if member in self.turns:
            self.pool.remove(member)
            self.turns.remove(member)
            del self.counters[member]

    @rule(limit=st.integers(0, 10))
    def resolve(self, limit: int) -> None:
        assert self.pool is not None
        self.check(answer := [e.identifier for e in self.pool.select(limit)], limit)
        if answer and self.sorted:
            self.turns.append(self.turns.pop(self.turns.index(answer[0])))
            for member in answer if self.increment is Increment.ALL else answer[:1]:
                self.counters[member] += 1

    @rule(limit=st.integers(0, 10))
    def peek(self, limit: int) -> None:
        assert self.pool is not None
        self.check([e.identifier for e in self.pool.peek(limit)], limit)

    def check(self, answer: list[int], limit: int) -> None:
        assert self.pool is not None
        elements = self.pool.elements
        able = set(elements)
        if self.kind in (policies.WeightedRoundRobin, policies.WeightedRandom):
            able = {i for i, e in elements.items() if e.policy != self.policy((0, 0))} or able
        assert len(set(answer)) == len(answer) == min(limit or len(able), len(able))
        assert set(answer) <= able
        if self.sorted:
            by_rank = sorted(self.turns, key=lambda i: rank(elements[i].policy, self.counters[i]))
            assert answer == by_rank[: limit or None]

    @invariant()
    def nobody_is_lost_and_nobody_invented(self) -> None:
        if self.pool is not None:
            assert set(self.pool.elements) == set(self.turns)


def _cases() -> dict[str, Any]:
    cases: dict[str, Any] = {}
    for kind in KINDS:
        for increment in Increment:
            if increment is Increment.ALL or "Degradation" in kind.__name__:
                name = f"Test{kind.__name__}{increment.name.title()}"
                machine: Any = type(name, (PoolAgainstTheRfc,), {"kind": kind, "increment": increment})
                case = machine.TestCase
                case.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
                cases[name] = case
    return cases


globals().update(_cases())


def test_an_unknown_policy_goes_round_too() -> None:
    first = element(1, policy=UnknownPolicy(0xB0001002, b"\0" * 8))
    pool = Pool(b"echo", first, Random(4))
    for identifier in (1, 2, 3):
        pool.put(element(identifier, policy=UnknownPolicy(0xB0001002, bytes(4 * identifier))))
    assert [[e.identifier for e in pool.select(2)] for _ in range(3)] == [[1, 2], [2, 3], [3, 1]]
