# SPDX-License-Identifier: Apache-2.0
"""Frames: whatever is written is read again, however the stream is cut; a stream that is none ends at an offset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.session.frames import (
    CONTROL,
    DATA,
    HEADER,
    MAX_PAYLOAD,
    Frame,
    FrameError,
    FrameReader,
    control,
    data,
    encode,
)
from rserpool.wire import Ppid, asap, decode

frames = st.lists(st.builds(Frame, st.integers(0, 0xFFFFFFFF), st.binary(max_size=80)), max_size=8)


def read(stream: bytes, cuts: list[int]) -> list[Frame]:
    """What a reader makes of a stream that is cut there."""
    reader, at, found = FrameReader(), 0, []
    for cut in [*sorted(c % (len(stream) + 1) for c in cuts), len(stream)]:
        found += reader.feed(stream[at:cut])
        at = cut
    assert reader.pending == 0
    assert reader.offset == len(stream)
    return found


@pytest.mark.rfc("PROTOCOL 9.6: frames carry control messages and user data on one connection")
@pytest.mark.rfc("PROTOCOL 9.6")
@given(frames, st.lists(st.integers(0, 1000), max_size=12))
def test_what_is_written_is_read_however_the_stream_is_cut(written: list[Frame], cuts: list[int]) -> None:
    assert read(b"".join(map(encode, written)), cuts) == written


@pytest.mark.rfc("PROTOCOL 9.6: frames carry control messages and user data on one connection")
@pytest.mark.rfc("PROTOCOL 9.6")
def test_a_frame_is_laid_out_as_the_page_says() -> None:
    assert encode(Frame(11, b"abc")) == bytes.fromhex("0000000b 00000003 616263")
    assert encode(Frame(0xFFFFFFFF, b"")) == bytes.fromhex("ffffffff 00000000")
    assert (CONTROL, DATA) == (Ppid.ASAP, 0)


@given(st.integers(0, 3 * MAX_PAYLOAD + 5))
def test_user_data_of_any_length_is_split_and_comes_back_whole(length: int) -> None:
    octets = (b"0123456789abcdef" * (length // 16 + 1))[:length]
    pieces = list(data(octets))
    assert len(pieces) == -(-length // MAX_PAYLOAD)
    found = read(b"".join(pieces), [])
    assert {frame.ppid for frame in found} <= {DATA}
    assert b"".join(frame.payload for frame in found) == octets


@pytest.mark.rfc("PROTOCOL 9.6: frames carry control messages and user data on one connection")
def test_a_control_message_is_one_asap_message_in_a_frame() -> None:
    message = asap.CookieEcho(cookie=b"c" * 5)
    (frame,) = read(control(message), [])
    assert frame.ppid == 11
    assert decode(frame.payload, Ppid.ASAP) == message


def test_the_longest_payload_is_taken_and_one_octet_more_is_not_written() -> None:
    longest = Frame(DATA, bytes(MAX_PAYLOAD))
    assert read(encode(longest), []) == [longest]
    with pytest.raises(ValueError, match="split it"):
        encode(Frame(DATA, bytes(MAX_PAYLOAD + 1)))


@pytest.mark.parametrize("ppid", [-1, 1 << 32])
def test_an_identifier_that_has_no_32_bits_is_not_written(ppid: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        encode(Frame(ppid, b""))


@pytest.mark.rfc("PROTOCOL 9.6: frames carry control messages and user data on one connection")
@given(frames, st.integers(MAX_PAYLOAD + 1, 0xFFFFFFFF), st.binary(max_size=40))
def test_a_length_that_cannot_be_is_named_by_its_offset_and_the_reader_is_dead(
    before: list[Frame], length: int, after: bytes
) -> None:
    good = b"".join(map(encode, before))
    reader = FrameReader()
    assert reader.feed(good) == before
    with pytest.raises(FrameError) as raised:
        reader.feed(bytes(4) + length.to_bytes(4) + after)
    assert raised.value.offset == len(good) + 4
    assert str(length) in raised.value.reason
    assert str(raised.value) == f"offset {len(good) + 4}: {raised.value.reason}"
    assert reader.pending == 0
    with pytest.raises(FrameError) as again:
        reader.feed(encode(Frame(DATA, b"x")))
    assert again.value is raised.value


@given(st.binary(max_size=4000), st.lists(st.integers(0, 4000), max_size=6))
def test_of_any_octets_no_more_is_held_than_one_frame(stream: bytes, cuts: list[int]) -> None:
    reader, at = FrameReader(), 0
    for cut in [*sorted(cuts), len(stream)]:
        try:
            reader.feed(stream[at:cut])
        except FrameError:
            break
        at = max(at, cut)
        assert reader.pending <= HEADER + MAX_PAYLOAD


def test_a_header_that_comes_alone_promises_no_memory() -> None:
    reader = FrameReader()
    assert reader.feed(bytes(4) + MAX_PAYLOAD.to_bytes(4)) == []
    assert reader.pending == HEADER
    assert reader.feed(bytes(MAX_PAYLOAD - 1)) == []
    assert reader.pending == HEADER + MAX_PAYLOAD - 1
    assert reader.feed(b"x")[0].payload[-1:] == b"x"
