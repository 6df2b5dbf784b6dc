# SPDX-License-Identifier: Apache-2.0
"""The two ends of a relayed connection: the same stream, with TLS towards the user and without towards the application.

What has been read is handed on at once, so that all of them share one buffer, and a peer that does not read makes
its far end wait: of each direction no more is held than one buffer and the write limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

from rserpool.transport.stream import ByteStream
from rserpool.transport.tls import TlsEngine

READ: Final = 32 * 1024
"""Octets taken from the kernel at once."""
HIGH: Final = 32 * 1024
"""Octets that may wait to be sent before whoever they come from has to wait."""
HANDSHAKE: Final = 5.0
"""Seconds until a user must have shaken hands."""

_RESET: Final = struct.pack("ii", 1, 0)
_ORDERLY: Final = struct.pack("ii", 0, 0)
_buffer: Final = memoryview(bytearray(READ))


class RelayStream(ByteStream, asyncio.BufferedProtocol):
    """A stream that reads into the common buffer; it knows half-closed connections (``on_finished``, ``finish``).

    Without TLS, whose goodbye says that all was said, only :meth:`close` and :meth:`finish` make an end: whatever else
    ends the connection, and be it the end of this process, is a reset.
    """

    def __init__(self, engine: TlsEngine | None) -> None:
        super().__init__(engine, handshake=HANDSHAKE)
        self._sock: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=HIGH)
        self._sock = transport.get_extra_info("socket")
        if self.engine is None:
            self._linger(_RESET)
        super().connection_made(transport)

    def _linger(self, how: bytes) -> None:
        if self._sock is not None and not self._ended:
            with contextlib.suppress(OSError):  # it is gone already
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    def close(self) -> None:
        """End the connection after what is queued, here and in the kernel."""
        self._linger(_ORDERLY)
        super().close()

    def abort(self) -> None:
        """End the connection at once, by a reset."""
        self._linger(_RESET)
        super().abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio is to put what comes."""
        del sizehint
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        self.data_received(bytes(_buffer[:nbytes]))
