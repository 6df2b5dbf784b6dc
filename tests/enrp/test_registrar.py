# SPDX-License-Identifier: Apache-2.0
"""The whole machine: bad octets are answered within limits, lists name who is there, the dump shows how it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.events import Malformed
from rserpool.wire import CauseCode, ErrorCause, Message, Ppid, UpdateAction, encode, enrp
from support.beings import HIGHER, HIGHEST, LOWER, US, Being, endpoint, server_information
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEING = Being(30)
UNKNOWN = bytes.fromhex("4f00000c0000000100000002")


def with_parameter(message: Message, kind: int) -> tuple[bytes, bytes]:
    """A message with a parameter nobody knows behind it, and that parameter."""
    octets = encode(message)
    length = int.from_bytes(octets[2:4])
    assert length % 4 == 0
    parameter = kind.to_bytes(2) + bytes.fromhex("0007abcdef")
    return octets[:2] + (length + 7).to_bytes(2) + octets[4:] + parameter + b"\0", parameter


def known(*, server_id: int = LOWER) -> tuple[Rig, Peer]:
    rig = alone()
    [peer] = rig.meet(server_id)
    return rig, peer


def add_pe(peer: Peer) -> enrp.HandleUpdate:
    return enrp.HandleUpdate(
        sender=peer.server_id, action=UpdateAction.ADD_PE, pool_handle=POOL, element=BEING.element(peer.server_id)
    )


# -- octets that are no message (PROTOCOL 2.1, 2.2)


@pytest.mark.rfc("RFC 5354 4: an unknown message does what its top bits say")
@pytest.mark.rfc("RFC 5353 3.7: what is not understood is reported by ENRP_ERROR")
@pytest.mark.parametrize(("kind", "reported"), [(0x0F, False), (0x4F, True), (0x8F, False), (0xCF, False)])
def test_an_unknown_message_is_reported_whole_if_its_top_bits_say_so(kind: int, *, reported: bool) -> None:
    rig, peer = known()
    octets = bytes([kind]) + UNKNOWN[1:]
    peer.line.send_octets(octets)
    cause = ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE, octets)
    expected = [enrp.EnrpError(sender=US, error=(cause,))] if reported else []
    assert [m for _, m in peer.line.sent] == expected
    [event] = rig.seen(Malformed)
    assert (event.offset, event.reason) == (0, f"unrecognised ENRP message type {kind:#04x}")
    assert peer.line.up


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.rfc("RFC 5353 3.7: what is not understood is reported by ENRP_ERROR")
@pytest.mark.parametrize(
    ("kind", "stops", "reported"),
    [(0x0123, True, False), (0x4123, True, True), (0x8123, False, False), (0xC123, False, True)],
)
def test_an_unknown_parameter_does_what_its_top_bits_say(kind: int, *, stops: bool, reported: bool) -> None:
    rig, peer = known()
    octets, parameter = with_parameter(add_pe(peer), kind)
    peer.line.send_octets(octets)
    assert rig.homes() == ({} if stops else {BEING.identifier: LOWER})
    errors = peer.line.all(enrp.EnrpError)
    assert [e.error for e in errors] == (
        [(ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, parameter),)] if reported else []
    )
    assert all(e.sender == US for e in errors)


@pytest.mark.rfc("PROTOCOL 2.2: nothing changes before the whole message was read")
def test_a_message_that_is_stopped_does_not_even_make_its_sender_known() -> None:
    rig = alone()
    stranger = rig.peer(LOWER)
    octets, _ = with_parameter(stranger.presence(reply=True), 0x4123)
    stranger.dial().send_octets(octets)
    assert rig.known() == {}
    assert stranger.line.kinds() == ["EnrpError"]


@pytest.mark.rfc("PROTOCOL 7: an update action nobody knows is an invalid value")
def test_an_update_action_nobody_knows_is_an_invalid_value() -> None:
    rig, peer = known()
    peer.own(BEING)
    octets = bytearray(encode(add_pe(peer)))
    octets[13] = 2
    peer.line.send_octets(bytes(octets))
    [error] = peer.line.all(enrp.EnrpError)
    assert [c.code for c in error.error] == [CauseCode.INVALID_VALUES]
    assert rig.homes() == {BEING.identifier: LOWER}


@pytest.mark.parametrize(
    "octets", [b"", b"\1", b"\1\0\0\3", b"\1\0\1\0" + bytes(8), encode(enrp.Presence(sender=1)) + bytes(4)]
)
def test_octets_with_a_wrong_length_are_dropped_and_counted(octets: bytes) -> None:
    rig, peer = known()
    peer.line.send_octets(octets)
    assert len(rig.seen(Malformed)) == 1
    assert peer.line.sent == []
    peer.line.send(add_pe(peer))
    assert rig.homes() == {BEING.identifier: LOWER}


ERROR = enrp.EnrpError(sender=LOWER, receiver=US, error=(ErrorCause(CauseCode.SECURITY_REJECTION),))


@pytest.mark.rfc("PROTOCOL 2.2: an error is never answered by an error")
@pytest.mark.parametrize(
    "octets",
    [encode(ERROR), with_parameter(ERROR, 0xC123)[0], with_parameter(ERROR, 0x4123)[0], bytes.fromhex("0a000004")],
    ids=["well formed", "with something to report", "with something to report and stop", "broken"],
)
def test_an_error_is_never_answered(octets: bytes) -> None:
    _, peer = known()
    for _ in range(3):
        peer.line.send_octets(octets)
    assert peer.line.sent == []


def test_an_error_from_a_peer_is_shown_to_the_operator() -> None:
    rig, peer = known()
    peer.line.send(ERROR)
    [(what, reason)] = rig.ignored()
    assert what == "ENRP_ERROR"
    assert "security" in reason.lower()


# -- limits (PROTOCOL 13.8)


@pytest.mark.rfc("PROTOCOL 13.8: error answers are few and hardly longer than what they answer")
def test_ten_errors_are_answered_at_once_and_then_ten_a_second() -> None:
    rig, peer = known()
    for _ in range(30):
        peer.line.send_octets(UNKNOWN)
    assert len(peer.line.all(enrp.EnrpError)) == 10
    rig.forget()
    for _ in range(20):
        rig.run(0.05)
        peer.line.send_octets(UNKNOWN)
    assert len(peer.line.all(enrp.EnrpError)) == 10
    assert peer.line.up


@pytest.mark.parametrize("what", ["unknown messages", "messages for others", "broken octets"])
def test_a_peer_that_goes_on_sending_nonsense_is_left_and_probed(what: str) -> None:
    rig, peer = known()
    peer.alive = False
    octets = {
        "unknown messages": UNKNOWN,
        "messages for others": encode(enrp.ListRequest(sender=LOWER, receiver=HIGHER)),
        "broken octets": b"\1\0\0\3",
    }[what]
    line = peer.line
    for _ in range(109):
        line.send_octets(octets)
    assert line.up
    line.send_octets(octets)
    assert line.closed is not None
    assert line.closed.abort
    assert line.closed.reason == "too many bad or forbidden messages"
    assert rig.known() == {LOWER: "probing"}
    rig.run(0.5)
    assert rig.known() == {}


def test_one_peers_nonsense_costs_no_other_its_answers() -> None:
    rig = alone()
    bad, good = rig.meet(LOWER, HIGHER)
    for _ in range(50):
        bad.line.send_octets(UNKNOWN)
    good.line.send_octets(UNKNOWN)
    assert len(good.line.all(enrp.EnrpError)) == 1


def test_a_peer_that_speaks_well_is_never_limited() -> None:
    rig, peer = known()
    for _ in range(300):
        peer.line.send(peer.presence(reply=True))
    assert len(peer.line.all(enrp.Presence)) == 300
    assert rig.events == []


# -- lists


@pytest.mark.rfc("RFC 5353 2.6: a list names all registrars that are known")
def test_the_list_names_us_and_every_other_registrar_whose_address_is_known() -> None:
    rig = alone()
    asking, other = rig.meet(LOWER, HIGHER)
    shy = rig.peer(HIGHEST, alive=False)
    shy.dial().send(replace(shy.presence(), server=None))
    asking.line.sent.clear()
    for receiver in (0, US):
        asking.line.send(enrp.ListRequest(sender=LOWER, receiver=receiver))
    response = enrp.ListResponse(
        sender=US,
        receiver=LOWER,
        servers=(server_information(US, 1), server_information(HIGHER, other.number)),
    )
    assert [m for _, m in asking.line.sent] == [response, response]
    assert other.line.sent == []


@pytest.mark.rfc("RFC 5353 2.6: a list names all registrars that are known")
def test_the_list_of_who_knows_nobody_names_itself() -> None:
    _, peer = known()
    peer.line.send(enrp.ListRequest(sender=LOWER))
    assert [m for _, m in peer.line.sent] == [
        enrp.ListResponse(sender=US, receiver=LOWER, servers=(server_information(US, 1),))
    ]


# -- what people see


def test_the_dump_shows_itself_its_peers_and_its_handlespace() -> None:
    rig = alone()
    low, _ = rig.meet(LOWER, HIGHER)
    low.own(BEING)
    rig.peers[1].line.lose()
    dump = rig.machine.dump()
    assert rig.machine.standing() == {name: value for name, value in dump.items() if name != "handlespace"}
    assert (dump["server_id"], dump["phase"], dump["endpoints"]) == ("0x50000000", "serving", [str(endpoint(1))])
    assert dump["peers"] == [
        {
            "server_id": "0x20000000",
            "identity": low.principal.name,
            "state": "active",
            "endpoints": [str(low.endpoint)],
            "connected": True,
        },
        {
            "server_id": "0x80000000",
            "identity": rig.peers[1].principal.name,
            "state": "probing",
            "endpoints": [str(rig.peers[1].endpoint)],
            "connected": False,
        },
    ]
    [pool] = dump["handlespace"]["pools"]
    assert [e["home"] for e in pool["elements"]] == ["0x20000000"]
    assert rig.machine.server_id == US


def test_the_counts_tell_elements_own_ones_and_peers_by_state() -> None:
    rig = alone()
    low, _ = rig.meet(LOWER, HIGHER)
    low.own(Being(31), Being(32))
    rig.attach(BEING)
    rig.peers[1].line.lose()
    assert rig.machine.counts() == {
        "pools": 1,
        "elements": 3,
        "own": 1,
        "attached": 1,
        "checksums differ": 0,
        "checksum mismatches": 0,
        "peers active": 1,
        "peers probing": 1,
    }


# -- late effects


def test_what_comes_over_an_association_that_has_ended_is_not_read() -> None:
    rig, peer = known()
    line = peer.line
    line.lose()
    rig.forget()
    line.send(add_pe(peer))
    line.lose()
    assert rig.events == []
    assert rig.homes() == {}


def test_a_connection_that_nobody_wants_any_more_is_closed() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.own(BEING)
    peer.line.lose()
    peer.refuse()
    rig.run(0.001)
    [(request, (_, connect))] = rig.dials.items()
    assert connect.endpoint == BEING.listening
    rig.attach(BEING)  # it has come by itself, the attempt is abandoned
    rig.dials[request] = (rig.now + 1, connect)  # and succeeds all the same
    late = rig.reached(BEING)
    assert late.closed is not None
    assert late.closed.reason == "not wanted any more"
    assert late.sent == []


def test_an_enrp_association_carries_no_asap_and_the_other_way_round() -> None:
    rig, peer = known()
    user = rig.user()
    user.send_octets(encode(add_pe(peer)))
    assert rig.homes() == {}
    assert peer.line.association.service is Ppid.ENRP
