# SPDX-License-Identifier: Apache-2.0
"""What holds for every message and for any octets at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.wire import RFC, RSPLIB, DecodeError, Message, Ppid, decode, encode, ppid_of, to_jsonable
from rserpool.wire.tlv import UnrecognizedParameter
from support import strategies


@pytest.mark.rfc("RFC 5354 4: messages are written and read as their figures show them")
@given(message=strategies.messages)
def test_every_message_is_read_as_it_was_written(message: Message) -> None:
    octets = encode(message)
    assert len(octets) % 4 == 0
    assert decode(octets, ppid_of(message)) == message


@given(message=strategies.messages)
def test_every_message_is_written_as_it_was_read(message: Message) -> None:
    octets = encode(message)
    assert encode(decode(octets, ppid_of(message))) == octets


@given(message=strategies.messages)
def test_every_message_can_be_shown_as_json(message: Message) -> None:
    assert json.loads(json.dumps(to_jsonable(message)))["name"]


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@given(octets=st.binary(max_size=200), ppid=st.sampled_from(Ppid), dialect=st.sampled_from([RFC, RSPLIB]))
def test_arbitrary_octets_raise_nothing_but_a_decode_error(octets: bytes, ppid: Ppid, dialect: object) -> None:
    try:
        decode(octets, ppid, RFC if dialect is RFC else RSPLIB)
    except DecodeError as e:
        assert 0 <= e.offset <= len(octets)


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@given(
    kind=st.integers(1, 14),
    flags=st.integers(0, 255),
    value=st.binary(max_size=120).map(lambda b: b[: len(b) & ~3]),
    ppid=st.sampled_from(Ppid),
)
def test_octets_behind_a_good_header_raise_nothing_but_a_decode_error(
    kind: int, flags: int, value: bytes, ppid: Ppid
) -> None:
    octets = bytes([kind, flags]) + (4 + len(value)).to_bytes(2) + value
    try:
        message = decode(octets, ppid)
    except DecodeError as e:
        assert 0 <= e.offset <= len(octets)
    else:
        assert decode(encode(message), ppid) == message


def _top_level(octets: bytes, start: int) -> list[int]:
    """Offsets at which a parameter may be inserted."""
    end, at, cuts = int.from_bytes(octets[2:4]), start, []
    while end - at >= 4:
        cuts.append(at)
        at += (int.from_bytes(octets[at + 2 : at + 4]) + 3) & ~3
    return [*cuts, len(octets)]


@pytest.mark.rfc("PROTOCOL 2.3: parameters may come in any order, and what has no place is skipped")
@given(message=strategies.messages, data=st.data())
def test_a_skippable_parameter_is_kept_verbatim_where_it_stood(message: Message, data: st.DataObject) -> None:
    octets = encode(message)
    fixed = sum({"I": 4, "H": 2, "2x": 2}[f] for f in message.LAYOUT.fixed.values())
    cuts = _top_level(octets, 4 + fixed)
    index = data.draw(st.integers(0, len(cuts) - 1))
    raw = data.draw(strategies.skippable)
    padded = raw + b"\0" * (-len(raw) % 4)
    grown = octets[: cuts[index]] + padded + octets[cuts[index] :]
    last_is_new = index == len(cuts) - 1
    last_pad = len(padded) - len(raw) if last_is_new else len(octets) - int.from_bytes(octets[2:4])
    grown = grown[:2] + (len(grown) - last_pad).to_bytes(2) + grown[4:]
    read = decode(grown, ppid_of(message))
    assert read.unrecognized == (UnrecognizedParameter(index, raw),)
    assert encode(read) == grown
