# SPDX-License-Identifier: Apache-2.0
"""Messages in a byte stream: one behind the other, each padded to four octets (TCP, and TLS over any transport)."""

from __future__ import annotations

import sys
from typing import Final

from rserpool.wire.codes import MAX_MESSAGE
from rserpool.wire.errors import DecodeError

HEADER: Final = 4


class Framer:
    """Cuts a byte stream into messages. Holds one unfinished message at most, and what it was not asked for yet.

    Args:
        longest: octets of a message at most, without its padding; more than that is not waited for.
    """

    __slots__ = ("_buffer", "_longest")

    def __init__(self, longest: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._longest = longest

    @property
    def pending(self) -> int:
        """Octets that no message was made of yet."""
        return len(self._buffer)

    def is_one(self, data: bytes) -> bool:
        """Whether these octets, the next of the stream, are one message and no more, as nearly all that ever comes.

        Then there is nothing to cut: they are the message, and need not be fed.
        """
        size = len(data)
        if self._buffer or size < HEADER:
            return False
        length = data[2] << 8 | data[3]
        return size == (length + 3) & ~3 and HEADER <= length <= self._longest

    def feed(self, data: bytes, most: int = sys.maxsize) -> list[bytes]:
        """Take octets of the stream; returns the messages they complete, padding included, or so many of them.

        The others stay octets, which take less room, until it is fed again, be it with nothing.

        Raises:
            DecodeError: a Message Length below 4, or longer than what is waited for. The stream cannot be read on from
                there.
        """
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        at = 0
        while len(messages) < most and len(buffer) - at >= HEADER:
            length = int.from_bytes(buffer[at + 2 : at + 4])
            if length < HEADER:
                raise DecodeError(at + 2, f"Message Length {length} is below 4: the stream is out of step")
            if length > self._longest:
                raise DecodeError(at + 2, f"Message Length {length}, {self._longest} at most")
            end = at + ((length + 3) & ~3)
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[at:end]))
            at = end
        if at:
            del buffer[:at]
        return messages
