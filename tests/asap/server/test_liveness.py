# SPDX-License-Identifier: Apache-2.0
"""An own element is asked now and then, and stays as long as it answers for itself; silence removes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Change, ElementChanged, Ignored, Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import Limits
from rserpool.wire import UpdateAction, asap
from support.rig_asapserver import POOL, QUIET, SERVER_ID, Far, Rig, keep_alives, updates

TIMEOUT, TRIES = QUIET.keep_alive_timeout, QUIET.keep_alive_tries


def asked(rig: Rig, far: Far, within: float = 1.5) -> None:
    """Let time pass until a keep-alive has gone out, and a little more."""
    until = rig.now + within
    while not any(isinstance(m, asap.EndpointKeepAlive) for _, m in far.heard):
        deadline = rig.machine.deadline()
        assert deadline is not None
        assert deadline <= until
        rig.run(max(0.0, deadline - rig.now))
    rig.run(0.01)


@pytest.mark.rfc("RFC 5352 3.5: periodic keep-alives are spread in time")
@pytest.mark.parametrize("kind", TransportKind)
def test_an_element_is_asked_at_random_intervals_of_half_to_one_and_a_half_periods(kind: TransportKind) -> None:
    rig = Rig(timers=replace(QUIET, keep_alive=10.0))
    element = rig.element(1, kind=kind).register(life=86400)
    element.acknowledges = True
    registered = rig.now
    rig.run(2000)
    times = [registered, *keep_alives(element)]
    pauses = [b - a for a, b in pairwise(times)]
    assert 5 <= min(pauses) < 6.5
    assert 13.5 < max(pauses) <= 15
    assert 9 < sum(pauses) / len(pauses) < 11
    assert len({round(p, 3) for p in pauses}) > 100


@pytest.mark.rfc("RFC 5352 3.5: periodic keep-alives are spread in time")
def test_elements_that_registered_together_are_not_asked_together() -> None:
    rig = Rig()
    elements = [rig.element(n).register() for n in range(1, 61)]
    rig.run(1.5)
    first = sorted(keep_alives(e)[0] - 1000.0 for e in elements)
    assert first[0] >= 0.5
    assert [sum(at <= limit for at in first) for limit in (0.5, 1.5)] == [0, 60]
    assert all(10 <= sum(low <= at < low + 0.25 for at in first) <= 20 for low in (0.5, 0.75, 1.0, 1.25))


def test_a_keep_alive_names_the_registrar_and_the_element_and_claims_nothing() -> None:
    rig = Rig()
    element = rig.element(1).register()
    asked(rig, element)
    assert element.take() == [
        asap.EndpointKeepAlive(server_id=SERVER_ID, pool_handle=POOL, pe_identifier=element.identifier, home=False)
    ]


@pytest.mark.rfc("RFC 5352 3.5: an element that can be reached stays")
def test_an_element_that_answers_stays_for_its_whole_life() -> None:
    rig = Rig()
    element = rig.element(1).register(life=300)
    element.acknowledges = True
    peer = rig.witness
    rig.run(299)
    assert rig.elements().keys() == {element.identifier}
    assert updates(peer) == []


@pytest.mark.rfc("PROTOCOL 14.7: an element that leaves three keep-alives unanswered is removed")
def test_an_element_that_leaves_three_keep_alives_unanswered_is_removed_and_its_association_aborted() -> None:
    rig = Rig()
    element = rig.element(1).register()
    peer = rig.witness
    rig.seen(ElementChanged)
    asked(rig, element)
    first = element.heard[0][0]
    rig.run(first + TRIES * TIMEOUT - 0.001 - rig.now)
    assert rig.elements().keys() == {element.identifier}
    assert updates(peer) == []
    rig.run(0.002)
    assert keep_alives(element) == pytest.approx([first, first + TIMEOUT, first + 2 * TIMEOUT])
    assert rig.elements() == {}
    assert updates(peer) == [(UpdateAction.DEL_PE, POOL, element.offer(home=SERVER_ID))]
    assert element.closed is not None
    assert element.closed.abort
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.reason) == (Change.REMOVED, "it left 3 keep-alives unanswered")
    rig.run(10)
    assert rig.connects == []


@pytest.mark.rfc("PROTOCOL 14.7: an element that leaves three keep-alives unanswered is removed")
def test_an_answer_to_the_last_keep_alive_is_in_time_and_all_three_begin_anew() -> None:
    rig = Rig()
    element = rig.element(1).register()
    for _ in range(5):
        asked(rig, element)
        rig.run(2 * TIMEOUT)
        assert len(keep_alives(element)) == TRIES
        assert element.acknowledge() == []
    assert rig.elements().keys() == {element.identifier}


def test_registering_again_is_an_answer_too() -> None:
    rig = Rig()
    element = rig.element(1).register()
    asked(rig, element)
    rig.run(2 * TIMEOUT)
    element.take()
    element.register()
    registered = rig.now
    rig.run(1.5)
    assert 0.5 <= keep_alives(element)[0] - registered <= 1.5
    assert len(rig.elements()) == 1


def test_each_try_waits_as_long_as_it_was_configured_to() -> None:
    rig = Rig(timers=replace(QUIET, keep_alive=5.0, keep_alive_timeout=2.0, keep_alive_tries=2))
    element = rig.element(1).register()
    asked(rig, element, 7.5)
    rig.run(3.9)
    assert len(rig.elements()) == 1
    rig.run(0.1)
    assert rig.elements() == {}
    times = keep_alives(element)
    assert len(times) == 2
    assert times[1] - times[0] == pytest.approx(2.0)


# -- whose answer counts

FORGERS: dict[str, Callable[[Rig, Far], Far]] = {
    "a user": lambda rig, _: rig.user(),
    "somebody without a certificate": lambda rig, _: rig.user(1, Role.ANONYMOUS),
    "a registrar": lambda rig, _: rig.user(1, Role.REGISTRAR),
    "another element": lambda rig, _: rig.element(2).register(),
    "another element from the same address": lambda rig, _: rig.element(2, "10.0.0.1"),
    "the element over an association that was not asked": lambda rig, _: rig.element(1),
}


@pytest.mark.rfc("PROTOCOL 6.8: an acknowledgement counts only from the element that was asked, where it was asked")
@pytest.mark.parametrize("name", FORGERS)
def test_nobody_answers_for_an_element_but_itself_where_it_was_asked(name: str) -> None:
    rig = Rig()
    element = rig.element(1).register()
    forger = FORGERS[name](rig, element)
    forger.acknowledges = True
    asked(rig, element)
    rig.seen(Ignored)
    for _ in range(TRIES + 1):
        assert forger.acknowledge(element.identifier) == []
        rig.run(TIMEOUT)
    assert element.identifier not in rig.elements()
    denied = [(r.threat, r.what) for r in rig.seen(Refused)][:TRIES]
    ignored = [(e.what, e.reason) for e in rig.seen(Ignored)][:TRIES]
    what = "ASAP_ENDPOINT_KEEP_ALIVE_ACK"
    if "over an association" in name:
        assert ignored == [(what, "nobody asked")] * TRIES
    else:
        threat = {"somebody without a certificate": "2.1", "a user": "2.2", "a registrar": "2.2"}.get(name, "2.3")
        assert denied == [(threat, what)] * TRIES
        assert ignored == []


@pytest.mark.rfc("PROTOCOL 6.8: an acknowledgement counts only from the element that was asked, where it was asked")
@pytest.mark.parametrize("wrong", ["another identifier of its own", "another pool"])
def test_an_answer_for_something_else_is_no_answer(wrong: str) -> None:
    rig = Rig()
    element = rig.element(1).register()
    other = max(element.association.principal.pe_identifiers)
    asked(rig, element)
    for _ in range(TRIES):
        if wrong == "another pool":
            element.acknowledge(handle=b"other")
        else:
            element.acknowledge(other)
        rig.run(TIMEOUT)
    assert rig.elements() == {}


def test_without_security_the_association_decides() -> None:
    rig = Rig(secure=False)
    element = rig.element(1).register()
    asked(rig, element)
    for _ in range(TRIES):
        rig.element(1).acknowledge(1)
        rig.element(2).acknowledge(1)
        rig.run(TIMEOUT)
    assert rig.elements() == {}


def test_an_answer_that_nobody_waits_for_does_no_harm() -> None:
    rig = Rig()
    element = rig.element(1)
    assert element.acknowledge() == []
    element.register()
    for _ in range(20):
        assert element.acknowledge() == []
    assert [e.reason for e in rig.seen(Ignored)] == ["nobody asked"]
    rig.run(4)
    assert rig.elements() == {}  # it left the real questions unanswered


# -- several elements behind one association


def test_of_two_elements_behind_one_association_the_silent_one_goes_and_the_other_stays() -> None:
    rig = Rig()
    far = rig.element(1)
    low, high = sorted(far.association.principal.pe_identifiers)[:2]
    far.register(identifier=low)
    far.register(identifier=high)
    for _ in range(100):
        rig.run(0.1)
        if any(isinstance(m, asap.EndpointKeepAlive) and m.pe_identifier == low for m in far.take()):
            far.acknowledge(low)
    assert rig.elements().keys() == {low}
    assert far.is_up()
    rig.run(4)
    assert rig.elements() == {}
    assert far.closed is not None
    assert far.closed.abort


# -- how often at most (threat 2.14)


def within_limit(times: list[float]) -> None:
    """In no stretch of time are there more questions than the burst, and one for each interval."""
    for first, began in enumerate(times):
        for last, ended in enumerate(times[first:], first):
            most = QUIET.keep_alive_burst + (ended - began) / QUIET.keep_alive_min_interval
            assert last - first + 1 <= most + 1e-3, times[first : last + 1]


@pytest.mark.rfc("PROTOCOL 8: an element is never asked more often than KEEP-ALIVE-MIN-INTERVAL allows")
@pytest.mark.rfc("threats 2.14: keep-alives to an element are limited")
@pytest.mark.parametrize("answers", [True, False])
def test_no_flood_of_reports_makes_an_element_be_asked_more_often_than_the_limit_allows(*, answers: bool) -> None:
    rig = Rig(limits=Limits(reports=Rate(1e9, 1e9)))
    element = rig.element(1).register()
    element.acknowledges = answers
    users = [rig.user(n, Role.ANONYMOUS) for n in range(20)]
    times: list[float] = []
    for _ in range(1000):
        for user in users:
            user.report(element.identifier)
        rig.run(0.01)
        times += keep_alives(element)
    within_limit(times)
    assert bool(rig.elements()) == answers
    if answers:
        assert len(times) >= 20  # the limit is used, not merely kept


def test_a_silent_element_is_removed_soon_even_if_it_was_asked_too_often_before() -> None:
    rig = Rig()
    element = rig.element(1).register()
    element.acknowledges = True
    users = [rig.user(n, Role.ANONYMOUS) for n in range(5)]
    for user in users:
        user.report(element.identifier)
    element.acknowledges = False
    rig.run(1.5 + TRIES * max(TIMEOUT, QUIET.keep_alive_min_interval) + 0.5)
    assert rig.elements() == {}


@pytest.mark.timeout(5)
def test_waiting_until_an_element_may_be_asked_again_always_comes_to_an_end() -> None:
    """Times are floating point: a wait that is over must not leave a wait too short to move the clock."""
    for start in range(100):
        rig = Rig(now=1000.0 + start * 0.37, seed=start)
        element = rig.element(1).register()
        element.acknowledges = True
        user = rig.user(1, Role.ANONYMOUS)
        for _ in range(QUIET.keep_alive_burst + 1):
            user.report(element.identifier)
        element.acknowledges = False
        rig.run(3)
        assert rig.elements() == {}
        within_limit(keep_alives(element))


# -- a process that did not run


def last_try(rig: Rig, element: Far) -> None:
    """An element has left all keep-alives but the last one unanswered, and that one has just gone out."""
    asked(rig, element)
    rig.run((TRIES - 1) * TIMEOUT)
    assert len(keep_alives(element)) == TRIES


def test_a_registrar_that_was_frozen_gives_an_element_its_time_to_answer() -> None:
    rig = Rig()
    element = rig.element(1).register()
    for number in range(2, 40):  # something is always about to be done
        rig.element(number).register().acknowledges = True
    last_try(rig, element)
    rig.freeze(30)
    assert len(rig.elements()) == 39
    rig.run(TIMEOUT / 2)
    assert element.acknowledge() == []
    element.acknowledges = True
    rig.run(5)
    assert len(rig.elements()) == 39


@pytest.mark.rfc("PROTOCOL 10.6: who was frozen holds nobody's silence against him")
def test_a_registrar_that_was_frozen_reads_what_has_come_meanwhile_before_it_judges() -> None:
    """PROTOCOL 10.6: shift the deadlines, read everything that is queued, and only then remove anything."""
    rig = Rig()
    element = rig.element(1).register()
    last_try(rig, element)
    rig.freeze(30)
    assert element.is_up()
    element.acknowledge()
    element.acknowledges = True
    rig.run(5)
    assert rig.elements().keys() == {element.identifier}
