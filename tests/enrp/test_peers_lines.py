# SPDX-License-Identifier: Apache-2.0
"""Connections between registrars: who is dialled, which of two stays, and what follows when one ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.effects import endpoint_of, transport_of
from rserpool.wire import Ppid, SctpTransport, ServerInformation, enrp
from support.beings import HIGHER, LOWER, LOWEST, US, Being, endpoint, server_information
from support.peers import Line, Peer
from support.rig_enrp import Rig, alone

BEING = Being(30)
OWN_CHILDREN = enrp.HandleTableRequest(sender=US, receiver=0, own_children_only=True)


def look_for(rig: Rig, *numbers: int) -> None:
    rig.do(lambda m, now: m.look_for([endpoint(n) for n in numbers], now))


def twice_connected(server_id: int, order: str) -> tuple[Rig, Peer, Line, Line]:
    """A peer to which there are two connections; which of them the machine opened, and in which order, may differ."""
    rig = alone()
    peer = rig.peer(server_id, 2)
    look_for(rig, 2)
    lines = {}
    for direction in order.split(", "):
        lines[direction] = peer.answer() if direction == "ours" else peer.dial()
        lines[direction].send(peer.presence())
    return rig, peer, lines["ours"], lines["theirs"]


# -- dialling


def test_configured_registrars_are_dialled_at_once_but_not_ourselves() -> None:
    rig = Rig(expects=(1, 2, 3, 2)).start()
    assert rig.dialled() == [str(endpoint(2)), str(endpoint(3))]
    for _, connect in rig.dials.values():
        assert connect.service is Ppid.ENRP
        assert connect.deadline == 1.0


@pytest.mark.rfc("PROTOCOL 10.6: registrars that are missing are dialled again each heartbeat")
def test_one_attempt_at_a_time_and_a_new_one_each_heartbeat() -> None:
    rig = Rig(expects=(2,)).start()
    rig.run(0.8)
    assert len(rig.dials) == 1
    rig.fail(endpoint(2))
    assert rig.dialled() == []
    rig.run(0.399)
    assert rig.dialled() == []
    rig.run(0.002)
    assert rig.dialled() == [str(endpoint(2))]


def test_whoever_is_dialled_hears_our_presence_and_is_asked_for_its_own() -> None:
    rig = Rig(expects=(2,)).start()
    peer = rig.peer(LOWER, 2, alive=False)
    line = peer.answer()
    assert line.kinds() == ["Presence"]
    peer.introduce()
    assert [m for _, m in line.sent] == [
        enrp.Presence(sender=US, reply_required=True, checksum=0xFFFF, server=server_information(US, 1)),
        enrp.Presence(
            sender=US, receiver=LOWER, reply_required=True, checksum=0xFFFF, server=server_information(US, 1)
        ),
        enrp.ListRequest(sender=US, receiver=LOWER),
    ]


@pytest.mark.rfc("PROTOCOL 10.6: registrars that are missing are dialled again each heartbeat")
def test_registrars_that_dns_tells_of_later_are_dialled_and_those_it_forgets_are_not() -> None:
    rig = alone()
    look_for(rig, 1, 2)
    assert rig.dialled() == [str(endpoint(2))]
    look_for(rig, 1, 3)
    rig.fail(endpoint(2))
    rig.fail(endpoint(3))
    rig.run(0.4)
    assert rig.dialled() == [str(endpoint(3))]


def test_who_has_come_to_us_and_said_where_it_listens_is_not_dialled() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    look_for(rig, peer.number)
    rig.run(1.0)
    assert rig.dialled() == []


@pytest.mark.parametrize("lie", ["another host's address", "another registrar's ID"])
def test_where_a_peer_listens_is_believed_only_of_its_own_address_and_id(lie: str) -> None:
    rig = alone()
    [peer, other] = rig.meet(LOWER, HIGHER)
    liar = rig.peer(LOWEST, 9, alive=False)
    liar.dial()
    claim = server_information(LOWEST, 77) if lie == "another host's address" else server_information(HIGHER, 9)
    liar.line.send(replace(liar.presence(), server=claim))
    assert {p["server_id"]: p["endpoints"] for p in rig.machine.dump()["peers"]} == {
        "0x10000000": [],
        "0x20000000": [str(peer.endpoint)],
        "0x80000000": [str(other.endpoint)],
    }
    liar.line.lose()
    assert rig.dialled() == []


def test_a_peer_that_listens_at_several_addresses_may_name_them_all() -> None:
    rig = alone()
    peer = rig.peer(LOWER, 2)
    rig.accept(Ppid.ENRP, peer.principal, (*endpoint(2).addresses, *endpoint(3).addresses)).send(peer.presence())
    assert rig.machine.dump()["peers"][0]["endpoints"] == [str(endpoint(2))]


# -- two connections (PROTOCOL 9.9)


@pytest.mark.rfc("PROTOCOL 9.9: between two registrars one connection stays")
@pytest.mark.parametrize(("server_id", "stays"), [(LOWER, "ours"), (HIGHER, "theirs")])
@pytest.mark.parametrize("order", ["ours, theirs", "theirs, ours"])
def test_of_two_connections_the_one_opened_by_the_higher_id_stays(server_id: int, stays: str, order: str) -> None:
    rig, peer, ours, theirs = twice_connected(server_id, order)
    stay, go = (ours, theirs) if stays == "ours" else (theirs, ours)
    peer.alive = False
    rig.forget()
    rig.run(0.39)
    assert go.up
    go.send(replace(peer.presence(), checksum=0xFFFF))  # what is on its way is still read
    rig.run(0.02)
    assert go.closed is not None
    assert not go.closed.abort
    assert go.closed.reason == "another association to this registrar stays"
    rig.attach(BEING)
    rig.run(0.5)
    assert stay.up
    assert stay.kinds() == ["Presence", "HandleUpdate", "Presence"]
    assert go.sent == []
    assert rig.known() == {server_id: "active"}
    assert rig.states(peer) == []


@pytest.mark.rfc("PROTOCOL 9.9: between two registrars one connection stays")
@pytest.mark.parametrize("server_id", [LOWER, HIGHER])
def test_of_two_connections_opened_by_the_same_side_the_newer_stays(server_id: int) -> None:
    rig = alone()
    [peer] = rig.meet(server_id)
    older = peer.line
    newer = peer.dial()
    newer.send(peer.presence())
    older.sent.clear()
    rig.run(0.41)
    assert older.closed is not None
    assert newer.up
    assert older.sent == []


@pytest.mark.rfc("PROTOCOL 10.6: a new connection to a peer has its table read")
@pytest.mark.parametrize(("server_id", "resynced"), [(LOWER, "ours"), (HIGHER, "theirs")])
def test_a_replaced_connection_has_the_peers_table_read_over_it(server_id: int, resynced: str) -> None:
    order = "theirs, ours" if resynced == "ours" else "ours, theirs"
    _, _, ours, theirs = twice_connected(server_id, order)
    for line in (ours, theirs):  # once when it was met, and again on the replacement
        assert line.all(enrp.HandleTableRequest) == [replace(OWN_CHILDREN, receiver=server_id)]


@pytest.mark.parametrize(("server_id", "stays"), [(LOWER, "ours"), (HIGHER, "theirs")])
def test_a_connection_that_is_not_taken_has_nothing_read_over_it(server_id: int, stays: str) -> None:
    order = "ours, theirs" if stays == "ours" else "theirs, ours"
    _, _, ours, theirs = twice_connected(server_id, order)
    assert len((ours if stays == "ours" else theirs).all(enrp.HandleTableRequest)) == 1
    assert len((theirs if stays == "ours" else ours).all(enrp.HandleTableRequest)) == 0


def test_when_the_connection_that_stayed_ends_the_other_is_used_while_it_lasts() -> None:
    rig, peer, ours, theirs = twice_connected(HIGHER, "ours, theirs")
    rig.forget()
    theirs.lose()
    assert ours.kinds()[0] == "HandleTableRequest"
    rig.run(2.0)
    assert ours.up
    assert rig.known() == {HIGHER: "active"}
    assert rig.states(peer) == []
    rig.attach(BEING)
    assert len(ours.all(enrp.HandleUpdate)) == 1


def test_when_the_connection_that_is_given_up_ends_early_nothing_happens() -> None:
    rig, peer, ours, theirs = twice_connected(HIGHER, "ours, theirs")
    rig.forget()
    ours.lose()
    rig.run(1.0)
    assert theirs.up
    assert rig.states(peer) == []
    assert theirs.kinds() == ["Presence", "Presence"]


# -- a connection that ends


def test_a_peer_whose_connection_ended_is_dialled_at_once() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.line.lose()
    assert rig.known() == {LOWER: "probing"}
    assert rig.dialled() == [str(peer.endpoint)]


@pytest.mark.rfc("RFC 5353 3.4.3: a peer that does not answer in MAX-TIME-NO-RESPONSE, or cannot be sent to, is dead")
def test_a_peer_that_cannot_be_reached_again_is_dead_at_once() -> None:
    rig = alone()
    [peer, other] = rig.meet(LOWER, HIGHER)
    peer.own(BEING)
    peer.line.lose()
    rig.run(0.01)
    rig.forget()
    peer.refuse()
    assert rig.states(peer) == ["takeover", "gone"]
    assert other.line.kinds() == ["InitTakeover", "TakeoverServer"]
    assert rig.homes() == {BEING.identifier: US}


def test_a_peer_that_does_not_answer_the_dial_is_dead_after_the_response_time() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.line.lose()
    rig.run(0.399)
    assert rig.known() == {LOWER: "probing"}
    rig.run(0.002)
    assert rig.known() == {}


def test_a_peer_that_is_reached_again_is_active_and_its_table_is_read() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.own(BEING)
    peer.line.lose()
    rig.run(0.1)
    rig.forget()
    line = peer.answer()
    assert line.all(enrp.HandleTableRequest) == [replace(OWN_CHILDREN, receiver=LOWER)]
    assert rig.states(peer) == ["active"]
    rig.run(2.0)
    assert rig.known() == {LOWER: "active"}
    assert rig.homes() == {BEING.identifier: LOWER}


def test_a_peer_of_two_endpoints_is_dead_only_when_both_have_failed() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    sctp = SctpTransport(port=9999, addresses=peer.endpoint.addresses)
    both = ServerInformation(server_id=LOWER, transports=(sctp, transport_of(peer.endpoint)))
    peer.line.send(replace(peer.presence(), server=both))
    peer.line.lose()
    assert rig.dialled() == [str(endpoint_of(sctp)), str(peer.endpoint)]
    peer.refuse()
    assert rig.known() == {LOWER: "probing"}
    rig.fail(endpoint_of(sctp))
    assert rig.known() == {}


def test_a_peer_nobody_knows_the_address_of_gets_the_response_time_to_come_back() -> None:
    rig = alone()
    peer = rig.peer(LOWER, alive=False)
    peer.dial().send(enrp.Presence(sender=LOWER))
    peer.line.lose()
    assert rig.dialled() == []
    rig.run(0.3)
    peer.dial().send(enrp.Presence(sender=LOWER))
    assert rig.known() == {LOWER: "active"}
    rig.run(0.3)
    assert rig.known() == {LOWER: "active"}
