# SPDX-License-Identifier: Apache-2.0
"""Presence each heartbeat, a probe after 0.9 s of silence, death 0.4 s later: neither earlier nor later."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from rserpool.asap.profiles import RFC
from rserpool.identity import InsecureScope
from rserpool.identity.decisions import unverified
from rserpool.wire import Message, PoolElement, Ppid, TcpTransport, UpdateAction, asap, enrp, policies
from support.beings import HIGHER, LOWER, US, Being, server_information
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEING = Being(30)


def silent_since_now(rig: Rig, *peers: Peer) -> None:
    """From now on these say nothing by themselves; what was sent is forgotten."""
    for peer in peers:
        peer.introduce()
        peer.alive = False
    rig.forget()


@pytest.mark.rfc("RFC 5353 3.4.2: every PEER-HEARTBEAT-CYCLE all peers hear our presence")
@pytest.mark.rfc("RFC 5353 3.6.1: every presence carries the checksum of what its sender owns")
def test_every_heartbeat_all_peers_hear_our_presence_with_checksum_and_server_information() -> None:
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    rig.attach(BEING)
    checksum = int(rig.space()["checksums"][f"{US:#010x}"], 16)
    rig.forget()
    rig.run(2.0)
    for peer in (low, high):
        assert peer.line.times(enrp.Presence) == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
        assert peer.line.all(enrp.Presence)[0] == enrp.Presence(
            sender=US, receiver=0, checksum=checksum, server=server_information(US, 1)
        )
        assert {type(m) for _, m in peer.line.sent} == {enrp.Presence}


def registered(rig: Rig, handle: bytes, identifier: int, number: int) -> None:
    address = IPv4Address(f"10.0.1.{number}")
    element = PoolElement(
        identifier=identifier,
        home=0,
        life=300,
        transport=TcpTransport(port=7, address=address),
        policy=policies.RoundRobin(),
        asap_transport=TcpTransport(port=8, address=address),
    )
    line = rig.accept(Ppid.ASAP, unverified(str(address)), (address,))
    line.send(asap.Registration(pool_handle=handle, element=element))
    assert not line.all(asap.RegistrationResponse)[0].reject


@pytest.mark.rfc("RFC 5353 3.6.1: every presence carries the checksum of what its sender owns")
def test_the_checksum_is_that_of_what_we_own_by_the_vectors_of_the_checklist() -> None:
    rig = Rig(scope=InsecureScope(), secure=False).start()
    [peer] = rig.meet(LOWER)

    def checksum() -> int | None:
        peer.line.send(peer.presence(reply=True))
        return peer.line.all(enrp.Presence)[-1].checksum

    assert checksum() == 0xFFFF
    registered(rig, b"EchoPool", 0x11223344, 1)
    assert checksum() == 0x4DEB
    peer.own(BEING)  # another's does not count
    assert checksum() == 0x4DEB
    registered(rig, b"Pool1", 1, 2)
    assert checksum() == 0x5D0E


@pytest.mark.rfc("RFC 5353 3.4.2: a presence that requires a reply is answered with server information")
def test_who_requires_a_reply_gets_it_at_once_and_alone() -> None:
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    low.line.send(low.presence(reply=True))
    assert [m for _, m in low.line.sent] == [
        enrp.Presence(sender=US, receiver=LOWER, checksum=0xFFFF, server=server_information(US, 1))
    ]
    assert high.line.sent == []


@pytest.mark.rfc("RFC 5353 3.4.2: a presence that requires a reply is answered with server information")
def test_who_requires_none_gets_none() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.introduce()
    assert peer.line.sent == []


@pytest.mark.rfc("RFC 5353 3.4.3: a peer that is silent for MAX-TIME-LAST-HEARD is asked at once")
@pytest.mark.rfc("RFC 5353 3.4.3: a peer that does not answer in MAX-TIME-NO-RESPONSE, or cannot be sent to, is dead")
def test_a_silent_peer_is_probed_after_900_ms_and_dead_after_400_more() -> None:
    rig = alone()
    silent, other = rig.meet(LOWER, HIGHER)
    silent.own(BEING)
    silent_since_now(rig, silent)
    rig.run(0.899)
    assert rig.known()[LOWER] == "active"
    rig.run(0.002)
    assert rig.known()[LOWER] == "probing"
    probes = [m for m in silent.line.all(enrp.Presence) if m.reply_required]
    assert probes == [
        enrp.Presence(sender=US, receiver=LOWER, reply_required=True, checksum=0xFFFF, server=server_information(US, 1))
    ]
    assert not any(m.reply_required for m in other.line.all(enrp.Presence))
    rig.run(0.397)
    assert other.line.all(enrp.InitTakeover) == []
    rig.run(0.004)
    assert other.line.all(enrp.InitTakeover) == [enrp.InitTakeover(sender=US, target=LOWER)]
    assert other.line.times(enrp.InitTakeover) == pytest.approx([1.3])
    assert rig.states(silent) == ["probing", "takeover", "gone"]


@pytest.mark.rfc("RFC 5353 3.4.3: a peer that does not answer in MAX-TIME-NO-RESPONSE, or cannot be sent to, is dead")
def test_a_dead_peer_without_elements_is_just_forgotten() -> None:
    rig = alone()
    silent, other = rig.meet(LOWER, HIGHER)
    silent_since_now(rig, silent)
    rig.run(1.29)
    assert set(rig.known()) == {LOWER, HIGHER}
    rig.run(0.02)
    assert set(rig.known()) == {HIGHER}
    assert silent.line.closed is not None
    assert silent.line.closed.abort
    assert {type(m) for _, m in other.line.sent} == {enrp.Presence}


@pytest.mark.rfc("RFC 5353 3.4.3: any message of a peer is a sign of life")
@pytest.mark.parametrize(
    "message",
    [
        enrp.Presence(sender=LOWER),
        enrp.HandleUpdate(sender=LOWER, action=UpdateAction.DEL_PE, pool_handle=POOL, element=BEING.element(LOWER)),
        enrp.HandleTableRequest(sender=LOWER),
        enrp.HandleTableResponse(sender=LOWER),
        enrp.ListRequest(sender=LOWER),
        enrp.ListResponse(sender=LOWER),
        enrp.InitTakeoverAck(sender=LOWER, target=HIGHER),
    ],
    ids=lambda m: type(m).__name__,
)
def test_any_message_is_a_sign_of_life(message: Message) -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    silent_since_now(rig, peer)
    rig.run(0.8)
    peer.line.send(message)
    rig.run(0.89)
    assert rig.states(peer) == []
    rig.run(0.02)
    assert rig.states(peer) == ["probing"]
    peer.line.send(message)
    assert rig.states(peer) == ["probing", "active"]
    rig.run(0.89)
    assert rig.states(peer) == ["probing", "active"]
    rig.run(0.43)
    assert rig.states(peer) == ["probing", "active", "probing", "gone"]


def test_a_probe_that_is_answered_in_time_starts_the_silence_anew() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    silent_since_now(rig, peer)
    for _ in range(5):
        rig.run(0.9 + 0.399)
        assert rig.known() == {LOWER: "probing"}
        peer.introduce()
    rig.run(0.89)
    assert rig.known() == {LOWER: "active"}


def test_peers_are_watched_each_for_itself() -> None:
    rig = alone()
    first, second, well = rig.meet(LOWER, HIGHER, 0x30000000)
    silent_since_now(rig, first)
    rig.run(0.5)
    silent_since_now(rig, second)
    rig.run(0.82)
    assert set(rig.known()) == {HIGHER, well.server_id}
    rig.run(0.5)
    assert set(rig.known()) == {well.server_id}
    rig.run(5)
    assert rig.known() == {well.server_id: "active"}


@pytest.mark.rfc("RFC 5353 3.4.3: a peer that is silent for MAX-TIME-LAST-HEARD is asked at once")
@pytest.mark.rfc("RFC 5353 4.2: the thresholds of ENRP")
def test_with_the_timers_of_the_rfc_it_takes_61_and_5_seconds() -> None:
    rig = alone(timers=RFC.registrar)
    [peer] = rig.meet(LOWER)
    silent_since_now(rig, peer)
    rig.run(60.9)
    assert peer.line.times(enrp.Presence) == pytest.approx([30, 60])
    assert rig.states(peer) == []
    rig.run(0.2)
    assert rig.states(peer) == ["probing"]
    rig.run(4.8)
    assert rig.states(peer) == ["probing"]
    rig.run(0.2)
    assert rig.states(peer) == ["probing", "gone"]


def test_a_peer_that_starts_again_after_its_death_is_a_new_peer() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    silent_since_now(rig, peer)
    rig.run(1.4)
    peer.alive = True
    peer.dial()
    peer.introduce()
    assert rig.states(peer) == ["probing", "gone", "active"]
    assert peer.line.all(enrp.HandleTableRequest) == [
        enrp.HandleTableRequest(sender=US, receiver=LOWER, own_children_only=True)
    ]
    rig.run(3)
    assert rig.known() == {LOWER: "active"}


def test_a_presence_without_checksum_or_server_information_is_a_presence() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    for _ in range(3):
        peer.line.send(replace(peer.presence(reply=True), checksum=None, server=None))
    assert peer.line.kinds() == ["Presence"] * 3
    assert rig.machine.dump()["peers"][0]["endpoints"] == [str(peer.endpoint)]
