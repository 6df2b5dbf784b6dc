# SPDX-License-Identifier: Apache-2.0
"""Timers come in order, once, and as late as the process was; those that judge silence are moved by that."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.timers import LAG, Timers


def fired(timers: Timers, now: float) -> int:
    """Carry out what is due; returns how many timers that were."""
    number = 0
    while action := timers.pop_due(now):
        action()
        number += 1
    return number


def nothing() -> None:
    """An action."""


def test_without_timers_nothing_comes() -> None:
    timers = Timers()
    assert (timers.next(), len(timers), timers.is_set("x"), timers.pop_due(1e9)) == (None, 0, False, None)


def test_a_timer_comes_once_and_not_before_its_time() -> None:
    timers, done = Timers(), list[str]()
    timers.set("x", 5.0, partial(done.append, "x"))
    assert timers.next() == 5.0
    assert timers.pop_due(4.999) is None
    assert timers.is_set("x")
    assert fired(timers, 5.0) == 1
    assert done == ["x"]
    assert (timers.next(), timers.is_set("x"), len(timers), fired(timers, 99)) == (None, False, 0, 0)


def test_timers_come_in_the_order_of_their_times_and_of_their_setting() -> None:
    timers, done = Timers(), list[str]()
    for key, at in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0), ("b3", 2.0)):
        timers.set(key, at, partial(done.append, key))
    fired(timers, 10)
    assert done == ["a", "b1", "b2", "b3", "c"]


@pytest.mark.parametrize("again", [1.0, 9.0])
def test_a_timer_set_again_replaces_the_former(again: float) -> None:
    timers, done = Timers(), list[str]()
    timers.set("x", 5.0, partial(done.append, "former"))
    timers.set("x", again, partial(done.append, "latter"))
    assert len(timers) == 1
    assert timers.next() == again
    fired(timers, 10)
    assert done == ["latter"]


def test_a_cancelled_timer_does_not_come() -> None:
    timers, done = Timers(), list[str]()
    timers.set("x", 1.0, partial(done.append, "x"))
    timers.set("y", 2.0, partial(done.append, "y"))
    timers.cancel("x")
    timers.cancel("never set")
    assert timers.next() == 2.0
    fired(timers, 10)
    assert done == ["y"]


def test_keys_that_cannot_be_ordered_do_not_matter() -> None:
    timers = Timers()
    for key in ("x", ("T1", 4), 7, None, b"x"):
        timers.set(key, 1.0, nothing)
    assert fired(timers, 1.0) == 5


def test_a_timer_may_set_itself_and_others_when_it_comes() -> None:
    timers, done = Timers(), list[str]()

    def again() -> None:
        done.append("x")
        if len(done) < 3:
            timers.set("x", 1.0, again)

    timers.set("x", 1.0, again)
    assert fired(timers, 1.0) == 3


def test_a_timer_that_comes_may_cancel_another_that_is_due() -> None:
    timers, done = Timers(), list[str]()
    timers.set("x", 1.0, lambda: timers.cancel("y"))
    timers.set("y", 1.0, partial(done.append, "y"))
    assert fired(timers, 5.0) == 1
    assert done == []


# -- lag


@pytest.mark.parametrize(
    ("before", "now", "lag"),
    [(0.0, 5.0, 0.0), (0.0, 9.9, 0.0), (0.0, 10.0, 0.0), (0.0, 10.2, 0.0), (0.0, 10.25, 0.25), (0.0, 30.0, 20.0)],
)
def test_lag_is_what_passed_after_a_timer_had_come_if_it_is_long(before: float, now: float, lag: float) -> None:
    timers = Timers()
    timers.set("x", 10.0, nothing)
    timers.set("y", 11.0, nothing)
    assert timers.lag(before, now) == pytest.approx(lag)


def test_without_timers_there_is_no_lag() -> None:
    assert Timers().lag(0.0, 1e6) == 0.0


def test_lag_that_has_been_counted_is_not_counted_again() -> None:
    timers = Timers()
    timers.set("x", 10.0, nothing)
    assert timers.lag(before=0.0, now=15.0) == pytest.approx(5.0)
    assert timers.lag(before=15.0, now=15.1) == 0.0
    assert timers.lag(before=15.0, now=17.0) == pytest.approx(2.0)


def test_a_fifth_of_a_second_is_no_lag() -> None:
    assert LAG == 0.2


def test_only_expiries_are_moved() -> None:
    timers, done = Timers(), list[str]()
    timers.set("silence", 5.0, partial(done.append, "silence"), expiry=True)
    timers.set("renewal", 6.0, partial(done.append, "renewal"))
    timers.set("other silence", 8.0, partial(done.append, "other silence"), expiry=True)
    timers.shift_expiries(10.0)
    assert timers.next() == 6.0
    assert len(timers) == 3
    assert [fired(timers, t) for t in (6.0, 14.9, 15.0, 17.9, 18.0)] == [1, 0, 1, 0, 1]
    assert done == ["renewal", "silence", "other silence"]


def test_an_expiry_that_was_moved_can_be_cancelled_and_set_again() -> None:
    timers = Timers()
    timers.set("x", 5.0, nothing, expiry=True)
    timers.set("y", 5.0, nothing, expiry=True)
    timers.shift_expiries(1.0)
    timers.cancel("x")
    timers.set("y", 2.0, nothing)
    assert timers.next() == 2.0
    timers.shift_expiries(1.0)
    assert timers.next() == 2.0  # it is no expiry any more
    assert fired(timers, 100) == 1


# -- against a model


@dataclass
class Model:
    """The same, slowly and plainly: a list in the order of setting."""

    armed: list[tuple[int, float, bool, str]] = field(default_factory=list)

    def set(self, key: int, at: float, name: str, *, expiry: bool) -> None:
        self.cancel(key)
        self.armed.append((key, at, expiry, name))

    def cancel(self, key: int) -> None:
        self.armed = [a for a in self.armed if a[0] != key]

    def due(self, now: float) -> list[str]:
        come = sorted((a for a in self.armed if a[1] <= now), key=lambda a: a[1])
        self.armed = [a for a in self.armed if a[1] > now]
        return [a[3] for a in come]

    def shift(self, by: float) -> None:
        self.armed = [(k, at + by if expiry else at, expiry, name) for k, at, expiry, name in self.armed]


KEYS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(0, 40), st.booleans()),
    st.tuples(st.just("cancel"), KEYS, st.just(0), st.just(False)),
    st.tuples(st.just("advance"), st.just(0), st.integers(0, 15), st.just(False)),
    st.tuples(st.just("shift"), st.just(0), st.integers(1, 10), st.just(False)),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_timers_do_what_a_plain_list_of_them_does(steps: list[tuple[str, int, int, bool]]) -> None:
    timers, model, done, now = Timers(), Model(), list[str](), 0.0
    for number, (what, key, amount, expiry) in enumerate(steps):
        if what == "set":
            timers.set(key, now + amount, partial(done.append, str(number)), expiry=expiry)
            model.set(key, now + amount, str(number), expiry=expiry)
        elif what == "cancel":
            timers.cancel(key)
            model.cancel(key)
        elif what == "shift":
            timers.shift_expiries(amount)
            model.shift(amount)
        else:
            now += amount
            done.clear()
            fired(timers, now)
            assert done == model.due(now)
        assert len(timers) == len(model.armed)
        assert timers.next() == min((a[1] for a in model.armed), default=None)
        assert [timers.is_set(k) for k in range(6)] == [any(a[0] == k for a in model.armed) for k in range(6)]


@given(keys=st.integers(1, 20), rounds=st.integers(1, 200), cancel=st.booleans())
def test_timers_that_are_always_set_anew_do_not_pile_up(keys: int, rounds: int, cancel: bool) -> None:
    timers = Timers()
    for turn in range(rounds):
        for key in range(keys):
            timers.set(key, 1000.0 + turn, nothing, expiry=key % 2 == 0)
            if cancel:
                timers.cancel(key)
            assert len(timers._heap) <= 64 + 4 * max(len(timers), 1)
    assert len(timers) == (0 if cancel else keys)
    assert fired(timers, 1000.0 + rounds) == (0 if cancel else keys)


def test_a_timer_set_a_hundred_thousand_times_takes_little_room() -> None:
    timers = Timers()
    for turn in range(100_000):
        timers.set("silent", turn + 3.0, nothing, expiry=True)
    assert len(timers._heap) <= 68
    assert timers.next() == 100_002.0
