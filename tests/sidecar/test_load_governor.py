# SPDX-License-Identifier: Apache-2.0
"""When a load is registered: bounded in number, not at every swing, and in the end whatever is left."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool_sidecar.load.governor import GRAIN, UNKNOWN, Governor
from rserpool_sidecar.load.section import LoadSection

PLAIN: dict[str, Any] = {"source": "cpu", "smoothing": 0.0}


def run(loads: list[float | None], *, step: float = 1.0, **section: Any) -> list[tuple[float, float]]:
    """What is registered when, if each load is measured a step after the one before; ``None``: a failure."""
    governor, registered = Governor(LoadSection(**PLAIN | section), 0.0, measured=True), list[tuple[float, float]]()
    for at, load in enumerate(loads, 1):
        now = at * step
        if load is not None:
            governor.measure(load, now)
        due = governor.due(now)
        if due is not None:
            assert governor.registered == due
            registered.append((now, due))
    return registered


def test_an_element_that_does_not_know_its_load_yet_counts_as_full_and_registers_the_first_it_knows() -> None:
    assert Governor(LoadSection(**PLAIN), 0.0, measured=True).registered == UNKNOWN == 1.0
    assert run([0.25]) == [(1.0, 0.25)]


def test_without_a_measurement_the_load_is_0_until_it_is_told() -> None:
    governor = Governor(LoadSection(), 0.0, measured=False)
    assert (governor.registered, governor.load(100.0), governor.due(100.0)) == (0.0, 0.0, None)
    governor.tell(0.3)
    assert (governor.due(100.0), governor.due(101.0)) == (0.3, None)


@pytest.mark.rfc("PROTOCOL 5: a load is registered if it has changed enough, and not too often")
def test_a_change_of_less_than_a_64th_is_not_worth_a_registration_and_one_of_a_64th_is() -> None:
    assert run([0.5, 0.5 + 3 / 256]) == [(1.0, 0.5)]
    assert run([0.25, 0.25, 0.25 + 1 / 64]) == [(1.0, 0.25)]  # it fell to 0.25, so this turns back
    assert run([0.25, 0.25, 0.25 + 2 / 64]) == [(1.0, 0.25), (3.0, 0.25 + 2 / 64)]
    assert run([0.25, 0.25, 0.25 - 1 / 64]) == [(1.0, 0.25), (3.0, 0.25 - 1 / 64)]


@pytest.mark.rfc("PROTOCOL 5: a load is registered if it has changed enough, and not too often")
def test_registrations_are_at_least_the_minimum_interval_apart_however_wild_the_load() -> None:
    rng = Random(3)
    loads: list[float | None] = [rng.random() for _ in range(1000)]
    times = [at for at, _ in run(loads, step=0.1, minimum_interval=1.0)]
    assert len(times) > 80
    assert min(b - a for a, b in pairwise(times)) >= 1.0 - 1e-9


def test_a_load_that_swings_about_a_value_is_not_registered_at_every_swing() -> None:
    swings: list[float | None] = [0.5 + 1 / 64 * (i % 2) for i in range(600)]
    assert len(run(swings, settle=1e6)) == 1
    assert len(run(swings, settle=30.0)) <= 1 + 600 / 30
    wide: list[float | None] = [0.5 + 3 / 64 * (i % 2) for i in range(60)]
    assert len(run(wide, settle=1e6)) > 50  # that is a change, not a swing


def test_any_difference_that_is_left_is_registered_after_a_while() -> None:
    assert run([0.5, *[0.5 + 1 / 256] * 40], settle=30.0) == [(1.0, 0.5), (32.0, 0.5 + 1 / 256)]


def test_idle_elements_are_equal_whatever_the_noise() -> None:
    registered = run([0.0004 * (i % 3) for i in range(100)])
    assert registered == [(1.0, 0.0)]


def test_the_moving_average_follows_with_its_time_constant() -> None:
    governor = Governor(LoadSection(**PLAIN | {"smoothing": 3.0}), 0.0, measured=True)
    governor.measure(0.0, 1.0)
    for at in range(2, 5):
        governor.measure(1.0, float(at))
    assert governor.load(4.0) == round((1 - math.exp(-1)) * GRAIN) / GRAIN  # three seconds later


def test_after_a_silence_the_average_starts_anew() -> None:
    governor = Governor(LoadSection(**PLAIN | {"smoothing": 3.0, "keep": 10.0}), 0.0, measured=True)
    governor.measure(1.0, 1.0)
    governor.measure(0.0, 20.0)
    assert governor.load(20.0) == 0.0


def test_without_measurements_the_last_one_counts_for_a_while_and_then_the_element_as_full() -> None:
    assert run([0.25, *[None] * 20], keep=10.0) == [(1.0, 0.25), (12.0, 1.0)]
    assert run([0.25, *[None] * 20, 0.25], keep=10.0)[-1] == (22.0, 0.25)


def test_what_the_application_tells_counts_exactly_and_until_it_is_to_be_measured_again() -> None:
    governor = Governor(LoadSection(**PLAIN), 0.0, measured=True)
    governor.measure(0.5, 1.0)
    assert governor.due(1.0) == 0.5
    governor.tell(0.501)
    assert governor.due(1.5) is None  # too soon
    assert governor.next_due(1.5) == 2.0
    assert governor.due(2.0) == 0.501
    governor.measure(0.9, 3.0)
    assert (governor.due(3.0), governor.known(1e6), governor.load(1e6)) == (None, True, 0.501)
    governor.tell(None)
    assert governor.due(3.0) == round(0.9 * GRAIN) / GRAIN


def test_another_source_begins_without_what_the_old_one_has_measured() -> None:
    governor = Governor(LoadSection(**PLAIN), 0.0, measured=True)
    governor.measure(0.5, 1.0)
    governor.reconfigure(LoadSection(source="http"), measured=True)
    assert (governor.known(1.0), governor.load(1.0)) == (False, UNKNOWN)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1, 2)), max_size=60),
    st.floats(0, 10),
    st.sampled_from((0.0, 1 / 64, 0.5, 1.0)),
    st.sampled_from((0.3, 1.0, 5.0)),
)
def test_whatever_is_measured_loads_are_fractions_apart_in_time_and_in_the_end_true(
    loads: list[float | None], smoothing: float, change: float, interval: float
) -> None:
    rules = {"smoothing": smoothing, "minimum_change": change, "minimum_interval": interval, "settle": 20.0}
    last = [0.5] * 80  # in the end it is steady
    registered = run([*loads, *last], **rules)
    assert all(0 <= load <= 1 for _, load in registered)
    times = [at for at, _ in registered]
    assert all(b - a >= interval - 1e-9 for a, b in pairwise(times))
    assert abs(registered[-1][1] - 0.5) <= 1 / GRAIN


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.05, 3))
def test_whoever_asks_again_when_told_to_misses_nothing(loads: list[float], step: float) -> None:
    rules = LoadSection(**PLAIN | {"keep": 1e6})
    ticking, woken = (Governor(rules, 0.0, measured=True) for _ in range(2))
    for at, load in enumerate(loads, 1):
        ticking.measure(load, at * step)
        woken.measure(load, at * step)
        woken.due(at * step)
        ticking.due(at * step)
    now = end = len(loads) * step
    while (wake := woken.next_due(now)) is not None:  # one wakes when told to, the other ever again
        assert wake > now
        now = wake
        woken.due(now)
    while end < now + 100:
        end += 0.05
        ticking.due(end)
    assert woken.registered == ticking.registered == woken.load(now)
