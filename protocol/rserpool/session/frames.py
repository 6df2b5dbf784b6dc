# SPDX-License-Identifier: Apache-2.0
"""Frames: how control messages and user data share one byte stream.

A frame is a header of eight octets, the payload protocol identifier (u32) and the payload's length in octets (u32),
and the payload. Identifier 11 is an ASAP message of the control channel, 0 user data; all others are free for the
application (docs/control-channel.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rserpool.wire import Message, Ppid
from rserpool.wire import encode as encode_message

CONTROL: Final = Ppid.ASAP
"""Payload protocol identifier of the control channel: one ASAP message a frame."""
DATA: Final = 0
"""Payload protocol identifier of user data: a byte stream, cut anywhere."""
MAX_PAYLOAD: Final = 65536
"""Octets of the longest payload: an ASAP message of 65535 with its padding. Longer user data is split."""

_HEADER: Final = struct.Struct("!II")
HEADER: Final = _HEADER.size
"""Octets of a frame's header."""


class FrameError(ValueError):
    """A stream that is no sequence of frames; it cannot be read on.

    Attributes:
        offset: octets from the beginning of the stream to where the fault is.
        reason: what is wrong there, in one line.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        return f"offset {self.offset}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        ppid: whose the payload is.
        payload: at most :data:`MAX_PAYLOAD` octets; may be empty.
    """

    ppid: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """Write a frame.

    Raises:
        ValueError: the payload is too long, or the identifier no number of 32 bits.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload)} octets, {MAX_PAYLOAD} at most: split it")
    if not 0 <= frame.ppid <= 0xFFFFFFFF:
        raise ValueError(f"payload protocol identifier {frame.ppid} does not fit in 32 bits")
    return _HEADER.pack(frame.ppid, len(frame.payload)) + frame.payload


def data(octets: bytes) -> Iterator[bytes]:
    """Encoded frames that carry this user data, of any length; none for none."""
    for at in range(0, len(octets), MAX_PAYLOAD):
        yield encode(Frame(DATA, octets[at : at + MAX_PAYLOAD]))


def control(message: Message) -> bytes:
    """An encoded frame with one ASAP message of the control channel.

    Raises:
        EncodeError: the message has no form on the wire.
    """
    return encode(Frame(CONTROL, encode_message(message)))


class FrameReader:
    """Cuts a byte stream into frames. Holds one unfinished frame at most: a header and :data:`MAX_PAYLOAD` octets."""

    __slots__ = ("_buffer", "_dead", "_offset")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0
        self._dead: FrameError | None = None

    @property
    def pending(self) -> int:
        """Octets of a frame that is not complete yet."""
        return len(self._buffer)

    @property
    def offset(self) -> int:
        """Octets of the stream that came before the unfinished frame."""
        return self._offset

    def feed(self, octets: bytes) -> list[Frame]:
        """Take octets of the stream; returns the frames they complete.

        Raises:
            FrameError: a header that announces too much. Frames before it in the same octets are lost, as is the
                stream: every later call raises the same error.
        """
        if self._dead is not None:
            raise self._dead
        buffer = self._buffer
        buffer += octets
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER:
            ppid, length = _HEADER.unpack_from(buffer, at)
            if length > MAX_PAYLOAD:
                self._buffer = bytearray()
                self._dead = FrameError(self._offset + at + 4, f"a payload of {length} octets, {MAX_PAYLOAD} at most")
                raise self._dead
            end = at + HEADER + length
            if len(buffer) < end:
                break
            frames.append(Frame(ppid, bytes(buffer[at + HEADER : end])))
            at = end
        if at:
            del buffer[:at]
            self._offset += at
        return frames
