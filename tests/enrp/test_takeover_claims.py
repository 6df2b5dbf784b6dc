# SPDX-License-Identifier: Apache-2.0
"""Inherited elements are told their new home, not all at once; orphans are inherited as well."""

from __future__ import annotations

import pytest

from rserpool.asap.profiles import FAST, RFC
from rserpool.wire import asap, enrp
from support.beings import HIGHER, LOWER, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, acknowledging, alone

ORPHAN = Being(30)
A = ORPHAN.identifier
TARGET = 0x33333333
INIT = enrp.InitTakeover(sender=US, receiver=0, target=TARGET)
DONE = enrp.TakeoverServer(sender=US, receiver=0, target=TARGET)


def inherit(n: int, *, rfc: bool = False) -> tuple[Rig, Peer, list[Being]]:
    """A registrar that has just inherited ``n`` elements, with one peer left."""
    rig = alone(timers=(RFC if rfc else FAST).registrar)
    target, other = rig.meet(TARGET, HIGHER)
    beings = [Being(30 + i) for i in range(n)]
    target.own(*beings)
    target.line.lose()
    rig.forget()
    rig.began = rig.now
    target.refuse()
    return rig, other, sorted(beings, key=lambda b: b.identifier)


@pytest.mark.rfc("RFC 5353 3.5.2: the winner tells each element by a keep-alive with H = 1")
def test_each_element_is_told_its_new_home_by_a_keep_alive() -> None:
    rig, other, [being] = inherit(1)
    rig.run(0.001)
    line = rig.reached(being)
    assert [m for _, m in line.sent] == [
        asap.EndpointKeepAlive(server_id=US, pool_handle=being.key[0], pe_identifier=being.identifier, home=True)
    ]
    rig.run(3.0)
    following = line.all(asap.EndpointKeepAlive)[1:]
    assert following
    assert not any(m.home for m in following)
    assert rig.homes() == {being.identifier: US}
    assert rig.machine.counts()["attached"] == 1
    assert other.line.all(enrp.HandleUpdate) == []


@pytest.mark.rfc(
    "PROTOCOL 10.7: elements that were taken over are told at a bounded rate, and removed if they do not answer"
)
@pytest.mark.parametrize(("rfc", "rate"), [(False, 500), (True, 100)])
def test_the_elements_are_told_one_after_the_other_at_the_takeover_rate(rate: int, *, rfc: bool) -> None:
    rig, _, beings = inherit(50, rfc=rfc)
    assert set(rig.homes().values()) == {US}
    for n, being in enumerate(beings):
        assert len(rig.dials) == 0
        rig.run(max(0.0, n / rate - rig.clock))
        assert rig.dialled() == [str(being.listening)]
        rig.reached(being)
    assert rig.machine.counts()["attached"] == 50
    assert rig.clock == pytest.approx(49 / rate)


@pytest.mark.rfc(
    "PROTOCOL 10.7: elements that were taken over are told at a bounded rate, and removed if they do not answer"
)
def test_an_element_that_cannot_be_reached_is_removed_and_all_are_told() -> None:
    rig, other, [gone, well] = inherit(2)
    rig.run(0.01)
    rig.reached(well)
    rig.fail(gone.listening)
    assert rig.homes() == {well.identifier: US}
    [update] = other.line.all(enrp.HandleUpdate)
    assert (update.action.name, update.element) == ("DEL_PE", gone.element(US))


def test_an_element_whose_host_does_not_answer_is_removed_after_1200_ms() -> None:
    rig, other, [being] = inherit(1)
    rig.run(1.19)
    assert rig.homes() == {being.identifier: US}
    rig.run(0.02)
    assert rig.homes() == {}
    assert other.line.times(enrp.HandleUpdate) == pytest.approx([1.2])


@pytest.mark.rfc(
    "PROTOCOL 10.7: elements that were taken over are told at a bounded rate, and removed if they do not answer"
)
def test_an_element_that_does_not_acknowledge_three_times_is_removed() -> None:
    rig, other, [being] = inherit(1)
    rig.run(0.001)
    line = rig.reached(being, answers=False)
    rig.run(1.19)
    assert [m.home for m in line.all(asap.EndpointKeepAlive)] == [True] * 3
    assert rig.homes() == {being.identifier: US}
    rig.run(0.02)
    assert rig.homes() == {}
    assert line.closed is not None
    assert line.closed.abort
    assert len(other.line.all(enrp.HandleUpdate)) == 1


def test_another_one_in_the_elements_place_does_not_become_it() -> None:
    rig, other, [being] = inherit(1)
    rig.run(0.001)
    stranger = Being(99)
    line = rig.establish(being.listening, stranger.principal, acknowledging(being))
    assert line.sent == []
    assert line.closed is not None
    assert rig.homes() == {}
    assert rig.threats() == [("2.3", "keep-alive")]
    assert len(other.line.all(enrp.HandleUpdate)) == 1


def test_an_element_that_registers_with_us_first_is_not_dialled() -> None:
    rig, _, [being] = inherit(1)
    rig.run(0.001)
    line = rig.attach(being)
    assert rig.dialled() == []
    rig.run(2.0)
    assert rig.dialled() == []
    assert rig.homes() == {being.identifier: US}
    assert line.up


def test_an_element_that_has_found_another_home_meanwhile_is_left_to_it() -> None:
    rig, other, [being] = inherit(1)
    rig.run(0.001)
    other.own(being)
    assert rig.homes() == {being.identifier: HIGHER}
    assert rig.dialled() == []
    rig.run(2.0)
    assert rig.homes() == {being.identifier: HIGHER}
    assert other.line.all(enrp.HandleUpdate) == []


# -- orphans: elements whose home nobody knows


def with_orphan(*others: int) -> tuple[Rig, list[Peer]]:
    """A registrar that learned an element of TARGET from its mentor, and never meets TARGET."""
    rig = Rig(expects=(2,)).start()
    mentor = rig.peer(HIGHER, 2)
    mentor.knows[ORPHAN.key] = ORPHAN.element(TARGET)
    mentor.answer()
    assert rig.machine.serving
    return rig, [mentor, *rig.meet(*others)]


def test_orphans_are_inherited_after_their_home_had_time_to_appear() -> None:
    rig, [mentor] = with_orphan()
    rig.run(0.4 + 2.59)
    assert rig.times(enrp.InitTakeover) == []
    assert rig.homes() == {A: TARGET}
    rig.run(0.02)
    assert mentor.line.all(enrp.InitTakeover) == [INIT]
    assert mentor.line.all(enrp.TakeoverServer) == [DONE]
    assert rig.homes() == {A: US}
    rig.run(0.001)
    assert rig.dialled() == [str(ORPHAN.listening)]


def test_orphans_whose_home_appears_are_none() -> None:
    rig, [mentor] = with_orphan()
    rig.run(2.5)
    target = rig.peer(TARGET)
    target.owns[ORPHAN.key] = ORPHAN.element(TARGET)
    target.dial()
    target.introduce()
    rig.run(5.0)
    assert mentor.line.all(enrp.InitTakeover) == []
    assert rig.homes() == {A: TARGET}


def test_orphans_need_the_word_of_the_other_peers() -> None:
    rig, [mentor, low] = with_orphan(LOWER)
    low.acknowledges = False
    rig.run(3.1)
    assert mentor.line.all(enrp.InitTakeover) == low.line.all(enrp.InitTakeover) == [INIT]
    assert rig.homes() == {A: TARGET}
    low.acknowledge(TARGET)
    assert rig.homes() == {A: US}


def test_orphans_that_another_inherits_are_its_own() -> None:
    rig, [mentor] = with_orphan()
    mentor.acknowledges = False
    rig.run(3.1)
    mentor.init_takeover(TARGET)
    assert mentor.line.all(enrp.InitTakeoverAck) == [enrp.InitTakeoverAck(sender=US, receiver=HIGHER, target=TARGET)]
    mentor.takeover_server(TARGET)
    assert rig.homes() == {A: HIGHER}
    rig.run(5.0)
    assert rig.times(enrp.TakeoverServer) == []
