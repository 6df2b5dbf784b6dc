# SPDX-License-Identifier: Apache-2.0
"""What rsplib really sends: read, written again to the same octets, and understood as Wireshark understands it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.wire import (
    RFC,
    RSPLIB,
    DecodeError,
    Ppid,
    TcpTransport,
    TransportUse,
    asap,
    decode,
    encode,
    enrp,
    name_of,
)
from support.samples import V4, element
from support.wiredata import Capture, captures
from support.wireshark import flatten, tell

CAPTURES = captures()


@pytest.mark.rfc("PROTOCOL 15: what rsplib sends is read and written again to the same octets")
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_a_capture_is_written_again_to_the_same_octets_in_rsplibs_dialect(capture: Capture) -> None:
    message = decode(capture.octets, capture.ppid, RSPLIB)
    assert name_of(message) == capture.name
    assert encode(message, RSPLIB).hex() == capture.octets.hex()


@pytest.mark.rfc("PROTOCOL 15: what rsplib sends is read and written again to the same octets")
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_a_capture_is_understood_field_by_field_as_wireshark_understands_it(capture: Capture) -> None:
    message = decode(capture.octets, capture.ppid, RSPLIB)
    assert tell(message, RSPLIB) == flatten(capture.tshark)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_a_capture_is_read_in_the_rfcs_dialect_too(capture: Capture) -> None:
    message = decode(capture.octets, capture.ppid, RFC)
    assert name_of(message) == capture.name
    assert decode(encode(message, RFC), capture.ppid, RFC) == message


def test_a_takeover_suggestion_exists_only_in_rsplibs_dialect() -> None:
    update = next(c for c in CAPTURES if c.name == "ENRP_HANDLE_UPDATE" and c.octets[1] == 1)
    theirs, ours = decode(update.octets, Ppid.ENRP, RSPLIB), decode(update.octets, Ppid.ENRP, RFC)
    assert isinstance(theirs, enrp.HandleUpdate)
    assert isinstance(ours, enrp.HandleUpdate)
    assert theirs.takeover_suggested
    assert not ours.takeover_suggested
    assert encode(theirs, RFC)[1] == 0


def test_rsplib_keeps_a_transport_use_in_the_reserved_field_of_tcp() -> None:
    transport = TcpTransport(port=7, address=V4, use=TransportUse.DATA_PLUS_CONTROL)
    registration = asap.Registration(pool_handle=b"p", element=element(transport=transport))
    theirs, ours = encode(registration, RSPLIB), encode(registration, RFC)
    assert [i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b] == [35]
    assert decode(theirs, Ppid.ASAP, RSPLIB) == registration
    assert decode(theirs, Ppid.ASAP, RFC) == decode(ours, Ppid.ASAP, RFC)


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@given(capture=st.sampled_from(CAPTURES), data=st.data())
def test_a_mutated_capture_raises_nothing_but_a_decode_error(capture: Capture, data: st.DataObject) -> None:
    octets = bytearray(capture.octets)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        match data.draw(st.sampled_from(["set", "cut", "grow", "swap"])):
            case "set":
                octets[at] = data.draw(st.integers(0, 255))
            case "cut":
                del octets[at : at + data.draw(st.integers(1, 8))]
                octets = octets or bytearray(1)
            case "grow":
                octets[at:at] = data.draw(st.binary(max_size=8))
            case _:
                octets[2:4] = len(octets).to_bytes(2)
    for dialect in (RFC, RSPLIB):
        for ppid in Ppid:
            try:
                message = decode(bytes(octets), ppid, dialect)
            except DecodeError as e:
                assert 0 <= e.offset <= len(octets)
                assert "\n" not in str(e)
            else:
                assert decode(encode(message, dialect), ppid, dialect) == message
