# SPDX-License-Identifier: Apache-2.0
"""A relay between pool users and an application, all real: TLS by Python's own ssl on the users' side, sockets, HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Ignored, Malformed, Refused
from rserpool.authority import EmbeddedAuthority
from rserpool.identity import LeafIdentity
from rserpool.session.cookies import CookieKeys
from rserpool.session.frames import Frame, FrameReader, data
from rserpool.transport.http import Response, Target, ask
from rserpool.transport.security import Security
from rserpool.wire import PoolElement
from rserpool_sidecar.channel.cards import CardMaker
from rserpool_sidecar.channel.relay import ChannelRelay
from rserpool_sidecar.channel.section import ChannelSection
from support.loops import let_go
from support.ports import free_port
from support.rig_health import HERE
from support.rig_identity import authority, credentials, identity, pem_key

CA: Final = authority()
KEYS: Final = CookieKeys((1, bytes(range(32))))
POOL: Final = b"cluster.local/demo/echo"
PATIENCE: Final = 20.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_RESET: Final = struct.pack("ii", 1, 0)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An application that says what it hears, to the end."""
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def application(serve: Serve = echo, host: str = str(HERE)) -> AsyncIterator[int]:
    """An application on a port, which is given."""
    tasks: set[asyncio.Task[Any]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            writer.transport.abort()
        except asyncio.CancelledError:  # asyncio's streams would log it
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accepted, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a process does that is killed."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def user_context(
    folder: Path | None = None, whose: LeafIdentity | None = None, *, signer: EmbeddedAuthority = CA,
    trusts: EmbeddedAuthority = CA,
) -> ssl.SSLContext:  # fmt: skip
    """What a user brings: the pool's bundle, and a leaf if it has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # identities are URIs
    context.load_verify_locations(cadata=trusts.bundle.decode())
    if whose is not None:
        assert folder is not None
        shown = credentials(signer, whose)
        assert shown.key is not None
        chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in shown.chain)
        (folder / "leaf.pem").write_bytes(pem_key(shown.key) + chain)
        context.load_cert_chain(folder / "leaf.pem")
    return context


class CutOffError(Exception):
    """The far end has ended the connection without a goodbye."""


class RawUser:
    """A pool user that knows frames, and nothing of our code but how they are cut."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLObject | None) -> None:
        self.reader = reader
        self.writer = writer
        self.tls = tls
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._frames = FrameReader()
        self._waiting: list[Frame] = []
        self.patience = PATIENCE

    @classmethod
    async def connect(
        cls, port: int, context: ssl.SSLContext | None, *, host: str = str(HERE), local: str | None = None
    ) -> RawUser:
        address = (local, 0) if local is not None else None
        reader, writer = await asyncio.open_connection(host, port, local_addr=address)
        user = cls(reader, writer, None)
        if context is not None:
            user.tls = context.wrap_bio(user._in, user._out)
            try:
                await user._tls(user.tls.do_handshake)
            except BaseException:
                writer.transport.abort()
                raise
        return user

    async def _tls(self, call: Callable[[], Any]) -> Any:
        """Do something with TLS, however many octets that needs."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self._flush()
                octets = await self.reader.read(65536)
                if not octets:
                    raise CutOffError("TCP has ended") from None
                self._in.write(octets)
                continue
            finally:
                self._flush()
            return result

    def _flush(self) -> None:
        if self._out.pending:
            self.writer.write(self._out.read())

    @property
    def peer_uri(self) -> str:
        """The identity that the element has shown, as Python's ssl reads it."""
        assert self.tls is not None
        names = (self.tls.getpeercert() or {})["subjectAltName"]
        uris = [str(name[1]) for name in names if name[0] == "URI"]
        assert len(uris) == 1
        return uris[0]

    @property
    def serial(self) -> str:
        assert self.tls is not None
        return str((self.tls.getpeercert() or {})["serialNumber"])

    async def send(self, octets: bytes) -> None:
        """Octets as they are."""
        for at in range(0, len(octets), 65536):
            piece = octets[at : at + 65536]
            if self.tls is None:
                self.writer.write(piece)
            while self.tls is not None and piece:
                piece = piece[await self._tls(partial(self.tls.write, piece)) :]
            await self.writer.drain()

    async def say(self, octets: bytes) -> None:
        """User data."""
        await self.send(b"".join(data(octets)))

    async def read(self) -> bytes:
        """Some octets; none: a goodbye. Raises CutOffError."""
        try:
            if self.tls is None:
                return await self.reader.read(65536)
            tls = self.tls
            octets: bytes = await self._tls(lambda: tls.read(65536))
        except (ConnectionError, ssl.SSLEOFError) as e:
            raise CutOffError(str(e)) from None
        except ssl.SSLZeroReturnError:
            return b""
        return octets

    async def frame(self) -> Frame | None:
        """The next frame; ``None``: there are no more, and that is meant so."""
        async with asyncio.timeout(self.patience):
            while not self._waiting:
                octets = await self.read()
                if not octets:
                    assert self._frames.pending == 0
                    return None
                self._waiting += self._frames.feed(octets)
            return self._waiting.pop(0)

    async def heard(self, length: int) -> bytes:
        """So many octets of user data."""
        found = bytearray()
        while len(found) < length:
            frame = await self.frame()
            assert frame is not None
            assert frame.ppid == 0
            found += frame.payload
        return bytes(found)

    async def rest(self) -> bytes:
        """All user data up to the goodbye."""
        found = bytearray()
        while (frame := await self.frame()) is not None:
            assert frame.ppid == 0
            found += frame.payload
        return bytes(found)

    async def finish(self) -> None:
        """Say that nothing more will be said."""
        if self.tls is None:
            self.writer.write_eof()
            return
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def cut(self) -> None:
        """End TCP without a goodbye of TLS."""
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


@dataclass
class RelayRig:
    """A relay, and what it has told."""

    relay: ChannelRelay
    security: Security | None
    port: int
    local: int
    told: list[Refused | Malformed | Ignored] = field(default_factory=list)
    users: list[RawUser] = field(default_factory=list)

    async def user(self, context: ssl.SSLContext | None = None, *, local: str | None = None) -> RawUser:
        """A user that has connected, anonymous if nothing else is said."""
        if context is None and self.security is not None:
            context = user_context()
        user = await RawUser.connect(self.port, context, local=local)
        self.users.append(user)
        return user

    async def http(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """A request of the application."""
        return await ask(Target(host=str(HERE), port=self.local), method, path, body=body, headers=headers)

    async def about(self, port: int) -> dict[str, Any]:
        """What the application is told about a connection."""
        answer = await self.http("GET", f"/v1/connections/{port}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def metric(self, name: str) -> float:
        return self.relay.gauges()[name][1]

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return [(e.threat, e.what) for e in self.told if isinstance(e, Refused)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - as somebody outside would look
                await asyncio.sleep(0.005)


@asynccontextmanager
async def relaying(
    to: int, *, secure: bool = True, keys: CookieKeys | None = KEYS, elements: tuple[PoolElement, ...] = (),
    hosts: tuple[str, ...] = (str(HERE),), ca: EmbeddedAuthority = CA, **section: Any,
) -> AsyncIterator[RelayRig]:  # fmt: skip
    """A relay to the application on a port."""
    security = None
    if secure:
        security = Security(
            trust_domain="cluster.local",
            namespace="demo",
            pool="echo",
            role=Role.ELEMENT,
            credentials=credentials(ca, identity()),
        )
    port, local = free_port(str(HERE)), free_port(str(HERE))
    settings = ChannelSection(port=port, http_address=HERE, http_port=local, keys=keys, **section)

    async def resolve() -> tuple[PoolElement, ...]:
        return elements

    told: list[Refused | Malformed | Ignored] = []
    relay = ChannelRelay(
        settings, HERE, security,
        pool=POOL,
        application=(tuple(ip_address(host) for host in hosts), to),
        cards=CardMaker(b"echo", resolve, asyncio.get_running_loop().time),
        tell=told.append,
    )  # fmt: skip
    await relay.start()
    running = asyncio.ensure_future(relay.run())
    rig = RelayRig(relay, security, port, local, told)
    try:
        yield rig
    finally:
        for user in rig.users:
            user.abort()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await relay.close()
        await let_go(port, local)
