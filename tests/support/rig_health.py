# SPDX-License-Identifier: Apache-2.0
"""Applications to probe, on a real port: they answer, refuse, hang, stumble, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

HERE = IPv4Address(f"127.83.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}")
"""An address that only this process uses: a port of it that was let go is still free."""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Application:
    """Listens on one port for as long as it is up.

    Attributes:
        answer: what it says to whoever has asked; ``None``: nothing, ever.
        delay: seconds before it says so.
        heard: what it was asked.
        connections: how often somebody came.
    """

    host: str = str(HERE)
    answer: bytes | None = OK
    delay: float = 0.0
    closes: bool = False
    port: int = 0
    connections: int = 0
    heard: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.Transport] = field(default_factory=set)

    async def up(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), self.host, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in list(self._open):
            transport.abort()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Application]:
        await self.up()
        try:
            yield self
        finally:
            await self.down()


class _Served(asyncio.Protocol):
    """One connection of an application."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._application.connections += 1
        self._application._open.add(transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if b"\r\n\r\n" in self._data and self._application.answer is not None:
            self._application.heard.append(self._data)
            self._data = b""
            asyncio.get_running_loop().call_later(self._application.delay, self._speak)

    def _speak(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._application.answer or b"")
            if self._application.closes:
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._application._open.discard(self._transport)


@contextmanager
def nobody() -> Iterator[int]:
    """A port on which nobody listens, nor will."""
    with socket.socket() as taken:
        taken.bind((str(HERE), 0))
        yield taken.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """A port whose queue is full: nobody accepts, and the kernel takes no more in."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((str(HERE), 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
