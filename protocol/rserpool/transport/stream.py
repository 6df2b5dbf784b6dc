# SPDX-License-Identifier: Apache-2.0
"""One TCP connection, plain or with TLS, as a stream of octets: with deadlines and bounded buffers.

What stands on it (RSerPool messages, HTTP) sees plain text only, and nothing before the handshake is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, cast

from rserpool.transport.tls import NotTlsError, TlsEngine, TlsError

WRITE_LIMIT: Final = 640 * 1024
"""Octets a peer may leave unread before it is left: with all else of its connection, less than 1 MiB."""
A_MOMENT: Final = 0.01
"""Seconds after which what is still unsent has not been taken by the kernel."""
NOT_READ: Final = "it does not read what it is sent"
KEEPALIVE_IDLE: Final = 60
"""Seconds of silence after which the kernel asks a peer whether it is there."""


class Cause(Enum):
    """Why a connection has ended."""

    CLOSED = "closed"
    """By the peer, or by the network between."""
    HANDSHAKE = "handshake"
    """The handshake failed, or was not done in time."""
    NOT_TLS = "not tls"
    TAMPERED = "tampered"
    """TLS found a record that its sender had not sealed (threats 2.8, 2.10)."""
    SILENT = "silent"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection has ended; ``reason`` is one line for the log."""

    cause: Cause
    reason: str


class ByteStream(asyncio.Protocol):
    """A connection; the owner sets the callbacks before it is used.

    Args:
        engine: TLS, or ``None`` for a plain connection.
        handshake: seconds until the handshake must be done.
        idle: seconds of silence after which the connection ends; 0 for never.
        user_timeout: seconds for which sent data may stay unacknowledged; 0 for the kernel's default.

    Attributes:
        on_connected: called once, when there is a connection that has not proved anything.
        on_ready: called once, when plain text can be exchanged.
        on_bytes: called with each piece of plain text.
        on_finished: called once, when the peer has said that it says no more, in a way nobody else can forge; then only
            the other direction is left. ``None``: there is no such state, and the connection ends.
        unread_at_most: octets the peer may leave unread for more than a moment, less than :data:`WRITE_LIMIT`.
        on_full: called with whether as much waits to be sent as should (asyncio's flow control).
        on_end: called once, unless the owner ended it.
    """

    def __init__(self, engine: TlsEngine | None, *, handshake: float, idle: float = 0, user_timeout: float = 0) -> None:
        self._engine = engine
        self._handshake = handshake
        self._idle = idle
        self._user_timeout = user_timeout
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active_at = 0.0
        self._ended = False
        self._heard_all = False
        self.unread_at_most = WRITE_LIMIT
        self._looks_again = False
        self.ready = False
        self.peer: tuple[str, int] = ("", 0)
        self.on_connected: Callable[[], None] = _nothing
        self.on_ready: Callable[[], None] = _nothing
        self.on_bytes: Callable[[bytes], None] = _nothing
        self.on_finished: Callable[[], None] | None = None
        self.on_full: Callable[[bool], None] = _nothing
        self.on_end: Callable[[Ending], None] = _nothing

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended."""
        return self._ended

    @property
    def engine(self) -> TlsEngine | None:
        """The TLS engine, if the connection is secure."""
        return self._engine

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there; the handshake begins."""
        if self._ended:  # by its owner, between its acceptance and this
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = (str(name[0]), int(name[1]))
            self._set_options()
        loop = asyncio.get_running_loop()
        self._active_at = loop.time()
        self.on_connected()
        if self.is_over:
            return
        if self._engine is None:
            self._become_ready()
            return
        self._timer = loop.call_later(self._handshake, self._too_late)
        self._engine.start()
        self._flush()

    def _set_options(self) -> None:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return
        with contextlib.suppress(OSError):  # not every system has them all, and none of them is needed to work
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
            if self._user_timeout:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._user_timeout * 1000))

    def data_received(self, data: bytes) -> None:
        """Octets have come in."""
        if self._ended:
            return
        self._active_at = asyncio.get_running_loop().time()
        if self._engine is None:
            self.on_bytes(data)
            return
        try:
            said = self._engine.feed(data)
        except TlsError as e:
            self._flush()  # the alert that tells the peer why
            cause = Cause.NOT_TLS if isinstance(e, NotTlsError) else Cause.HANDSHAKE
            self._end(Cause.TAMPERED if self._engine.established else cause, str(e))
            return
        if not (self.ready and said):  # who only listens to plain text has nothing to say by itself
            self._flush()
            self._check_unread()
            if self.is_over:
                return
        if self._engine.established and not self.ready:
            self._become_ready()
        for piece in said:
            if not self.is_over:
                self.on_bytes(piece)
        if self._engine.closed_by_peer and not self._ended:
            if self.on_finished is None:
                self._engine.close()  # its goodbye is answered
                self._flush()
                self._end(Cause.CLOSED, "closed by the peer")
            else:
                self._finished(self.on_finished)

    def eof_received(self) -> bool:
        """The peer sends no more; half-open connections are kept only for an owner who wants them."""
        if self.on_finished is None or self._ended or not self.ready:
            return False
        if self._engine is None:
            self._finished(self.on_finished)
        elif not self._heard_all:  # anybody on the way can end TCP: what was said may not be all (RFC 8446 6.1)
            self._end(Cause.CLOSED, "cut off by somebody")
        return not self._ended

    def _finished(self, tell: Callable[[], None]) -> None:
        if not self._heard_all:
            self._heard_all = True
            tell()

    def pause_writing(self) -> None:
        """As much waits to be sent as should."""
        self.on_full(True)

    def resume_writing(self) -> None:
        """There is room again."""
        self.on_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        self._end(Cause.CLOSED, "closed by the peer" if exc is None else describe(exc))
        self._let_go()

    def _let_go(self) -> None:
        """Refer to nobody any more: TLS's buffers are freed now, and not when a garbage collector comes by."""
        self._engine = self._transport = self.on_finished = None
        self.on_connected = self.on_ready = _nothing
        self.on_bytes = self.on_full = self.on_end = _nothing

    # -- the owner's side

    def write(self, data: bytes) -> None:
        """Queue plain text; a peer that leaves too much unread is left."""
        if self._ended or self._transport is None:
            return
        if self._engine is None:
            self._transport.write(data)
        else:
            try:
                self._engine.write(data)
            except TlsError as e:
                self._end(Cause.CLOSED, str(e))
                return
            self._flush()
        self._check_unread()

    def _check_unread(self) -> None:
        """Leave a peer at once that leaves far too much; one that leaves too much is looked at again.

        The event loop may hand to the kernel what is written only at the end of its turn.
        """
        if self.unsent > WRITE_LIMIT:
            self._end(Cause.UNREAD, NOT_READ, abort=True)
        elif self.unsent > self.unread_at_most and not self._looks_again:
            self._looks_again = True
            asyncio.get_running_loop().call_later(A_MOMENT, self._look_again)

    def _look_again(self) -> None:
        self._looks_again = False
        if self.unsent > self.unread_at_most:
            self._end(Cause.UNREAD, NOT_READ, abort=True)

    def pause(self) -> None:
        """Take nothing from the peer until :meth:`resume`: it is to wait."""
        if self._transport is not None and not self._ended:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take what the peer sends again."""
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Say that nothing more will be said, after what is queued; what the peer says is still heard."""
        if self._ended or self._transport is None:
            return
        if self._engine is None:
            self._transport.write_eof()
        else:
            self._engine.close()
            self._flush()

    @property
    def unsent(self) -> int:
        """Octets that wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """End the connection after what is queued."""
        if not self._ended:
            self._stop()
            if self._engine is not None:
                self._engine.close()
                self._flush()
            self._close_soon()

    def abort(self) -> None:
        """End the connection at once."""
        if not self._ended:
            self._stop()
            if self._transport is not None:
                self._transport.abort()
            else:
                self._let_go()

    def _become_ready(self) -> None:
        self.ready = True
        self._stop_timer()
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._check_idle)
        self.on_ready()

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._active_at + self._idle - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._check_idle)
        else:
            self._end(Cause.SILENT, f"it was silent for {self._idle:g} s")

    def _too_late(self) -> None:
        self._end(Cause.HANDSHAKE, f"no handshake within {self._handshake:g} s", abort=True)

    def _flush(self) -> None:
        assert self._engine is not None
        octets = self._engine.outgoing()
        if octets and self._transport is not None:
            self._transport.write(octets)

    def _end(self, cause: Cause, reason: str, *, abort: bool = False) -> None:
        if self._ended:
            return
        self._stop()
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._close_soon()
        self.on_end(Ending(cause, reason))

    def _close_soon(self) -> None:
        """Close after what is queued; a peer that does not take it has as long for it as for a handshake."""
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._handshake, self._transport.abort)

    def _stop(self) -> None:
        self._ended = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing(*_: object) -> None:
    """Whom to call when there is nobody left to call."""


def describe(error: Exception) -> str:
    """An operating system's error in one line, without numbers nobody knows by heart."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
