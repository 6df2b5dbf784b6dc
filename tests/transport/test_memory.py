# SPDX-License-Identifier: Apache-2.0
"""The network in one process behaves like SCTP: messages, several addresses, failure, restart (RFC 6458)."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.identity import principal_of
from rserpool.transport.base import ConnectError
from rserpool.transport.memory import MemoryHub, MemoryLink, MemoryNetwork
from rserpool.wire import Ppid
from support.far_ends import leaf
from support.rig_transport import Recorder, closing, plays

A, B, C = (IPv4Address(f"10.0.0.{k}") for k in (1, 2, 3))
REGISTRAR, ELEMENT = principal_of(leaf(Role.REGISTRAR)), principal_of(leaf(Role.ELEMENT))


class Pair:
    """A registrar with two addresses, an element with one, and what each is told."""

    def __init__(self) -> None:
        hub = MemoryHub()
        self.there = closing(MemoryNetwork(hub, (A, B), REGISTRAR))
        self.here = closing(MemoryNetwork(hub, (C,), ELEMENT))
        self.theirs, self.ours = Recorder(), Recorder()

    async def dial(self, service: Ppid = Ppid.ASAP, port: int = 3864, address: IPv4Address = B) -> MemoryLink:
        links: list[MemoryLink] = []
        endpoint = Endpoint(TransportKind.SCTP, (address,), port)
        await self.here.connect(service, endpoint, 1.0, self.ours, links.append)  # type: ignore[arg-type] # a list takes any link
        return links[0]


async def paired() -> tuple[Pair, MemoryLink, MemoryLink]:
    pair = Pair()
    assert await pair.there.listen(Ppid.ASAP, 3864, pair.theirs) == 3864
    near = await pair.dial()
    (far,) = pair.theirs.ups
    assert isinstance(far, MemoryLink)
    return pair, near, far


@plays
async def test_an_association_knows_all_addresses_of_its_peer_and_who_it_is() -> None:
    _, near, far = await paired()
    assert (near.peer_addresses, near.principal, near.outbound, near.peer_port) == ((A, B), REGISTRAR, True, 3864)
    assert (far.peer_addresses, far.principal, far.outbound, far.service) == ((C,), ELEMENT, False, Ppid.ASAP)
    assert near.kind is far.kind is TransportKind.SCTP


@plays
async def test_messages_keep_boundaries_and_order_and_come_before_the_end() -> None:
    pair, near, far = await paired()
    for octets in (b"one", b"", b"three"):
        near.send(octets)
    near.close("enough")
    near.send(b"too late")
    far.send(b"lost")
    await pair.theirs.until(lambda: pair.theirs.downs)
    assert pair.theirs.messages == [b"one", b"", b"three"]
    assert pair.theirs.downs == ["closed by the peer (enough)"]
    assert (pair.ours.messages, pair.ours.downs) == ([], [])
    far.send(b"to nobody")
    far.close("too")
    await asyncio.sleep(0)
    assert pair.ours.downs == []


@plays
async def test_a_message_that_cannot_be_delivered_comes_back_and_the_association_stays() -> None:
    pair, near, far = await paired()
    near.failing = True
    near.send(b"one")
    await pair.ours.until(lambda: pair.ours.failures)
    near.failing = False
    near.send(b"two")
    await pair.theirs.until(lambda: pair.theirs.messages)
    assert (pair.ours.failures, pair.theirs.messages) == ([b"one"], [b"two"])
    assert far.is_up


@plays
async def test_a_restart_is_told_to_each_peer_and_nothing_of_before_is_delivered() -> None:
    pair, near, far = await paired()
    pair.here.restart()
    near.send(b"of before")
    far.send(b"to whom it was")
    await pair.theirs.until(lambda: pair.theirs.restarts)
    assert pair.theirs.restarts == [far]
    assert (pair.theirs.messages, pair.ours.messages, pair.theirs.downs) == ([], [], [])
    far.abort("prove yourself")
    await asyncio.sleep(0)
    assert pair.ours.downs == []
    assert (await pair.dial()).is_up


@plays
async def test_nobody_there_another_service_or_a_port_that_was_closed_refuse() -> None:
    pair, near, _ = await paired()
    for service, port, address in ((Ppid.ASAP, 1, B), (Ppid.ENRP, 3864, B), (Ppid.ASAP, 3864, C)):
        with pytest.raises(ConnectError, match=r"^connection refused$"):
            await pair.dial(service, port, address)
    pair.there.stop_listening()
    with pytest.raises(ConnectError, match=r"^connection refused$"):
        await pair.dial()
    assert near.is_up
    await pair.there.close()
    await pair.ours.until(lambda: pair.ours.downs)
    assert pair.ours.downs == ["closed by the peer (the process ends)"]
