# SPDX-License-Identifier: Apache-2.0
"""The policies of RFC 5356, by their statistics and by their exact order; every seed is fixed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.handlespace import Handlespace, Pool
from rserpool.wire import policies
from rserpool.wire.policies import MAX_LOAD, Policy
from support.samples import element

N = 6000


def pool_of(*members: Policy, seed: int = 5) -> Pool:
    space = Handlespace(Random(seed))
    for identifier, policy in enumerate(members, 1):
        assert space.put(b"echo", element(identifier, policy=policy))
    return space.pools[b"echo"]


def order(pool: Pool, limit: int = 0) -> list[int]:
    return [e.identifier for e in pool.select(limit)]


def shares(pool: Pool, n: int = N) -> dict[int, float]:
    first = Counter(order(pool, 1)[0] for _ in range(n))
    return {identifier: count / n for identifier, count in first.items()}


def test_round_robin_advances_by_one_a_request_and_lists_everybody() -> None:
    pool = pool_of(*[policies.RoundRobin()] * 3)
    assert [order(pool) for _ in range(4)] == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]
    assert [order(pool, 2) for _ in range(2)] == [[2, 3], [3, 1]]


def test_round_robin_keeps_its_head_while_others_come_and_go() -> None:
    pool = pool_of(*[policies.RoundRobin()] * 4)
    order(pool)
    order(pool)  # the head is on 3
    pool.remove(1)
    assert order(pool) == [3, 4, 2]
    pool.put(element(9))
    assert order(pool) == [4, 2, 3, 9]
    pool.remove(2)
    assert order(pool) == [3, 9, 4]


def test_weighted_round_robin_gives_each_its_exact_share_spread_evenly() -> None:
    pool = pool_of(*(policies.WeightedRoundRobin(w) for w in (5, 1, 1)))
    turns = [order(pool, 1)[0] for _ in range(70)]
    assert Counter(turns) == {1: 50, 2: 10, 3: 10}
    assert all(Counter(turns[i : i + 7]) == {1: 5, 2: 1, 3: 1} for i in range(0, 70, 7))
    assert sorted(order(pool)) == [1, 2, 3]


def test_registering_again_with_the_same_weight_does_not_disturb_the_shares() -> None:
    pool = pool_of(*(policies.WeightedRoundRobin(w) for w in (3, 1)))
    turns: Counter[int] = Counter()
    for i in range(400):
        turns[order(pool, 1)[0]] += 1
        pool.put(element(1 + i % 2, policy=policies.WeightedRoundRobin((3, 1)[i % 2])))
    assert turns == {1: 300, 2: 100}


def test_a_weight_of_zero_gets_nothing_while_another_has_more() -> None:
    for policy in (policies.WeightedRoundRobin, policies.WeightedRandom):
        pool = pool_of(policy(0), policy(2), policy(0))
        assert [order(pool) for _ in range(20)] == [[2]] * 20
        pool.remove(2)
        assert shares(pool, 1000).keys() == {1, 3}


def test_random_is_uniform_without_repeats() -> None:
    pool = pool_of(*[policies.Random()] * 4)
    assert all(abs(share - 0.25) < 0.02 for share in shares(pool).values())
    assert all(len(set(order(pool, 3))) == 3 for _ in range(100))
    assert len(order(pool, 99)) == 4


@pytest.mark.parametrize("policy", [policies.WeightedRandom, policies.RandomizedLeastUsed])
def test_weighted_random_choice_follows_the_weights(policy: type[Policy]) -> None:
    weights = (6, 3, 1)
    if policy is policies.WeightedRandom:
        members: list[Policy] = [policies.WeightedRandom(w) for w in weights]
    else:
        members = [policies.RandomizedLeastUsed(MAX_LOAD - w * 100_000_000) for w in weights]
    pool = pool_of(*members)
    assert shares(pool) == pytest.approx({1: 0.6, 2: 0.3, 3: 0.1}, abs=0.02)
    second = Counter(order(pool, 2)[1] for _ in range(N))
    assert second[1] / N == pytest.approx(0.3 * 6 / 7 + 0.1 * 6 / 9, abs=0.02)


def test_randomized_least_used_falls_back_to_equal_chances_when_all_are_full() -> None:
    pool = pool_of(*[policies.RandomizedLeastUsed(MAX_LOAD)] * 2)
    assert shares(pool) == pytest.approx({1: 0.5, 2: 0.5}, abs=0.03)


def test_priority_lists_the_highest_first_and_goes_round_among_equals() -> None:
    pool = pool_of(*(policies.Priority(p) for p in (1, 9, 9, 5)))
    assert order(pool) == [2, 3, 4, 1]
    assert Counter(order(pool, 1)[0] for _ in range(100)).keys() == {2, 3}


def test_least_used_lists_ascending_loads_and_goes_round_among_equals() -> None:
    pool = pool_of(*(policies.LeastUsed(load) for load in (7, 0, 0, 3)))
    assert order(pool) == [2, 3, 4, 1]
    assert Counter(order(pool, 1)[0] for _ in range(100)).keys() == {2, 3}


def test_degradation_counts_each_time_an_element_is_given_out_and_starts_anew_when_it_registers() -> None:
    pool = pool_of(policies.LeastUsedDegradation(0, 10), policies.LeastUsedDegradation(25, 10))
    assert [order(pool, 1)[0] for _ in range(3)] == [1, 1, 1]
    assert order(pool, 1) == [2]
    pool.put(element(1, policy=policies.LeastUsedDegradation(0, 10)))
    assert [order(pool, 1)[0] for _ in range(3)] == [1, 1, 1]


def test_priority_least_used_adds_its_degradation_once() -> None:
    pool = pool_of(policies.PriorityLeastUsed(10, 30), policies.PriorityLeastUsed(20, 10))
    assert [order(pool) for _ in range(3)] == [[2, 1]] * 3


def test_sums_are_capped_so_that_all_nodes_rank_alike() -> None:
    pool = pool_of(policies.PriorityLeastUsed(MAX_LOAD, 5), policies.PriorityLeastUsed(MAX_LOAD, 1))
    assert order(pool) == [1, 2]


def test_an_update_to_subscribers_moves_no_head() -> None:
    pool = pool_of(*[policies.RoundRobin()] * 3)
    assert [e.identifier for e in pool.peek()] == [1, 2, 3]
    assert [e.identifier for e in pool.peek(2)] == [1, 2]
    assert order(pool) == [1, 2, 3]


@given(
    policy=st.sampled_from(
        [
            policies.RoundRobin,
            policies.Random,
            policies.WeightedRoundRobin,
            policies.WeightedRandom,
            policies.Priority,
            policies.LeastUsed,
            policies.RandomizedLeastUsed,
        ]
    ),
    numbers=st.lists(st.one_of(st.integers(0, 3), st.integers(0, MAX_LOAD)), min_size=1, max_size=8),
    limit=st.integers(0, 9),
    rounds=st.integers(1, 5),
)
def test_no_element_is_ever_twice_in_an_answer_and_the_limit_holds(
    policy: type, numbers: list[int], limit: int, rounds: int
) -> None:
    plain = policy in (policies.RoundRobin, policies.Random)
    pool = pool_of(*(policy() if plain else policy(n) for n in numbers))
    for _ in range(rounds):
        answer = order(pool, limit)
        assert len(answer) == len(set(answer))
        assert 1 <= len(answer) <= (limit or len(numbers))


def test_the_same_seed_gives_the_same_answers() -> None:
    first, second = (pool_of(*[policies.Random()] * 5, seed=3) for _ in range(2))
    assert [order(first) for _ in range(20)] == [order(second) for _ in range(20)]


def test_an_unknown_policy_is_served_round_robin() -> None:
    from rserpool.wire import UnknownPolicy

    pool = pool_of(*[UnknownPolicy(0xB0001001, b"")] * 2)
    assert [order(pool) for _ in range(2)] == [[1, 2], [2, 1]]
