# SPDX-License-Identifier: Apache-2.0
"""Associations that end with a leaf are replaced first: the element stays registered, the user loses no answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.effects import AssociationId
from rserpool.asap.element import Element
from rserpool.asap.events import ElementState, PoolUpdated, Refused, Resolved
from rserpool.asap.profiles import FAST
from rserpool.asap.user import User
from rserpool.wire import CauseCode, asap
from support.far_ends import NO_REGISTRARS, POOL, granting, place, registrar, rejecting, resolving, silent
from support.rig_endpoints import Rig, element_rig, keep_alive, kept_alive, states, user_rig


def home(rig: Rig[Element] | Rig[User]) -> AssociationId:
    """The only association that is up."""
    (found,) = rig.up
    return found


def renewed(rig: Rig[Element] | Rig[User], within: float = 0.0) -> None:
    rig.do(rig.machine.renewed(rig.now, within))


def aged(rig: Rig[Element] | Rig[User], association: AssociationId) -> None:
    rig.do(rig.machine.ageing(association, rig.now))


# -- elements


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
@pytest.mark.parametrize("why", ["its own leaf was renewed", "the registrar's leaf ages"])
def test_an_element_registers_over_a_newer_association_before_the_former_one_is_closed(why: str) -> None:
    rig = element_rig(registrars=3)
    before = home(rig)
    rig.run(1)
    rig.clear()
    rig.script = silent
    where = rig.up[before].peer_addresses
    if why == "its own leaf was renewed":
        renewed(rig)
    else:
        aged(rig, before)
    (newer,) = set(rig.up) - {before}
    assert rig.up[newer].peer_addresses == where
    assert [(s.association, type(s.message)) for s in rig.sent] == [(newer, asap.Registration)]
    assert rig.closed == []
    assert rig.machine.registered
    (sent,) = rig.of(asap.Registration)
    rig.feed(newer, asap.RegistrationResponse(pool_handle=POOL, pe_identifier=sent.element.identifier))
    assert home(rig) == newer
    assert rig.machine.state is ElementState.REGISTERED
    assert set(states(rig)) <= {"REGISTERED"}


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
def test_while_it_replaces_the_association_it_answers_keep_alives_on_both() -> None:
    rig = element_rig()
    before = home(rig)
    rig.script = silent
    renewed(rig)
    (newer,) = set(rig.up) - {before}
    rig.clear()
    rig.feed(before, keep_alive())
    rig.feed(newer, keep_alive())
    assert [(s.association, type(s.message)) for s in rig.sent] == [
        (before, asap.EndpointKeepAliveAck),
        (newer, asap.EndpointKeepAliveAck),
    ]
    assert rig.machine.home_id == 1


def test_many_elements_come_at_different_times_within_what_they_are_given() -> None:
    times = []
    for seed in range(1, 30):
        rig = element_rig(seed=seed, timers=replace(FAST.endpoint, silent_home=0))
        rig.clear()
        renewed(rig, 60.0)
        rig.run(61)
        assert len(rig.up) == 1
        ((at, _),) = rig.dialled
        times.append(at - 1000.0)
    assert max(times) - min(times) > 30
    assert max(times) <= 60


@pytest.mark.parametrize("failure", ["refused", "lost", "no registrar"])
def test_an_element_whose_newer_association_comes_to_nothing_stays_where_it_is_and_tries_again(failure: str) -> None:
    rig = element_rig()
    before = home(rig)
    rig.script = silent
    rig.clear()
    if failure == "refused":
        rig.answers[place(1)] = "connection refused"
    elif failure == "no registrar":
        rig.answers[place(1)] = NO_REGISTRARS[0]
    renewed(rig)
    if failure == "lost":
        (newer,) = set(rig.up) - {before}
        rig.script = granting
        rig.lose(newer)
    assert home(rig) == before
    assert rig.machine.registered
    assert len(rig.of(Refused)) == (failure == "no registrar")
    assert rig.machine.state is ElementState.REGISTERED
    if failure != "lost":
        rig.answers[place(1)], rig.script = registrar(1), granting
        kept_alive(rig, before, 5.0)
        assert home(rig) != before
        assert rig.machine.registered
    assert "NO_HOME" not in " ".join(states(rig))


def test_a_home_that_called_us_is_called_where_the_configuration_has_it() -> None:
    rig = element_rig(registrars=2)
    mine = place(2).addresses[0]
    taker = rig.call(registrar(2), str(mine))
    kept_alive(rig, next(iter(rig.up)), 6.0)
    rig.run(1.5)
    rig.feed(taker, keep_alive(2, home=True))
    assert taker in rig.up
    rig.clear()
    aged(rig, taker)
    assert [e for _, e in rig.dialled] == [place(2)]
    assert rig.machine.registered
    assert taker not in rig.up


def test_a_home_that_nobody_knows_where_to_call_is_kept() -> None:
    rig = element_rig()
    taker = rig.call(registrar(7), "10.0.0.77")
    rig.run(1.5)
    rig.feed(taker, keep_alive(7, home=True))
    rig.clear()
    renewed(rig)
    assert rig.dialled == []
    assert home(rig) == taker


def test_a_registrar_that_takes_the_element_over_meanwhile_is_home() -> None:
    rig = element_rig()
    before = home(rig)
    rig.answers[place(1)] = None
    renewed(rig)
    rig.freeze(0.1)
    taker = rig.call(registrar(2), "10.0.0.2")
    kept_alive(rig, before, 5.5)
    rig.run(1.5)
    rig.feed(taker, keep_alive(2, home=True))
    late = rig.accept(place(1), registrar(1))
    assert late not in rig.up
    assert list(rig.up) == [taker]


def test_an_element_that_leaves_while_it_replaces_deregisters_on_the_newer_association() -> None:
    rig = element_rig()
    rig.script = silent
    before = home(rig)
    renewed(rig)
    (newer,) = set(rig.up) - {before}
    rig.clear()
    rig.script = granting
    rig.do(rig.machine.leave(rig.now))
    assert [(s.association, type(s.message)) for s in rig.sent] == [(newer, asap.Deregistration)]
    assert rig.machine.state is ElementState.DEREGISTERED
    rig.run(10)
    assert rig.up == {}


def test_an_element_that_the_new_leaf_does_not_help_is_rejected_and_the_former_association_ends() -> None:
    rig = element_rig()
    rig.script = rejecting(CauseCode.INCONSISTENT_POLICY)
    renewed(rig)
    assert rig.machine.state is ElementState.REJECTED
    assert len(rig.up) == 1


def test_an_element_that_left_and_keeps_its_registrar_has_one_association_to_it() -> None:
    rig = element_rig()
    before = home(rig)
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.state is ElementState.DEREGISTERED
    aged(rig, before)
    assert before not in rig.up
    assert rig.machine.state is ElementState.DEREGISTERED
    rig.run(10)
    assert rig.up == {}


def test_a_home_that_ends_the_former_association_itself_before_it_answers_has_done_no_harm() -> None:
    rig = element_rig()
    rig.script = silent
    before = home(rig)
    renewed(rig)
    (newer,) = set(rig.up) - {before}
    rig.lose(before)
    assert rig.machine.registered
    rig.feed(newer, asap.RegistrationResponse(pool_handle=POOL, pe_identifier=rig.machine.pe_identifier))
    assert home(rig) == newer
    assert rig.machine.state is ElementState.REGISTERED


def test_a_home_that_says_on_the_former_association_that_it_is_home_is_that() -> None:
    rig = element_rig()
    rig.script = silent
    before = home(rig)
    kept_alive(rig, before, 6.0)
    rig.run(1.1)
    renewed(rig)
    assert len(rig.up) == 2
    rig.feed(before, keep_alive(2, home=True))
    assert home(rig) == before
    assert rig.machine.registered


def test_an_element_without_a_home_replaces_nothing() -> None:
    rig = element_rig(serve=False)
    renewed(rig)
    renewed(rig, 5.0)
    rig.run(10)
    assert rig.dialled == []


def test_another_association_than_the_home_may_age() -> None:
    rig = element_rig()
    other = rig.call(registrar(2))
    rig.clear()
    aged(rig, other)
    assert rig.dialled == []


# -- users


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
@pytest.mark.parametrize("why", ["its own leaf was renewed", "the registrar's leaf ages"])
def test_a_user_asks_again_over_the_newer_association_what_nobody_has_answered(why: str) -> None:
    rig = user_rig(script=resolving(1))
    rig.do(rig.machine.resolve(POOL, rig.now)[1])
    before = home(rig)
    rig.clear()
    rig.script = silent
    rig.do(rig.machine.resolve(POOL, rig.now)[1])
    assert rig.of(Resolved) == []
    rig.script = resolving(1, 2)
    if why == "its own leaf was renewed":
        renewed(rig)
    else:
        aged(rig, before)
    (resolved,) = rig.of(Resolved)
    assert [e.identifier for e in resolved.elements] == [1, 2]
    assert home(rig) != before
    assert [c.association for c in rig.closed] == [before]


def test_a_user_that_watches_a_pool_goes_on_watching_over_the_newer_association() -> None:
    rig = user_rig(script=resolving(1))
    rig.do(rig.machine.watch(POOL, rig.now))
    before = home(rig)
    assert rig.machine.subscription(POOL) == before
    rig.clear()
    aged(rig, before)
    newer = home(rig)
    assert newer != before
    assert rig.machine.subscription(POOL) == newer
    assert len(rig.of(PoolUpdated)) == 1


def test_a_user_that_looks_for_another_registrar_does_not_try_four_at_once() -> None:
    rig = user_rig(registrars=4, script=resolving(1))
    rig.do(rig.machine.resolve(POOL, rig.now)[1])
    before = home(rig)
    rig.answers = dict.fromkeys(rig.answers)
    rig.script = silent
    rig.do(rig.machine.resolve(POOL, rig.now)[1])
    rig.run(FAST.endpoint.t1 + 0.01)
    assert rig.open, "it looks for another one"
    was = len(rig.dialled)
    aged(rig, before)
    assert len(rig.dialled) == was
    rig.answers = dict.fromkeys(rig.answers, registrar(1))
    rig.script = resolving(1)
    rig.run(10)
    assert before not in rig.up
    assert len(rig.up) == 1


def test_a_registrar_that_is_asked_beside_the_home_may_age() -> None:
    rig = user_rig(registrars=2, script=silent)
    rig.do(rig.machine.resolve(POOL, rig.now)[1])
    rig.run(FAST.endpoint.t1 + 0.3)
    assert len(rig.up) == 2
    was = len(rig.dialled)
    (other,) = set(rig.up) - {min(rig.up)}
    aged(rig, other)
    assert len(rig.dialled) == was
