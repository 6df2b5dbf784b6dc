# SPDX-License-Identifier: Apache-2.0
"""A report of an unreachable element makes the registrar ask; several users' word counts, a single voice does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Change, ElementChanged, Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import Limits
from rserpool.identity import SecureScope
from rserpool.wire import UpdateAction, asap
from support.rig_asapserver import POOL, QUIET, SERVER_ID, Far, Rig, keep_alives, updates

WHAT = "ASAP_ENDPOINT_UNREACHABLE"
SLOW = replace(QUIET, keep_alive=1000.0)
"""Keep-alives come because of reports only."""


def healthy(rig: Rig, number: int = 1) -> Far:
    element = rig.element(number).register(life=86400)
    element.acknowledges = True
    return element


def complain(element: Far, *users: int) -> bool:
    """These users report an element before it can answer; then it does. Returns whether it is still registered."""
    element.acknowledges = False
    for number in users:
        element.rig.user(number).report(element.identifier)
    element.acknowledge()
    element.acknowledges = True
    return element.identifier in element.rig.elements()


@pytest.mark.rfc("RFC 5352 3.5: an element that is reported is asked at once")
def test_an_element_that_is_reported_is_asked_at_once_and_the_reporter_hears_nothing() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    user = rig.user()
    assert user.report(element.identifier) == []
    assert element.heard == [
        (
            rig.now,
            asap.EndpointKeepAlive(server_id=SERVER_ID, pool_handle=POOL, pe_identifier=element.identifier, home=False),
        )
    ]
    rig.run(100)
    assert rig.elements().keys() == {element.identifier}


def test_a_report_joins_a_question_that_is_not_answered_yet() -> None:
    rig = Rig(timers=SLOW)
    element = rig.element(1).register()
    for number in range(3):
        rig.user(number, Role.ANONYMOUS).report(element.identifier)
    assert len(keep_alives(element)) == 1
    element.acknowledge()
    rig.user(9, Role.ANONYMOUS).report(element.identifier)
    assert len(keep_alives(element)) == 1


def test_an_element_that_is_reported_and_silent_is_removed() -> None:
    rig = Rig(timers=SLOW)
    element = rig.element(1).register()
    peer = rig.witness
    rig.user(1, Role.ANONYMOUS).report(element.identifier)
    rig.run(3 * QUIET.keep_alive_timeout)
    assert rig.elements() == {}
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.DEL_PE]


@pytest.mark.parametrize("handle", [POOL, b"none"])
def test_a_report_of_nobody_is_nothing(handle: bytes) -> None:
    rig = Rig()
    element = healthy(rig)
    assert rig.user().report(7, handle) == []
    assert element.take() == []
    assert rig.connects == []


# -- what counts


@pytest.mark.rfc("RFC 5352 3.5: too many reports remove an element")
def test_the_fourth_users_report_removes_an_element_although_it_answers() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    peer = rig.witness
    assert complain(element, 0, 1, 2)
    assert updates(peer) == []
    rig.seen(ElementChanged)
    assert not complain(element, 3)
    assert updates(peer) == [(UpdateAction.DEL_PE, POOL, element.offer(life=86400, home=SERVER_ID))]
    assert element.closed is not None
    assert element.closed.abort
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.reason) == (Change.REMOVED, "4 users could not reach it")


@pytest.mark.rfc("RFC 5352 3.5: too many reports remove an element")
def test_the_number_of_reports_is_the_one_that_was_configured() -> None:
    rig = Rig(timers=SLOW, limits=Limits(bad_reports=1))
    element = healthy(rig)
    assert complain(element, 1)
    assert not complain(element, 2, 3)


def test_elements_may_report_too() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    assert complain(element, 1, 2, 3)
    rig.element(2).report(element.identifier)
    assert rig.elements() == {}


def test_without_security_users_are_told_apart_by_their_addresses() -> None:
    rig = Rig(secure=False, timers=SLOW)
    element = healthy(rig)
    assert complain(element, 1, 2, 2, 3, 3)
    assert not complain(element, 4)


@pytest.mark.rfc("PROTOCOL 14.6: what counts as a report")
def test_a_user_counts_once_in_ten_seconds_however_often_and_over_however_many_associations_it_reports() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    for _ in range(9):
        assert complain(element, 1, 2, 1, 2, 1, 1)
        rig.run(1)
    assert complain(element, 3)
    assert not complain(element, 4)


def test_after_ten_seconds_a_user_counts_again() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    assert complain(element, 1, 2)
    rig.run(10)
    assert not complain(element, 1, 2)


def test_users_who_go_on_reporting_are_believed_in_the_end() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    users = [rig.user(1), rig.user(2)]
    for count in range(4):  # never fewer than two of them within ten seconds, once there are two
        assert rig.elements().keys() == {element.identifier}
        users[count % 2].report(element.identifier)
        rig.run(5)
    users[0].report(element.identifier)
    assert rig.elements() == {}


@pytest.mark.rfc("RFC 5352 3.5: an element that can be reached stays")
def test_one_user_alone_never_gets_a_healthy_element_removed() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    user = rig.user()
    for _ in range(30):
        user.report(element.identifier)
        rig.run(10)
    assert rig.elements().keys() == {element.identifier}


@pytest.mark.rfc("PROTOCOL 14.6: what counts as a report")
def test_anonymous_users_only_ever_make_the_registrar_ask() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    for number in range(50):
        rig.user(number, Role.ANONYMOUS).report(element.identifier)
        rig.run(1)
    assert rig.elements().keys() == {element.identifier}
    assert len(keep_alives(element)) == 50
    for number in range(3):  # nor do they count together with others
        rig.user(number).report(element.identifier)
    assert rig.elements().keys() == {element.identifier}


def test_each_element_has_its_own_count() -> None:
    rig = Rig(timers=SLOW)
    first, second = healthy(rig, 1), healthy(rig, 2)
    assert complain(first, 1, 2, 3)
    assert complain(second, 1, 2, 3)
    assert not complain(first, 4)
    assert rig.elements().keys() == {second.identifier}


# -- what is forgotten


@pytest.mark.rfc("PROTOCOL 14.6: what counts as a report")
@pytest.mark.parametrize("life", [86400, 60], ids=["unchanged", "changed"])
def test_registering_again_wipes_the_slate_clean(life: int) -> None:
    """PROTOCOL 10.4: a granted registration sets the unreachable counter to 0."""
    element = healthy(Rig(timers=SLOW))
    assert complain(element, 1, 2, 3)
    element.register(life=life)
    assert complain(element, 4, 5, 6)
    assert not complain(element, 7)


@pytest.mark.parametrize("leaves", [True, False])
def test_an_element_that_was_gone_comes_back_with_a_clean_slate(*, leaves: bool) -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    assert complain(element, 1, 2, 3)
    if leaves:
        element.deregister()
    else:
        assert not complain(element, 4)
    assert complain(healthy(rig), 5, 6, 7)


@pytest.mark.rfc("PROTOCOL 14.6: what counts as a report")
def test_an_answer_absolves_an_element_that_one_user_alone_cannot_reach_but_not_if_there_are_two() -> None:
    element = healthy(Rig(timers=SLOW))
    assert complain(element, 1)
    assert complain(element, 2, 3, 4)  # the first report is forgotten, the others are not
    assert not complain(element, 5)


# -- who may report, and how often


def test_where_users_need_a_certificate_anonymous_reports_are_refused() -> None:
    rig = Rig(timers=SLOW, scope=SecureScope(pool_handle=POOL, anonymous=False))
    element = healthy(rig)
    assert rig.user(1, Role.ANONYMOUS).report(element.identifier) == []
    assert [(r.threat, r.what) for r in rig.seen(Refused)] == [("2.7", WHAT)]
    assert element.take() == []
    rig.user(2).report(element.identifier)
    assert len(keep_alives(element)) == 1


@pytest.mark.rfc("PROTOCOL 13.6: unreachable reports are limited")
def test_whoever_reports_too_often_is_not_heard_and_others_still_are() -> None:
    rig = Rig(timers=SLOW, limits=Limits(reports=Rate(1, 5)))
    elements = [healthy(rig, n) for n in range(1, 9)]
    user = rig.user()
    for element in elements[:7]:
        assert user.report(element.identifier) == []
    assert [len(keep_alives(e)) for e in elements] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert [(r.threat, r.what, r.peer) for r in rig.seen(Refused)] == [("2.13", WHAT, str(user.association))] * 2
    rig.user(1).report(elements[5].identifier)  # another association of the same identity
    assert keep_alives(elements[5]) == []
    rig.user(2).report(elements[6].identifier)
    assert len(keep_alives(elements[6])) == 1
    rig.run(1)
    user.report(elements[7].identifier)
    assert len(keep_alives(elements[7])) == 1


def test_reports_beyond_the_limit_do_not_count() -> None:
    rig = Rig(timers=SLOW, limits=Limits(reports=Rate(1 / 1000, 1)))
    first, second = healthy(rig, 1), healthy(rig, 2)
    assert complain(first, 1, 2, 3)
    rig.user(4).report(second.identifier)
    assert complain(first, 4)
    assert not complain(first, 5)


@pytest.mark.rfc("PROTOCOL 13.6: unreachable reports are limited")
def test_whoever_floods_with_reports_is_left() -> None:
    rig = Rig(timers=SLOW)
    element = healthy(rig)
    user = rig.user()
    for _ in range(200):
        user.report(element.identifier)
    assert user.closed is not None
    assert rig.elements().keys() == {element.identifier}
