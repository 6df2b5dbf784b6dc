# SPDX-License-Identifier: Apache-2.0
"""Turns of those who say much: a peer's messages are handed on a few at a time, and others are heard in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rserpool.transport.stream import ByteStream
from rserpool.wire import DecodeError, Framer

AT_ONCE: Final = 16
"""Messages of one peer before all others have had their turn: a few milliseconds' work."""


class Turns:
    """What one peer has said and nobody has heard yet; more than a few make it wait, by TCP's own flow control.

    A kernel has hundreds of kilobytes of a flood at once, thousands of messages: a registrar that heard them all in one
    go would answer nobody meanwhile (threats 2.2, 2.17). What waits stays octets, no more than were read at once.

    Args:
        stream: the peer's connection; paused while something waits.
        framer: makes messages of octets.
        hand_on: takes one message.
        broken: told once that no more messages can be made of what the peer says.
    """

    __slots__ = ("_broken", "_framer", "_hand_on", "_later", "_left", "_saying", "_stream")

    def __init__(
        self,
        stream: ByteStream,
        framer: Framer,
        hand_on: Callable[[bytes], None],
        broken: Callable[[DecodeError], None],
    ) -> None:
        self._stream = stream
        self._framer = framer
        self._hand_on = hand_on
        self._broken = broken
        self._later: asyncio.Handle | None = None
        self._left = False
        self._saying = False

    def add(self, data: bytes) -> None:
        """Hand on what these octets complete, now or in a later turn, in its order."""
        if self._later is not None:
            self._framer.feed(data, 0)
        elif self._framer.is_one(data) and not self._left:
            self._hand_on(data)
        else:
            self._turn(data)

    def finish(self) -> bool:
        """The connection has ended: hand on what waits, unless that ended it; returns whether nobody had left."""
        while not self._saying and self._say(b""):
            pass
        heard = not self._left
        self.leave()
        return heard

    def leave(self) -> None:
        """Hand on nothing more."""
        self._left = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _say(self, data: bytes) -> bool:
        """Hand on a few; returns whether there may be more."""
        try:
            messages = self._framer.feed(data, AT_ONCE)
        except DecodeError as e:
            self._broken(e)
            return False
        self._saying = True
        for message in messages:
            if self._left:  # the one before it was reason enough
                break
            self._hand_on(message)
        self._saying = False
        return len(messages) == AT_ONCE and not self._left

    def _turn(self, data: bytes = b"") -> None:
        waited, self._later = self._later is not None, None
        if self._say(data):
            self._stream.pause()
            self._later = asyncio.get_running_loop().call_soon(self._turn)
        elif waited and not self._left:
            self._stream.resume()
