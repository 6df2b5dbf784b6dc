# SPDX-License-Identifier: Apache-2.0
"""What a pool user takes from an answer, by policy (RFC 5356, the pool user's side)."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.handlespace import UserSelector
from rserpool.wire import PolicyType, UnknownPolicy, policies
from rserpool.wire.policies import Policy
from support.samples import element

IN_ORDER = (
    policies.LeastUsed(1),
    policies.LeastUsedDegradation(1, 1),
    policies.PriorityLeastUsed(1, 1),
    policies.PriorityLeastUsedDegradation(1, 1),
)
BY_LOT = (policies.Random(), policies.WeightedRandom(9), policies.RandomizedLeastUsed(1))
GOING_ROUND = (policies.RoundRobin(), policies.WeightedRoundRobin(3), UnknownPolicy(0xB0001002, b"\0" * 8))


def user(*members: tuple[int, Policy]) -> UserSelector:
    selector = UserSelector(Random(7))
    selector.update(members[0][1].TYPE, [element(identifier, policy=policy) for identifier, policy in members])
    return selector


def choices(selector: UserSelector, times: int, *, without: tuple[int, ...] = ()) -> list[int]:
    chosen = [selector.choose(without) for _ in range(times)]
    return [e.identifier for e in chosen if e is not None]


@pytest.mark.rfc("RFC 5356 4.1.3: a user goes through the list it got, in order and round again")
@pytest.mark.rfc("RFC 5356 4.2.3: a user goes through a weighted list as through any other")
@pytest.mark.parametrize("policy", GOING_ROUND)
def test_round_robin_uses_the_list_as_received_from_the_first_and_wraps_round(policy: Policy) -> None:
    selector = user((5, policy), (2, policy), (9, policy))
    assert choices(selector, 7) == [5, 2, 9, 5, 2, 9, 5]


@pytest.mark.rfc("RFC 5356 4.1.3: a user goes through the list it got, in order and round again")
def test_a_fresh_answer_is_used_from_its_first_element_again() -> None:
    selector = user(*((i, policies.RoundRobin()) for i in (1, 2, 3)))
    assert choices(selector, 2) == [1, 2]
    selector.update(PolicyType.ROUND_ROBIN, [element(i) for i in (3, 1, 2)])
    assert choices(selector, 3) == [3, 1, 2]


def test_an_update_nobody_asked_for_does_not_send_all_users_to_the_first_element() -> None:
    selector = user(*((i, policies.RoundRobin()) for i in (1, 2, 3)))
    assert choices(selector, 2) == [1, 2]
    selector.update(PolicyType.ROUND_ROBIN, [element(i) for i in (1, 2, 3, 4)], pushed=True)
    assert choices(selector, 3) == [3, 4, 1]
    selector.update(PolicyType.ROUND_ROBIN, [element(i) for i in (2, 3, 4)], pushed=True)  # the one used last is gone
    assert choices(selector, 3) == [2, 3, 4]


def test_those_left_out_are_passed_over_and_lose_no_turn_of_others() -> None:
    selector = user(*((i, policies.RoundRobin()) for i in (1, 2, 3)))
    assert choices(selector, 1) == [1]
    assert choices(selector, 1, without=(2,)) == [3]
    assert choices(selector, 2) == [1, 2]


@pytest.mark.rfc("RFC 5356 5.1.3: a user tries the least used in the order received")
@pytest.mark.rfc("RFC 5356 5.2.3: with degradation too")
@pytest.mark.rfc("RFC 5356 5.3.3: priority least used too")
@pytest.mark.parametrize("policy", IN_ORDER)
def test_a_least_used_list_is_tried_in_its_order_and_begins_with_its_first_each_time(policy: Policy) -> None:
    selector = user((5, policy), (2, policy), (9, policy))
    assert choices(selector, 3) == [5, 5, 5]
    assert choices(selector, 1, without=(5,)) == [2]
    assert choices(selector, 1, without=(5, 2)) == [9]


@pytest.mark.rfc("RFC 5356 4.3.3: a user draws one of the list each time")
@pytest.mark.rfc("RFC 5356 4.4.3: a user draws from a weighted list with equal chances")
@pytest.mark.rfc("RFC 5356 5.4.3: a user draws from a randomized list with equal chances")
@pytest.mark.parametrize("policy", BY_LOT)
def test_random_policies_draw_each_time_with_equal_chances(policy: Policy) -> None:
    selector = user(*((i, policy) for i in (1, 2, 3, 4)))
    counts = Counter(choices(selector, 8000))
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 16.3  # chi-square, 3 degrees, 0.1 %
    without = Counter(choices(selector, 2000, without=(2, 3)))
    assert without.keys() == {1, 4}
    assert abs(without[1] - 1000) < 150


@pytest.mark.rfc("RFC 5356 4.5.3: a user takes the highest priority that is active")
def test_the_highest_priority_is_used_and_the_next_only_when_it_is_left_out() -> None:
    selector = user(*((i, policies.Priority(p)) for i, p in ((1, 5), (2, 9), (3, 9), (4, 0))))
    assert choices(selector, 4) == [2, 3, 2, 3]
    assert choices(selector, 3, without=(2,)) == [3, 3, 3]
    assert choices(selector, 2, without=(2, 3)) == [1, 1]
    assert choices(selector, 1, without=(1, 2, 3)) == [4]


@given(
    st.sampled_from((*GOING_ROUND, *IN_ORDER, *BY_LOT, policies.Priority(3))),
    st.lists(st.integers(1, 6), max_size=8),
    st.sets(st.integers(1, 6)),
)
def test_a_choice_is_one_of_the_answer_and_of_those_not_left_out_or_nothing(
    policy: Policy, identifiers: list[int], without: set[int]
) -> None:
    selector = UserSelector(Random(1))
    assert selector.choose() is None
    selector.update(policy.TYPE, [element(i, policy=policy) for i in identifiers])
    assert [e.identifier for e in selector.elements] == list(dict.fromkeys(identifiers))
    able = set(identifiers) - without
    chosen = {e.identifier for e in (selector.choose(without) for _ in range(12)) if e is not None}
    assert chosen <= able
    assert bool(chosen) == bool(able)
    if policy in GOING_ROUND:
        assert chosen == able
