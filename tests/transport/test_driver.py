# SPDX-License-Identifier: Apache-2.0
"""The driver carries out every effect, keeps the one timer, and tells the machine everything exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import (
    Abandon,
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Emit,
    Endpoint,
    RequestId,
    Send,
    TransportKind,
)
from rserpool.asap.events import Event, Refused
from rserpool.identity import principal_of
from rserpool.transport.driver import Driver
from rserpool.transport.memory import MemoryHub, MemoryLink, MemoryNetwork
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import Ppid
from support.far_ends import leaf
from support.rig_transport import HERE, PATIENCE, Recorder, aside, at, closing, deaf, drained, plays, security

OURS, THEIRS = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
WHO = principal_of(leaf(Role.REGISTRAR))
NOTE = Refused(threat="2.1", peer="somebody", what="something", reason="a test")


class Machine:
    """Does what a test says and remembers what it was told; ``then`` are its answers, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.wakes_at: list[float] = []
        self.woken: list[float] = []
        self.answer: Callable[[tuple[object, ...]], list[Effect]] = lambda _: []
        self.changed = asyncio.Event()
        self.up: dict[AssociationId, Association] = {}

    def _note(self, *what: object) -> list[Effect]:
        self.told.append(what)
        self.changed.set()
        return self.answer(what)

    def connected(self, association: Association, request: RequestId | None, now: float) -> list[Effect]:
        del now
        self.up[association.id] = association
        return self._note("connected", association.id, request)

    def connect_failed(self, request: RequestId, reason: str, now: float) -> list[Effect]:
        del now
        return self._note("connect_failed", request, reason)

    def received(self, association: AssociationId, octets: bytes, now: float) -> list[Effect]:
        del now
        return self._note("received", association, octets)

    def lost(self, association: AssociationId, reason: str, now: float) -> list[Effect]:
        del now
        return self._note("lost", association, reason)

    def ageing(self, association: AssociationId, now: float) -> list[Effect]:
        del now
        return self._note("ageing", association)

    def wake(self, now: float) -> list[Effect]:
        self.woken.append(now)
        self.wakes_at = [w for w in self.wakes_at if w > now]
        return self._note("wake")

    def deadline(self) -> float | None:
        return min(self.wakes_at, default=None)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Driven:
    """A driven machine on one host, and a far end on another."""

    def __init__(self) -> None:
        hub = MemoryHub()
        self.network = closing(MemoryNetwork(hub, (OURS,), WHO))
        self.far_network = closing(MemoryNetwork(hub, (THEIRS,), WHO))
        self.machine, self.far, self.events = Machine(), Recorder(), list[Event]()
        self.driver = closing(Driver(self.machine, self.network, self.events.append))

    def do(self, *effects: Effect) -> None:
        self.driver.call(lambda _: list(effects))

    async def dialled(self, request: int = 1) -> AssociationId:
        """An association that the machine has asked for."""
        await self.far_network.listen(Ppid.ASAP, 3864, self.far)
        self.do(connect(request))
        await self.machine.until(lambda: self.machine.told)
        (what, association, asked) = self.machine.told.pop()
        assert (what, asked) == ("connected", request)
        return association  # type: ignore[return-value] # the machine has noted one

    @property
    def far_link(self) -> MemoryLink:
        link = self.far.ups[-1]
        assert isinstance(link, MemoryLink)
        return link


def connect(request: int = 1, deadline: float = 5.0, endpoint: Endpoint | None = None) -> Connect:
    there = endpoint or Endpoint(TransportKind.SCTP, (THEIRS,), 3864)
    return Connect(RequestId(request), Ppid.ASAP, there, deadline)


@plays
async def test_effects_are_carried_out_in_their_order() -> None:
    d = Driven()
    number = await d.dialled()
    d.do(Send(number, b"one"), Emit(NOTE), Send(number, b"two"), Close(number, "that is all"), Send(number, b"three"))
    await d.far.until(lambda: d.far.downs)
    assert d.far.messages == [b"one", b"two"]
    assert d.far.downs == ["closed by the peer (that is all)"]
    assert d.events == [NOTE]
    d.do(Close(number, "again"), Send(number, b"four"))
    await asyncio.sleep(0)
    assert d.machine.told == []


@plays
async def test_messages_reach_the_machine_by_the_number_of_their_association() -> None:
    d = Driven()
    await d.network.listen(Ppid.ASAP, 3864, d.driver)
    first = await d.dialled()
    await d.far_network.connect(Ppid.ASAP, Endpoint(TransportKind.SCTP, (OURS,), 3864), 5.0, d.far, d.far.ups.append)
    (_, second, request) = d.machine.told.pop()
    assert request is None
    assert first != second
    for link, octets in zip(d.far.ups, (b"to the first", b"to the second"), strict=True):
        link.send(octets)
    await d.machine.until(lambda: len(d.machine.told) == 2)
    assert d.machine.told == [("received", first, b"to the first"), ("received", second, b"to the second")]
    ours, theirs = d.machine.up[first], d.machine.up[second]  # type: ignore[index] # the machine has noted one
    assert (ours.outbound, ours.peer_addresses, ours.peer_port, ours.principal) == (True, (THEIRS,), 3864, WHO)
    assert (theirs.outbound, theirs.kind, theirs.service) == (False, TransportKind.SCTP, Ppid.ASAP)


@plays
async def test_a_peer_that_goes_is_told_once() -> None:
    d = Driven()
    number = await d.dialled()
    d.far_link.close("enough")
    await d.machine.until(lambda: d.machine.told)
    d.do(Send(number, b"too late"), Close(number, "too"))
    await asyncio.sleep(0)
    assert d.machine.told == [("lost", number, "closed by the peer (enough)")]


@plays
@pytest.mark.parametrize("failure", ["send", "restart"])
async def test_a_failed_send_and_a_restart_end_the_association_once(failure: str) -> None:
    """RFC 5352's SEND.FAILURE; after a restart nothing that was proved before holds."""
    d = Driven()
    number = await d.dialled()
    near = d.far_link.other
    assert near is not None
    if failure == "send":
        near.failing = True
        d.do(Send(number, b"one"), Send(number, b"two"))
    else:
        d.far_network.restart()
    await d.machine.until(lambda: d.machine.told)
    await asyncio.sleep(0)
    reason = "a message could not be delivered" if failure == "send" else "the peer has started again"
    assert d.machine.told == [("lost", number, reason)]
    assert not near.is_up
    if failure == "send":
        await d.far.until(lambda: d.far.downs)


@plays
async def test_a_dialling_that_fails_is_told_with_its_reason_and_can_be_tried_again_at_once() -> None:
    d = Driven()
    tries = count(2)

    def again(what: tuple[object, ...]) -> list[Effect]:
        return [connect(next(tries))] if what[0] == "connect_failed" and what[1] != 3 else []

    d.machine.answer = again
    d.do(connect(1))
    await d.machine.until(lambda: len(d.machine.told) == 3)
    assert d.machine.told == [("connect_failed", n, "connection refused") for n in (1, 2, 3)]


@plays
async def test_a_dialling_that_is_abandoned_is_never_heard_of() -> None:
    d = Driven()
    await d.far_network.listen(Ppid.ASAP, 3864, d.far)
    d.do(connect(1), Abandon(RequestId(1)), connect(2))
    d.do(Abandon(RequestId(7)))
    await d.machine.until(lambda: d.machine.told)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [told[::2] for told in d.machine.told] == [("connected", 2)]
    assert len([link for link in d.far.ups if isinstance(link, MemoryLink) and link.is_up]) == 1


@plays
async def test_a_dialling_over_tcp_that_is_abandoned_ends_on_the_network_too() -> None:
    machine = Machine()
    driver = closing(Driver(machine, TcpNetwork(HERE, security(), TcpLimits()), lambda _: None))
    with deaf() as (port, server):
        driver.call(lambda _: [connect(1, PATIENCE, at(port))])
        peer, _ = await aside(server.accept)
        peer.settimeout(PATIENCE / 4)
        assert (await aside(peer.recv, 65536))[0] == 22
        driver.call(lambda _: [Abandon(RequestId(1))])
        assert await aside(drained, peer) == b""
    assert machine.told == []


@plays
async def test_an_association_whose_leaf_ages_is_told_as_long_as_it_is_up() -> None:
    d = Driven()
    number = await d.dialled()
    (link,) = d.network.links
    d.driver.ageing(link)
    assert d.machine.told == [("ageing", number)]
    d.do(Close(number, "that is all"))
    d.driver.ageing(link)
    assert d.machine.told == [("ageing", number)]


@plays
async def test_a_turned_away_stranger_is_an_event() -> None:
    d = Driven()
    d.driver.refused("2.5", "10.0.0.9:5", "handshake", "it has expired")
    assert d.events == [Refused(threat="2.5", peer="10.0.0.9:5", what="handshake", reason="it has expired")]


def clock() -> float:
    return asyncio.get_running_loop().time()


@plays
async def test_the_machine_is_woken_at_its_earliest_deadline_and_not_before() -> None:
    d = Driven()
    began = clock()
    d.machine.wakes_at = [began + 0.12, began + 0.06]
    d.do()
    await d.machine.until(lambda: not d.machine.wakes_at)
    assert [round(w - began, 9) >= due for w, due in zip(d.machine.woken, (0.06, 0.12), strict=True)] == [True, True]
    assert d.driver._timer is None


@plays
async def test_an_earlier_deadline_replaces_a_later_one_and_none_stops_the_timer() -> None:
    d = Driven()
    d.machine.wakes_at = [clock() + 3600]
    d.do()
    d.machine.wakes_at = [clock() + 0.02]
    d.do()
    await d.machine.until(lambda: d.machine.woken)
    d.machine.wakes_at = [clock() + 0.02]
    d.do()
    d.machine.wakes_at = []
    d.do()
    await asyncio.sleep(0.05)
    assert len(d.machine.woken) == 1


@plays
async def test_a_deadline_that_has_passed_wakes_it_at_once() -> None:
    d = Driven()
    d.machine.wakes_at = [clock() - 10]
    d.do()
    await d.machine.until(lambda: d.machine.woken)


@plays
async def test_when_it_closes_what_was_sent_arrives_and_the_machine_hears_no_more() -> None:
    d = Driven()
    number = await d.dialled()
    await d.network.listen(Ppid.ASAP, 3864, d.driver)
    d.machine.wakes_at = [asyncio.get_running_loop().time() + 0.01]
    d.do(Send(number, b"farewell"), connect(2))
    await d.driver.close()
    d.far_link.send(b"wait")
    d.do(Emit(NOTE))
    await d.far.until(lambda: d.far.downs)
    assert d.far.messages == [b"farewell"]
    await asyncio.sleep(0.03)
    assert (d.machine.told, d.machine.woken, d.events) == ([], [], [])


@plays
async def test_who_comes_up_after_the_end_is_not_kept() -> None:
    d = Driven()
    await d.driver.close()
    link = MemoryLink(Ppid.ASAP, d.far_network, 1, d.driver, outbound=False)
    d.driver.up(link)
    assert not link.is_up
    assert d.machine.told == []
