# SPDX-License-Identifier: Apache-2.0
"""Announcements over real multicast on the loopback interface, and what an element makes of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from random import Random

import pytest

from rserpool.asap.announce import Multicast
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.events import HuntChanged, Lagged
from rserpool.transport.discovery import Listening, Registrars, announcing
from rserpool.transport.multicast import Groups, interface_of
from rserpool.wire import RFC, Address
from support.ports import free_port
from support.rig_transport import plays

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127/8 is this machine's")
GROUP = IPv4Address("239.255.76.33")
ONE, TWO, ELEMENT = (IPv4Address(f"127.77.0.{n}") for n in (1, 2, 3))


def endpoint(address: str, port: int = 3864) -> Endpoint:
    return Endpoint(TransportKind.TCP, (ip_address(address),), port)


A, B, C = endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("10.0.0.3")


def group() -> Multicast:
    """A group nobody else in this test run uses."""
    return Multicast((GROUP,), free_port())


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is looked at is no event
            await asyncio.sleep(0.01)


@linux
@pytest.mark.rfc("RFC 5352 3.6: a registrar announces itself where multicast is used")
@pytest.mark.rfc("RFC 5352 3.6: an announced address is forgotten T7 after it was last heard")
@plays
async def test_registrars_that_announce_themselves_are_heard_and_forgotten_when_they_stop() -> None:
    where = group()
    listening = Listening(where, (ELEMENT,), 0.5, RFC)
    told: list[tuple[Endpoint, ...]] = []
    listening.on_changed = told.append
    tasks = [asyncio.create_task(listening.run())]
    tasks += [
        asyncio.create_task(
            announcing(
                where, (own,), 3864, server_id=n, t6=0.05, rng=Random(n), dialect=RFC, registrars=lambda: 1
            ).run()
        )
        for n, own in ((1, ONE), (2, TWO))
    ]
    try:
        await until(lambda: set(listening.endpoints) == {endpoint(str(ONE)), endpoint(str(TWO))})
        tasks.pop().cancel()
        await until(lambda: listening.endpoints == (endpoint(str(ONE)),))
        assert told[-1] == (endpoint(str(ONE)),)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@linux
@plays
async def test_what_cannot_be_dialled_from_here_is_not_told() -> None:
    where = group()
    listening = Listening(where, (ELEMENT,), 5.0, RFC)
    heard: list[tuple[bytes, Address]] = []
    sender = Groups(where, (ONE,), lambda octets, source: heard.append((octets, source)))
    task = asyncio.create_task(listening.run())
    await asyncio.sleep(0)
    sender.join()
    try:
        v6 = bytes.fromhex("0005001c 0f180000 00020014 fd000000 00000000 00000000 00000001")
        v4 = bytes.fromhex("00050010 0f180000 00010008 0a000001")
        sctp = bytes.fromhex("00040010 0f180000 00010008 0a000002")
        body = bytes.fromhex("00000007") + sctp + v6 + v4
        sender.send(b"\x0a\0" + (4 + len(body)).to_bytes(2) + body)
        sender.send(b"garbage")
        await until(lambda: bool(listening.endpoints) and listening.ignored == 1)
        assert listening.endpoints == (A,)
        await until(lambda: len(heard) == 2)
        assert {source for _, source in heard} == {ONE}
    finally:
        sender.leave()
        task.cancel()


async def told_by(steps: Callable[[Registrars], None]) -> list[tuple[Endpoint, ...]]:
    told: list[tuple[Endpoint, ...]] = []
    steps(Registrars(told.append))
    await asyncio.sleep(0)
    return told


@pytest.mark.rfc("PROTOCOL 6.10: announcements are a hint, and few of them are kept")
@plays
async def test_announced_registrars_are_tried_only_when_no_configured_one_was_found() -> None:
    def steps(registrars: Registrars) -> None:
        registrars.configured((A, B))
        registrars.announced((B, C))
        registrars.event(Lagged(1.0))
        registrars.event(HuntChanged(found=False, reason="refused"))
        registrars.announced((C,))
        registrars.event(HuntChanged(found=False, reason="refused"))
        registrars.event(HuntChanged(found=True))

    assert await told_by(steps) == [(A, B), (A, B, C), (A, B)]


@plays
async def test_where_nothing_is_configured_announced_ones_are_tried_at_once() -> None:
    def steps(registrars: Registrars) -> None:
        registrars.announced((C,))
        registrars.announced((C,))
        registrars.configured((A,))

    assert await told_by(steps) == [(C,), (A,)]


@plays
async def test_where_there_is_no_way_to_a_group_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    groups = Groups(group(), (IPv4Address("127.0.0.1"),), lambda _octets, _source: None)
    groups.join()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            groups.send(bytes(100_000))  # longer than any datagram
    groups.leave()
    assert len(caplog.records) == 1
    assert str(GROUP) in caplog.text


@plays
async def test_a_group_that_cannot_be_joined_is_an_error_and_leaves_no_socket() -> None:
    groups = Groups(group(), (IPv4Address("192.0.2.1"),), lambda _octets, _source: None)
    with pytest.raises(OSError, match=r"."):
        groups.join()
    groups.send(b"to nobody")
    groups.leave()


@plays
async def test_one_without_an_address_of_a_groups_family_is_not_in_it() -> None:
    groups = Groups(group(), (IPv6Address("::1"),), lambda _octets, _source: None)
    groups.join()
    groups.send(b"to nobody")
    groups.leave()


def test_the_interface_of_an_ipv6_address_is_the_one_that_has_it(tmp_path: Path) -> None:
    table = tmp_path / "if_inet6"
    table.write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\nfd000077000000000000000000000102 1f 80 00 82     eth0\n"
    )
    assert interface_of(IPv6Address("fd00:77::102"), table) == 31
    assert interface_of(IPv6Address("::1"), table) == 1
    assert interface_of(IPv6Address("fd00::1"), table) == 0
    assert interface_of(IPv6Address("::1"), tmp_path / "none") == 0
