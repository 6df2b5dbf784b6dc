# SPDX-License-Identifier: Apache-2.0
"""Octets that are almost a message: each is refused, with the place and the cause to report."""

from __future__ import annotations

import pytest

from rserpool.wire import (
    RFC,
    RFC_SCTP_ONLY,
    RSPLIB,
    CauseCode,
    DecodeError,
    EncodeError,
    ErrorCause,
    OpaqueTransport,
    PoolElement,
    Ppid,
    SctpTransport,
    ServerInformation,
    TcpTransport,
    asap,
    decode,
    decode_and_report,
    encode,
    enrp,
    policies,
)
from support.samples import TCP_PROFILE_SAMPLES, V4, element

HANDLE = "0009000c4563686f506f6f6c"
TCP = "00050010000700000001000 80a010203".replace(" ", "")
SCTP = "00040010000700000001000 80a010203".replace(" ", "")
RR = "0008000800000001"
PE_ID = "000e000811223344"


def message(kind: int, body: str, flags: int = 0) -> bytes:
    value = bytes.fromhex(body)
    return bytes([kind, flags]) + (4 + len(value)).to_bytes(2) + value


def pe(*parts: str, life: str = "0000012c") -> str:
    body = "1122334400000000" + life + "".join(parts)
    return f"000a{4 + len(body) // 2:04x}" + body


def registration(*parts: str, life: str = "0000012c") -> bytes:
    return message(1, HANDLE + pe(*parts, life=life))


BROKEN = {
    "nothing": (b"", 0),
    "three octets": (b"\1\0\0", 3),
    "Message Length 3": (bytes.fromhex("05000003"), 2),
    "Message Length beyond the octets": (bytes.fromhex("0500001000090009506f6f6c"), 2),
    "more than padding behind the message": (message(5, HANDLE) + b"\0\0\0\0", 16),
    "parameter Length 0": (message(5, "00090000"), 4),
    "parameter Length 3": (message(5, "00090003"), 4),
    "parameter beyond the message": (message(5, "0009000d4563686f506f6f6c"), 4),
    "nested parameter beyond its parent": (registration(TCP, "0008000c00000001"), 48),
    "empty pool handle": (message(5, "00090004"), 4),
    "no pool handle": (message(5, ""), 4),
    "two pool handles": (message(5, HANDLE + HANDLE), 16),
    "two PE identifiers": (message(2, HANDLE + PE_ID + PE_ID), 24),
    "PE identifier of five octets": (message(2, HANDLE + "000e00091122334455000000"), 16),
    "two pool elements": (message(1, HANDLE + pe(TCP, RR) + pe(TCP, RR)), 56),
    "no pool element": (message(1, HANDLE), 16),
    "pool element shorter than its fixed part": (message(1, HANDLE + "000a000c1122334400000000"), 16),
    "element without a policy": (registration(TCP), 16),
    "element without a transport": (registration(RR), 16),
    "element with two user transports": (registration(TCP, TCP, RR), 48),
    "element with two policies": (registration(TCP, RR, RR), 56),
    "element with two ASAP transports": (registration(TCP, RR, SCTP, SCTP), 72),
    "UDP as ASAP transport": (registration(TCP, RR, TCP.replace("0005", "0006", 1)), 56),
    "life 0": (registration(TCP, RR, life="00000000"), 28),
    "life -2": (registration(TCP, RR, life="fffffffe"), 28),
    "SCTP transport without an address": (registration("0004000800070000", RR), 32),
    "TCP transport without an address": (registration("0005000800070000", RR), 32),
    "TCP transport with two addresses": (registration("0005001800070000" + "000100080a010203" * 2, RR), 48),
    "transport of two octets": (registration("0005000600070000", RR), 32),
    "port 0": (registration(TCP.replace("0007", "0000"), RR), 36),
    "Transport Use 2": (registration(SCTP.replace("00070000", "00070002"), RR), 38),
    "IPv4 address of five octets": (registration("0005001100070000000100090a01020304000000", RR), 40),
    "IPv6 address of four octets": (registration("0005001000070000000200080a010203", RR), 40),
    "policy type 0": (registration(TCP, "0008000800000000"), 52),
    "policy type 0x40000000": (registration(TCP, "0008000840000000"), 52),
    "round robin with a weight": (registration(TCP, "0008000c0000000100000001"), 48),
    "weighted round robin without one": (registration(TCP, "0008000800000002"), 48),
    "policy of two octets": (registration(TCP, "000800060001"), 48),
    "error without a cause": (message(0x0E, "000c0004"), 4),
    "cause Length 2": (message(0x0E, "000c000800040002"), 8),
    "keep-alive without a server ID": (message(7, ""), 4),
    "empty cookie": (message(0x0B, "000d0004"), 4),
    "business card without an element": (message(0x0D, HANDLE), 16),
}
BROKEN_ENRP = {
    "no receiver": (message(5, "00000001"), 8),
    "checksum of four octets": (message(1, "0000000100000000000f000812345678"), 12),
    "update action 2": (message(4, "000000010000000000020000" + HANDLE + pe(TCP, RR, SCTP)), 12),
    "element before any handle": (message(3, "0000000100000000" + pe(TCP, RR, SCTP)), 12),
    "handle without an element": (message(3, "0000000100000000" + HANDLE), 12),
    "server information without a transport": (message(1, "0000000100000000000b000800000001"), 12),
    "server information with two transports of one type": (
        message(6, "0000000100000000000b002800000001" + SCTP + SCTP),
        36,
    ),
    "takeover without a target": (message(7, "0000000100000000"), 12),
}


@pytest.mark.rfc("RFC 5354 3: a parameter is as long as it says and lies inside its container")
@pytest.mark.rfc("RFC 5354 3.4: a transport has as many addresses as its type allows")
@pytest.mark.rfc("RFC 5354 3.10: an element has one user transport, one policy and at most one ASAP transport")
@pytest.mark.rfc("RFC 5352 2.2.14: an error message holds one Operation Error")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_asap_message_is_refused_at_the_right_offset(name: str) -> None:
    octets, offset = BROKEN[name]
    with pytest.raises(DecodeError) as caught:
        decode(octets, Ppid.ASAP)
    assert caught.value.offset == offset, str(caught.value)
    assert str(caught.value) == f"offset {offset}: {caught.value.reason}"


@pytest.mark.rfc("RFC 5354 3: a parameter is as long as it says and lies inside its container")
@pytest.mark.parametrize("name", BROKEN_ENRP)
def test_a_broken_enrp_message_is_refused_at_the_right_offset(name: str) -> None:
    octets, offset = BROKEN_ENRP[name]
    with pytest.raises(DecodeError) as caught:
        decode(octets, Ppid.ENRP)
    assert caught.value.offset == offset, str(caught.value)


@pytest.mark.rfc("RFC 5354 3.12.4: an invalid value is reported with its parameter")
def test_a_broken_value_is_reported_with_the_offending_parameter() -> None:
    transport = TCP.replace("0007", "0000")
    with pytest.raises(DecodeError) as caught:
        decode(registration(transport, RR), Ppid.ASAP)
    assert caught.value.causes == (ErrorCause(CauseCode.INVALID_VALUES, bytes.fromhex(transport)),)


def test_a_broken_registration_still_tells_whom_to_answer() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(registration(TCP), Ppid.ASAP)
    assert caught.value.message_type == 1
    assert caught.value.pool_handle == b"EchoPool"
    assert caught.value.pe_identifier == 0x11223344


def test_a_broken_message_without_a_handle_names_nobody() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(message(2, "00090003"), Ppid.ASAP)
    assert caught.value.pool_handle is None
    assert caught.value.pe_identifier is None


@pytest.mark.rfc("PROTOCOL 14.1: both readings of the last padding are understood")
def test_octets_after_the_last_parameter_are_taken_for_padding_when_fewer_than_four() -> None:
    octets = bytes.fromhex("05000013" + HANDLE + "abcdef00")
    assert decode(octets, Ppid.ASAP) == asap.HandleResolution(pool_handle=b"EchoPool")


@pytest.mark.rfc("RFC 5354 4: flags without a meaning are sent as 0 and ignored")
def test_undefined_flags_are_ignored_and_not_sent_on() -> None:
    read = decode(message(5, HANDLE, flags=0xFE), Ppid.ASAP)
    assert read == asap.HandleResolution(pool_handle=b"EchoPool")
    assert encode(read)[1] == 0


@pytest.mark.rfc("PROTOCOL 2.3: parameters may come in any order, and what has no place is skipped")
def test_optional_parameters_may_come_in_any_order() -> None:
    octets = message(3, PE_ID + "000c0008000a0004" + HANDLE, flags=1)
    assert decode(octets, Ppid.ASAP) == asap.RegistrationResponse(
        pool_handle=b"EchoPool",
        pe_identifier=0x11223344,
        reject=True,
        error=(ErrorCause(CauseCode.SECURITY_REJECTION),),
    )


@pytest.mark.rfc("RFC 5354 3.10: the ASAP transport is SCTP")
@pytest.mark.parametrize("sample", TCP_PROFILE_SAMPLES, ids=lambda s: type(s).__name__)
def test_tcp_stands_for_sctp_only_with_the_tcp_profile(sample: asap.Registration | enrp.Presence) -> None:
    octets = encode(sample)
    ppid = Ppid.ASAP if isinstance(sample, asap.Registration) else Ppid.ENRP
    assert decode(octets, ppid, RFC) == sample
    for without in (RFC_SCTP_ONLY, RSPLIB):
        with pytest.raises(DecodeError, match="must be SCTP"):
            decode(octets, ppid, without)


LENGTHS = {"first": 0, "middle": 1, "last": 2}


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize("place", LENGTHS)
@pytest.mark.parametrize(
    ("kind", "stops", "reported"),
    [(0x0123, True, False), (0x4123, True, True), (0x8123, False, False), (0xC123, False, True)],
)
def test_an_unknown_parameter_does_what_its_top_bits_say(place: str, kind: int, *, stops: bool, reported: bool) -> None:
    unknown = f"{kind:04x}0007616263"
    parts = [HANDLE, PE_ID]
    parts.insert(LENGTHS[place], unknown + "00")
    octets = message(2, "".join(parts))
    report = (ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, bytes.fromhex(unknown)),) if reported else ()
    if stops:
        with pytest.raises(DecodeError) as caught:
            decode(octets, Ppid.ASAP)
        assert caught.value.causes == report
    else:
        decoded = decode_and_report(octets, Ppid.ASAP)
        assert decoded.reports == report
        assert isinstance(decoded.message, asap.Deregistration)
        assert decoded.message.unrecognized[0].raw == bytes.fromhex(unknown)


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize("inner", ["element", "transport"])
@pytest.mark.parametrize(("kind", "stops"), [(0x4123, True), (0xC123, False)])
def test_an_unknown_parameter_deep_inside_does_the_same(inner: str, kind: int, *, stops: bool) -> None:
    unknown = f"{kind:04x}0008deadbeef"
    if inner == "element":
        octets = registration(TCP, unknown, RR)
    else:
        octets = registration("0005001800070000000100080a010203" + unknown, RR)
    report = (ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, bytes.fromhex(unknown)),)
    if stops:
        with pytest.raises(DecodeError) as caught:
            decode(octets, Ppid.ASAP)
        assert caught.value.causes == report
    else:
        decoded = decode_and_report(octets, Ppid.ASAP)
        assert decoded.reports == report
        assert encode(decoded.message) == octets


@pytest.mark.rfc("RFC 5354 3.12.2: several unknown parameters are reported in one error")
def test_each_unknown_parameter_gets_a_cause_of_its_own() -> None:
    octets = message(2, "c1230004" + HANDLE + "c1240004" + PE_ID + "41250004")
    with pytest.raises(DecodeError) as caught:
        decode(octets, Ppid.ASAP)
    assert [c.info.hex() for c in caught.value.causes] == ["c1230004", "c1240004", "41250004"]


@pytest.mark.rfc("RFC 5354 4: an unknown message does what its top bits say")
@pytest.mark.parametrize(("kind", "reported"), [(0x0F, False), (0x4F, True), (0x8F, False), (0xCF, False)])
@pytest.mark.parametrize("ppid", Ppid)
def test_an_unknown_message_is_reported_only_if_its_top_bits_say_so(kind: int, ppid: Ppid, *, reported: bool) -> None:
    octets = message(kind, HANDLE)
    with pytest.raises(DecodeError) as caught:
        decode(octets, ppid)
    expected = (ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE, octets),) if reported else ()
    assert caught.value.causes == expected


def test_an_unknown_message_too_long_for_an_answer_is_cut() -> None:
    octets = message(0x4F, "00" * 65531)
    with pytest.raises(DecodeError) as caught:
        decode(octets, Ppid.ENRP)
    answer = encode(enrp.EnrpError(sender=1, error=caught.value.causes))
    assert len(answer) <= 65536


@pytest.mark.rfc("PROTOCOL 2.3: parameters may come in any order, and what has no place is skipped")
def test_parameters_that_have_no_business_in_a_message_are_skipped() -> None:
    octets = message(2, HANDLE + PE_ID + RR)
    decoded = decode_and_report(octets, Ppid.ASAP)
    assert decoded.reports == ()
    assert encode(decoded.message) == octets


@pytest.mark.parametrize(
    "message",
    [
        asap.Deregistration(pool_handle=b"", pe_identifier=1),
        asap.Deregistration(pool_handle=b"p", pe_identifier=1 << 32),
        asap.Deregistration(pool_handle=b"p" * 65530, pe_identifier=1),
        asap.Deregistration(pool_handle=b"p" * 65536, pe_identifier=1),
        asap.Registration(pool_handle=b"p", element=element(-1)),
        asap.Registration(pool_handle=b"p", element=element(transport=TcpTransport(port=65536, address=V4))),
        asap.Registration(pool_handle=b"p", element=element(transport=SctpTransport(port=1, addresses=()))),
        asap.Registration(pool_handle=b"p", element=element(policy=policies.Priority(-1))),
        asap.Registration(pool_handle=b"p", element=element(transport=OpaqueTransport(value=b"x" * 65536))),
        asap.EndpointKeepAlive(server_id=1 << 32, pool_handle=b"p"),
        enrp.Presence(sender=1, checksum=65536),
        enrp.Presence(sender=1, server=ServerInformation(server_id=1, transports=())),
        enrp.HandleTableResponse(sender=1, pools=(asap.BusinessCard(pool_handle=b"p", elements=()),)),  # type: ignore[arg-type] # what no type allows is written
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_message_that_has_no_form_on_the_wire_is_not_written(message: asap.Registration) -> None:
    with pytest.raises(EncodeError):
        encode(message)


@pytest.mark.rfc("PROTOCOL 3.1: addresses that nobody else could reach are not registered")
def test_an_ipv4_mapped_address_is_written_as_ipv4() -> None:
    from ipaddress import IPv6Address

    mapped = PoolElement(
        identifier=1,
        home=0,
        life=1,
        transport=TcpTransport(port=1, address=IPv6Address("::ffff:10.1.2.3")),
        policy=policies.RoundRobin(),
    )
    read = decode(encode(asap.Registration(pool_handle=b"p", element=mapped)), Ppid.ASAP)
    assert isinstance(read, asap.Registration)
    assert read.element.transport == TcpTransport(port=1, address=V4)
