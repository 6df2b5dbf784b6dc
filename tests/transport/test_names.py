# SPDX-License-Identifier: Apache-2.0
"""Names are resolved again and again; what was known stays known while DNS is silent or wrong (threat 2.12)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.transport import names
from rserpool.transport.names import Resolver, literal
from support.rig_transport import plays

Found = tuple[Endpoint, ...]


def places(port: int, *addresses: str) -> Found:
    return tuple(Endpoint(TransportKind.TCP, (a,), port) for a in map(literal, addresses) if a is not None)


class Dns:
    """What names stand for; ``None`` for no answer. No zone of DNS can be changed here, so this is its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **zone: Sequence[str] | None) -> None:
        self.zone = zone
        self.asked: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        addresses = self.zone.get(host)
        if addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]


def watched(*wanted: names.Place) -> tuple[Resolver, list[Found]]:
    resolver, told = Resolver(wanted), list[Found]()
    resolver.on_changed = told.append
    return resolver, told


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", IPv4Address("10.0.0.1")),
        ("fd00::1", IPv6Address("fd00::1")),
        ("::ffff:10.0.0.1", IPv4Address("10.0.0.1")),
        ("registrar", None),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("", None),
    ],
)
def test_an_address_is_told_from_a_name(host: str, address: object) -> None:
    assert literal(host) == address
    assert Resolver(((host, 1),)).needs_dns is (address is None)


@plays
async def test_addresses_need_no_dns_keep_their_order_and_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch)
    resolver, told = watched(("10.0.0.2", 7), ("10.0.0.1", 7), ("10.0.0.2", 7), ("::1", 8))
    assert not resolver.complete
    expected = places(7, "10.0.0.2", "10.0.0.1") + places(8, "::1")
    assert await resolver.resolve() == await resolver.resolve() == expected
    assert (told, dns.asked, resolver.complete, resolver.needs_dns) == ([expected], [], True, False)
    await resolver.run()  # returns: there is nothing to do


@plays
async def test_a_name_of_several_pods_gives_them_all_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, registrar=["10.0.0.2", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"])
    resolver, told = watched(("registrar", 7), ("10.0.0.1", 7), ("10.0.0.9", 9))
    await resolver.resolve()
    dns.zone["registrar"] = ["10.0.0.1", "10.0.0.2"]  # DNS turns its answers round: nothing has changed
    await resolver.resolve()
    assert told == [places(7, "10.0.0.1", "10.0.0.2") + places(9, "10.0.0.9")]


@plays
async def test_pods_come_and_go_behind_a_name_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "INTERVAL", 0.01)
    dns = Dns(monkeypatch, registrar=["10.0.0.1"])
    resolver, told = watched(("registrar", 7))
    changed = asyncio.Event()

    def note(found: Found) -> None:
        told.append(found)
        changed.set()

    resolver.on_changed = note
    running = asyncio.ensure_future(resolver.run())
    for pods in (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.3"]):
        dns.zone["registrar"] = pods
        await changed.wait()
        changed.clear()
        assert told[-1] == places(7, *pods)
    assert len(told) == 3
    running.cancel()


@plays
async def test_a_failure_keeps_what_was_known_and_is_logged_once_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, names.__name__)
    dns = Dns(monkeypatch, registrar=["10.0.0.1"], other=None)
    resolver, told = watched(("registrar", 7), ("other", 7))
    known = places(7, "10.0.0.1")
    assert await resolver.resolve() == known
    assert resolver.complete is False
    dns.zone["registrar"] = None
    for _ in range(3):
        assert await resolver.resolve() == known
    text = "the name %s cannot be resolved: [Errno -3] Temporary failure in name resolution"
    assert [r.getMessage() for r in caplog.records] == [text % "other", text % "registrar"]
    dns.zone.update(registrar=["10.0.0.1"], other=["10.0.0.2"])
    await resolver.resolve()
    assert [resolver.complete] == [True]
    dns.zone["registrar"] = None
    await resolver.resolve()
    assert len(caplog.records) == 3
    assert told == [known, places(7, "10.0.0.1", "10.0.0.2")]


@plays
async def test_dns_that_does_not_answer_is_given_up_and_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(names, "PATIENCE", 0.05)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(*_: Any, **__: Any) -> None:
        await released.wait()

    monkeypatch.setattr(loop, "getaddrinfo", hang)
    resolver, _ = watched(("registrar", 7), ("10.0.0.1", 7))
    assert await resolver.resolve() == places(7, "10.0.0.1")
    assert [r.getMessage() for r in caplog.records] == ["the name registrar cannot be resolved: no answer"]


@plays
@pytest.mark.parametrize("host", ["registrar..svc", ".svc", "x" * 64 + ".svc"])
async def test_a_name_that_is_none_is_logged_like_one_that_is_unknown(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A slip of who wrote the configuration must not end the process; asked is the real resolver."""
    resolver, _ = watched((host, 7), ("10.0.0.1", 7))
    assert await resolver.resolve() == places(7, "10.0.0.1")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the name {host} cannot be resolved: ")


@plays
async def test_the_real_resolver_is_asked() -> None:
    resolver, _ = watched(("localhost", 7))
    assert set(await resolver.resolve()) & set(places(7, "127.0.0.1", "::1"))


@plays
@pytest.mark.rfc("PROTOCOL 9.8: scopes of IPv6, and of both families")
@pytest.mark.parametrize(
    ("families", "prefer", "found"),
    [
        ((4, 6), None, ["10.0.0.1", "fd00::1", "10.0.0.9", "fd00::9", "fd00::5"]),
        ((6,), None, ["fd00::1", "fd00::9", "fd00::5"]),
        ((4,), None, ["10.0.0.1", "10.0.0.9"]),
        ((4, 6), 4, ["10.0.0.1", "10.0.0.9", "fd00::9", "fd00::5"]),
        ((4, 6), 6, ["fd00::1", "10.0.0.9", "fd00::9", "fd00::5"]),
    ],
)
async def test_addresses_are_of_the_families_that_can_be_dialled_and_a_name_of_both_may_stand_for_one(
    families: tuple[int, ...], prefer: int | None, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Dns(monkeypatch, both=["10.0.0.1", "fd00::1"], only6=["fd00::5"])
    wanted = [("both", 1), ("10.0.0.9", 1), ("fd00::9", 1), ("only6", 1)]
    resolver = Resolver(tuple(wanted), families, prefer)
    assert await resolver.resolve() == places(1, *found)
    assert resolver.complete == (6 in families)


@plays
async def test_a_name_without_an_address_of_ones_own_family_is_unknown_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dns = Dns(monkeypatch, registrar=["fd00::1"])
    resolver = Resolver((("registrar", 1),), (4,))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await resolver.resolve() == ()
    assert not resolver.complete
    assert [r.message for r in caplog.records] == ["the name registrar has no address of a family this process has"]
    dns.zone["registrar"] = ["fd00::1", "10.0.0.1"]
    assert await resolver.resolve() == places(1, "10.0.0.1")
