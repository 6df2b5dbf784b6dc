# SPDX-License-Identifier: Apache-2.0
"""Messages cut from a byte stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.wire import DecodeError, Framer, Message, encode
from support import strategies


@pytest.mark.rfc("PROTOCOL 9.6: messages follow each other in a stream of octets")
@given(messages=st.lists(strategies.messages, max_size=5), data=st.data())
def test_messages_come_out_whole_however_the_stream_is_cut(messages: list[Message], data: st.DataObject) -> None:
    octets = [encode(m) for m in messages]
    stream = b"".join(octets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer, out = Framer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += framer.feed(stream[start:end])
    assert out == octets
    assert framer.pending == 0


@given(messages=st.lists(strategies.messages, max_size=7), most=st.integers(1, 3))
def test_messages_that_were_not_asked_for_yet_come_out_later_and_in_order(messages: list[Message], most: int) -> None:
    octets = [encode(m) for m in messages]
    framer = Framer()
    out = framer.feed(b"".join(octets), 0)
    while some := framer.feed(b"", most):
        assert len(some) <= most
        out += some
    assert out == octets
    assert framer.pending == 0


@pytest.mark.rfc("PROTOCOL 9.6: messages follow each other in a stream of octets")
def test_a_message_length_below_four_ends_the_stream() -> None:
    with pytest.raises(DecodeError):
        Framer().feed(b"\5\0\0\3")


def test_an_unfinished_message_is_held_and_nothing_more() -> None:
    framer = Framer()
    assert framer.feed(b"\5\0\xff\xff") == []
    for _ in range(1023):
        framer.feed(b"\0" * 64)
    assert framer.pending == 4 + 1023 * 64
    (message,) = framer.feed(b"\0" * 60)
    assert len(message) == 65536
    assert framer.pending == 0


@pytest.mark.parametrize("length", [4097, 65535])
def test_a_message_longer_than_what_is_waited_for_ends_the_stream_by_its_header(length: int) -> None:
    framer = Framer(longest=4096)
    assert framer.feed(b"\5\0\x10\0" + b"\0" * 4092) == [b"\5\0\x10\0" + b"\0" * 4092]
    with pytest.raises(DecodeError, match="4096 at most"):
        framer.feed(b"\5\0" + length.to_bytes(2))


def _framed(length: int, size: int) -> bytes:
    return b"\5\0" + length.to_bytes(2) + b"\0" * size


@given(
    octets=st.one_of(st.binary(max_size=12), st.builds(_framed, st.integers(0, 24), st.integers(0, 24))),
    waiting=st.sampled_from([b"", b"\5", b"\5\0\0\x08\0"]),
)
def test_octets_are_one_message_exactly_if_nothing_else_would_be_cut_of_them(octets: bytes, waiting: bytes) -> None:
    framer = Framer(longest=16)
    framer.feed(waiting)
    said, pending = framer.is_one(octets), framer.pending
    try:
        cut = framer.feed(octets)
    except DecodeError:
        cut = []
    assert said == (not pending and cut == [octets])


def test_one_message_with_its_padding_is_one() -> None:
    assert Framer().is_one(b"\5\0\0\x05\1\0\0\0")
    assert not Framer().is_one(b"\5\0\0\x05\1")
    assert not Framer(longest=4).is_one(b"\5\0\0\x05\1\0\0\0")
