# SPDX-License-Identifier: Apache-2.0
"""Buckets let through what a rate allows, to each its own, and hold no more of them than they should."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.limits import Buckets, Rate, TokenBucket

rates = st.builds(Rate, st.sampled_from([0.1, 0.5, 1, 4, 50]), st.sampled_from([1, 2, 5, 10, 40]))
gaps = st.lists(st.sampled_from([0.0, 0.01, 0.25, 1.0, 7.5, 100.0]), min_size=1, max_size=80)


def test_a_bucket_is_full_at_first_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(Rate(4, 10), 1000.0)
    assert [bucket.take(1000.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [bucket.take(1000.24), bucket.take(1000.25), bucket.take(1000.25)] == [False, True, False]
    assert [bucket.take(1001.25) for _ in range(5)] == [True] * 4 + [False]


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    bucket = TokenBucket(Rate(4, 10), 0.0)
    assert sum(bucket.take(1e6) for _ in range(100)) == 10


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(Rate(1, 1), 0.0)
    assert bucket.take(0.0)
    assert not any(bucket.take(k / 100) for k in range(100))
    assert bucket.take(1.0)


def test_a_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket(Rate(4, 2), 0.0)
    assert bucket.wait(0.0) == 0.0
    bucket.take(0.0)
    assert bucket.wait(0.0) == 0.0
    bucket.take(0.0)
    assert bucket.wait(0.0) == pytest.approx(0.25)
    assert bucket.wait(0.1) == pytest.approx(0.15)
    assert bucket.wait(0.25) == pytest.approx(0.0)
    assert bucket.take(0.25)


@given(rate=rates, gaps=gaps)
def test_in_no_span_of_time_more_is_taken_than_rate_and_burst_allow(rate: Rate, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, 0.0)
    times = list(accumulate(gaps))
    taken = [at for at in times if bucket.take(at)]
    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= rate.burst + (taken[j] - start) * rate.per_second + 1e-6


@given(rate=rates, gaps=gaps)
def test_waiting_as_long_as_the_bucket_says_is_enough(rate: Rate, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, 0.0)
    for at in accumulate(gaps):
        wait = bucket.wait(at)
        assert bucket.take(at) == (wait == 0.0)
        assert 0 <= wait <= 1 / rate.per_second


def test_everybody_has_a_bucket_of_his_own() -> None:
    buckets = Buckets(Rate(1, 2))
    assert [buckets.take(who, 0.0) for who in ("a", "a", "a", "b", ("a", 1))] == [True, True, False, True, True]
    assert len(buckets) == 3
    assert [buckets.take("a", 1.0), buckets.take("a", 1.0)] == [True, False]


def test_the_number_of_buckets_is_bounded() -> None:
    buckets = Buckets(Rate(1, 2), most=100)
    for who in range(10_000):
        assert buckets.take(who, who / 1000)
        assert len(buckets) <= 100


def test_the_bucket_longest_unused_makes_room() -> None:
    buckets = Buckets(Rate(0.001, 1), most=3)
    for who in ("a", "b", "c"):
        buckets.take(who, 0.0)
    assert not buckets.take("a", 1.0)  # in use: the others are older now
    buckets.take("d", 2.0)
    assert not buckets.take("a", 3.0)
    assert not buckets.take("c", 3.0)
    assert buckets.take("b", 3.0)  # forgotten, so full


def test_by_default_some_thousands_are_remembered() -> None:
    buckets = Buckets(Rate(1, 1))
    for who in range(10_000):
        buckets.take(who, 0.0)
    assert len(buckets) == 4096
