# SPDX-License-Identifier: Apache-2.0
"""A session finds an element and makes sure who it is before anything is said (RFC 5352 3.3, 6.5; threats 2.3, 2.9)."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Failure
from rserpool.identity import principal_of
from rserpool.identity.decisions import anonymous, unverified
from rserpool.session.seeker import State
from rserpool.session.user_effects import Deliver, Ended, Ending, HangUp, Peer, Report, Resolve, Transmit
from support.rig_session import START, Rig, dead, element, elements, identity, opened, somebody

OTHERS = {
    "another element": somebody(principal_of(identity(9))),
    "a registrar": somebody(principal_of(identity(1, Role.REGISTRAR))),
    "a user": somebody(principal_of(identity(1, Role.USER))),
    "nobody known": somebody(anonymous("10.0.1.1")),
    "one without TLS": Peer(principal=unverified("10.0.1.1:7001")),
}


def test_a_session_asks_the_cache_first_and_takes_the_element_whose_turn_it_is() -> None:
    rig = Rig(1, 2).begin()
    assert rig.questions == [(START, False)]
    assert (rig.tried, rig.at, rig.state()) == ([1], 1, State.OPEN)
    assert rig.of(Transmit) == []


def test_the_policy_goes_on_from_session_to_session() -> None:
    first = Rig(1, 2, 3)
    first.learn(elements(1, 2, 3))
    seen = []
    for _ in range(4):
        rig = Rig()
        rig.pool, rig.cached = first.pool, True
        seen.append(rig.begin().at)
    assert seen == [1, 2, 3, 1]


def test_one_that_cannot_be_reached_is_reported_and_the_next_is_taken() -> None:
    rig = Rig(1, 2, 3)
    dead(rig, 1, 2)
    rig.begin()
    assert (rig.tried, rig.reported, rig.at) == ([1, 2, 3], [1, 2], 3)


@pytest.mark.parametrize("failure", list(Failure))
def test_a_pool_that_cannot_be_resolved_ends_the_session_before_it_has_begun(failure: Failure) -> None:
    rig = Rig()
    rig.answer = failure
    rig.begin()
    assert rig.ended == Ended(how=Ending.UNRESOLVED, reason=f"because of {failure.value}", failure=failure)
    assert rig.machine.deadline() is None


def test_when_all_that_was_remembered_fail_a_registrar_is_asked_at_once() -> None:
    rig = Rig(2)
    rig.learn(elements(1))
    rig.cached = True
    rig.now += 10
    dead(rig, 1)
    rig.begin()
    assert rig.questions == [(START + 10, False), (START + 10, True)]
    assert (rig.tried, rig.at) == ([1, 2], 2)


def test_when_all_fail_a_registrar_is_asked_again_with_longer_and_longer_pauses_until_there_is_no_patience_left() -> (
    None
):
    rig = Rig(1, 2, patience=10.0)
    dead(rig, 1, 2)
    rig.begin()
    rig.run(9.99)
    assert not rig.of(Ended)
    pauses = [b - a for (a, _), (b, _) in zip(rig.questions, rig.questions[1:], strict=False)]
    assert all(low / 2 <= p <= low for p, low in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0], strict=False))
    assert len(pauses) >= 5
    assert set(rig.tried) == {1, 2}
    rig.run(0.02)
    assert rig.ended is not None
    assert rig.ended.how is Ending.NO_ELEMENT
    assert rig.ended.reason.startswith("no element of 'echo' within 10 s: ")
    assert f"{element(1).identifier:#010x}: connection refused" in rig.ended.reason
    rig.clear()
    rig.run(100)
    assert rig.done == []


def test_a_pool_whose_change_is_told_while_the_session_pauses_is_tried_at_once() -> None:
    rig = Rig(1)
    dead(rig, 1)
    rig.begin()
    assert rig.state() is State.PAUSING
    rig.cached = True
    rig.update(1, 2)
    assert rig.at == 2
    assert rig.now == START


def test_a_change_that_brings_nobody_new_does_not_shorten_the_pause() -> None:
    rig = Rig(1)
    dead(rig, 1)
    rig.begin()
    rig.clear()
    rig.update(1)
    assert rig.done == []


@pytest.mark.rfc("PROTOCOL 12.3: the next element has to be as secure as the one before")
@pytest.mark.parametrize("who", OTHERS)
def test_whoever_is_not_that_element_gets_nothing_and_the_next_is_tried(who: str) -> None:
    rig = Rig(1, 2)
    rig.far[element(1).identifier] = OTHERS[who]
    rig.begin()
    assert [(h.attempt, h.abort) for h in rig.of(HangUp)] == [(1, True)]
    assert (rig.tried, rig.reported, rig.at) == ([1, 2], [1], 2)
    assert not any(t.attempt == 1 for t in rig.of(Transmit))


def test_with_nobody_but_an_impostor_the_reason_says_who_it_is() -> None:
    rig = Rig(1, patience=1.0)
    rig.far[element(1).identifier] = OTHERS["another element"]
    rig.begin()
    rig.send(b"secret")
    rig.run(2)
    assert rig.ended is not None
    assert rig.ended.unsent == (b"secret",)
    assert "is not one of spiffe://cluster.local/ns/demo/pool/echo/element/00000009" in rig.ended.reason
    assert rig.of(Transmit) == []


def test_in_a_pool_without_security_nobody_has_to_prove_anything() -> None:
    rig = Rig(1, secure=False).begin()
    assert rig.at == 1
    assert rig.machine.far is not None
    assert not rig.machine.far.security.protected
    assert str(rig.machine.far.security) == "without security"


def test_what_an_impostor_says_is_not_heard() -> None:
    rig = Rig(1)
    rig.far[element(1).identifier] = None
    rig.begin()
    attempt = rig.machine.attempt
    rig.connected(OTHERS["another element"])
    rig.do(rig.machine.received(attempt, b"\0" * 100, rig.now))
    assert rig.of(Deliver) == []


# -- one element, and an address


@pytest.mark.rfc("RFC 5352 6.5.3: a message to a pool element handle goes to that element")
def test_a_handle_of_an_element_leads_to_it_and_to_no_other() -> None:
    rig = opened(1, 2, 3, element=element(3).identifier, failover=False)
    assert rig.at == 3
    rig.lose()
    assert rig.ended is not None
    assert (rig.ended.how, rig.tried) == (Ending.LOST, [])


@pytest.mark.rfc("RFC 5352 6.5.3: a message to a pool element handle goes to that element")
def test_an_element_out_of_reach_is_replaced_only_where_that_is_allowed() -> None:
    bound = Rig(1, 2, 3, element=element(2).identifier, failover=False)
    dead(bound, 2)
    bound.begin()
    assert (bound.tried, bound.reported) == ([2], [2])
    assert bound.ended is not None
    assert bound.ended.how is Ending.NO_ELEMENT
    assert bound.ended.reason == f"{element(2).identifier:#010x}: connection refused"
    free = Rig(1, 2, 3, element=element(2).identifier, failover=True)
    dead(free, 2)
    free.begin()
    assert (free.tried, free.at) == ([2, 1], 1)


def test_an_element_that_is_not_remembered_is_asked_for_before_it_is_called_missing() -> None:
    rig = Rig(2, 3, element=element(3).identifier, failover=False)
    rig.learn(elements(2))
    rig.cached = True
    rig.now += 1
    rig.begin()
    assert [fresh for _, fresh in rig.questions] == [False, True]
    assert rig.at == 3


def test_an_element_that_is_not_in_the_pool_is_said_to_be_missing() -> None:
    rig = Rig(1, 2, element=element(5).identifier, failover=False).begin()
    assert rig.ended is not None
    assert rig.ended.reason == f"PE identifier {element(5).identifier:#010x} is not in the pool"
    assert rig.tried == []


@pytest.mark.rfc("RFC 5352 6.5.4: a message to a transport address has no fail-over")
def test_an_address_is_connected_to_without_any_asap() -> None:
    rig = opened(1, 2, direct=element(1), failover=True)
    rig.send()
    rig.lose()
    assert rig.ended is not None
    assert rig.ended.how is Ending.LOST
    assert rig.of(Resolve) == []
    assert rig.of(Report) == []


def test_an_address_where_nobody_is_ends_the_session() -> None:
    rig = Rig(direct=element(1))
    dead(rig, 1)
    rig.begin()
    assert rig.ended is not None
    assert (rig.ended.how, rig.of(Report), rig.of(Resolve)) == (Ending.NO_ELEMENT, [], [])


def test_at_an_address_any_element_of_the_pool_is_believed_and_nobody_else() -> None:
    for who, believed in (("another element", True), ("a registrar", False), ("one without TLS", False)):
        rig = Rig(direct=element(1))
        rig.far[element(1).identifier] = OTHERS[who]
        rig.begin()
        assert (rig.state() is State.OPEN) is believed
