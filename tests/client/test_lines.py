# SPDX-License-Identifier: Apache-2.0
"""A connection with an element, over real sockets: who is believed, what comes through, and how it ends (threat 2.9)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest

from rserpool.asap.authorisation import Role
from rserpool.client.line import Line, source_for
from rserpool.session.user_effects import Peer
from rserpool.transport.security import Security
from rserpool.transport.stream import ByteStream
from rserpool.transport.tls import Credentials, TlsEngine, make_context
from rserpool.wire import PoolElement, TcpTransport, UdpTransport
from support.rig_model import authority, credentials, element, leaf_identity

OWN, OTHER = authority(), authority()
EXPIRED = replace(OWN, leaf_life=timedelta(minutes=-1))
LOCAL = IPv4Address("127.0.0.1")


class Heard:
    """What a line says."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.octets = b""
        self.ended: tuple[str, bool] | None = None
        self.flowed = 0
        self._changed = asyncio.Event()

    def up(self, _: Line, peer: Peer) -> None:
        assert self.ended is None
        self.peer = peer
        self._changed.set()

    def came(self, _: Line, octets: bytes) -> None:
        assert self.peer is not None
        assert self.ended is None
        self.octets += octets
        self._changed.set()

    def flows(self, _: Line) -> None:
        self.flowed += 1

    def down(self, _: Line, reason: str, *, orderly: bool) -> None:
        assert self.ended is None
        self.ended = (reason, orderly)
        self._changed.set()

    async def until(self, condition: Callable[[Heard], object]) -> None:
        async with asyncio.timeout(5):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


def user() -> Security:
    return Security(
        trust_domain="td", namespace="demo", pool="echo", role=Role.USER, credentials=Credentials.trusting(OWN.bundle)
    )


@asynccontextmanager
async def far_end(
    shown: Credentials | None, greeting: bytes = b"", then: Callable[[ByteStream], None] = lambda _: None
) -> AsyncIterator[tuple[PoolElement, list[bytes]]]:
    """Somebody who listens where an element should be; and what is said to it."""
    heard: list[bytes] = []
    streams: list[ByteStream] = []

    def accept() -> ByteStream:
        context = make_context(shown, require_certificate=False) if shown is not None else None
        stream = ByteStream(TlsEngine(context, server=True) if context else None, handshake=5)

        def ready() -> None:
            if greeting:
                stream.write(greeting)
            then(stream)

        stream.on_ready, stream.on_bytes = ready, heard.append
        streams.append(stream)
        return stream

    server = await asyncio.get_running_loop().create_server(accept, str(LOCAL), 0)
    try:
        yield element(1, port=server.sockets[0].getsockname()[1]), heard
    finally:
        server.close()
        for stream in streams:
            stream.abort()
        await asyncio.sleep(0)


def test_an_element_of_the_pool_is_believed_and_it_is_said_what_protects_the_line() -> None:
    async def main() -> None:
        whose = leaf_identity(Role.ELEMENT)
        async with far_end(credentials(OWN, whose), b"welcome") as (there, heard):
            listener = Heard()
            line = Line(there, user(), None, 2.0, listener)
            await listener.until(lambda h: h.octets == b"welcome")
            assert listener.peer is not None
            assert listener.peer.principal.role is Role.ELEMENT
            assert listener.peer.security.identity == str(whose)
            assert listener.peer.security.version == "TLSv1.3"
            line.send(b"thanks")
            while b"".join(heard) != b"thanks":  # noqa: ASYNC110 - the far end tells nobody
                await asyncio.sleep(0.01)
            line.hang_up(abort=False)
            assert listener.ended is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (credentials(OTHER, leaf_identity(Role.ELEMENT)), "its root is not an authority of this pool"),
        (credentials(EXPIRED, leaf_identity(Role.ELEMENT)), "it has expired"),
        (credentials(OWN, leaf_identity(Role.ELEMENT, "other")), "is not of spiffe://td/ns/demo/pool/echo"),
        (credentials(OWN, leaf_identity(Role.USER)), "may not be used for this side"),
        (None, "no answer within 0.3 s"),
    ],
    ids=["another authority", "expired", "another pool", "a user", "no TLS"],
)
def test_who_is_nobody_of_the_pool_is_told_nothing(shown: Credentials | None, reason: str) -> None:
    async def main() -> None:
        async with far_end(shown) as (there, heard):
            listener = Heard()
            line = Line(there, user(), None, 0.3, listener)
            await listener.until(lambda h: h.ended)
            assert listener.ended is not None
            assert reason in listener.ended[0]
            assert listener.ended[1] is False
            assert (listener.peer, line.is_up) == (None, False)
            if shown is not None:
                assert heard == []

    asyncio.run(main())


def test_where_frames_go_without_tls_nobody_has_proved_anything() -> None:
    async def main() -> None:
        async with far_end(None, b"hello") as (there, _):
            listener = Heard()
            line = Line(there, None, LOCAL, 2.0, listener)
            await listener.until(lambda h: h.octets)
            assert listener.peer is not None
            assert listener.peer.principal.role is Role.UNVERIFIED
            assert not listener.peer.security.protected
            line.hang_up(abort=True)

    asyncio.run(main())


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain"])
@pytest.mark.parametrize(
    ("end", "orderly"), [(ByteStream.close, True), (ByteStream.abort, False)], ids=["closed", "reset"]
)
def test_it_is_known_whether_the_far_end_has_closed_in_good_order(
    secure: bool, end: Callable[[ByteStream], None], orderly: bool
) -> None:
    def linger(stream: ByteStream) -> None:
        assert stream._transport is not None
        if not orderly:
            sock = stream._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a killed process
        asyncio.get_running_loop().call_later(0.05, end, stream)

    async def main() -> None:
        shown = credentials(OWN, leaf_identity(Role.ELEMENT)) if secure else None
        async with far_end(shown, b"bye", linger) as (there, _):
            listener = Heard()
            Line(there, user() if secure else None, None, 2.0, listener)
            await listener.until(lambda h: h.ended)
            assert listener.ended is not None
            assert (listener.octets, listener.ended[1]) == (b"bye", orderly)

    asyncio.run(main())


def test_an_end_that_tls_has_not_sealed_is_no_good_end() -> None:
    """Anybody on the way can end a TCP connection (RFC 8446 6.1)."""

    def cut(stream: ByteStream) -> None:
        assert stream._transport is not None
        stream._transport.write_eof()

    async def main() -> None:
        async with far_end(credentials(OWN, leaf_identity(Role.ELEMENT)), b"half", cut) as (there, _):
            listener = Heard()
            Line(there, user(), None, 2.0, listener)
            await listener.until(lambda h: h.ended)
            assert listener.ended == ("cut off by somebody", False)

    asyncio.run(main())


def test_nobody_there_and_nobody_who_speaks_tcp_are_told_at_once() -> None:
    async def main() -> None:
        for there, reason in (
            (element(1, port=1), "connection refused"),
            (replace(element(1, port=1), transport=UdpTransport(port=1, address=LOCAL)), "it speaks UDP, not TCP"),
        ):
            listener = Heard()
            Line(there, None, None, 2.0, listener)
            await listener.until(lambda h: h.ended)
            assert listener.ended == (reason, False)

    asyncio.run(main())


def test_a_line_that_was_given_up_says_nothing_more() -> None:
    async def main() -> None:
        async with far_end(None) as (there, _):
            for wait in (0.0, 0.05):
                listener = Heard()
                line = Line(there, user(), None, 2.0, listener)
                await asyncio.sleep(wait)
                line.hang_up(abort=True)
                await asyncio.sleep(0.05)
                assert (listener.peer, listener.ended) == (None, None)

    asyncio.run(main())


def test_the_kernel_is_asked_to_look_after_a_suspected_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rserpool.client.line.SUSPECTED", 2)

    async def main() -> None:
        async with far_end(None) as (there, _):
            listener = Heard()
            line = Line(there, None, None, 2.0, listener)
            await listener.until(lambda h: h.peer)
            line.suspect()
            assert line._stream._transport is not None
            sock = line._stream._transport.get_extra_info("socket")

            def option(which: int) -> int:
                return int(sock.getsockopt(socket.IPPROTO_TCP, which))

            assert [option(o) for o in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)] == [1, 1, 1]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert option(socket.TCP_USER_TIMEOUT) == 0  # what was silent before is not held against anybody
            async with asyncio.timeout(5):
                while not option(socket.TCP_USER_TIMEOUT):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(0.05)
            assert option(socket.TCP_USER_TIMEOUT) == 2000
            assert listener.ended is None  # a healthy one goes on
            line.hang_up(abort=True)

    asyncio.run(main())


def test_an_element_of_the_other_family_is_dialled_from_any_address() -> None:
    four = element(1, port=7)
    six = replace(four, transport=TcpTransport(port=7, address=IPv6Address("fd00::1")))
    assert source_for(four, LOCAL) == ("127.0.0.1", 0)
    assert source_for(six, IPv6Address("fd00::2")) == ("fd00::2", 0)
    assert source_for(six, LOCAL) is source_for(four, IPv6Address("fd00::2")) is source_for(four, None) is None
