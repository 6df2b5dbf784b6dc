# SPDX-License-Identifier: Apache-2.0
"""The user's end of one connection with an element: octets to what they mean, and back (RFC 5352 3.8, 3.9).

In a pool with a control channel frames are read and written, in any other the data is the stream itself.
"""

from __future__ import annotations

from rserpool.session.frames import CONTROL, DATA, Frame, FrameError, FrameReader, control, data
from rserpool.wire import DecodeError, Message, Ppid, asap, decode

Said = bytes | asap.Cookie | asap.BusinessCard
"""What an element may say: user data, and two messages of the control channel."""


class ChannelError(Exception):
    """The far end sends what nobody can read; the connection is to be ended. The text is one line."""


class Channel:
    """One connection.

    Args:
        framed: whether the pool has a control channel.

    Attributes:
        ignored: frames that were not for a pool user.
    """

    def __init__(self, *, framed: bool) -> None:
        self._reader = FrameReader() if framed else None
        self.ignored = 0

    def feed(self, octets: bytes) -> list[Said]:
        """Take what has come in.

        Raises:
            ChannelError: it is no frame, or a frame of the control channel holds no message.
        """
        if self._reader is None:
            return [octets] if octets else []
        try:
            frames = self._reader.feed(octets)
            found = [self._read(frame) for frame in frames]
        except FrameError as e:
            raise ChannelError(f"what it sends is no frame, at {e}") from None
        except DecodeError as e:
            raise ChannelError(f"what it sends is no ASAP message: {e}") from None
        return [said for said in found if said]

    def _read(self, frame: Frame) -> Said | None:
        if frame.ppid == DATA:
            return frame.payload
        if frame.ppid == CONTROL:
            message = decode(frame.payload, Ppid.ASAP)
            if isinstance(message, asap.Cookie | asap.BusinessCard):
                return message
        self.ignored += 1
        return None

    def data(self, octets: bytes) -> bytes:
        """User data as it is sent."""
        return octets if self._reader is None else b"".join(data(octets))

    def control(self, message: Message) -> bytes:
        """A message of the control channel as it is sent; only where there is one."""
        assert self._reader is not None
        return control(message)
