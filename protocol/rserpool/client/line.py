# SPDX-License-Identifier: Apache-2.0
"""One connection of a pool user with an element: plain, or TLS with the element's certificate verified."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, Protocol

from rserpool.identity import IdentityError
from rserpool.identity.decisions import unverified
from rserpool.session.user_effects import ChannelSecurity, Peer
from rserpool.transport.security import Security
from rserpool.transport.stream import ByteStream, Ending, describe
from rserpool.transport.tcp import where
from rserpool.transport.tls import TlsEngine
from rserpool.wire import Address, PoolElement, TcpTransport

SUSPECTED: Final = 3
"""Seconds of silence of the far end's kernel after which a connection with a suspected element is lost."""


class Listener(Protocol):
    """Who is told what happens to a line. Once it is down, or was hung up, it says nothing more."""

    def up(self, line: Line, peer: Peer) -> None:
        """The handshake is done."""

    def came(self, line: Line, octets: bytes) -> None:
        """The element has sent something."""

    def flows(self, line: Line) -> None:
        """There is room again for more to send."""

    def down(self, line: Line, reason: str, *, orderly: bool) -> None:
        """It could not be opened, or it has ended."""


def place_of(element: PoolElement) -> tuple[str, int]:
    """Where an element is reached over TCP.

    Raises:
        OSError: it is not.
    """
    transport = element.transport
    if not isinstance(transport, TcpTransport):
        raise OSError(f"it speaks {transport.TYPE.name.removesuffix('_TRANSPORT')}, not TCP")
    return str(transport.address), transport.port


def source_for(element: PoolElement, local: Address | None) -> tuple[str, int] | None:
    """Where to dial an element from: one's own address, where it is of the same family."""
    same = local is not None and all(address.version == local.version for address in element.transport.addresses)
    return (str(local), 0) if same else None


class _Stream(ByteStream):
    def ask_often(self, patience: int) -> None:
        """Have the kernel ask the peer each second whether it is there, and end the connection after so many.

        For as long as the connection has been silent until now nobody was asked: that silence is not counted. So what
        is sent and not acknowledged gets its deadline when the first answers must have come.
        """
        self._set(TCP_KEEPIDLE=1, TCP_KEEPINTVL=1, TCP_KEEPCNT=patience - 1)
        limit = {"TCP_USER_TIMEOUT": patience * 1000}
        asyncio.get_running_loop().call_later(patience, lambda: self._set(**limit))

    def _set(self, **options: int) -> None:
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None or self.is_over:
            return
        with contextlib.suppress(OSError, AttributeError):  # not every system has them, and none is needed to work
            for name, value in options.items():
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Line:
    """A connection, from the wish to connect to its end.

    Args:
        element: whom to connect to.
        security: credentials and whom to believe; ``None`` for a line without TLS.
        local: address to speak from; ``None`` for any.
        deadline: seconds until it must be up, the handshake included.
        listener: who is told.

    Attributes:
        full: as much waits to be sent as should.
        is_up: it has been up; whether it still is, the listener knows.
    """

    def __init__(
        self,
        element: PoolElement,
        security: Security | None,
        local: Address | None,
        deadline: float,
        listener: Listener,
    ) -> None:
        self.full = False
        self.is_up = False
        self._element = element
        self._security = security
        self._local = local
        self._deadline = deadline
        self._listener = listener
        self._over = False
        engine = TlsEngine(security.client_context, server=False) if security is not None else None
        stream = self._stream = _Stream(engine, handshake=deadline + 1)
        stream.on_ready = self._ready
        stream.on_bytes = self._came
        stream.on_finished = lambda: self._down("it has hung up", orderly=True)
        stream.on_full = self._flow
        stream.on_end = self._ended
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialling = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        local = source_for(self._element, self._local)
        loop = asyncio.get_running_loop()
        try:
            host, port = place_of(self._element)
            async with asyncio.timeout(self._deadline):
                await loop.create_connection(lambda: self._stream, host, port, local_addr=local)
                await self._settled
        except TimeoutError:
            if not self._stream.ready:
                self._stream.abort()
                self._down(f"no answer within {self._deadline:g} s")
        except OSError as e:
            self._down(describe(e))

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def _ready(self) -> None:
        self._settle()
        try:
            peer = self._peer()
        except IdentityError as e:
            self._stream.abort()
            self._down(str(e))
            return
        self.is_up = True
        self._listener.up(self, peer)

    def _peer(self) -> Peer:
        engine = self._stream.engine
        if self._security is None or engine is None:
            return Peer(principal=unverified(where(self._stream)))
        principal = self._security.principal(engine.peer_certificate, self._stream.peer[0])
        version, _, cipher = engine.version.partition(" ")
        security = ChannelSecurity(identity=principal.name, version=version, cipher=cipher)
        return Peer(principal=principal, security=security)

    def _came(self, octets: bytes) -> None:
        if not self._over:
            self._listener.came(self, octets)

    def _flow(self, full: bool) -> None:
        self.full = full
        if not full and not self._over:
            self._listener.flows(self)

    def _ended(self, ending: Ending) -> None:
        self._down(ending.reason)

    def _down(self, reason: str, *, orderly: bool = False) -> None:
        if self._over:
            return
        self._over = True
        self._settle()
        if orderly:
            self._stream.close()
        self._listener.down(self, reason, orderly=orderly)

    # -- the owner's side

    def send(self, octets: bytes) -> None:
        """Queue octets."""
        self._stream.write(octets)

    def finish(self) -> None:
        """Say that nothing more will be said."""
        self._stream.finish()

    def read_on(self, *, wanted: bool) -> None:
        """Take what the element sends, or have it wait."""
        (self._stream.resume if wanted else self._stream.pause)()

    def suspect(self) -> None:
        """Have the kernel find out soon whether the far end is still there; a healthy one's answers by itself."""
        self._stream.ask_often(SUSPECTED)

    def hang_up(self, *, abort: bool) -> None:
        """End it, or give it up."""
        self._over = True
        self._dialling.cancel()
        if abort:
            self._stream.abort()
        else:
            self._stream.close()


Dial = Callable[[PoolElement, float, Listener], Line]
"""Opens a line to an element, with seconds until it must be up."""
