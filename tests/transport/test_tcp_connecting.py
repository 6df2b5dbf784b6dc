# SPDX-License-Identifier: Apache-2.0
"""Where a TCP association comes from and goes to, and why it cannot be opened."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import TransportKind
from rserpool.transport.base import ConnectError, Link
from rserpool.transport.stream import KEEPALIVE_IDLE
from rserpool.transport.tcp import TcpLimits, TcpLink, TcpNetwork
from rserpool.wire import Address, Ppid
from support.ports import free_port
from support.rig_transport import Recorder, aside, at, closing, deaf, dial, drained, listening, plays, security

pytestmark = pytest.mark.usefixtures("either_loop")


@plays
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_it_calls_from_its_own_address_and_listens_there_alone(secure: bool) -> None:
    there = await listening(security() if secure else None)
    own = IPv4Address("127.0.5.6")
    network, link = await dial(there.endpoint, security(Role.ELEMENT) if secure else None, address=own)
    await there.told.until(lambda: there.told.ups)
    assert there.told.ups[0].peer_addresses == (own,)
    assert (link.kind, link.peer_addresses) == (TransportKind.TCP, (IPv4Address("127.0.0.1"),))
    port = await network.listen(Ppid.ASAP, 0, Recorder())
    with pytest.raises(ConnectError, match=r"^connection refused$"):
        await dial(at(port))


@plays
async def test_ipv6_works_and_is_shown_in_brackets() -> None:
    here = IPv6Address("::1")
    network, told = closing(TcpNetwork(here, None, TcpLimits())), Recorder()
    port = await network.listen(Ppid.ASAP, 0, told)
    _, link = await dial(at(port, here), address=here)
    await told.until(lambda: told.ups)
    assert told.ups[0].peer_addresses == (here,)
    assert str(link) == f"[::1]:{port} at [::1]:{port}"


@plays
@pytest.mark.rfc("PROTOCOL 9.8: scopes of IPv6, and of both families")
async def test_with_an_address_of_each_family_it_listens_at_both_and_calls_each_peer_from_its_own() -> None:
    v4, v6 = IPv4Address("127.0.5.7"), IPv6Address("::1")
    both, told = closing(TcpNetwork(v4, None, TcpLimits(), also=(v6,))), Recorder()
    port = free_port(str(v4))
    await both.listen(Ppid.ASAP, port, told)
    for own, to in ((IPv4Address("127.0.5.8"), v4), (v6, v6)):
        await dial(at(port, to), address=own)
    await told.until(lambda: len(told.ups) == 2)
    assert {link.peer_addresses for link in told.ups} == {(IPv4Address("127.0.5.8"),), (v6,)}
    for peer, own in ((IPv4Address("127.0.0.1"), v4), (v6, v6)):
        network, there = closing(TcpNetwork(peer, None, TcpLimits())), Recorder()
        heard = await network.listen(Ppid.ASAP, 0, there)
        links: list[Link] = []
        await both.connect(Ppid.ASAP, at(heard, peer), 5.0, there, links.append)
        await there.until(lambda there=there: there.ups)  # type: ignore[misc] # mypy infers no lambda with a default
        assert there.ups[0].peer_addresses == (own,)


@plays
@pytest.mark.parametrize(
    ("own", "why"),
    [
        (IPv4Address("192.0.2.1"), "assign requested address"),
        (IPv6Address("::1"), "."),
    ],
    ids=["not ours", "of the other family"],
)
async def test_an_address_it_cannot_call_from_is_a_reason_and_no_crash(own: Address, why: str) -> None:
    there = await listening()
    with pytest.raises(ConnectError, match=why):
        await dial(there.endpoint, address=own)


@plays
async def test_nobody_there_is_a_refusal_at_once() -> None:
    with deaf() as (port, _):
        pass
    with pytest.raises(ConnectError, match=r"^connection refused$"):
        await dial(at(port), security(Role.ELEMENT))


@plays
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["hangs up", "speaks no TLS"])
async def test_a_server_that_does_not_shake_hands_is_a_reason(answer: bytes) -> None:
    def serve(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(answer)

    told = Recorder()
    with deaf() as (port, server):
        serving = asyncio.ensure_future(aside(serve, server))
        with pytest.raises(ConnectError, match="does not speak TLS" if answer else "closed by the peer"):
            await dial(at(port), security(Role.ELEMENT), told=told)
        await serving
    assert [threat for threat, _, _ in told.refusals] == (["2.15"] if answer else [])


@plays
async def test_a_dialling_that_is_given_up_leaves_no_connection() -> None:
    with deaf() as (port, server):
        dialling = asyncio.ensure_future(dial(at(port), security(Role.ELEMENT)))
        peer, _ = await aside(server.accept)
        peer.settimeout(10)
        assert (await aside(peer.recv, 65536))[0] == 22
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert await aside(drained, peer) == b""


@plays
async def test_the_kernel_is_asked_to_look_after_silent_and_unreachable_peers() -> None:
    there = await listening(None, TcpLimits(user_timeout=7.5))
    await dial(there.endpoint)
    await there.told.until(lambda: there.told.ups)
    (link,) = there.told.ups
    assert isinstance(link, TcpLink)
    transport = link._stream._transport
    assert transport is not None
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE == 60
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500
