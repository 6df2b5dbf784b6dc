# SPDX-License-Identifier: Apache-2.0
"""Who holds a registrar for dead asks all others, and inherits only if none objects and the dead one stays silent."""

from __future__ import annotations

import pytest

from rserpool.asap.events import PeerChanged
from rserpool.asap.profiles import RFC
from rserpool.wire import enrp
from support.beings import HIGHER, HIGHEST, LOWER, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone

BEINGS = [Being(n) for n in (30, 31)]
A, B = (b.identifier for b in BEINGS[:2])
TARGET = 0x33333333
INIT = enrp.InitTakeover(sender=US, receiver=0, target=TARGET)
DONE = enrp.TakeoverServer(sender=US, receiver=0, target=TARGET)


def bereaved(*others: int, lowest: bool = False) -> tuple[Rig, Peer, list[Peer]]:
    """A registrar whose peer TARGET, which owns an element, has just been found dead; the others do as told."""
    rig = alone(lowest=lowest)
    target, *peers = rig.meet(TARGET, *others)
    for peer in peers:
        peer.acknowledges = False
    target.own(BEINGS[0])
    rig.attach(BEINGS[1])
    rig.run(0.1)
    target.introduce()
    target.alive = False
    rig.run(1.29)
    assert rig.states(target) == ["probing"]
    rig.forget()
    rig.began = rig.now + 0.01
    rig.run(0.02)
    return rig, target, peers


def took_over(rig: Rig) -> bool:
    return bool(rig.times(enrp.TakeoverServer))


# -- the others


@pytest.mark.rfc("PROTOCOL 10.7: of two registrars the one that is left takes over at once")
def test_without_any_other_peer_it_is_won_at_once() -> None:
    rig, target, _ = bereaved()
    assert rig.homes() == {A: US, B: US}
    assert rig.states(target) == ["takeover", "gone"]
    assert target.line.closed is not None
    assert target.line.closed.abort
    assert target.line.all(enrp.InitTakeover) == [INIT]
    assert rig.known() == {}


@pytest.mark.rfc("RFC 5353 3.5.1: the initiator asks all peers and the target")
def test_all_peers_are_asked_and_the_target_as_well() -> None:
    rig, target, peers = bereaved(LOWER, HIGHER)
    for peer in (target, *peers):
        assert peer.line.all(enrp.InitTakeover) == [INIT]
    assert rig.states(target) == ["takeover"]
    assert rig.homes() == {A: TARGET, B: US}


@pytest.mark.rfc("RFC 5353 3.5.1: a takeover is won when every known peer but the target has acknowledged")
def test_every_other_peer_must_acknowledge() -> None:
    rig, target, [low, high] = bereaved(LOWER, HIGHER)
    low.acknowledge(TARGET)
    low.acknowledge(TARGET)
    assert not took_over(rig)
    high.acknowledge(HIGHEST)
    assert not took_over(rig)
    assert rig.ignored() == [("ENRP_INIT_TAKEOVER_ACK", "no such takeover of ours")]
    high.acknowledge(TARGET)
    assert low.line.all(enrp.TakeoverServer) == high.line.all(enrp.TakeoverServer) == [DONE]
    assert rig.homes() == {A: US, B: US}
    assert rig.states(target) == ["takeover", "gone"]
    assert set(rig.known()) == {LOWER, HIGHER}


@pytest.mark.rfc("RFC 5353 3.5.2: the winner first tells all active peers")
def test_the_others_hear_of_it_before_any_element_does_and_no_update_follows() -> None:
    rig, _, [high] = bereaved(HIGHER)
    high.acknowledge(TARGET)
    rig.run(0.001)
    rig.reached(BEINGS[0])
    kinds = [type(m).__name__ for _, m in rig.log if not isinstance(m, enrp.Presence)]
    assert kinds[-2:] == ["TakeoverServer", "EndpointKeepAlive"]
    assert "HandleUpdate" not in kinds
    assert rig.machine.dump()["handlespace"]["checksums"].keys() == {f"{US:#010x}"}


def test_an_acknowledgement_nobody_waits_for_is_ignored() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.acknowledge(TARGET)
    assert rig.ignored() == [("ENRP_INIT_TAKEOVER_ACK", "no such takeover of ours")]
    assert not took_over(rig)


@pytest.mark.rfc("PROTOCOL 10.7: missing acknowledgements are asked for again and then done without")
def test_missing_acknowledgements_are_asked_for_in_three_rounds_and_then_done_without() -> None:
    rig, _, [low, high] = bereaved(LOWER, HIGHER)
    rig.run(0.1)
    low.acknowledge(TARGET)
    rig.run(1.0)
    assert not took_over(rig)
    rig.run(0.2)
    for peer in (low, high):
        assert peer.line.times(enrp.TakeoverServer) == pytest.approx([1.2], abs=0.001)
        assert peer.line.times(enrp.InitTakeover) == pytest.approx([0, 0.4, 0.8], abs=0.001)
    assert rig.homes() == {A: US, B: US}


@pytest.mark.rfc("PROTOCOL 10.7: missing acknowledgements are asked for again and then done without")
def test_in_each_round_all_acknowledge_anew() -> None:
    rig, _, [low, high] = bereaved(LOWER, HIGHER)
    low.acknowledge(TARGET)
    rig.run(0.41)
    high.acknowledge(TARGET)
    assert not took_over(rig)
    low.acknowledge(TARGET)
    assert took_over(rig)


@pytest.mark.rfc("PROTOCOL 10.7: a peer that dies during the arbitration is not waited for")
def test_a_peer_that_dies_during_the_arbitration_is_not_waited_for() -> None:
    rig, _, [low, high] = bereaved(LOWER, HIGHER)
    low.acknowledge(TARGET)
    high.line.lose()
    assert not took_over(rig)
    high.refuse()
    assert took_over(rig)
    assert rig.known() == {LOWER: "active"}


@pytest.mark.rfc("PROTOCOL 10.7: a peer that dies during the arbitration is not waited for")
def test_a_peer_that_another_has_taken_over_meanwhile_is_not_waited_for() -> None:
    rig, _, [low, high] = bereaved(LOWER, HIGHER)
    low.acknowledge(TARGET)
    low.init_takeover(HIGHER)
    assert not took_over(rig)
    low.takeover_server(HIGHER)
    assert took_over(rig)
    assert high.line.closed is not None
    assert rig.known() == {LOWER: "active"}


def test_a_peer_that_is_being_probed_is_not_asked_for_its_word_in_the_next_round() -> None:
    rig, _, [low, high] = bereaved(LOWER, HIGHER)
    high.line.lose()
    low.acknowledge(TARGET)
    rig.run(0.39)
    assert not took_over(rig)
    rig.run(0.02)
    low.acknowledge(TARGET)
    assert took_over(rig)


def test_two_dead_registrars_are_taken_over_each_for_itself() -> None:
    rig = alone()
    first, second, other = rig.meet(TARGET, LOWER, HIGHER)
    other.acknowledges = False
    first.own(BEINGS[0])
    second.own(BEINGS[1])
    for peer in (first, second):
        peer.alive = False
        peer.introduce()
    rig.run(1.31)
    other.acknowledge(LOWER)
    assert rig.homes() == {A: TARGET, B: US}
    other.acknowledge(TARGET)
    assert rig.homes() == {A: US, B: US}
    assert other.line.all(enrp.TakeoverServer) == [
        enrp.TakeoverServer(sender=US, target=LOWER),
        enrp.TakeoverServer(sender=US, target=TARGET),
    ]


def test_with_the_timers_of_the_rfc_a_round_takes_five_seconds() -> None:
    rig = alone(timers=RFC.registrar)
    target, other = rig.meet(TARGET, HIGHER)
    other.alive = target.alive = False
    target.own(BEINGS[0])
    for _ in range(7):
        rig.run(10)
        other.introduce()
    assert other.line.times(enrp.InitTakeover) == pytest.approx([66])
    for _ in range(3):
        rig.run(5)
        other.introduce()
    assert other.line.times(enrp.InitTakeover) == pytest.approx([66, 71, 76])
    assert other.line.times(enrp.TakeoverServer) == pytest.approx([81])


# -- the target


@pytest.mark.rfc("RFC 5353 3.5.1: a presence of the target stops the takeover")
def test_the_target_that_speaks_stops_it_at_once() -> None:
    rig, target, [high] = bereaved(HIGHER)
    target.introduce()
    assert rig.known() == {TARGET: "active", HIGHER: "active"}
    high.acknowledge(TARGET)
    target.alive = True
    rig.run(5)
    assert not took_over(rig)
    assert rig.homes() == {A: TARGET, B: US}
    assert rig.states(target) == ["takeover", "active"]
    assert high.line.all(enrp.InitTakeover) == [INIT]


@pytest.mark.rfc("RFC 5353 3.5.1: a presence of the target stops the takeover")
def test_the_target_that_comes_back_over_a_new_connection_stops_it_as_well() -> None:
    rig, target, [high] = bereaved(HIGHER)
    target.line.lose()
    target.requests = "serve"
    target.dial()
    target.introduce()
    high.acknowledge(TARGET)
    rig.run(0.8)
    assert not took_over(rig)
    assert rig.homes() == {A: TARGET, B: US}


def test_a_target_that_spoke_is_watched_as_before() -> None:
    rig, target, [high] = bereaved(HIGHER)
    target.introduce()
    high.acknowledges = True
    rig.run(1.29)
    assert not took_over(rig)
    rig.run(0.02)
    assert took_over(rig)
    assert rig.states(target) == ["takeover", "active", "probing", "takeover", "gone"]


# -- two that start at once (14.5)


@pytest.mark.rfc("RFC 5353 3.5.1: of two initiators the lower server ID gives up")
@pytest.mark.rfc("RFC 5353 3.5.1: of two initiators the higher server ID ignores the other")
@pytest.mark.parametrize(
    ("other", "lowest", "yields"),
    [(HIGHER, False, True), (LOWER, False, False), (HIGHER, True, False), (LOWER, True, True)],
)
def test_of_two_initiators_the_higher_id_goes_on_and_by_rsplibs_rule_the_lower(
    other: int, *, lowest: bool, yields: bool
) -> None:
    rig, target, [peer] = bereaved(other, lowest=lowest)
    peer.init_takeover(TARGET)
    if yields:
        ack = enrp.InitTakeoverAck(sender=US, receiver=other, target=TARGET)
        assert peer.line.all(enrp.InitTakeoverAck) == [ack]
        assert rig.known()[TARGET] == "not active"
        peer.acknowledge(TARGET)
        rig.run(2.0)
        assert not took_over(rig)
        assert peer.line.all(enrp.InitTakeover) == [INIT]
        peer.takeover_server(TARGET)
        assert rig.homes() == {A: other, B: US}
        assert rig.states(target)[-1] == "gone"
    else:
        assert peer.line.all(enrp.InitTakeoverAck) == []
        assert rig.known()[TARGET] == "takeover"
        peer.acknowledge(TARGET)
        assert took_over(rig)
        assert rig.homes() == {A: US, B: US}


@pytest.mark.rfc("PROTOCOL 10.7: an initiator that dies half way has its target monitored again")
def test_who_yielded_waits_for_the_announcement_and_then_judges_for_itself() -> None:
    rig, target, [high] = bereaved(HIGHER)
    high.init_takeover(TARGET)
    rig.run(2.59)
    assert rig.known()[TARGET] == "not active"
    rig.run(0.02)
    assert rig.known()[TARGET] == "probing"
    high.acknowledges = True
    rig.run(0.4)
    assert took_over(rig)
    assert rig.states(target) == ["takeover", "not active", "probing", "takeover", "gone"]


@pytest.mark.parametrize("other", [LOWER, HIGHER])
def test_an_announcement_of_another_ends_our_own_attempt(other: int) -> None:
    rig, target, [peer] = bereaved(other)
    peer.takeover_server(TARGET)
    assert rig.homes() == {A: other, B: US}
    assert rig.states(target) == ["takeover", "gone"]
    rig.run(2.0)
    assert not took_over(rig)
    assert peer.line.all(enrp.InitTakeover) == [INIT]


def test_a_peers_state_is_reported_with_its_identity_and_the_reason() -> None:
    rig, target, _ = bereaved(HIGHER)
    [change] = [e for e in rig.seen(PeerChanged) if e.server_id == TARGET]
    assert change.name == target.principal.name
    assert change.reason == "it has been silent, and it does not answer"
