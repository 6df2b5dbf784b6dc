# SPDX-License-Identifier: Apache-2.0
"""A session goes on at another element, in that order: report, choose, connect, verify, ask, cookie, data (PROTOCOL 12.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Failure
from rserpool.identity import principal_of
from rserpool.identity.decisions import unverified
from rserpool.session.seeker import State
from rserpool.session.user_effects import (
    Ask,
    Dial,
    ElementLost,
    Ended,
    Ending,
    FailedOver,
    HangUp,
    Peer,
    Report,
    Tell,
    Transmit,
)
from rserpool.wire import asap
from support.rig_session import (
    POOL,
    START,
    TLS12,
    TLS13,
    Rig,
    card,
    dead,
    element,
    elements,
    identity,
    is_who_it_should_be,
    opened,
    somebody,
)


def test_all_steps_come_in_their_order() -> None:
    rig = opened(1, 2)
    rig.control(asap.Cookie(cookie=b"state"))
    rig.send(b"one")
    rig.send(b"two")  # waits: the connection has not said that it takes more
    rig.clear()
    rig.lose()
    steps = [type(e.event) if isinstance(e, Tell) else type(e) for e in rig.done]
    assert steps == [ElementLost, Report, Dial, Ask, FailedOver, Transmit, Transmit]
    assert rig.said() == [asap.CookieEcho(cookie=b"state"), b"two"]


@pytest.mark.rfc(
    "PROTOCOL 12.3: the application hears of a fail-over before any data goes to the next element",
    "threats 2.9: an application is told of a fail-over to another security",
)
def test_the_application_is_told_who_comes_in_whose_place_and_under_what_security() -> None:
    rig = opened(1, 2, secure=True)
    rig.far[element(2).identifier] = is_who_it_should_be(2)
    rig.agrees = None
    rig.control(asap.Cookie(cookie=b"state"))
    rig.clear()
    rig.lose("it is dead")
    [ask] = rig.of(Ask)
    failover = ask.failover
    assert (failover.old.element, failover.new.element) == (element(1), element(2))
    assert failover.old.security.identity == str(identity(1))
    assert failover.new.security.identity == str(identity(2))
    assert (failover.new.security.version, failover.new.security.cipher) == (TLS13, "AES")
    assert (failover.reason, failover.cookie) == ("it is dead", True)
    assert rig.of(Transmit) == []
    rig.send(b"more")
    rig.run(60)  # it may take its time
    assert rig.of(Transmit) == []
    rig.agree()
    assert rig.said() == [asap.CookieEcho(cookie=b"state"), b"more"]


def test_an_element_the_application_refuses_gets_nothing_and_is_not_reported() -> None:
    rig = opened(1, 2, 3)
    rig.agrees = None
    rig.control(asap.Cookie(cookie=b"state"))
    rig.clear()
    rig.lose()
    attempt = rig.machine.attempt
    rig.decline()
    assert not any(t.attempt == attempt for t in rig.of(Transmit))
    assert HangUp(attempt, abort=True) in rig.done
    assert rig.reported == [1]
    rig.agree()
    assert rig.at == 3


def test_an_application_that_refuses_all_ends_the_session_and_has_its_messages_back() -> None:
    rig = opened(1, 2, 3, patience=2.0)
    rig.send(b"one")
    rig.send(b"two")
    rig.agrees = False
    dead(rig, 1)
    rig.lose()
    rig.run(2.1)
    assert rig.ended is not None
    assert (rig.ended.how, rig.ended.unsent) == (Ending.NO_ELEMENT, (b"two",))
    assert "declined by the application" in rig.ended.reason
    assert rig.tried.count(2) == rig.tried.count(3) == 1  # a fresh answer does not make them welcome


def test_an_answer_to_an_older_question_is_no_answer() -> None:
    rig = opened(1, 2, 3)
    rig.agrees = None
    rig.lose()
    old = rig.machine.attempt
    rig.lose("gone too")
    rig.do(rig.machine.agreed(old, rig.now))
    assert rig.state() is State.ASKING
    rig.do(rig.machine.declined(old, rig.now))
    assert rig.state() is State.ASKING


# -- lost at each step


def test_lost_while_connecting_the_next_is_tried() -> None:
    rig = opened(1, 2, 3)
    rig.far[element(2).identifier] = None
    rig.lose()
    assert rig.state() is State.CONNECTING
    rig.not_connected("no answer within 1 s")
    assert (rig.tried, rig.reported, rig.at) == ([2, 3], [1, 2], 3)


def test_lost_while_the_application_makes_up_its_mind_the_next_is_tried_and_asked_about() -> None:
    rig = opened(1, 2, 3)
    rig.agrees = None
    rig.lose()
    rig.lose("it is gone")
    assert [a.failover.new.element for a in rig.of(Ask)] == [element(2), element(3)]
    assert [a.failover.old.element for a in rig.of(Ask)] == [element(1), element(1)]
    assert rig.reported == [1, 2]


def test_lost_right_after_the_fail_over_the_next_is_told_of_the_second_as_the_old_one() -> None:
    rig = opened(1, 2, 3)
    rig.lose()
    rig.lose()
    assert [(f.failover.old.element, f.failover.new.element) for f in rig.of(FailedOver)] == [
        (element(1), element(2)), (element(2), element(3)),
    ]  # fmt: skip
    assert (rig.at, rig.reported) == (3, [1, 2])


def test_lost_while_registrars_do_not_answer_it_is_tried_again_until_they_do() -> None:
    rig = opened(1)
    dead(rig, 1)
    rig.answer = Failure.NO_REGISTRAR
    rig.lose()
    rig.run(1)
    assert not rig.of(Ended)
    rig.answer = elements(1, 2)
    rig.run(3)
    assert rig.at == 2


@pytest.mark.parametrize("failure", list(Failure))
def test_a_pool_that_does_not_come_back_ends_the_session_in_time(failure: Failure) -> None:
    rig = opened(1, patience=3.0)
    dead(rig, 1)
    rig.answer = failure
    rig.lose()
    rig.run(2.99)
    assert not rig.of(Ended)
    rig.run(0.02)
    assert rig.ended is not None
    assert rig.ended.how is Ending.NO_ELEMENT
    assert f"because of {failure.value}" in rig.ended.reason


def test_patience_does_not_run_while_the_application_thinks_and_goes_on_where_it_was() -> None:
    rig = opened(1, 2, patience=3.0)
    rig.agrees = None
    rig.far[element(2).identifier] = None
    rig.lose()
    rig.run(2.0)
    rig.connected(is_who_it_should_be(2))
    rig.run(100)
    assert rig.state() is State.ASKING
    dead(rig, 1, 2)
    rig.lose()
    rig.run(0.99)
    assert not rig.of(Ended)
    rig.run(0.02)
    assert rig.ended is not None


def test_of_two_that_die_in_turn_the_session_gets_no_new_patience() -> None:
    rig = opened(1, 2, patience=3.0)
    rig.agrees = None
    dead(rig, 1)
    rig.lose()
    for _ in range(100):
        if rig.ended is not None:
            break
        if rig.state() is State.ASKING:
            rig.lose("it flaps")
        rig.run(0.1)
    assert rig.ended is not None
    assert rig.now - START < 4  # and what the application took to think


# -- whom it takes


@pytest.mark.rfc("RFC 5352 3.9: the business card's order is preferred when its sender fails")
def test_the_order_of_the_business_card_goes_before_the_policy() -> None:
    rig = opened(1, 2, 3, 4)
    rig.control(card(4, 3))
    rig.lose()
    assert rig.at == 4


@pytest.mark.rfc("RFC 5352 3.9: the business card's order is preferred when its sender fails")
def test_the_newest_card_counts_and_who_has_failed_is_left_out_of_it() -> None:
    rig = opened(1, 2, 3, 4)
    rig.control(card(4, 3))
    rig.control(card(1, 3, 4))
    dead(rig, 3)
    rig.lose()
    assert rig.tried == [3, 4]


def test_a_card_is_its_senders_and_forgotten_with_the_next_element() -> None:
    rig = opened(1, 2, 3, 4)
    rig.control(card(4, 3))
    rig.lose()
    rig.lose()
    assert rig.at == 2


def test_an_element_that_only_the_card_knows_is_taken_and_has_to_prove_itself() -> None:
    rig = opened(1, 2)
    rig.far[element(9).identifier] = somebody(principal_of(identity(8)))
    rig.control(card(9))
    rig.lose()
    assert (rig.tried, rig.at) == ([9, 2], 2)


def test_where_an_element_is_a_registrar_says_and_not_the_card() -> None:
    rig = opened(1, 2)
    forged = replace(element(2), transport=element(7).transport)
    rig.control(asap.BusinessCard(pool_handle=POOL, elements=(forged,)))
    rig.clear()
    rig.lose()
    assert [d.element for d in rig.of(Dial)] == [element(2)]


def test_a_card_of_another_pool_is_ignored_and_counted() -> None:
    rig = opened(1, 2, 3)
    rig.control(card(3, handle=b"other"))
    assert rig.machine.ignored == 1
    rig.lose()
    assert rig.at == 2


def test_the_failed_one_is_never_the_next_until_a_registrar_names_it_anew() -> None:
    rig = opened(1, 2)
    rig.now += 10
    rig.lose()
    rig.now += 10
    rig.lose()
    assert rig.questions == [(START + 20, True)]  # 1 and 2 have failed: a registrar is asked before either is tried
    assert rig.tried == [2, 1]


def test_a_single_element_that_comes_back_is_taken_again_after_a_registrar_has_named_it() -> None:
    rig = opened(1)
    rig.control(asap.Cookie(cookie=b"mine"))
    rig.now += 5
    dead(rig, 1)
    rig.lose()
    assert [fresh for _, fresh in rig.questions] == [True]
    rig.far[element(1).identifier] = is_who_it_should_be(1)
    rig.run(1)
    assert rig.at == 1
    assert rig.said() == [asap.CookieEcho(cookie=b"mine")]


# -- who it is


@pytest.mark.rfc(
    "PROTOCOL 12.3: the next element has to be as secure as the one before",
    "threats 2.9: an application is told of a fail-over to another security",
)
@pytest.mark.parametrize(
    "who",
    [
        Peer(principal=unverified("10.0.1.2:7002")),
        somebody(principal_of(identity(7))),
        somebody(principal_of(identity(2, Role.REGISTRAR))),
        is_who_it_should_be(2, TLS12),
        is_who_it_should_be(2, "SSLv3"),
    ],
    ids=["no TLS", "another element", "a registrar", "TLS 1.2 after 1.3", "a version nobody knows"],
)
def test_a_weaker_or_wrong_element_gets_neither_cookie_nor_data_and_the_right_one_does(who: Peer) -> None:
    rig = opened(1, 2, 3)
    rig.control(asap.Cookie(cookie=b"state"))
    rig.send(b"one")
    rig.send(b"two")
    rig.far[element(2).identifier] = who
    rig.clear()
    rig.lose()
    assert (rig.tried, rig.at) == ([2, 3], 3)
    assert [a.failover.new.element for a in rig.of(Ask)] == [element(3)]  # the application is not even asked about it
    assert {t.attempt for t in rig.of(Transmit)} == {rig.machine.attempt}
    assert rig.said() == [asap.CookieEcho(cookie=b"state"), b"two"]


def test_tls_13_after_12_is_welcome() -> None:
    rig = Rig(1, 2)
    rig.far[element(1).identifier] = is_who_it_should_be(1, TLS12)
    rig.begin()
    rig.lose()
    assert rig.at == 2


# -- reports


@pytest.mark.rfc("RFC 5352 6.9.2: at most one report of an event")
def test_one_failure_is_one_report() -> None:
    rig = opened(1, 2)
    rig.send()
    rig.lose()
    assert rig.reported == [1]
    rig.lose("it has hung up", orderly=True)
    assert rig.reported == [1]


@pytest.mark.rfc("RFC 5352 6.9.2: at most one report of an event")
def test_a_connection_that_is_over_is_not_reported_again() -> None:
    rig = opened(1, 2)
    old = rig.machine.attempt
    rig.lose()
    for _ in range(3):
        rig.do(rig.machine.lost(old, "late", rig.now, orderly=False))
        rig.do(rig.machine.not_connected(old, "late", rig.now))
    assert rig.reported == [1]


@pytest.mark.rfc("RFC 5352 3.5: no report of an element this user did not send to")
def test_the_applications_word_alone_reports_nobody() -> None:
    rig = opened(1, 2, 3)
    rig.do(rig.machine.report("its answers are wrong", rig.now))
    assert (rig.reported, rig.at) == ([], 2)
    rig.send(b"question")
    rig.do(rig.machine.report("its answers are wrong", rig.now))
    assert (rig.reported, rig.at) == ([2], 3)
    assert [e.reason for e in rig.of(ElementLost)] == ["its answers are wrong"] * 2


def test_an_element_that_hangs_up_in_good_order_can_be_reached_and_is_not_reported() -> None:
    rig = opened(1, 2)
    rig.send()
    rig.lose("it has hung up", orderly=True)
    assert (rig.reported, rig.at) == ([], 2)


def test_an_application_that_complains_of_nobody_is_not_heard() -> None:
    rig = Rig(1)
    rig.far[element(1).identifier] = None
    rig.begin()
    rig.clear()
    rig.do(rig.machine.report("?", rig.now))
    assert rig.done == []
