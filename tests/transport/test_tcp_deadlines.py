# SPDX-License-Identifier: Apache-2.0
"""Who is slow, silent or deaf is left in time, and costs a bounded amount until then (threats 2.1, 2.2)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport.base import ConnectError, Link
from rserpool.transport.stream import WRITE_LIMIT
from rserpool.transport.tcp import ANONYMOUS_UNREAD, TcpLimits, TcpLink, TcpNetwork
from rserpool.wire import Ppid
from support.rig_transport import (
    HERE,
    NOBODYS,
    PATIENCE,
    Listening,
    Peer,
    Recorder,
    aside,
    at,
    closing,
    comes,
    credentials,
    deaf,
    dial,
    dialled,
    drained,
    listening,
    message,
    peer_context,
    plays,
    security,
    shaken,
)

pytestmark = pytest.mark.usefixtures("either_loop")
SHORT = TcpLimits(handshake=0.15, idle=0.15)
SLACK = 3.0
"""What a busy machine may add to a deadline."""


def hello() -> bytes:
    """A ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        peer_context(NOBODYS).wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


async def lasts(there: Listening, first: bytes, rest: bytes = b"") -> float:
    """Seconds until a peer is turned away that says ``first``, and then ``rest`` octet by octet."""

    def drip() -> float:
        began, peer = time.monotonic(), dialled(there.port)
        with peer, contextlib.suppress(ConnectionError):
            peer.sendall(first)
            peer.settimeout(0.02)
            for octet in rest:
                peer.sendall(bytes((octet,)))
                with contextlib.suppress(TimeoutError):
                    while peer.recv(65536):
                        pass
                    break
            peer.settimeout(10)
            while peer.recv(65536):
                pass
        return time.monotonic() - began

    return await aside(drip)


@plays
@pytest.mark.parametrize(
    ("first", "rest"),
    [(b"", b""), (hello()[:20], b""), (hello(), b""), (b"", hello()), (hello()[:-1], b"")],
    ids=["not a word", "half a hello", "a hello and no more", "a hello octet by octet", "all but one octet"],
)
async def test_who_does_not_finish_the_handshake_in_time_is_turned_away(first: bytes, rest: bytes) -> None:
    there = await listening(security(), SHORT)
    assert 0.9 * SHORT.handshake <= await lasts(there, first, rest) < SHORT.handshake + SLACK
    assert there.told.refusals == [("2.1", "handshake", "no handshake within 0.15 s")]
    assert (there.told.ups, there.told.downs, there.network.half_open) == ([], [], 0)


@plays
async def test_who_never_speaks_is_turned_away_where_nothing_is_secure_too() -> None:
    there = await listening(None, SHORT)
    assert 0.9 * SHORT.idle <= await lasts(there, b"") < SHORT.idle + SLACK
    assert there.told.downs == ["it was silent for 0.15 s"]
    assert there.network.associations == 0


@plays
async def test_an_association_ends_after_silence_of_its_peer_however_much_we_say() -> None:
    there = await listening(security(), SHORT)
    began = time.monotonic()
    ours = Recorder()
    await dial(there.endpoint, security(Role.ELEMENT), told=ours)
    await there.told.until(lambda: there.told.ups)
    (link,) = there.told.ups
    while not there.told.downs:
        link.send(message())
        await asyncio.sleep(0.01)
    assert 0.9 * SHORT.idle <= time.monotonic() - began < SHORT.idle + SLACK
    assert there.told.downs == ["it was silent for 0.15 s"]
    await ours.until(lambda: ours.downs)
    assert ours.downs[0] == "closed by the peer" or "reset" in ours.downs[0]


@plays
async def test_who_speaks_from_time_to_time_is_not_silent() -> None:
    limits = TcpLimits(idle=0.3)
    there = await listening(security(), limits)
    _, link = await dial(there.endpoint, security(Role.ELEMENT))
    began = time.monotonic()
    while time.monotonic() - began < 2.5 * limits.idle:
        link.send(message())
        await asyncio.sleep(0.05)
    assert there.told.downs == []


@plays
async def test_connections_that_we_open_end_after_silence_too() -> None:
    there, ours = await listening(security()), Recorder()
    await dial(there.endpoint, security(Role.ELEMENT), SHORT, told=ours)
    await ours.until(lambda: ours.downs)
    assert ours.downs == ["it was silent for 0.15 s"]


def fill(link: TcpLink) -> int:
    """Send until the kernel takes no more and half the buffer is full; returns how many octets that were."""
    sent, transport = 0, link._stream._transport
    assert transport is not None
    while transport.get_write_buffer_size() < WRITE_LIMIT // 2:
        link.send(message(65532))
        sent += 65532
        assert sent < 64 << 20
    return sent


@plays
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_peer_that_never_reads_is_left_when_its_buffer_is_full(secure: bool) -> None:
    there = await listening(security() if secure else None)
    assert WRITE_LIMIT == 640 << 10
    context = peer_context(credentials(Role.ELEMENT))
    peer: socket.socket = await aside(shaken, there.port, context) if secure else await aside(dialled, there.port)
    await there.told.until(lambda: there.told.ups)
    (link,) = there.told.ups
    assert isinstance(link, TcpLink)
    fill(link)
    await asyncio.sleep(0)
    assert there.told.downs == []
    most = 0
    while not there.told.downs:
        link.send(message(65532))
        most += 65532
        assert most < 16 << 20
        await asyncio.sleep(0)
    assert there.told.downs == ["it does not read what it is sent"]
    link.send(message())
    assert there.network.associations == 0
    await aside(drained, peer)


@plays
async def test_a_peer_without_a_certificate_that_reads_is_sent_any_number_of_long_answers_at_once() -> None:
    there = await listening(security())
    heard: list[int] = []

    def read() -> None:
        with shaken(there.port, peer_context(NOBODYS)) as peer:
            while sum(heard) < 5 * 65532:
                heard.append(len(peer.recv(65536)))
                assert heard[-1], "it was cut off"

    reading = asyncio.ensure_future(aside(read))
    await there.told.until(lambda: there.told.ups)
    for _ in range(5):
        there.told.ups[0].send(message(65532))
    await reading
    assert sum(heard) == 5 * 65532


@plays
async def test_a_peer_without_a_certificate_that_never_reads_is_left_with_little_unread() -> None:
    there = await listening(security())
    peer: socket.socket = await aside(shaken, there.port, peer_context(NOBODYS))
    await there.told.until(lambda: there.told.ups)
    (link,) = there.told.ups
    assert isinstance(link, TcpLink)
    assert ANONYMOUS_UNREAD == 64 << 10
    while link._stream.unsent <= ANONYMOUS_UNREAD:  # what the kernel takes does not count
        link.send(message(16380))
        await asyncio.sleep(0.001)
    assert there.told.downs == []
    await there.told.until(lambda: there.told.downs)
    assert there.told.downs == ["it does not read what it is sent"]
    await aside(drained, peer)


@plays
@pytest.mark.parametrize("how", ["silent", "closed"])
async def test_a_deaf_peers_buffer_is_given_back_when_its_association_has_ended(how: str) -> None:
    """Who holds a connection open without reading must not hold a buffer of ours for as long as it likes."""
    there = await listening(None, TcpLimits(handshake=0.3, idle=0.3))
    peer = await aside(dialled, there.port)
    await there.told.until(lambda: there.told.ups)
    (link,) = there.told.ups
    assert isinstance(link, TcpLink)
    transport = link._stream._transport
    assert transport is not None
    fill(link)
    if how == "silent":
        await there.told.until(lambda: there.told.downs)
    else:
        link.close("that is all")
    async with asyncio.timeout(SLACK):  # a close may give the peer the same while to take what is queued
        await comes(lambda: not transport.get_write_buffer_size())
    peer.close()


@plays
@pytest.mark.parametrize("secure", [True, False], ids=["nobody shakes hands", "nobody is there"])
async def test_connecting_fails_at_its_deadline_and_says_so(secure: bool) -> None:
    began = time.monotonic()
    with deaf() as (port, server):
        fillers = []
        if not secure:  # a backlog that is full swallows who comes
            server.listen(0)
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
        with pytest.raises(ConnectError, match=r"^no answer within 0\.2 s$"):
            await dial(at(port), security(Role.ELEMENT) if secure else None, deadline=0.2)
        for filler in fillers:
            filler.close()
    assert 0.19 <= time.monotonic() - began < 0.2 + SLACK


@plays
async def test_a_server_that_drips_its_handshake_does_not_stretch_the_deadline() -> None:
    def drip(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer, contextlib.suppress(ConnectionError):
            peer.settimeout(0.01)
            for octet in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(1000):
                peer.sendall(bytes((octet,)))
                with contextlib.suppress(TimeoutError):
                    if not peer.recv(65536):
                        return

    began = time.monotonic()
    with deaf() as (port, server):
        dripping = asyncio.ensure_future(aside(drip, server))
        with pytest.raises(ConnectError, match=r"^no answer within 0\.3 s$"):
            await dial(at(port), security(Role.ELEMENT), deadline=0.3)
        assert time.monotonic() - began < 0.3 + SLACK
        await dripping


@plays
async def test_a_handshake_done_at_the_very_deadline_gives_an_association_or_an_error_not_both() -> None:
    """The loop is busy for a moment, and then finds the last flight and the deadline in one turn."""
    loop, blocked, sent = asyncio.get_running_loop(), threading.Event(), threading.Event()
    began, deadline, opened = time.monotonic(), 0.4, list[Link]()

    def busy() -> None:
        blocked.set()
        sent.wait(PATIENCE)
        time.sleep(max(0.0, began + deadline + 0.1 - time.monotonic()))

    def serve(server: socket.socket) -> socket.socket:
        sock, _ = server.accept()
        peer = Peer(peer_context(credentials(), server=True), server=True)
        peer.incoming.write(sock.recv(65536))
        peer.step()
        loop.call_soon_threadsafe(busy)
        blocked.wait(PATIENCE)
        sock.sendall(peer.outgoing.read())
        sent.set()
        return sock

    with deaf() as (port, server):
        serving = asyncio.ensure_future(aside(serve, server))
        network, failed = closing(TcpNetwork(HERE, security(Role.ELEMENT), TcpLimits())), False
        try:
            await network.connect(Ppid.ASAP, at(port), deadline, Recorder(), opened.append)
        except ConnectError:
            failed = True
        (await serving).close()
        assert [failed, len(opened)] in ([True, 0], [False, 1])
        assert network.associations == len(opened)
