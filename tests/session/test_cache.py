# SPDX-License-Identifier: Apache-2.0
"""What a pool user remembers, for how long, and what makes it stale (RFC 5352 3.3, 6.3, 6.4; PROTOCOL 5.2, 12.4)."""

from __future__ import annotations

from random import Random

import pytest

from rserpool.asap.effects import AssociationId
from rserpool.asap.events import Failure
from rserpool.session.cache import Cache, CachedPool, Missing
from rserpool.wire import Policy, UnknownPolicy, policies
from support.rig_session import POOL, START, element, elements, which

HOME, NEW_HOME = AssociationId(1), AssociationId(2)
LASTING = (policies.RoundRobin(), policies.WeightedRoundRobin(1), policies.Random(), policies.Priority(1), None)
FLEETING = (
    policies.LeastUsed(0), policies.LeastUsedDegradation(0, 0), policies.PriorityLeastUsed(0, 0),
    policies.RandomizedLeastUsed(0), policies.WeightedRandom(1), UnknownPolicy(0xB0001001, b""),
)  # fmt: skip


def cache(stale_after: float | None = None, most: int = 1024) -> Cache:
    return Cache(Random(1), stale_after, most)


def fresh_for(found: Cache, policy: Policy | None) -> float:
    """For how many seconds an answer is used."""
    found.learn(POOL, policy, elements(1, 2), START)
    low, high = 0.0, 1000.0
    if found.look(POOL, START) is None:
        return 0.0
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (middle, high) if found.look(POOL, START + middle) is not None else (low, middle)
    return round(high, 2)


@pytest.mark.rfc("RFC 5352 3.3: the cache is asked first, and again when it is stale")
@pytest.mark.parametrize("policy", LASTING, ids=lambda p: type(p).__name__)
def test_an_answer_is_good_for_half_a_minute_where_the_policy_lasts(policy: Policy | None) -> None:
    assert fresh_for(cache(), policy) == 30.0


@pytest.mark.rfc("RFC 5352 3.3: the cache is asked first, and again when it is stale")
@pytest.mark.parametrize("policy", FLEETING, ids=lambda p: type(p).__name__)
def test_an_answer_about_loads_and_weights_is_never_used_twice(policy: Policy) -> None:
    assert fresh_for(cache(), policy) == 0.0


@pytest.mark.parametrize("policy", [policies.RoundRobin(), policies.LeastUsed(0)])
@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_for_how_long_may_be_said(policy: Policy, seconds: float) -> None:
    assert fresh_for(cache(stale_after=seconds), policy) == seconds


def test_what_was_never_asked_is_not_known() -> None:
    assert cache().look(POOL, START) is None


def test_an_answer_replaces_the_one_before_and_the_turn_begins_with_its_first() -> None:
    found = cache()
    pool = found.learn(POOL, None, elements(1, 2), START)
    assert which(number(pool)) == 1
    assert found.learn(POOL, None, elements(3, 1), START) is pool
    assert [which(number(pool)) for _ in range(3)] == [3, 1, 3]


def test_an_update_goes_on_behind_the_element_used_last() -> None:
    found = cache()
    pool = found.learn(POOL, None, elements(1, 2, 3), START)
    assert which(number(pool)) == 1
    found.learn(POOL, None, elements(1, 2, 3, 4), START, HOME, pushed=True)
    assert which(number(pool)) == 2


def number(pool: CachedPool) -> int:
    chosen = pool.choose()
    assert chosen is not None
    return chosen.identifier


# -- subscriptions


@pytest.mark.rfc("RFC 5352 3.3: the cache is asked first, and again when it is stale")
def test_what_a_subscription_tells_is_fresh_as_long_as_it_lives_and_stale_when_it_does_not() -> None:
    found = cache()
    found.learn(POOL, policies.LeastUsed(0), elements(1), START, HOME)
    assert found.look(POOL, START + 10_000, HOME) is not None
    assert found.look(POOL, START, None) is None  # lost
    assert found.look(POOL, START, NEW_HOME) is None  # repeated at a new home, which has not answered yet
    found.learn(POOL, policies.LeastUsed(0), elements(2), START + 1, NEW_HOME)
    assert found.look(POOL, START + 500, NEW_HOME) is not None


def test_a_subscription_that_comes_later_does_not_make_an_old_answer_fresh() -> None:
    found = cache()
    found.learn(POOL, None, elements(1), START)
    assert found.look(POOL, START + 31, HOME) is None


# -- negative answers


@pytest.mark.rfc("RFC 5352 3.3: no element of a negative answer is believed")
def test_a_negative_answer_removes_what_was_known_and_is_believed_for_a_second() -> None:
    found = cache()
    found.learn(POOL, None, elements(1), START)
    found.learn_missing(POOL, Failure.UNKNOWN_POOL, "there is no pool 'echo'", START)
    assert found.known(POOL) is None
    assert found.look(POOL, START + 0.99) == Missing(Failure.UNKNOWN_POOL, "there is no pool 'echo'")
    assert found.look(POOL, START + 1.0) is None
    assert len(found) == 0


@pytest.mark.parametrize("failure", [f for f in Failure if f is not Failure.UNKNOWN_POOL])
def test_other_failures_are_not_remembered(failure: Failure) -> None:
    found = cache()
    found.learn_missing(POOL, failure, "why", START)
    assert found.look(POOL, START) is None


def test_a_pool_that_comes_is_there_at_once() -> None:
    found = cache()
    found.learn_missing(POOL, Failure.UNKNOWN_POOL, "none", START)
    found.learn(POOL, None, elements(1), START + 0.1)
    assert isinstance(found.look(POOL, START + 0.2), CachedPool)


def test_who_remembers_nothing_remembers_no_negative_answer_either() -> None:
    found = cache(stale_after=0.0)
    found.learn_missing(POOL, Failure.UNKNOWN_POOL, "none", START)
    assert found.look(POOL, START) is None


# -- forgetting


@pytest.mark.rfc("RFC 5352 6.3: the cache can be filled and purged")
def test_a_pool_or_all_of_them_can_be_forgotten() -> None:
    found = cache()
    for handle in (b"a", b"b", b"c"):
        found.learn(handle, None, elements(1), START)
    found.learn_missing(b"d", Failure.UNKNOWN_POOL, "none", START)
    found.purge(b"a")
    found.purge(b"d")
    found.purge(b"never known")
    assert [found.look(h, START) is not None for h in (b"a", b"b", b"c", b"d")] == [False, True, True, False]
    found.purge()
    assert len(found) == 0


def test_an_element_that_has_just_failed_is_not_offered_until_a_registrar_names_it_again() -> None:
    found = cache()
    pool = found.learn(POOL, None, elements(1, 2, 3), START)
    found.drop(POOL, element(2).identifier)
    assert {which(number(pool)) for _ in range(6)} == {1, 3}
    assert pool.find(element(2).identifier) is None
    found.learn(POOL, None, elements(1, 2, 3), START + 1)
    assert {which(number(pool)) for _ in range(6)} == {1, 2, 3}


def test_a_pool_of_which_all_have_failed_is_asked_for_again() -> None:
    found = cache()
    found.learn(POOL, None, elements(1), START)
    found.drop(POOL, element(1).identifier)
    found.drop(b"never known", 1)
    assert found.look(POOL, START) is None


def test_memory_is_bounded_and_the_pool_longest_unused_makes_room() -> None:
    found = cache(most=3)
    for k in range(3):
        found.learn(b"%d" % k, None, elements(1), START)
    found.look(b"0", START)
    for k in range(3, 5):
        found.learn(b"%d" % k, None, elements(1), START)
    assert [found.known(b"%d" % k) is not None for k in range(5)] == [True, False, False, True, True]
    for k in range(10):
        found.learn_missing(b"no-%d" % k, Failure.UNKNOWN_POOL, "none", START)
    assert len(found) == 6
