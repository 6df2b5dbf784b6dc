# SPDX-License-Identifier: Apache-2.0
"""Turns of those who say much: a peer's messages are handed on a few at a time, and others are heard in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rserpool.transport.stream import ByteStream

AT_ONCE: Final = 16
"""Messages of one peer before all others have had their turn: a few milliseconds' work."""


class Turns:
    """What one peer has said and nobody has heard yet; more than a few make it wait, by TCP's own flow control.

    A kernel has hundreds of kilobytes of a flood at once, thousands of messages: a registrar that heard them all in one
    go would answer nobody meanwhile (threats 2.2, 2.17).

    Args:
        stream: the peer's connection; paused while something waits.
        hand_on: takes one message.
    """

    __slots__ = ("_hand_on", "_later", "_left", "_saying", "_stream", "_waiting")

    def __init__(self, stream: ByteStream, hand_on: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._hand_on = hand_on
        self._waiting: deque[bytes] | None = None  # most never say much, and an empty one takes 600 octets
        self._later: asyncio.Handle | None = None
        self._left = False
        self._saying = False

    def add(self, messages: Sequence[bytes]) -> None:
        """Hand on what was said, now or in a later turn, in its order."""
        if self._later is not None:
            assert self._waiting is not None
            self._waiting.extend(messages)
        elif len(messages) <= AT_ONCE:
            self._say(messages)
        else:
            self._waiting = deque(messages)
            self._turn()

    def finish(self) -> bool:
        """The connection has ended: hand on what waits, unless that ended it; returns whether nobody had left."""
        if not self._saying:
            self._say(self._waiting or ())
        heard = not self._left
        self.leave()
        return heard

    def leave(self) -> None:
        """Hand on nothing more."""
        self._left = True
        self._waiting = None
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _say(self, messages: Iterable[bytes]) -> None:
        self._saying = True
        for message in messages:
            if self._left:  # the one before it was reason enough
                break
            self._hand_on(message)
        self._saying = False

    def _turn(self) -> None:
        waiting, waited, self._later = self._waiting, self._later is not None, None
        assert waiting is not None
        self._say([waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))])
        if self._left:
            return
        if waiting:
            self._stream.pause()
            self._later = asyncio.get_running_loop().call_soon(self._turn)
            return
        self._waiting = None
        if waited:
            self._stream.resume()
