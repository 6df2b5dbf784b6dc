# SPDX-License-Identifier: Apache-2.0
"""`PoolUser` and a pool that really runs: resolving, connecting, failing over to another element and registrar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from rserpool.client import NoElementError, PoolUser, UnknownPoolError
from rserpool.pool import ServerPool
from rserpool.wire import Message, TcpTransport, asap, policies
from support.rig_model import (
    ONCE,
    RunningPool,
    element,
    insecure,
    running,
    runtime_folder,
    scripted,
    server_pool,
    silent,
)

Body = Callable[[RunningPool, PoolUser], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


def with_pool(body: Body, pool: ServerPool | None = None, elements: int = 3, patience: float = 10.0) -> None:
    """Run a pool (without security, where none is given), and somebody who uses it."""

    async def main() -> None:
        async with running(pool or insecure(), elements) as found, PoolUser(found.scope, patience=patience) as user:
            await body(found, user)

    asyncio.run(main())


async def greeting(user: PoolUser) -> str:
    """Which application answers."""
    async with await user.connect("echo") as connection:
        return (await connection.reader.readline()).decode().strip()


@pytest.mark.parametrize("pool", [insecure(), server_pool()], ids=["Insecure", "Secure"])
def test_a_handle_stands_for_the_elements_registered(pool: ServerPool) -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        text, octets = await user.resolve("echo"), await user.resolve(b"echo")
        assert (text.handle, text.policy) == (b"echo", policies.RoundRobin())
        places = {e.transport for e in text.elements}
        assert places == {
            TcpTransport(port=7007, address=IPv4Address(str(p.place.address))) for p in found.plan.applications
        }
        assert set(octets.elements) == set(text.elements)

    with_pool(body, pool)


def test_no_more_elements_come_than_were_asked_for_and_the_policy_goes_round() -> None:
    async def body(_: RunningPool, user: PoolUser) -> None:
        answers = [await user.resolve("echo", items=1) for _ in range(3)]
        assert [len(a.elements) for a in answers] == [1, 1, 1]
        assert len({a.elements[0].identifier for a in answers}) == 3

    with_pool(body)


def test_many_resolutions_at_once_get_each_their_own_answer() -> None:
    async def body(_: RunningPool, user: PoolUser) -> None:
        wanted = [user.resolve("echo" if i % 2 else f"no-{i}") for i in range(60)]
        answers = await asyncio.gather(*wanted, return_exceptions=True)
        for i, answer in enumerate(answers):
            if i % 2:
                assert not isinstance(answer, BaseException)
                assert len(answer.elements) == 3
            else:
                assert isinstance(answer, UnknownPoolError)
                assert str(answer) == f"there is no pool 'no-{i}'"

    with_pool(body)


@pytest.mark.parametrize(
    ("handle", "items"),
    [("", None), ("x" * 70_000, None), ("echo", -1), ("echo", 2**32)],
    ids=["no handle", "endless handle", "fewer than none", "too many"],
)
def test_what_cannot_be_asked_is_refused_at_once_and_spoils_nothing(handle: str, items: int | None) -> None:
    async def body(_: RunningPool, user: PoolUser) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(ValueError, match=r"handle|items"):
                await user.resolve(handle, items=items)
            assert len((await user.resolve("echo")).elements) == 3

    with_pool(body)


def test_a_resolution_nobody_waits_for_any_more_leaves_nothing() -> None:
    async def main() -> None:
        async with silent() as scope, PoolUser(scope, patience=30) as user:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(user.resolve("echo"), 0.05)
            assert not user._directory._questions
            assert not user._directory.machine._open

    asyncio.run(main())


def test_outside_of_its_block_a_pool_user_says_so() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        with pytest.raises(RuntimeError, match="inside its `async with`"):
            await PoolUser(found.scope).resolve("echo")
        async with PoolUser(found.scope) as other:
            await other.resolve("echo")
        with pytest.raises(RuntimeError, match="inside its `async with`"):
            await other.resolve("echo")

    with_pool(body)


def test_a_connection_leads_to_an_element_in_the_policys_turn() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        assert sorted([await greeting(user) for _ in range(3)]) == [p.name for p in found.plan.applications]

    with_pool(body)


def test_a_connection_says_whom_it_found_and_closes_with_its_block() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        async with await user.connect("echo") as connection:
            assert connection.tried == 0
            assert connection.writer.get_extra_info("sockname")[0] == str(found.scope.local)
            peer = connection.writer.get_extra_info("peername")
            assert isinstance(connection.element.transport, TcpTransport)
            assert peer == (str(connection.element.transport.address), connection.element.transport.port)
        assert connection.writer.is_closing()

    with_pool(body)


def test_an_element_that_is_dead_is_passed_over() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        found.applications[0].close()
        connections = [await user.connect("echo") for _ in range(3)]
        reached = [(await c.reader.readline()).decode().strip() for c in connections]
        assert sum(c.tried for c in connections) >= 1
        assert set(reached) == {"echo-1", "echo-2"}
        for connection in connections:
            connection.writer.close()

    with_pool(body)


def test_each_dead_element_is_reported_once_and_the_registrar_is_asked_once_more() -> None:
    elements = tuple(element(i, port=i) for i in (1, 2))

    def answer(message: Message) -> list[Message]:
        if not isinstance(message, asap.HandleResolution):
            return []
        return [asap.HandleResolutionResponse(pool_handle=message.pool_handle, elements=elements)]

    async def main() -> list[Message]:
        async with scripted(answer) as (scope, heard):
            async with PoolUser(scope, patience=10) as user:
                for _ in range(2):
                    with pytest.raises(NoElementError, match=r"127\.0\.0\.1:1: connection refused; tcp:127\.0\.0\.1:2"):
                        await user.connect("echo")
            return heard

    heard = asyncio.run(main())
    assert [m.pe_identifier for m in heard if isinstance(m, asap.EndpointUnreachable)] == [1, 2]
    assert [type(m) for m in heard[:4]] == [
        asap.HandleResolution, asap.EndpointUnreachable, asap.EndpointUnreachable, asap.HandleResolution,
    ]  # fmt: skip


def test_if_no_element_can_be_reached_each_is_told_with_its_reason() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        for application in found.applications:
            application.close()
        with pytest.raises(NoElementError) as caught:
            await user.connect("echo")
        head, *reasons = str(caught.value).replace(": tcp", ";tcp").split(";")
        assert head == "no element of 'echo' could be reached"
        assert sorted(r.strip() for r in reasons) == [
            f"tcp:{p.place.address}:7007: connection refused" for p in found.plan.applications
        ]

    with_pool(body)


def test_an_element_that_speaks_no_tcp_is_not_connected_to() -> None:
    async def body(_: RunningPool, user: PoolUser) -> None:
        with pytest.raises(NoElementError, match="it speaks UDP, not TCP"):
            await user.connect("echo")

    probed = {**ONCE, "tcpSocket": {"port": 7007}}
    with_pool(body, insecure(elements={"port": 7007, "protocol": "UDP", "health": probed}), elements=1)


def test_when_the_home_registrar_is_gone_another_answers() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        before = await user.resolve("echo")
        home = next(a for a in user._directory.machine.desk.associations.values())
        index = [str(p.place.address) for p in found.plan.registrars].index(str(home.peer_addresses[0]))
        await found.end_registrar(index)
        after = await user.resolve("echo", fresh=True)
        assert {e.identifier for e in after.elements} == {e.identifier for e in before.elements}

    with_pool(body, insecure(registrars={"replicas": 2}), patience=3)


def test_a_registrar_that_comes_back_is_found_again() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        await user.resolve("echo")
        await found.end_registrar(0)
        found.start_registrar(0)
        await found.serving(0)
        await found.has(2)
        assert len((await user.resolve("echo", fresh=True)).elements) == 2

    with_pool(body, elements=2)


def test_a_registrar_may_be_named() -> None:
    async def main() -> None:
        async with running(insecure(), 1) as found:
            [(host, port)] = found.scope.registrars
            named = replace(found.scope, registrars=(("localhost", 1), (host, port)))
            async with PoolUser(named, patience=10) as user:
                assert len((await user.resolve("echo")).elements) == 1

    asyncio.run(main())
