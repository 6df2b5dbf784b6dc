# SPDX-License-Identifier: Apache-2.0
"""The policies of RFC 5356, by their statistics and by their exact order; every seed is fixed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.handlespace import Handlespace, Increment, Pool
from rserpool.wire import policies
from rserpool.wire.policies import MAX_LOAD, Policy
from support.samples import element

N = 6000


def pool_of(*members: Policy, seed: int = 5, increment: Increment = Increment.ALL) -> Pool:
    space = Handlespace(Random(seed), increment)
    for identifier, policy in enumerate(members, 1):
        assert space.put(b"echo", element(identifier, policy=policy))
    return space.pools[b"echo"]


def order(pool: Pool, limit: int = 0) -> list[int]:
    return [e.identifier for e in pool.select(limit)]


def shares(pool: Pool, n: int = N) -> dict[int, float]:
    first = Counter(order(pool, 1)[0] for _ in range(n))
    return {identifier: count / n for identifier, count in first.items()}


@pytest.mark.rfc("RFC 5356 4.1.2: round robin lists everybody from the head on, which advances by one")
def test_round_robin_advances_by_one_a_request_and_lists_everybody() -> None:
    pool = pool_of(*[policies.RoundRobin()] * 3)
    assert [order(pool) for _ in range(4)] == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]
    assert [order(pool, 2) for _ in range(2)] == [[2, 3], [3, 1]]


@pytest.mark.rfc("PROTOCOL 5.1: the head stays on its element while others come and go")
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


@pytest.mark.rfc("RFC 5356 4.2.2: weighted round robin gives each its share, spread evenly")
def test_weighted_round_robin_gives_each_its_exact_share_spread_evenly() -> None:
    pool = pool_of(*(policies.WeightedRoundRobin(w) for w in (5, 1, 1)))
    turns = [order(pool, 1)[0] for _ in range(70)]
    assert Counter(turns) == {1: 50, 2: 10, 3: 10}
    assert all(Counter(turns[i : i + 7]) == {1: 5, 2: 1, 3: 1} for i in range(0, 70, 7))
    assert sorted(order(pool)) == [1, 2, 3]


@pytest.mark.rfc("PROTOCOL 5.1: the head stays on its element while others come and go")
def test_registering_again_with_the_same_weight_does_not_disturb_the_shares() -> None:
    pool = pool_of(*(policies.WeightedRoundRobin(w) for w in (3, 1)))
    turns: Counter[int] = Counter()
    for i in range(400):
        turns[order(pool, 1)[0]] += 1
        pool.put(element(1 + i % 2, policy=policies.WeightedRoundRobin((3, 1)[i % 2])))
    assert turns == {1: 300, 2: 100}


@pytest.mark.rfc("RFC 5356 3.2: weight 0 cannot provide service")
def test_a_weight_of_zero_gets_nothing_while_another_has_more() -> None:
    for policy in (policies.WeightedRoundRobin, policies.WeightedRandom):
        pool = pool_of(policy(0), policy(2), policy(0))
        assert [order(pool) for _ in range(20)] == [[2]] * 20
        pool.remove(2)
        assert shares(pool, 1000).keys() == {1, 3}


@pytest.mark.rfc("RFC 5356 4.3.2: random is uniform, and nobody twice")
def test_random_is_uniform_without_repeats() -> None:
    pool = pool_of(*[policies.Random()] * 4)
    assert all(abs(share - 0.25) < 0.02 for share in shares(pool).values())
    assert all(len(set(order(pool, 3))) == 3 for _ in range(100))
    assert len(order(pool, 99)) == 4


@pytest.mark.rfc("RFC 5356 4.4.2: weighted random follows the weights, and nobody twice")
@pytest.mark.rfc("RFC 5356 5.4.2: randomized least used draws by what is free")
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


@pytest.mark.rfc("RFC 5356 5.4.2: randomized least used draws by what is free")
def test_randomized_least_used_falls_back_to_equal_chances_when_all_are_full() -> None:
    pool = pool_of(*[policies.RandomizedLeastUsed(MAX_LOAD)] * 2)
    assert shares(pool) == pytest.approx({1: 0.5, 2: 0.5}, abs=0.03)


@pytest.mark.rfc("RFC 5356 4.5.2: priority gives the highest first")
def test_priority_lists_the_highest_first_and_goes_round_among_equals() -> None:
    pool = pool_of(*(policies.Priority(p) for p in (1, 9, 9, 5)))
    assert order(pool) == [2, 3, 4, 1]
    assert Counter(order(pool, 1)[0] for _ in range(100)).keys() == {2, 3}


@pytest.mark.rfc("RFC 5356 5.1.2: least used gives the lowest loads first")
def test_least_used_lists_ascending_loads_and_goes_round_among_equals() -> None:
    pool = pool_of(*(policies.LeastUsed(load) for load in (7, 0, 0, 3)))
    assert order(pool) == [2, 3, 4, 1]
    assert Counter(order(pool, 1)[0] for _ in range(100)).keys() == {2, 3}


@pytest.mark.rfc("RFC 5356 5.2.2: degradation is added for each time an element was given out")
def test_degradation_counts_each_time_an_element_is_given_out_and_starts_anew_when_it_registers() -> None:
    pool = pool_of(policies.LeastUsedDegradation(0, 10), policies.LeastUsedDegradation(25, 10))
    assert [order(pool, 1)[0] for _ in range(3)] == [1, 1, 1]
    assert order(pool, 1) == [2]
    pool.put(element(1, policy=policies.LeastUsedDegradation(0, 10)))
    assert [order(pool, 1)[0] for _ in range(3)] == [1, 1, 1]


@pytest.mark.rfc("RFC 5356 5.3.2: priority least used adds the degradation once")
def test_priority_least_used_adds_its_degradation_once() -> None:
    pool = pool_of(policies.PriorityLeastUsed(10, 30), policies.PriorityLeastUsed(20, 10))
    assert [order(pool) for _ in range(3)] == [[2, 1]] * 3


@pytest.mark.rfc("PROTOCOL 5.1: sums are capped, so that all registrars rank alike")
def test_sums_are_capped_so_that_all_nodes_rank_alike() -> None:
    pool = pool_of(policies.PriorityLeastUsed(MAX_LOAD, 5), policies.PriorityLeastUsed(MAX_LOAD, 1))
    assert order(pool) == [1, 2]


@pytest.mark.rfc("PROTOCOL 6.6: an update to a subscriber moves nothing")
def test_an_update_to_subscribers_moves_no_head() -> None:
    pool = pool_of(*[policies.RoundRobin()] * 3)
    assert [e.identifier for e in pool.peek()] == [1, 2, 3]
    assert [e.identifier for e in pool.peek(2)] == [1, 2]
    assert order(pool) == [1, 2, 3]


@pytest.mark.rfc("PROTOCOL 5.1: no element is twice in an answer, and the limit holds")
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


def chi_square(counts: Counter[int], expected: dict[int, float]) -> float:
    assert counts.keys() <= expected.keys()
    return sum((counts[i] - share) ** 2 / share for i, share in expected.items())


@pytest.mark.rfc("RFC 5356 4.2.2: weighted round robin gives each its share, spread evenly")
def test_weighted_round_robin_never_strays_from_the_shares_by_more_than_a_turn_or_two() -> None:
    weights = [1, 2, 3, 5, 8, 13, 100]
    pool = pool_of(*map(policies.WeightedRoundRobin, weights))
    given: Counter[int] = Counter()
    for n in range(1, 5 * sum(weights) + 1):
        given[order(pool, 3)[0]] += 1
        assert all(abs(given[i] - n * w / sum(weights)) < 2 for i, w in enumerate(weights, 1))
    assert [given[i] for i in range(1, 8)] == [5 * w for w in weights]


@pytest.mark.rfc("RFC 5356 4.2.2: weighted round robin gives each its share, spread evenly")
def test_a_weighted_round_robin_answer_lists_each_element_where_it_occurs_first_on_the_circle() -> None:
    pool = pool_of(*map(policies.WeightedRoundRobin, (3, 1, 2)))
    for _ in range(12):
        answer, ahead = order(pool), [i for _ in range(11) for i in order(pool, 1)]
        assert answer == list(dict.fromkeys([answer[0], *ahead]))


def test_an_element_that_changes_its_weight_again_and_again_gets_what_it_had_a_right_to() -> None:
    pool, rng = pool_of(*map(policies.WeightedRoundRobin, (4, 4))), Random(2)
    given: Counter[int] = Counter()
    for _ in range(4000):
        given[order(pool, 1)[0]] += 1
        pool.put(element(1, policy=policies.WeightedRoundRobin(rng.choice((2, 6)))))
    assert given[1] / 4000 == pytest.approx((1 / 3 + 3 / 5) / 2, abs=0.04)


@pytest.mark.rfc("RFC 5356 4.3.2: random is uniform, and nobody twice")
def test_all_orders_of_a_random_answer_are_equally_likely() -> None:
    pool = pool_of(*[policies.Random()] * 4)
    for limit in (0, 3, 4):
        counts = Counter(int("".join(map(str, order(pool, limit)))) for _ in range(4800))
        assert len(counts) == 24
        assert chi_square(counts, dict.fromkeys(counts, 200.0)) < 49.7  # 23 degrees, 0.1 %


@pytest.mark.rfc("RFC 5356 4.4.2: weighted random follows the weights, and nobody twice")
@pytest.mark.rfc("RFC 5356 5.4.2: randomized least used draws by what is free")
@pytest.mark.parametrize("limit", [2, 3])  # drawn one by one, and all at once: the same chances
def test_weighted_draws_without_putting_back_follow_the_weights_that_are_left(limit: int) -> None:
    weights = {1: 6, 2: 3, 3: 1}
    expected = {
        10 * a + b: N * weights[a] / 10 * weights[b] / (10 - weights[a]) for a in weights for b in weights if a != b
    }
    for members in (
        map(policies.WeightedRandom, weights.values()),
        (policies.RandomizedLeastUsed(MAX_LOAD - w * 400_000_000) for w in weights.values()),
    ):
        pool = pool_of(*members)
        counts = Counter(a * 10 + b for a, b, *_ in (order(pool, limit) for _ in range(N)))
        assert chi_square(counts, expected) < 20.5  # 5 degrees, 0.1 %


@pytest.mark.rfc("RFC 5356 5.1.2: least used gives the lowest loads first")
@pytest.mark.rfc("RFC 5356 5.3.2: priority least used adds the degradation once")
@pytest.mark.parametrize("kind", [policies.Priority, policies.LeastUsed, policies.PriorityLeastUsed])
def test_equal_elements_share_the_work_exactly_however_many_others_there_are(kind: type) -> None:
    pairs = kind is policies.PriorityLeastUsed
    best, other = (7, 5) if kind is policies.Priority else (5, 7)
    loads = [other, best, other, other, best, best, other]
    pool = pool_of(*(kind(load, 1) if pairs else kind(load) for load in loads))
    assert [order(pool, 2) for _ in range(4)] == [[2, 5], [5, 6], [6, 2], [2, 5]]
    assert Counter(order(pool, 1)[0] for _ in range(300)) == {2: 100, 5: 100, 6: 100}


@pytest.mark.rfc("RFC 5356 5.2.2: degradation is added for each time an element was given out")
def test_degradation_is_counted_for_all_of_an_answer_or_for_the_first_alone() -> None:
    loads = (0, 4, 50)
    everybody = pool_of(*(policies.LeastUsedDegradation(load, 10) for load in loads))
    assert [order(everybody, 2) for _ in range(3)] == [[1, 2]] * 3
    assert order(everybody, 1) == [1]  # 30 + 0, against 30 + 4 and 50
    first = pool_of(*(policies.LeastUsedDegradation(load, 10) for load in loads), increment=Increment.FIRST)
    assert [order(first, 2) for _ in range(4)] == [[1, 2], [2, 1], [1, 2], [2, 1]]


@pytest.mark.rfc("RFC 5356 5.2.2: degradation is added for each time an element was given out")
def test_degradation_spreads_users_over_elements_as_they_fill_up() -> None:
    loads = [i * 1000 for i in range(10)]
    pool = pool_of(*(policies.LeastUsedDegradation(load, 100) for load in loads))
    given = Counter(order(pool, 1)[0] for _ in range(450))
    level = [load + given[i] * 100 for i, load in enumerate(loads, 1)]
    assert max(level) - min(level) <= 100


@pytest.mark.rfc("RFC 5356 5.2.2: degradation is added for each time an element was given out")
def test_registering_again_unchanged_resets_the_counter_and_another_home_does_not() -> None:
    pool = pool_of(policies.LeastUsedDegradation(0, 10), policies.LeastUsedDegradation(15, 10))
    assert [order(pool, 1) for _ in range(3)] == [[1], [1], [2]]
    pool.move(element(1, home=7, policy=policies.LeastUsedDegradation(0, 10)))
    assert order(pool, 1) == [1]  # 20 and 25
    pool.put(pool.elements[1])
    assert [order(pool, 1) for _ in range(3)] == [[1]] * 3


def test_priority_least_used_with_degradation_counts_the_next_user_and_those_before() -> None:
    pool = pool_of(
        policies.PriorityLeastUsedDegradation(50, 10),
        policies.PriorityLeastUsedDegradation(50, 50),
        policies.PriorityLeastUsedDegradation(0, 75),
    )
    assert order(pool) == [1, 3, 2]  # 60, 75, 100; by load alone the third would be first
    assert [order(pool, 1) for _ in range(2)] == [[1], [1]]  # 70 and 80 now; each counts what was given out
    assert order(pool, 1) == [1]
    assert order(pool, 1) == [1]
