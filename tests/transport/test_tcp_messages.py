# SPDX-License-Identifier: Apache-2.0
"""Messages over TCP, plain and with TLS: boundaries, order, and what is no message."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport.base import Link
from rserpool.transport.security import Security
from rserpool.transport.tcp import ANONYMOUS_MESSAGE
from support.rig_transport import (
    NOBODYS,
    Listening,
    aside,
    carried,
    credentials,
    cut,
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
SECURE = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
OUT_OF_STEP = "Message Length 3 is below 4: the stream is out of step"


def safety(secure: bool, role: Role = Role.REGISTRAR) -> Security | None:
    return security(role) if secure else None


def reached(there: Listening, secure: bool) -> socket.socket:
    if secure:
        return shaken(there.port, peer_context(credentials(Role.ELEMENT)))
    return dialled(there.port)


@pytest.mark.rfc("PROTOCOL 9.6: messages follow each other in a stream of octets")
@plays
@SECURE
async def test_messages_arrive_whole_and_in_order_both_ways(secure: bool) -> None:
    there = await listening(safety(secure))
    there.told.on_message = lambda link, octets: link.send(octets)
    ours = type(there.told)()
    network, link = await dial(there.endpoint, safety(secure, Role.ELEMENT), told=ours)
    sizes = [4, 8, 5, 65532, 16384, 65535, 6, 1000]
    sent = [message(size, kind) for kind, size in enumerate(sizes)]
    for octets in sent:
        link.send(octets)
    await ours.until(lambda: len(ours.messages) == len(sent))
    assert ours.messages == there.told.messages == sent
    (inbound,) = there.told.ups
    assert (inbound.outbound, link.outbound) == (False, True)
    assert (link.peer_port, inbound.service) == (there.port, there.service)
    await network.close()
    await there.told.until(lambda: there.told.downs)
    assert there.told.downs == ["closed by the peer"]
    assert (network.associations, there.network.associations) == (0, 0)


@plays
@SECURE
@pytest.mark.parametrize("step", [1, 3, 7, 1000])
async def test_segments_do_not_matter(secure: bool, step: int) -> None:
    there = await listening(safety(secure))
    sent = [message(size) for size in (4, 9, 12, 130, 5)]
    stream = b"".join(sent)

    def drip() -> socket.socket:
        peer = reached(there, secure)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(stream), step):
            peer.sendall(stream[at : at + step])
        return peer

    with await aside(drip):
        await there.told.until(lambda: len(there.told.messages) == len(sent))
        assert there.told.messages == sent
        assert there.told.downs == []


@plays
@SECURE
async def test_an_unfinished_message_is_not_delivered_when_the_peer_goes(secure: bool) -> None:
    there = await listening(safety(secure))

    def half() -> None:
        peer = reached(there, secure)
        peer.sendall(message(8) + message(60000)[:-1])
        cut(peer)

    await aside(half)
    await there.told.until(lambda: there.told.downs)
    assert there.told.messages == [message(8)]
    assert there.told.downs == ["closed by the peer"]


@pytest.mark.rfc("PROTOCOL 9.6: messages follow each other in a stream of octets")
@plays
@SECURE
async def test_a_stream_out_of_step_ends_with_a_reason_and_nothing_behind_it_is_read(secure: bool) -> None:
    there = await listening(safety(secure))

    def garbage() -> bytes:
        peer = reached(there, secure)
        peer.sendall(b"\x01\x00\x00\x03" + message(8) * 3)
        return drained(peer)

    assert await aside(garbage) == b""
    assert there.told.messages == []
    ((threat, what, reason),) = there.told.refusals
    assert (threat, what) == ("2.10", "message")
    assert reason.endswith(OUT_OF_STEP)
    assert there.told.downs == [reason]
    assert there.network.associations == 0


@plays
async def test_nothing_is_delivered_behind_a_message_that_made_us_leave() -> None:
    """Two messages in one segment, and the first one is reason enough to abort."""
    there = await listening()
    there.told.on_message = lambda link, _: link.abort("no more of that")

    def both() -> bytes:
        peer = dialled(there.port)
        peer.sendall(message(8) * 2)
        return drained(peer)

    assert await aside(both) == b""
    assert there.told.messages == [message(8)]
    assert there.told.downs == []


@plays
async def test_nor_is_a_record_behind_it_that_is_no_message() -> None:
    there = await listening(security())
    there.told.on_message = lambda link, _: link.abort("no more of that")

    def both() -> bytes:
        peer, tls, outgoing = carried(there.port, peer_context(credentials(Role.ELEMENT)))
        tls.write(message(8))
        tls.write(b"\0\0\0\0")
        peer.sendall(outgoing.read())
        return drained(peer)

    await aside(both)
    assert there.told.messages == [message(8)]
    assert (there.told.refusals, there.told.downs) == ([], [])


@plays
@SECURE
async def test_what_was_queued_is_delivered_before_a_close_and_tls_says_so(secure: bool) -> None:
    there = await listening(safety(secure))
    blob = message(65000) * 10

    def leave(link: Link) -> None:
        link.send(blob)
        link.close("that is all")

    there.told.on_up = leave
    heard = bytearray()

    def listen() -> None:
        with reached(there, secure) as peer:
            while piece := peer.recv(65536):  # raises if it is cut
                heard.extend(piece)

    await aside(listen)
    assert bytes(heard) == blob
    assert there.told.downs == []
    assert there.network.associations == 0


@plays
async def test_an_abort_is_seen_as_a_cut_not_as_an_end() -> None:
    there = await listening(security())
    there.told.on_up = lambda link: link.abort("now")

    def listen() -> None:
        with reached(there, True) as peer:
            peer.recv(65536)

    with pytest.raises((ConnectionError, ssl.SSLError)):
        await aside(listen)


@plays
@pytest.mark.parametrize("graceful", [True, False], ids=["close_notify", "cut"])
async def test_the_peers_end_is_told_once_and_all_it_said_before_is_heard(graceful: bool) -> None:
    there = await listening(security())

    def speak_and_go() -> None:
        peer = reached(there, True)
        assert isinstance(peer, ssl.SSLSocket)
        peer.sendall(message(8) * 2)
        cut(peer.unwrap() if graceful else peer)

    await aside(speak_and_go)
    await there.told.until(lambda: there.told.downs)
    await asyncio.sleep(0)
    assert there.told.messages == [message(8)] * 2
    assert there.told.downs == ["closed by the peer"]
    assert there.told.refusals == []
    assert there.network.associations == 0


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@plays
async def test_a_record_tampered_with_on_its_way_ends_the_association_and_is_counted() -> None:
    """Threats 2.8 and 2.10: somebody between the two changes an octet."""
    there = await listening(security())
    there.told.on_up = lambda link: link.send(message())

    def tampered() -> None:
        peer, tls, outgoing = carried(there.port, peer_context(credentials(Role.ELEMENT)))
        peer.sendall(outgoing.read())
        peer.recv(1)  # it is up
        tls.write(message(8))
        octets = bytearray(outgoing.read())
        octets[-3] ^= 0x40
        peer.sendall(octets)
        drained(peer)

    await aside(tampered)
    assert there.told.messages == []
    ((threat, what, reason),) = there.told.refusals
    assert (threat, what) == ("2.10", "TLS record")
    assert there.told.downs == [reason]


@plays
async def test_a_message_that_comes_with_the_last_flight_of_the_handshake_is_heard() -> None:
    """A client may speak the moment its side is done; a burst of 60 KiB arrives together with its certificate."""
    there = await listening(security())

    def burst() -> socket.socket:
        peer, tls, outgoing = carried(there.port, peer_context(credentials(Role.USER)))
        tls.write(message(60000))
        peer.sendall(outgoing.read())
        return peer

    with await aside(burst):
        await there.told.until(lambda: there.told.messages or there.told.refusals)
        assert there.told.refusals == []
        assert there.told.messages == [message(60000)]


@plays
async def test_a_long_message_of_somebody_without_a_certificate_ends_its_association_by_the_header() -> None:
    there = await listening(security())

    def burst() -> socket.socket:
        peer, tls, outgoing = carried(there.port, peer_context(NOBODYS))
        tls.write(message(ANONYMOUS_MESSAGE) + message(ANONYMOUS_MESSAGE + 4)[:4])
        peer.sendall(outgoing.read())
        return peer

    with await aside(burst):
        await there.told.until(lambda: there.told.downs)
    assert [(threat, what) for threat, what, _ in there.told.refusals] == [("2.10", "message")]
