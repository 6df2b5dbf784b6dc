# SPDX-License-Identifier: Apache-2.0
"""A takeover by another: acknowledged, not monitored meanwhile, believed of the target's elements and no others."""

from __future__ import annotations

import pytest

from rserpool.wire import UpdateAction, enrp
from support.beings import HIGHER, HIGHEST, LOWER, US, Being, server_information
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEINGS = [Being(n) for n in range(30, 36)]
A, B, C, D = (b.identifier for b in BEINGS[:4])
TARGET = 0x33333333
ACK = enrp.InitTakeoverAck(sender=US, receiver=HIGHER, target=TARGET)
PRESENCE = enrp.Presence(sender=US, receiver=0, checksum=0xFFFF, server=server_information(US, 1))


def trio(*, silent: bool = True) -> tuple[Rig, Peer, Peer]:
    """TARGET, which owns A and falls silent now, and HIGHER, which owns B; C is attached to us, D is LOWER's."""
    rig = alone()
    target, high, low = rig.meet(TARGET, HIGHER, LOWER)
    target.own(BEINGS[0])
    high.own(BEINGS[1])
    low.own(BEINGS[3])
    rig.attach(BEINGS[2])
    target.alive = not silent
    rig.forget()
    return rig, target, high


# -- INIT_TAKEOVER


@pytest.mark.rfc("RFC 5353 3.5.1: everybody else marks the target as not active and acknowledges")
def test_who_hears_of_a_takeover_acknowledges_it_to_its_initiator_alone() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    assert [m for _, m in high.line.sent] == [ACK]
    assert target.line.sent == []
    assert rig.states(target) == ["not active"]
    assert rig.homes() == {A: TARGET, B: HIGHER, C: US, D: LOWER}


def test_a_target_nobody_knows_is_acknowledged_too() -> None:
    rig, _, high = trio()
    high.init_takeover(HIGHEST)
    assert high.line.all(enrp.InitTakeoverAck) == [enrp.InitTakeoverAck(sender=US, receiver=HIGHER, target=HIGHEST)]
    assert HIGHEST not in rig.known()


@pytest.mark.rfc("RFC 5353 3.5.1: everybody else marks the target as not active and acknowledges")
def test_a_target_is_not_monitored_while_another_takes_it_over() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    target.line.lose()
    rig.run(2.5)
    assert rig.states(target) == ["not active"]
    assert rig.dialled() == []


def test_a_probed_target_is_left_to_the_initiator() -> None:
    rig, target, high = trio()
    rig.run(1.0)
    assert rig.states(target) == ["probing"]
    high.init_takeover(TARGET)
    rig.run(1.0)
    assert rig.states(target) == ["probing", "not active"]


@pytest.mark.parametrize("over", ["the same connection", "a new connection"])
def test_a_target_that_speaks_is_active_and_monitored_again(over: str) -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    rig.run(0.5)
    if over == "a new connection":
        target.line.lose()
        target.dial()
    target.introduce()
    assert rig.known()[TARGET] == "active"
    rig.run(0.89)
    assert rig.known()[TARGET] == "active"
    rig.run(0.02)
    assert rig.known()[TARGET] == "probing"


@pytest.mark.rfc("RFC 5353 3.5.1: the target of a takeover is alive")
def test_if_we_are_the_target_all_peers_hear_our_presence_at_once() -> None:
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    high.init_takeover(US)
    for peer in (low, high):
        assert [m for _, m in peer.line.sent] == [PRESENCE]


# -- the initiator that does not finish


@pytest.mark.rfc("PROTOCOL 10.7: an initiator that dies half way has its target monitored again")
def test_a_takeover_that_is_not_finished_has_the_target_monitored_again() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    rig.run(2.59)
    assert rig.states(target) == ["not active"]
    rig.run(0.02)
    assert rig.states(target) == ["not active", "probing"]
    target.introduce()
    rig.run(0.5)
    assert rig.states(target) == ["not active", "probing", "active"]


@pytest.mark.rfc("PROTOCOL 10.7: an initiator that dies half way has its target monitored again")
def test_when_the_initiator_dies_its_target_is_monitored_at_once() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    high.line.lose()
    assert rig.states(target) == ["not active"]
    high.refuse()
    assert rig.states(high) == ["probing", "takeover", "gone"]  # the bystander has acknowledged
    assert rig.states(target) == ["not active", "probing"]
    rig.run(1.0)
    assert rig.homes() == {A: US, B: US, C: US, D: LOWER}
    assert rig.known() == {LOWER: "active"}


def test_when_a_bystander_dies_the_target_stays_with_its_initiator() -> None:
    rig, target, high = trio()
    low = rig.peers[2]
    high.init_takeover(TARGET)
    low.line.lose()
    low.refuse()
    rig.run(1.0)
    assert rig.states(target) == ["not active"]


# -- TAKEOVER_SERVER


@pytest.mark.rfc("RFC 5353 3.5.2: peers give the target's elements to the winner and forget the target")
def test_the_targets_elements_and_no_others_are_the_senders() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    rig.forget()
    high.takeover_server(TARGET)
    assert rig.homes() == {A: HIGHER, B: HIGHER, C: US, D: LOWER}
    assert rig.changes() == [("moved", A)]
    assert rig.states(target) == ["gone"]
    assert target.line.closed is not None
    for line in rig.lines.values():
        assert line.sent == []


def test_it_is_believed_of_a_target_we_hold_for_silent_ourselves() -> None:
    rig, _, high = trio()
    rig.run(1.0)
    high.takeover_server(TARGET)
    assert rig.homes() == {A: HIGHER, B: HIGHER, C: US, D: LOWER}


@pytest.mark.rfc("PROTOCOL 14.8: a takeover of a peer that is active is not believed")
def test_it_is_not_believed_of_a_target_that_is_active() -> None:
    rig, target, high = trio(silent=False)
    before = rig.space()
    high.takeover_server(TARGET)
    assert rig.space() == before
    assert rig.ignored() == [("ENRP_TAKEOVER_SERVER", f"takes over {TARGET:#010x}, which is alive")]
    assert target.line.up
    rig.run(2.0)
    assert rig.known()[TARGET] == "active"


def test_the_checksums_agree_with_the_new_owner_afterwards() -> None:
    rig, _, high = trio()
    high.init_takeover(TARGET)
    high.takeover_server(TARGET)
    high.owns[BEINGS[0].key] = BEINGS[0].element(HIGHER)
    rig.forget()
    rig.run(3.0)
    assert high.line.all(enrp.HandleTableRequest) == []
    assert rig.homes()[A] == HIGHER


@pytest.mark.rfc("PROTOCOL 10.7: who is taken over while alive says so and announces its elements again")
def test_if_we_are_the_target_all_hear_our_presence_and_what_is_attached_to_us() -> None:
    rig, _, high = trio()
    low = rig.peers[2]
    gone = rig.attach(BEINGS[5])
    gone.lose()
    rig.forget()
    before = rig.space()
    high.takeover_server(US)
    assert rig.space() == before
    ours = enrp.HandleUpdate(
        sender=US, receiver=0, action=UpdateAction.ADD_PE, pool_handle=POOL, element=BEINGS[2].element(US)
    )
    for peer in (low, high):
        presence, *updates = [m for _, m in peer.line.sent]
        assert isinstance(presence, enrp.Presence)
        assert presence.receiver == 0
        assert not presence.reply_required
        assert updates == [ours]


def test_the_target_that_comes_back_after_its_takeover_is_a_peer_again() -> None:
    rig, target, high = trio()
    high.init_takeover(TARGET)
    high.takeover_server(TARGET)
    target.alive = True
    target.dial()
    target.introduce()
    assert rig.known()[TARGET] == "active"
    assert rig.homes()[A] == TARGET  # it lists the element as its own: attached there, we cannot know better
    high.update(BEINGS[0].element(HIGHER))
    assert rig.homes()[A] == HIGHER
