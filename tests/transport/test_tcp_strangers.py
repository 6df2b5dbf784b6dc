# SPDX-License-Identifier: Apache-2.0
"""Floods: 256 connections without a handshake at most, so many without a certificate, and an honest peer gets in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport.base import ConnectError, Link
from rserpool.transport.half_open import MOST
from rserpool.transport.tcp import TcpLimits
from rserpool.wire import Ppid
from support.far_ends import leaf
from support.rig_transport import (
    Listening,
    Recorder,
    aside,
    comes,
    credentials,
    dial,
    dialled,
    drained,
    listening,
    message,
    plays,
    security,
)

pytestmark = pytest.mark.usefixtures("either_loop")
CROWDED = ("2.1", "handshake", "too many connections without a handshake")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Sockets that are closed when the test ends."""
    with ExitStack() as stack:
        yield stack


async def flood(there: Listening, number: int, opened: ExitStack, source: str | None = None) -> list[socket.socket]:
    """So many connections that say nothing, all accepted before this returns."""

    def connect() -> list[socket.socket]:
        return [opened.enter_context(dialled(there.port, source=source)) for _ in range(number)]

    before = there.network.half_open + len(there.told.refusals)
    sockets = await aside(connect)
    await comes(lambda: there.network.half_open + len(there.told.refusals) == before + number)
    return sockets


@plays
async def test_of_300_strangers_256_stay_and_good_peers_get_in_all_the_time(opened: ExitStack) -> None:
    there = await listening(security())
    sockets = await flood(there, 300, opened, "127.0.0.66")
    assert there.network.half_open == MOST == 256
    assert there.told.refusals == [CROWDED] * 44
    assert [await aside(drained, s) for s in sockets[:44]] == [b""] * 44
    _, link = await dial(there.endpoint, security(Role.ELEMENT))
    await there.told.until(lambda: there.told.ups)
    await flood(there, 300, opened, "127.0.0.66")
    link.send(message())
    await there.told.until(lambda: there.told.messages)
    await dial(there.endpoint, security(Role.USER))
    assert there.network.half_open <= MOST
    await there.told.until(lambda: len(there.told.ups) == 2)
    assert there.told.downs == []
    assert {r for r in there.told.refusals if r != CROWDED} == set()


@plays
async def test_an_honest_peer_amid_its_handshake_is_not_crowded_out_by_a_busier_source(opened: ExitStack) -> None:
    there = await listening(security(), TcpLimits(half_open=4))
    (slow,) = await flood(there, 1, opened, "127.0.0.77")
    await flood(there, 20, opened, "127.0.0.66")
    assert there.network.half_open == 4
    assert there.told.refusals == [CROWDED] * 17
    slow.setblocking(False)
    with pytest.raises(BlockingIOError):
        slow.recv(1)


@plays
async def test_strangers_that_leave_free_their_places(opened: ExitStack) -> None:
    there = await listening(security(), TcpLimits(half_open=3))
    for _ in range(5):
        for sock in await flood(there, 3, opened):
            sock.close()
        await comes(lambda: not there.network.half_open)
    assert there.told.refusals == []


@plays
async def test_both_services_of_a_process_share_the_bound(opened: ExitStack) -> None:
    there = await listening(security(), TcpLimits(half_open=3))
    peers = Recorder()
    port = await there.network.listen(Ppid.ENRP, 0, peers)
    await flood(there, 2, opened)
    for _ in range(2):
        opened.enter_context(await aside(dialled, port))
    await there.told.until(lambda: there.told.refusals)
    assert there.network.half_open == 3
    assert there.told.refusals == [CROWDED]
    assert peers.refusals == []


@plays
async def test_associations_without_a_certificate_are_counted_by_address_and_given_back() -> None:
    there = await listening(security(), TcpLimits(anonymous_per_source=2))

    async def call(role: Role) -> tuple[Recorder, Link]:
        told, before = Recorder(), len(there.told.ups) + len(there.told.refusals)
        _, link = await dial(there.endpoint, security(role), told=told)
        await there.told.until(lambda: len(there.told.ups) + len(there.told.refusals) > before)
        return told, link

    for _ in range(3):
        (_, first), (_, second) = await call(Role.USER), await call(Role.USER)
        third, _ = await call(Role.USER)
        await third.until(lambda told=third: told.downs)  # type: ignore[misc] # mypy infers no lambda with a default
        assert there.told.refusals.pop() == (
            "2.1",
            "handshake",
            "there are 2 associations without a certificate from its address",
        )
        _, element = await call(Role.ELEMENT)
        gone = len(there.told.downs) + 3
        for link in (first, second, element):
            link.close("enough")
        await there.told.until(lambda gone=gone: len(there.told.downs) == gone)  # type: ignore[misc] # mypy infers no lambda with a default
    assert len(there.told.ups) == 9
    assert there.network.associations == 0


@plays
@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
async def test_associations_of_one_certificate_are_counted_and_given_back_and_others_are_not_affected() -> None:
    there = await listening(security(), TcpLimits(per_identity=2, anonymous_per_source=1))

    async def call(number: int) -> tuple[Recorder, Link]:
        told, before = Recorder(), len(there.told.ups) + len(there.told.refusals)
        mine = security(Role.ELEMENT, credentials(Role.ELEMENT, number))
        _, link = await dial(there.endpoint, mine, told=told)
        await there.told.until(lambda: len(there.told.ups) + len(there.told.refusals) > before)
        return told, link

    for _ in range(3):
        held = [(await call(7))[1], (await call(7))[1]]
        third, _ = await call(7)
        await third.until(lambda told=third: told.downs)  # type: ignore[misc] # mypy infers no lambda with a default
        assert there.told.refusals.pop() == (
            "2.1",
            "handshake",
            f"there are 2 associations of {leaf(Role.ELEMENT, 7)}",
        )
        held.append((await call(8))[1])
        gone = len(there.told.downs) + 3
        for link in held:
            link.close("enough")
        await there.told.until(lambda gone=gone: len(there.told.downs) == gone)  # type: ignore[misc] # mypy infers no lambda with a default
    assert len(there.told.ups) == 9


@plays
async def test_when_it_stops_listening_associations_stay_and_nobody_new_comes() -> None:
    there = await listening(security())
    _, link = await dial(there.endpoint, security(Role.ELEMENT))
    there.network.stop_listening()
    with pytest.raises(ConnectError, match=r"^connection refused$"):
        await dial(there.endpoint, security(Role.ELEMENT, None))
    link.send(message())
    await there.told.until(lambda: there.told.messages)
    there.network.stop_listening()


@plays
async def test_a_closed_network_keeps_no_stranger_either(opened: ExitStack) -> None:
    there = await listening(security())
    (stranger,) = await flood(there, 1, opened)
    await there.network.close()
    stranger.settimeout(2)  # less than the deadline of its handshake
    assert await aside(drained, stranger) == b""
    assert there.network.half_open == 0
    assert there.told.refusals == []  # it was not turned away for anything it did


@plays
async def test_a_port_that_is_taken_is_an_error() -> None:
    there = await listening()
    with pytest.raises(OSError, match="in use"):
        await there.network.listen(Ppid.ENRP, there.port, Recorder())
