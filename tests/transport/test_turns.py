# SPDX-License-Identifier: Apache-2.0
"""Who says much is heard in turns with others, in order and to the end, and waits while it is not heard."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from rserpool.transport.stream import ByteStream
from rserpool.transport.turns import AT_ONCE, Turns
from rserpool.wire import DecodeError, Framer

MANY = 3 * AT_ONCE + 1


class Stream:
    """A connection of which only this matters."""

    def __init__(self) -> None:
        self.paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        assert self.paused
        self.paused = False


class Peer:
    """Its turns, and what was heard of it."""

    def __init__(self, react: Callable[[Peer, bytes], None] = lambda _peer, _message: None) -> None:
        self.stream = Stream()
        self.heard: list[bytes] = []
        self.react = react
        self.errors: list[DecodeError] = []
        self.turns = Turns(cast("ByteStream", self.stream), Framer(), self.hear, self.broken)

    def hear(self, message: bytes) -> None:
        self.heard.append(message)
        self.react(self, message)

    def broken(self, error: DecodeError) -> None:
        self.errors.append(error)
        self.turns.leave()

    def says(self, first: int, count: int, then: bytes = b"") -> None:
        self.turns.add(b"".join(numbered(first, count)) + then)


def numbered(first: int, count: int) -> list[bytes]:
    """Messages as the stream has them."""
    return [b"\5\0\0\x08" + number.to_bytes(4) for number in range(first, first + count)]


def running(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@running
async def test_a_few_messages_are_heard_at_once() -> None:
    peer = Peer()
    peer.says(0, AT_ONCE - 1)
    assert peer.heard == numbered(0, AT_ONCE - 1)
    assert not peer.stream.paused


@running
async def test_of_many_a_part_is_heard_in_each_turn_and_the_peer_waits_until_all_are() -> None:
    peer = Peer()
    peer.says(0, MANY)
    for turn in range(1, 4):
        assert peer.heard == numbered(0, turn * AT_ONCE)
        assert peer.stream.paused
        await asyncio.sleep(0)
    assert peer.heard == numbered(0, MANY)
    assert not peer.stream.paused


@running
async def test_another_peer_is_heard_between_two_turns() -> None:
    flooding, honest = Peer(), Peer()
    flooding.says(0, MANY)
    asyncio.get_running_loop().call_soon(honest.says, 0, 1)
    await asyncio.sleep(0)
    assert honest.heard == numbered(0, 1)
    assert len(flooding.heard) < MANY


@running
async def test_what_comes_while_something_waits_is_heard_behind_it() -> None:
    """TLS has several pieces in one reading."""
    peer = Peer()
    peer.says(0, MANY)
    peer.says(MANY, 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert peer.heard == numbered(0, MANY + 2)
    assert not peer.stream.paused


@running
async def test_when_the_connection_ends_all_that_was_said_is_heard() -> None:
    peer = Peer()
    peer.says(0, MANY)
    assert peer.turns.finish()
    assert peer.heard == numbered(0, MANY)
    await asyncio.sleep(0)
    assert peer.heard == numbered(0, MANY)


async def heard_until(at: int, react: Callable[[Peer], None]) -> Peer:
    """A peer that says much, and whom we hear until one of its messages makes us react."""
    peer = Peer(lambda peer, message: react(peer) if message == numbered(at, 1)[0] else None)
    peer.says(0, MANY)
    for _ in range(5):
        await asyncio.sleep(0)
    assert peer.heard == numbered(0, at + 1)
    return peer


@pytest.mark.parametrize("at", [0, AT_ONCE - 1, AT_ONCE, MANY - 2])
def test_nothing_is_heard_behind_a_message_that_made_us_leave(at: int) -> None:
    peer = asyncio.run(heard_until(at, lambda peer: peer.turns.leave()))
    assert not peer.turns.finish()


@pytest.mark.parametrize("at", [0, AT_ONCE, MANY - 2])
def test_nor_behind_one_whose_answer_ended_the_connection(at: int) -> None:
    """As one that the peer does not read."""
    ended: list[bool] = []
    asyncio.run(heard_until(at, lambda peer: ended.append(peer.turns.finish())))
    assert ended == [True], "and its end is told"


@running
async def test_what_cannot_be_read_is_told_when_its_turn_comes_and_nothing_behind_it_is_heard() -> None:
    peer = Peer()
    peer.says(0, AT_ONCE, then=b"\5\0\0\3" + b"".join(numbered(AT_ONCE, MANY)))
    assert peer.errors == []
    for _ in range(5):
        await asyncio.sleep(0)
    assert peer.heard == numbered(0, AT_ONCE)
    assert [error.offset for error in peer.errors] == [2]


@running
async def test_what_waits_takes_no_more_room_than_it_has_octets() -> None:
    """Threat 2.2: 64 KiB are read at once; as thousands of messages they would take a multiple of that."""
    peer, octets = Peer(), b"".join(numbered(0, 8192))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        peer.turns.add(octets)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peer.stream.paused
    assert after - before < 2 * len(octets)
