# SPDX-License-Identifier: Apache-2.0
"""Registrations live as long as they say: an own element's end is told to everybody, a foreign one's to nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.events import Change, ElementChanged, Lagged
from rserpool.wire import UpdateAction, asap, enrp
from support.rig_asapserver import PEER_ID, POOL, QUIET, SERVER_ID, Rig, add, foreign, updates


@pytest.mark.rfc("RFC 5352 2.2.4: an element whose life is over is removed and told so")
def test_an_own_element_is_removed_when_its_life_ends_and_its_removal_announced() -> None:
    rig = Rig()
    element = rig.element(1).register(life=10)
    element.acknowledges = True
    peer = rig.witness
    rig.seen(ElementChanged)
    rig.run(9.99)
    assert rig.elements().keys() == {element.identifier}
    assert updates(peer) == []
    rig.run(0.01)
    assert rig.space == {"pools": [], "checksums": {}}
    assert updates(peer) == [(UpdateAction.DEL_PE, POOL, element.offer(life=10, home=SERVER_ID))]
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.reason) == (Change.REMOVED, "its registration expired")
    assert rig.machine.counts()["own"] == 0


@pytest.mark.rfc("RFC 5352 2.2.4: an element whose life is over is removed and told so")
def test_an_element_whose_life_ended_is_told_so() -> None:
    """RFC 5352 2.2.4 and 3.2: the response is also sent on expiry; without an error it is no refusal."""
    rig = Rig()
    element = rig.element(1).register(life=10)
    element.acknowledges = True
    rig.run(10)
    told = [m for m in element.take() if isinstance(m, asap.DeregistrationResponse)]
    assert told == [asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=element.identifier)]


def test_an_element_whose_life_ended_may_register_again() -> None:
    rig = Rig()
    rig.element(1).register(life=2).acknowledges = True
    rig.run(2)
    again = rig.element(1).register(life=2)
    assert rig.elements().keys() == {again.identifier}


@pytest.mark.rfc("PROTOCOL 10.4: a life that is too long is cut with a warning")
@pytest.mark.parametrize("asked", [-1, 1000])
def test_no_life_is_longer_than_the_longest(asked: int) -> None:
    rig = Rig(timers=replace(QUIET, max_life=60.0))
    rig.element(1).register(life=asked).acknowledges = True
    rig.run(59.9)
    assert len(rig.elements()) == 1
    rig.run(0.1)
    assert rig.elements() == {}


def test_an_element_that_deregistered_does_not_expire_once_more() -> None:
    rig = Rig()
    element = rig.element(1).register(life=10)
    element.deregister()
    peer = rig.witness
    rig.seen(ElementChanged)
    rig.run(20)
    assert updates(peer) == []
    assert rig.seen(ElementChanged) == []


def test_elements_expire_one_by_one() -> None:
    rig = Rig()
    elements = [rig.element(n).register(life=10 * n) for n in (1, 2, 3)]
    for element in elements:
        element.acknowledges = True
    for gone in (1, 2, 3):
        rig.run(10)
        assert rig.elements().keys() == {e.identifier for e in elements[gone:]}


# -- other registrars' elements


@pytest.mark.rfc("PROTOCOL 10.2: another registrar's element is kept a quarter longer than its life")
def test_another_registrars_element_is_kept_a_quarter_longer_and_then_removed_in_silence() -> None:
    rig = Rig()
    peer = rig.peer(PEER_ID, foreign(1, life=8))
    updates(peer)
    rig.seen(ElementChanged)
    rig.run(9.99)
    assert len(rig.elements()) == 1
    rig.run(0.01)
    assert rig.elements() == {}
    assert updates(peer) == []
    assert [(e.change, e.reason) for e in rig.seen(ElementChanged)] == [(Change.REMOVED, "its registration expired")]
    assert rig.connects == []


def test_each_announcement_of_another_registrars_element_begins_a_new_life() -> None:
    rig = Rig()
    peer = rig.peer(PEER_ID, foreign(1, life=8))
    rig.run(9)
    peer.send(add(foreign(1, life=8)))
    rig.run(9)
    peer.send(add(foreign(1, life=16)))
    rig.run(19.9)
    assert len(rig.elements()) == 1
    rig.run(0.2)
    assert rig.elements() == {}


def test_an_element_that_registers_here_lives_by_its_own_life_from_then_on() -> None:
    rig = Rig()
    rig.peer(PEER_ID, foreign(1, life=8))
    rig.element(1).register(life=4).acknowledges = True
    rig.run(4)
    assert rig.elements() == {}


def test_an_endless_life_at_another_registrar_ends_here_some_day() -> None:
    rig = Rig(timers=replace(QUIET, max_life=60.0))
    rig.peer(PEER_ID, foreign(1, life=-1))
    rig.run(74.9)
    assert len(rig.elements()) == 1
    rig.run(0.2)
    assert rig.elements() == {}


def test_a_removal_by_the_home_is_believed_and_the_life_that_was_left_forgotten() -> None:
    rig = Rig()
    element = foreign(1, life=8)
    peer = rig.peer(PEER_ID, element)
    peer.send(enrp.HandleUpdate(sender=PEER_ID, action=UpdateAction.DEL_PE, pool_handle=POOL, element=element))
    assert rig.elements() == {}
    rig.seen(ElementChanged)
    rig.run(20)
    assert rig.seen(ElementChanged) == []


# -- a process that did not run


def test_a_registrar_that_was_frozen_holds_its_own_absence_against_nobody() -> None:
    rig = Rig()
    element = rig.element(1).register(life=10)
    peer = rig.witness
    rig.freeze(60)
    assert rig.elements().keys() == {element.identifier}
    assert len(rig.seen(Lagged)) == 1
    element.acknowledge()
    element.register(life=10)
    element.acknowledges = True
    rig.run(9.9)
    assert rig.elements().keys() == {element.identifier}
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.ADD_PE]
    rig.run(0.2)
    assert rig.elements() == {}
