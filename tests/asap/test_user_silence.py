# SPDX-License-Identifier: Apache-2.0
"""A registrar that is silent or lost is asked again, replaced and left; associations do not pile up (RFC 5352 3.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from rserpool.asap.events import Failure, Resolved
from rserpool.asap.profiles import FAST, RFC
from rserpool.wire import asap
from support.far_ends import POOL, answer, place, places, registrar, resolving, silent, speaking
from support.rig_endpoints import START, outcome, resolve, user_rig

QUESTION = asap.HandleResolution(pool_handle=POOL)


@pytest.mark.rfc("RFC 5352 3.7.2: after T1 the home is asked again and another registrar sought in parallel")
def test_after_t1_the_home_is_asked_again_and_another_registrar_is_sought() -> None:
    rig = user_rig(registrars=2)
    resolve(rig)
    (home,) = rig.up.values()
    rig.script = silent
    rig.clear()
    rig.answers = dict.fromkeys(places(2))
    rig.run(1)
    resolve(rig)
    rig.run(0.49)
    assert (len(rig.sent), rig.dialled) == (1, [])
    rig.run(0.02)
    assert [(s.at - START, s.association, s.message) for s in rig.sent] == [
        (1.0, home.id, QUESTION),
        (1.5, home.id, QUESTION),
    ]
    assert rig.dialled[0][1].addresses != home.peer_addresses


@pytest.mark.rfc("RFC 5352 3.7.2: after T1 the home is asked again and another registrar sought in parallel")
def test_the_question_is_repeated_at_most_twice() -> None:
    rig = user_rig(patience=60.0, script=silent)
    token = resolve(rig)
    rig.answers = {}
    rig.run(1.51)
    assert [s.at - START for s in rig.sent] == [0, 0.5, 1.0]
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is Failure.TIMEOUT
    rig.run(100)
    assert len(rig.sent) == 3


@pytest.mark.rfc("RFC 5352 3.7.2: after T1 the home is asked again and another registrar sought in parallel")
def test_the_rfcs_t1_is_fifteen_seconds() -> None:
    rig = user_rig(patience=600.0, timers=RFC.endpoint, script=silent)
    token = resolve(rig)
    rig.answers = {}
    rig.run(45.1)
    assert [s.at - START for s in rig.sent] == [0, 15, 30]
    assert outcome(rig, token) is not None


@pytest.mark.rfc("RFC 5352 3.7.2: an alternate registrar that answers becomes the home")
def test_an_alternate_registrar_that_answers_becomes_home() -> None:
    rig = user_rig(registrars=2)
    resolve(rig)
    (home,) = rig.up.values()
    other = 2 if home.peer_addresses == place(1).addresses else 1
    rig.script = speaking(other)
    rig.clear()
    token = resolve(rig)
    rig.run(0.5)
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is None
    assert [c.association for c in rig.closed] == [home.id]
    rig.clear()
    resolve(rig)
    assert [s.association for s in rig.sent] == [rig.at(other)]
    assert len(rig.up) == 1


def test_a_home_that_answers_late_stays_home_and_the_user_comes_to_rest() -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.answers = {}
    rig.run(0.6)
    assert rig.connecting
    rig.feed(rig.at(1), answer(POOL, 1))
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is None
    rig.run(60)
    assert len(rig.up) == 1
    assert rig.machine.deadline() is None
    assert rig.connecting == []


def test_an_alternate_that_is_found_when_all_is_answered_is_let_go() -> None:
    rig = user_rig(script=silent)
    resolve(rig)
    (home,) = rig.up
    rig.answers = {}
    rig.run(0.6)
    rig.feed(home, answer(POOL, 1))
    for endpoint in rig.connecting:
        rig.accept(endpoint, registrar(2))
    assert list(rig.up) == [home]
    assert len(rig.of(asap.HandleResolution)) == 2


@pytest.mark.rfc("RFC 5352 3.6: one registrar becomes home, the other attempts end")
def test_an_alternate_that_is_not_needed_is_let_go() -> None:
    """One home, and no others beside it (RFC 5352 3.6 SH6)."""
    rig = user_rig(registrars=2, script=silent)
    resolve(rig)
    (home,) = rig.up
    rig.run(0.6)
    assert len(rig.up) == 2
    rig.feed(home, answer(POOL, 1))
    rig.run(60)
    assert list(rig.up) == [home]


def test_an_alternate_that_was_asked_something_else_is_still_heard() -> None:
    rig = user_rig(registrars=2, script=silent)
    one, two = resolve(rig, b"one"), resolve(rig, b"two")
    (home,) = rig.up
    rig.run(0.6)
    (other,) = set(rig.up) - {home}
    rig.feed(home, answer(b"one", 1))
    rig.feed(other, answer(b"two", 2))
    for token in (one, two):
        result = outcome(rig, token)
        assert result is not None
        assert result.failure is None
    rig.run(60)
    assert list(rig.up) == [other]


@pytest.mark.rfc("RFC 5352 3.6: at most three registrars are tried at once")
def test_a_slow_home_does_not_make_associations_pile_up() -> None:
    """Never more than three (RFC 5352 3.6 SH1)."""
    rig = user_rig(registrars=9, script=silent)
    resolve(rig)
    (home,) = rig.up
    for _ in range(10):
        rig.run(0.6)
        rig.feed(home, answer(POOL, 1))
        rig.run(5)
        resolve(rig)
    assert len(rig.up) <= 3


def test_an_answer_that_comes_after_the_end_is_no_second_end() -> None:
    rig = user_rig(registrars=2)
    resolve(rig)
    rig.feed(next(iter(rig.up)), answer(POOL, 9))
    assert len(rig.of(Resolved)) == 1


@pytest.mark.rfc("RFC 5352 3.7.1: what could not be delivered is not sent again on a dead association")
def test_a_home_that_is_lost_is_replaced_and_the_question_asked_again() -> None:
    rig = user_rig(registrars=2)
    resolve(rig)
    (home,) = rig.up.values()
    rig.script = silent
    token = resolve(rig)
    rig.run(0.2)
    rig.script = resolving(5)
    rig.clear()
    rig.lose(home.id)
    result = outcome(rig, token)
    assert result is not None
    assert [e.identifier for e in result.elements] == [5]
    assert rig.dialled[0][1].addresses != home.peer_addresses
    assert rig.now == START + 0.2


def test_an_alternate_that_is_lost_leaves_the_home_where_it_is() -> None:
    rig = user_rig(registrars=2, script=silent)
    token = resolve(rig)
    (home,) = rig.up
    rig.run(0.6)
    (other,) = set(rig.up) - {home}
    rig.clear()
    rig.lose(other)
    assert rig.dialled == []
    rig.feed(home, answer(POOL, 1))
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is None
    assert list(rig.up) == [home]


def test_registrars_that_become_known_are_asked_at_once() -> None:
    rig = user_rig(registrars=0)
    token = resolve(rig)
    rig.run(0.5)
    rig.answers[place(1)] = registrar(1)
    rig.do(rig.machine.set_registrars([place(1)], rig.now))
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is None
    assert rig.now == START + 0.5


def test_a_home_that_is_lost_and_cannot_be_replaced_is_no_registrar() -> None:
    rig = user_rig()
    resolve(rig)
    rig.script = silent
    rig.answers[place(1)] = "connection refused"
    token = resolve(rig)
    rig.run(0.2)
    rig.lose(rig.at(1))
    rig.run(1)
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is Failure.NO_REGISTRAR
    assert "connection refused" in result.reason


def test_the_reason_of_an_earlier_failure_is_not_told_again() -> None:
    rig = user_rig(patience=0.5)
    rig.answers[place(1)] = "certificate verify failed"
    first = resolve(rig)
    rig.run(5)
    rig.answers[place(1)] = registrar(1)
    resolve(rig)
    rig.answers = {}
    rig.lose(rig.at(1))
    last = resolve(rig)
    rig.run(1)
    reasons = [result.reason for result in (outcome(rig, first), outcome(rig, last)) if result]
    assert "certificate verify failed" in reasons[0]
    assert "certificate" not in reasons[1]


def test_a_home_that_is_lost_while_nobody_asks_is_not_replaced_before_somebody_does() -> None:
    rig = user_rig(registrars=2)
    resolve(rig)
    rig.clear()
    rig.lose(next(iter(rig.up)))
    rig.run(100)
    assert rig.dialled == []
    result = outcome(rig, resolve(rig))
    assert result is not None
    assert result.failure is None


def test_a_user_that_was_frozen_takes_the_answer_that_lies_ready() -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.freeze(30)
    rig.feed(rig.at(1), answer(POOL, 1))
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is None


def test_the_retransmissions_are_evenly_spaced() -> None:
    rig = user_rig(patience=60.0, timers=replace(FAST.endpoint, t1=2.0), script=silent)
    resolve(rig)
    rig.answers = {}
    rig.run(20)
    assert [b.at - a.at for a, b in pairwise(rig.sent)] == [2.0, 2.0]
