# SPDX-License-Identifier: Apache-2.0
"""A registrar that was frozen or stalled holds nobody's silence against him: it shifts expiries, and asks first."""

from __future__ import annotations

import pytest

from rserpool.asap.events import Lagged
from rserpool.wire import UpdateAction, asap, enrp
from support.beings import HIGHER, LOWER, US, Being
from support.rig_enrp import alone
from support.scope import POOL

BEINGS = [Being(n) for n in (30, 31, 32)]


@pytest.mark.rfc("PROTOCOL 10.6: who was frozen holds nobody's silence against him")
def test_after_a_freeze_peers_are_probed_and_nobody_is_killed() -> None:
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    low.own(BEINGS[0])
    high.own(BEINGS[1])
    rig.run(1.0)
    rig.forget()
    for peer in (low, high):
        peer.alive = False  # they live, but nothing of theirs has been read yet
    rig.freeze(10.0)
    rig.wake()
    [lagged] = rig.seen(Lagged)
    assert lagged.seconds == pytest.approx(9.8)  # its next heartbeat was 0.2 s away
    for peer in (low, high):
        assert peer.line.all(enrp.Presence)[0].reply_required
        assert peer.line.all(enrp.InitTakeover) == []
        assert rig.states(peer) == []
    rig.run(0.1)
    low.introduce()
    high.introduce()
    low.alive = high.alive = True
    rig.run(3.0)
    assert rig.states(low) == rig.states(high) == []
    assert rig.homes() == {BEINGS[0].identifier: LOWER, BEINGS[1].identifier: HIGHER}


def test_who_does_not_answer_after_the_thaw_is_probed_and_dead_in_its_time() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.introduce()
    peer.alive = False
    rig.run(0.1)
    rig.freeze(60.0)
    rig.wake()
    thawed = rig.clock
    rig.run(5)
    states = [at - rig.began - thawed for at, e in rig.events if getattr(e, "server_id", 0) == LOWER]
    # 0.1 s of its silence was ours to judge, and 0.3 s passed before the machine missed its first deadline
    assert states == pytest.approx([0.5, 0.9])
    assert rig.known() == {}


def test_the_silence_before_a_freeze_counts_from_the_last_message() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.alive = False
    rig.run(0.35)
    peer.introduce()
    rig.freeze(10.05)  # the heartbeat at 0.4 is missed
    rig.wake()
    rig.run(0.8)
    assert rig.states(peer) == []
    rig.run(0.06)
    assert rig.states(peer) == ["probing"]


def test_a_freeze_does_not_shorten_the_time_to_answer_a_probe() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.introduce()
    peer.alive = False
    rig.run(0.95)
    assert rig.known() == {LOWER: "probing"}
    rig.freeze(5.0)
    rig.wake()
    assert rig.known() == {LOWER: "probing"}
    peer.introduce()
    assert rig.known() == {LOWER: "active"}


def test_what_came_during_the_freeze_is_read_before_anything_is_judged() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    rig.run(0.1)
    rig.forget()
    rig.freeze(5.0)
    peer.introduce()  # the first input after the freeze is a message, not a wake-up
    peer.introduce()
    rig.wake()
    assert len(rig.seen(Lagged)) == 1
    rig.run(3.0)
    assert rig.states(peer) == []


@pytest.mark.rfc("PROTOCOL 10.6: who was frozen holds nobody's silence against him")
def test_a_freeze_in_a_takeover_wins_it_no_round() -> None:
    rig = alone()
    dead, other = rig.meet(LOWER, HIGHER)
    dead.own(BEINGS[0])
    other.acknowledges = False
    dead.alive = False
    rig.run(1.5)
    assert rig.known()[LOWER] == "takeover"
    rig.forget()
    rig.freeze(30.0)
    rig.wake()
    assert other.line.all(enrp.TakeoverServer) == []
    assert other.line.all(enrp.InitTakeover) == []
    assert rig.homes() == {BEINGS[0].identifier: LOWER}
    other.acknowledge(LOWER)
    assert rig.homes() == {BEINGS[0].identifier: US}


def test_lives_of_elements_do_not_run_out_while_nobody_could_renew_them() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    element = BEINGS[0].element(LOWER, life=4)
    message = enrp.HandleUpdate(sender=LOWER, action=UpdateAction.ADD_PE, pool_handle=POOL, element=element)
    peer.line.send(message)
    peer.owns[BEINGS[0].key] = element
    rig.run(0.1)
    rig.freeze(60.0)
    rig.wake()
    rig.run(1.0)
    assert rig.homes() == {BEINGS[0].identifier: LOWER}
    rig.run(4.2)  # life and a quarter, of which the freeze counts for nothing
    assert rig.homes() == {}


def test_an_attached_element_survives_the_freeze() -> None:
    rig = alone()
    line = rig.attach(BEINGS[0])
    line.react, react = None, line.react
    while not line.all(asap.EndpointKeepAlive):
        rig.run(0.1)
    rig.freeze(20.0)
    line.react = react
    rig.wake()
    assert rig.homes() == {BEINGS[0].identifier: US}
    rig.run(3.0)
    assert rig.homes() == {BEINGS[0].identifier: US}


def test_a_wake_up_that_is_a_little_late_is_no_lag() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    rig.run(0.3)
    rig.forget()
    rig.freeze(0.29)  # due at 0.4
    rig.wake()
    assert rig.seen(Lagged) == []
    assert not peer.line.all(enrp.Presence)[0].reply_required
