# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, an element changes nothing it should not, and reports what RFC 5354 3 and 4 want reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.element import Element
from rserpool.asap.events import Ignored, Malformed
from rserpool.wire import CauseCode, ErrorCause, Message, asap, encode
from rserpool.wire.tlv import UnrecognizedParameter
from support import strategies
from support.far_ends import IDENTIFIERS, POOL, place, registrar
from support.rig_endpoints import Rig, element_rig, keep_alive
from support.samples import element

SKIP, SKIP_AND_REPORT = bytes.fromhex("81230004"), bytes.fromhex("c1230004")
STOP, STOP_AND_REPORT = bytes.fromhex("01230004"), bytes.fromhex("41230004")
NOT_FOR_ELEMENTS: list[Message] = [
    asap.Registration(pool_handle=POOL, element=element()),
    asap.Deregistration(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]),
    asap.HandleResolution(pool_handle=POOL),
    asap.HandleResolutionResponse(pool_handle=POOL, elements=(element(),)),
    asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]),
    asap.EndpointUnreachable(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]),
    asap.ServerAnnounce(server_id=1),
    asap.Cookie(cookie=b"state"),
    asap.CookieEcho(cookie=b"state"),
    asap.BusinessCard(pool_handle=POOL, elements=(element(),)),
]


def settled() -> Rig[Element]:
    rig = element_rig()
    rig.run(0.5)
    rig.clear()
    return rig


def snapshot(rig: Rig[Element]) -> tuple[object, ...]:
    """All an onlooker can see of an element."""
    machine = rig.machine
    shown = (machine.state, machine.registered, machine.home_id, machine.pe_identifier, machine.deadline())
    return (*shown, set(rig.up), rig.connecting)


def with_parameter(raw: bytes, message: asap.EndpointKeepAlive | None = None) -> bytes:
    """A keep-alive with a further parameter at its end."""
    octets = encode(message or keep_alive()) + raw
    return octets[:2] + len(octets).to_bytes(2) + octets[4:]


def reported(rig: Rig[Element]) -> list[tuple[int, bytes]]:
    return [(cause.code, cause.info) for error in rig.of(asap.AsapError) for cause in error.error]


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@given(octets=st.binary(max_size=80))
def test_arbitrary_octets_change_nothing(octets: bytes) -> None:
    rig = settled()
    before = snapshot(rig)
    rig.feed(rig.at(1), octets)
    assert snapshot(rig) == before
    assert rig.closed == []
    assert [type(e) for e in rig.events] in ([Malformed], [Ignored], [])
    assert all(isinstance(m, asap.AsapError) for m in rig.messages)


@given(octets=st.binary(max_size=80), kind=st.sampled_from([3, 4, 7]), flags=st.integers(0, 255))
def test_broken_messages_of_the_kinds_it_knows_change_nothing(octets: bytes, kind: int, flags: int) -> None:
    rig = settled()
    before = snapshot(rig)
    broken = (b"\0\0\0\1" if kind == 7 else b"") + b"\0\x09\0\3" + octets  # a pool handle of Length 3
    rig.feed(rig.at(1), bytes([kind, flags]) + (4 + len(broken)).to_bytes(2) + broken)
    assert rig.of(Malformed)
    assert snapshot(rig) == before


@given(messages=st.lists(strategies.messages, max_size=6))
def test_no_message_whatever_makes_an_element_fail(messages: list[Message]) -> None:
    rig = settled()
    other = rig.call(registrar(2))
    for index, message in enumerate(messages):
        rig.feed(other if index % 2 else rig.at(1), encode(message))
    rig.run(5)
    assert rig.machine.registered


@pytest.mark.rfc("PROTOCOL 2.2: nothing changes before the whole message was read")
@pytest.mark.parametrize("cut", range(1, 28))
def test_a_keep_alive_cut_short_is_malformed_and_not_acknowledged(cut: int) -> None:
    rig = settled()
    octets = encode(keep_alive(9, home=True))
    assert len(octets) == 24
    rig.feed(rig.at(1), octets[: len(octets) - cut] if cut < 24 else octets + b"\0" * (cut - 20))
    assert len(rig.of(Malformed)) == 1
    assert rig.of(asap.EndpointKeepAliveAck) == []
    assert rig.machine.home_id == 0


def test_a_malformed_message_is_reported_with_its_sender_and_place() -> None:
    rig = settled()
    rig.feed(rig.at(1), b"\x07\x00\x00\x03")
    (malformed,) = rig.of(Malformed)
    assert malformed.peer == f"{registrar(1).name} at {place(1)}"
    assert malformed.offset == 2
    assert "Length 3" in malformed.reason


@pytest.mark.parametrize("message", NOT_FOR_ELEMENTS, ids=lambda m: type(m).__name__)
def test_a_message_that_is_not_for_elements_is_ignored(message: Message) -> None:
    rig = settled()
    before = snapshot(rig)
    rig.feed(rig.at(1), message)
    assert [e.reason for e in rig.of(Ignored)] == ["not for a pool element"]
    assert rig.of(Ignored)[0].what.startswith("ASAP_")
    assert rig.messages == []
    assert snapshot(rig) == before


def test_an_error_is_noted_and_never_answered() -> None:
    rig = settled()
    before = snapshot(rig)
    causes = (ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE, b"\x4f\0\0\4"), ErrorCause(0xF000))
    rig.feed(rig.at(1), asap.AsapError(error=causes, unrecognized=(UnrecognizedParameter(0, SKIP_AND_REPORT),)))
    assert rig.messages == []
    (ignored,) = rig.of(Ignored)
    assert (ignored.what, ignored.reason) == ("ASAP_ERROR", "UNRECOGNIZED_MESSAGE, UNASSIGNED_0xf000")
    assert snapshot(rig) == before


@pytest.mark.rfc("PROTOCOL 2.2: an error is never answered by an error")
def test_a_broken_error_is_never_answered() -> None:
    rig = settled()
    rig.feed(rig.at(1), b"\x0e\0\0\x08" + STOP_AND_REPORT)
    rig.feed(rig.at(1), b"\x0e\0\0\x08" + b"\0\x0c\0\x03")
    assert len(rig.of(Malformed)) == 2
    assert rig.messages == []


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize(
    ("raw", "acknowledged", "causes"),
    [
        (SKIP, True, []),
        (SKIP_AND_REPORT, True, [(CauseCode.UNRECOGNIZED_PARAMETER, SKIP_AND_REPORT)]),
        (SKIP_AND_REPORT + SKIP_AND_REPORT, True, [(CauseCode.UNRECOGNIZED_PARAMETER, SKIP_AND_REPORT)] * 2),
        (STOP, False, []),
        (STOP_AND_REPORT, False, [(CauseCode.UNRECOGNIZED_PARAMETER, STOP_AND_REPORT)]),
    ],
    ids=["skip", "skip and report", "skip and report, twice", "stop", "stop and report"],
)
def test_unknown_parameters_are_treated_as_their_top_bits_say(
    raw: bytes, acknowledged: bool, causes: list[tuple[int, bytes]]
) -> None:
    """RFC 5354 3."""
    rig = settled()
    rig.feed(rig.at(1), with_parameter(raw))
    assert len(rig.of(asap.EndpointKeepAliveAck)) == int(acknowledged)
    assert reported(rig) == causes
    assert {s.association for s in rig.sent} <= {rig.at(1)}


@pytest.mark.rfc("RFC 5354 4: an unknown message does what its top bits say")
@pytest.mark.parametrize(
    ("octets", "causes"),
    [
        (b"\x0f\0\0\4", []),
        (b"\x4f\0\0\4", [(CauseCode.UNRECOGNIZED_MESSAGE, b"\x4f\0\0\4")]),
        (b"\x8f\0\0\4", []),
        (b"\xcf\0\0\4", []),
    ],
    ids=lambda v: f"{v[0]:#04x}" if isinstance(v, bytes) else "",
)
def test_unknown_messages_are_treated_as_their_top_bits_say(octets: bytes, causes: list[tuple[int, bytes]]) -> None:
    """RFC 5354 4."""
    rig = settled()
    rig.feed(rig.at(1), octets)
    assert reported(rig) == causes


@pytest.mark.rfc("PROTOCOL 13.8: error answers are few and hardly longer than what they answer")
def test_reports_of_unknown_parameters_are_limited() -> None:
    """PROTOCOL 13.8: ten a second and association."""
    rig = settled()
    for _ in range(200):
        rig.feed(rig.at(1), with_parameter(SKIP_AND_REPORT, keep_alive(handle=b"other")))
    assert 1 <= len(rig.of(asap.AsapError)) <= 20
