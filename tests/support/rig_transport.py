# SPDX-License-Identifier: Apache-2.0
"""Real certificates, real sockets, and peers that speak TLS by the standard library: another OpenSSL than ours."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import tempfile
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.transport.base import Link
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.transport.tls import Credentials, TlsEngine, TlsError
from rserpool.wire import Address, Ppid
from support.far_ends import leaf

P = ParamSpec("P")
T = TypeVar("T")

PEM: Final = serialization.Encoding.PEM
HERE: Final = IPv4Address("127.0.0.1")
PATIENCE: Final = 20.0
"""Seconds after which a test has failed; none of them needs a twentieth of it."""
Session = ssl.SSLSession | None
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
loop_factory: LoopFactory | None = None
"""On which event loop :func:`plays` plays; the fixture ``either_loop`` sets it."""


class Closing(Protocol):
    """What has to be closed when a test ends, however it does."""

    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)
_open: list[Closing] = []


def closing(what: C) -> C:
    """Have it closed at the test's end."""
    _open.append(what)
    return what


def plays(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine. What nobody caught on its loop fails it, too."""

    @functools.wraps(test)
    def play(*args: P.args, **kwargs: P.kwargs) -> None:
        uncaught: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
            try:
                await asyncio.wait_for(test(*args, **kwargs), PATIENCE)
            finally:
                while _open:
                    await _open.pop().close()
                await asyncio.sleep(0)

        with warnings.catch_warnings(), asyncio.Runner(loop_factory=loop_factory) as runner:
            if loop_factory is not None and "uvloop" in loop_factory.__module__:
                warnings.simplefilter("ignore", ResourceWarning)  # as an error it would hang its close()
            runner.run(main())
        assert uncaught == []

    return play


async def comes(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


# -- certificates


def authority(name: str = "echo", *, ago: timedelta = timedelta(0), leaf_life: float = 3600) -> EmbeddedAuthority:
    now = datetime.now(UTC) - ago
    return EmbeddedAuthority.create(name, now, life=timedelta(days=1), leaf_life=timedelta(seconds=leaf_life))


CA: Final = authority()
OTHER_CA: Final = authority("other")


@functools.cache
def credentials(
    role: Role = Role.REGISTRAR,
    number: int = 1,
    pool: str = "echo",
    signer: EmbeddedAuthority = CA,
    trusted: EmbeddedAuthority = CA,
    ago: timedelta = timedelta(0),
) -> Credentials:
    """A leaf of that role, with its key."""
    identity = leaf(role, number, pool)
    made = make_request(identity)
    chain = signer.sign(identity, made.request, datetime.now(UTC) - ago)
    return Credentials.from_pem(chain, trusted.bundle, made.key)


NOBODYS: Final = Credentials.trusting(CA.bundle)
"""Those of an anonymous user."""


def security(role: Role = Role.REGISTRAR, own: Credentials | None = None) -> Security:
    return Security(
        trust_domain="cluster.local",
        namespace="demo",
        pool="echo",
        role=role,
        credentials=own or (NOBODYS if role is Role.USER else credentials(role)),
    )


# -- the standard library's side


def pem_of(own: Credentials) -> bytes:
    """Chain and key."""
    assert own.key is not None
    key = own.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return b"".join(c.public_bytes(PEM) for c in own.chain) + key


def peer_context(own: Credentials, *, server: bool = False) -> ssl.SSLContext:
    """A context that accepts and offers whatever OpenSSL can, down to TLS 1.0; it verifies chains, not names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(c.public_bytes(PEM).decode() for c in own.bundle))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    if own.key is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem_of(own))
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Peer:
    """One side of a connection without a socket, by the standard library.

    Attributes:
        error: what it has to complain about, or what it was told by an alert.
        heard: what was said to it.
    """

    def __init__(self, context: ssl.SSLContext, *, server: bool = False, session: Session = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, session=session)
        self.established = False
        self.error: ssl.SSLError | None = None
        self.heard = b""

    def step(self) -> None:
        """Do what can be done with what has come in."""
        try:
            if not self.established:
                self.tls.do_handshake()
                self.established = True
            while piece := self.tls.read(65536):
                self.heard += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as e:
            self.error = self.error or e


def converse(engine: TlsEngine, peer: Peer, *, start: bool = True) -> bytes:
    """Carry octets both ways until nobody has anything to say; returns what the engine has heard.

    Raises:
        TlsError: of the engine, after its alert has reached the peer.
    """
    heard = b""
    if start:
        engine.start()
    while True:
        peer.incoming.write(engine.outgoing())
        peer.step()
        octets = peer.outgoing.read()
        if not octets:
            return heard
        try:
            heard += b"".join(engine.feed(octets))
        except TlsError:
            peer.incoming.write(engine.outgoing())
            peer.step()
            raise


# -- associations


@dataclass
class Recorder:
    """A link handler that remembers everything; ``on_up`` and ``on_message`` are what it does."""

    ups: list[Link] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)
    restarts: list[Link] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)
    aged: list[Link] = field(default_factory=list)
    refusals: list[tuple[str, str, str]] = field(default_factory=list)
    on_up: Callable[[Link], None] = lambda _: None
    on_message: Callable[[Link, bytes], None] = lambda *_: None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def up(self, link: Link) -> None:
        self._note(self.ups, link)
        self.on_up(link)

    def message(self, link: Link, octets: bytes) -> None:
        self._note(self.messages, octets)
        self.on_message(link, octets)

    def send_failed(self, link: Link, octets: bytes) -> None:
        del link
        self._note(self.failures, octets)

    def restarted(self, link: Link) -> None:
        self._note(self.restarts, link)

    def down(self, link: Link, reason: str) -> None:
        del link
        self._note(self.downs, reason)

    def ageing(self, link: Link) -> None:
        self._note(self.aged, link)

    def refused(self, threat: str, peer: str, what: str, reason: str) -> None:
        del peer
        self._note(self.refusals, (threat, what, reason))

    def _note(self, where: list[T], what: T) -> None:
        where.append(what)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what is told to make something true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@dataclass
class Listening:
    """A network that listens, and whoever it tells."""

    network: TcpNetwork
    port: int
    told: Recorder
    service: Ppid

    @property
    def endpoint(self) -> Endpoint:
        return at(self.port)


def at(port: int, address: Address = HERE) -> Endpoint:
    return Endpoint(TransportKind.TCP, (address,), port)


async def listening(
    secure: Security | None = None,
    limits: TcpLimits | None = None,
    service: Ppid = Ppid.ASAP,
    clock: Callable[[], float] = time.time,
) -> Listening:
    network, told = closing(TcpNetwork(HERE, secure, limits or TcpLimits(), clock=clock)), Recorder()
    return Listening(network, await network.listen(service, 0, told), told, service)


async def dial(
    there: Endpoint,
    secure: Security | None = None,
    limits: TcpLimits | None = None,
    *,
    service: Ppid = Ppid.ASAP,
    deadline: float = PATIENCE,
    told: Recorder | None = None,
    address: Address | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[TcpNetwork, Link]:
    """Open an association by our own side."""
    network, links = closing(TcpNetwork(address, secure, limits or TcpLimits(), clock=clock)), list[Link]()
    await network.connect(service, there, deadline, told or Recorder(), links.append)
    (link,) = links
    return network, link


# -- peers that block, each in a thread


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Let a blocking peer work while the loop goes on."""
    return await asyncio.to_thread(work, *args, **kwargs)


def dialled(port: int, host: str = "127.0.0.1", *, source: str | None = None) -> socket.socket:
    """A connected TCP socket that never waits for ever."""
    return socket.create_connection((host, port), PATIENCE, (source, 0) if source is not None else None)


def shaken(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS client whose handshake is done; a connection that is cut and not ended raises."""
    return context.wrap_socket(dialled(port), suppress_ragged_eofs=False)


def carried(port: int, context: ssl.SSLContext) -> tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO]:
    """A TLS client whose handshake is done as it sees it; its last flight still has to be carried to the socket."""
    sock = dialled(port)
    return sock, *shake(sock, context)


def shake(sock: socket.socket, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """The same over a socket that is connected."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
        else:
            return tls, outgoing


def drained(sock: socket.socket) -> bytes:
    """All that comes until the connection ends, by whatever way."""
    octets = b""
    try:
        while piece := sock.recv(1 << 20):
            octets += piece
    except (ConnectionError, ssl.SSLError):
        pass
    sock.close()
    return octets


def cut(sock: socket.socket) -> bytes:
    """End our direction without a word, TLS's included; returns what still comes until the far end has closed."""
    sock.shutdown(socket.SHUT_WR)
    return drained(sock)


@contextmanager
def deaf() -> Iterator[tuple[int, socket.socket]]:
    """A port whose connections the kernel accepts, and nobody ever speaks on them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server.getsockname()[1], server


def message(size: int = 8, kind: int = 7) -> bytes:
    """An RSerPool message of that many octets; nobody here looks into it."""
    return bytes((kind, 0)) + size.to_bytes(2, "big") + bytes(-size % 4 + size - 4)
