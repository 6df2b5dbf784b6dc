# SPDX-License-Identifier: Apache-2.0
"""A resolution ends, in time, with elements or with a reason a person understands (RFC 5352 3.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Principal
from rserpool.asap.events import Failure, HuntChanged, Resolved
from rserpool.wire import RSPLIB, CauseCode, ErrorCause, asap, encode, policies
from support.far_ends import (
    NO_REGISTRARS,
    POOL,
    UNKNOWN_POOL,
    answer,
    place,
    places,
    registrar,
    resolving,
    silent,
    speaking,
)
from support.rig_endpoints import START, outcome, resolve, user_rig

QUESTION = asap.HandleResolution(pool_handle=POOL)


@pytest.mark.rfc("RFC 5352 3.3: a resolution goes to the home registrar, or to one that is found")
def test_without_a_home_a_registrar_is_found_first() -> None:
    rig = user_rig()
    token = resolve(rig)
    result = outcome(rig, token)
    assert result is not None
    assert [e.identifier for e in result.elements] == [1, 2]
    assert (result.pool_handle, result.policy, result.failure) == (POOL, policies.RoundRobin(), None)
    assert rig.messages == [QUESTION]
    assert encode(QUESTION).hex() == "0500000c000900086563686f"
    assert [e.found for e in rig.of(HuntChanged)] == [True]
    assert rig.machine.deadline() is None


@pytest.mark.rfc("RFC 5352 3.3: a resolution goes to the home registrar, or to one that is found")
def test_the_registrar_that_answered_is_asked_the_next_time() -> None:
    rig = user_rig(registrars=3)
    resolve(rig)
    (home,) = rig.up
    rig.clear()
    for _ in range(5):
        rig.run(10)
        resolve(rig)
    assert [s.association for s in rig.sent] == [home] * 5
    assert rig.dialled == []
    assert len(rig.of(Resolved)) == 5


@pytest.mark.rfc("PROTOCOL 14.9: a user may say how many elements it wants")
@pytest.mark.parametrize("items", [0, 1, 0xFFFFFFFF])
def test_the_number_of_elements_wanted_is_asked_for(items: int) -> None:
    rig = user_rig()
    resolve(rig, items=items)
    assert rig.messages == [replace(QUESTION, items=items)]


@pytest.mark.rfc("RFC 5352 2.2.6: an answer without a policy means Round Robin")
def test_the_policy_may_be_missing_in_the_answer() -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.feed(rig.at(1), replace(answer(POOL, 1), policy=None))
    result = outcome(rig, token)
    assert result is not None
    assert (result.policy, result.failure, len(result.elements)) == (None, None, 1)


def test_rsplibs_dialect_is_spoken_where_it_is_configured() -> None:
    rig = user_rig(dialect=RSPLIB)
    token = resolve(rig, b"Pool1")
    result = outcome(rig, token)
    assert result is not None
    assert result.elements[0].life == 30


# -- failures


@pytest.mark.rfc("PROTOCOL 4: causes nobody knows are accepted")
@pytest.mark.rfc("RFC 5352 3.3: no element of a negative answer is believed")
@pytest.mark.parametrize(
    ("causes", "failure", "words"),
    [
        ((UNKNOWN_POOL,), Failure.UNKNOWN_POOL, "there is no pool 'echo'"),
        ((ErrorCause(CauseCode.SECURITY_REJECTION),), Failure.REFUSED, "SECURITY_REJECTION"),
        ((ErrorCause(CauseCode.LACK_OF_RESOURCES), ErrorCause(0xF004)), Failure.REFUSED, "UNASSIGNED_0xf004"),
        ((ErrorCause(CauseCode.UNSPECIFIED), UNKNOWN_POOL), Failure.UNKNOWN_POOL, "there is no pool 'echo'"),
    ],
    ids=["unknown pool", "refused", "refused for two causes", "unknown pool among others"],
)
def test_a_negative_answer_ends_the_resolution_at_once(
    causes: tuple[ErrorCause, ...], failure: Failure, words: str
) -> None:
    rig = user_rig(script=resolving(error=causes))
    result = outcome(rig, resolve(rig))
    assert result is not None
    assert (result.failure, result.elements) == (failure, ())
    assert words in result.reason
    assert rig.now == START
    assert len(rig.up) == 1  # who answers stays home


@pytest.mark.rfc("RFC 5352 3.3: no element of a negative answer is believed")
def test_no_element_of_a_negative_answer_is_believed() -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.feed(rig.at(1), replace(answer(POOL, 1, 2), error=(UNKNOWN_POOL,)))
    result = outcome(rig, token)
    assert result is not None
    assert (result.failure, result.elements) == (Failure.UNKNOWN_POOL, ())


@pytest.mark.rfc("threats 2.7: no malicious registrar answers a user")
@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("connection refused", "connection refused"),
        ("certificate verify failed", "certificate verify failed"),
        (NO_REGISTRARS[0], "no registrar"),
        (None, "no registrar"),
    ],
    ids=["refused", "another CA", "an impostor", "silence"],
)
def test_where_no_registrar_is_found_the_resolution_says_so_in_time(found: Principal | str | None, words: str) -> None:
    rig = user_rig(registrars=2)
    rig.answers = dict.fromkeys(places(2), found)
    token = resolve(rig)
    rig.run(0.99)
    assert outcome(rig, token) is None
    rig.run(0.02)
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is Failure.NO_REGISTRAR
    assert words in result.reason
    assert rig.messages == []


def test_without_any_address_the_resolution_says_so() -> None:
    rig = user_rig(registrars=0)
    token = resolve(rig)
    rig.run(1.2)
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is Failure.NO_REGISTRAR
    assert "registrar" in result.reason


def test_where_nobody_answers_the_resolution_ends_in_time_and_the_silent_are_left() -> None:
    rig = user_rig(registrars=2, script=silent)
    token = resolve(rig)
    rig.run(0.99)
    assert outcome(rig, token) is None
    asked = set(rig.up)
    assert len(asked) == 2
    rig.run(0.01)
    result = outcome(rig, token)
    assert result is not None
    assert result.failure is Failure.TIMEOUT
    assert result.reason == "2 registrar(s) asked, none answered in 1 s"
    assert {c.association for c in rig.closed} == asked
    assert all(c.abort for c in rig.closed)
    assert rig.up == {}
    rig.run(10)
    assert len(rig.of(Resolved)) == 1


def test_after_a_failure_the_next_resolution_may_succeed() -> None:
    rig = user_rig(registrars=2, script=silent)
    resolve(rig)
    rig.run(5)
    rig.script = resolving(3)
    result = outcome(rig, resolve(rig))
    assert result is not None
    assert result.failure is None


def test_once_nobody_waits_the_hunt_ends_too() -> None:
    rig = user_rig()
    rig.answers[place(1)] = "connection refused"
    resolve(rig)
    rig.run(60)
    assert rig.machine.deadline() is None
    assert rig.connecting == []
    assert len(rig.dialled) <= 3


@pytest.mark.rfc("PROTOCOL 12.1: every resolution ends once, in time, with elements or a reason")
@given(
    at=st.lists(st.sampled_from([None, "connection refused", NO_REGISTRARS[0], registrar(1)]), max_size=5),
    speaks=st.booleans(),
    patience=st.sampled_from([0.05, 0.3, 1.0, 2.0]),
    seed=st.integers(0, 2**32),
)
def test_every_resolution_ends_once_within_its_patience(
    at: list[Principal | str | None], speaks: bool, patience: float, seed: int
) -> None:
    rig = user_rig(registrars=len(at), patience=patience, seed=seed, script=None if speaks else silent)
    rig.answers = dict(zip(places(len(at)), at, strict=True))
    token = resolve(rig)
    rig.run(patience)
    result = outcome(rig, token)
    assert result is not None
    assert bool(result.elements) == (result.failure is None) != bool(result.reason)
    assert not result.elements or (speaks and registrar(1) in at)
    rig.run(30)
    assert len(rig.of(Resolved)) == 1


# -- several at once


def test_resolutions_of_different_pools_do_not_disturb_each_other() -> None:
    rig = user_rig(script=silent)
    one, two = resolve(rig, b"one"), resolve(rig, b"two")
    rig.feed(rig.at(1), answer(b"two", 2))
    assert outcome(rig, one) is None
    second = outcome(rig, two)
    assert second is not None
    assert (second.pool_handle, [e.identifier for e in second.elements]) == (b"two", [2])
    rig.feed(rig.at(1), answer(b"one", error=[UNKNOWN_POOL]))
    first = outcome(rig, one)
    assert first is not None
    assert first.failure is Failure.UNKNOWN_POOL


def test_resolutions_of_one_pool_each_get_an_answer_of_their_own() -> None:
    rig = user_rig(script=silent)
    one, two = resolve(rig, items=1), resolve(rig, items=2)
    assert one != two
    assert [m.items for m in rig.of(asap.HandleResolution)] == [1, 2]
    rig.feed(rig.at(1), answer(POOL, 1))
    assert outcome(rig, two) is None
    rig.feed(rig.at(1), answer(POOL, 2, 3))
    assert [len(e.elements) for e in rig.of(Resolved)] == [1, 2]
    assert [e.token for e in rig.of(Resolved)] == [one, two]


def test_resolutions_that_wait_for_a_registrar_are_all_asked_when_it_is_found() -> None:
    rig = user_rig()
    rig.answers = {}
    tokens = [resolve(rig, handle) for handle in (b"one", b"two", POOL, POOL)]
    rig.run(0.3)
    assert rig.messages == []
    assert len(rig.dialled) == 1
    rig.accept(place(1), registrar())
    assert [m.pool_handle for m in rig.of(asap.HandleResolution)] == [b"one", b"two", POOL, POOL]
    assert all(outcome(rig, t) is not None for t in tokens)


@pytest.mark.rfc("PROTOCOL 12.1: every resolution ends once, in time, with elements or a reason")
def test_many_resolutions_at_once_all_end() -> None:
    rig = user_rig(registrars=3, script=speaking(2))
    tokens = [resolve(rig, b"pool-%d" % (k % 7)) for k in range(50)]
    rig.run(1)
    results = [outcome(rig, t) for t in tokens]
    assert all(r is not None and r.failure is None for r in results)
    assert [r.pool_handle for r in results if r] == [b"pool-%d" % (k % 7) for k in range(50)]


def test_a_cancelled_resolution_ends_without_a_word() -> None:
    rig = user_rig(script=silent)
    one, two = resolve(rig, b"one"), resolve(rig, b"two")
    rig.do(rig.machine.cancel(one, rig.now))
    rig.do(rig.machine.cancel(999, rig.now))
    rig.feed(rig.at(1), answer(b"one", 1))
    rig.feed(rig.at(1), answer(b"two", 2))
    rig.run(5)
    assert [e.token for e in rig.of(Resolved)] == [two]
    assert [m.pool_handle for m in rig.of(asap.HandleResolution)] == [b"one", b"two"]
    assert len(rig.up) == 1


def test_a_resolution_cancelled_before_a_registrar_is_found_is_not_asked() -> None:
    rig = user_rig()
    rig.answers = {}
    token = resolve(rig)
    rig.do(rig.machine.cancel(token, rig.now))
    rig.accept(place(1), registrar())
    rig.run(5)
    assert rig.messages == []
    assert rig.of(Resolved) == []
