# SPDX-License-Identifier: Apache-2.0
"""What a registrar is asked, and what is remembered instead (RFC 5352 3.3, 6.3, 6.4; PROTOCOL 12.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from rserpool.client import NoElementError, PoolUser, QueueFullError, Scope, UnknownPoolError
from rserpool.client.mail import MOST_WAITING
from rserpool.wire import CauseCode, ErrorCause, Message, Policy, asap, policies
from support.rig_model import element, scripted, silent


class Registrar:
    """Answers resolutions with these elements, and accepts subscriptions."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy
        self.ports: tuple[int, ...] = (1, 2)
        self.subscribes = False

    def answer(self, message: Message) -> list[Message]:
        if not isinstance(message, asap.HandleResolution):
            return []
        if not self.ports:
            error = (ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),)
            return [asap.HandleResolutionResponse(pool_handle=message.pool_handle, error=error)]
        found = tuple(replace(element(p, port=p), policy=self.policy or policies.RoundRobin()) for p in self.ports)
        accepts = message.send_updates and self.subscribes
        return [
            asap.HandleResolutionResponse(
                pool_handle=message.pool_handle, policy=self.policy, elements=found, accept_updates=accepts
            )
        ]


Body = Callable[[PoolUser, Registrar, list[Message]], Coroutine[Any, Any, None]]


def with_registrar(body: Body, policy: Policy | None = None, **options: Any) -> None:
    async def main() -> None:
        registrar = Registrar(policy)
        async with (
            asyncio.timeout(20),
            scripted(registrar.answer) as (scope, heard),
            PoolUser(scope, **{"patience": 5.0, **options}) as users,
        ):
            await body(users, registrar, heard)

    asyncio.run(main())


def ports(resolution: Any) -> list[int]:
    return [e.identifier for e in resolution.elements]


@pytest.mark.rfc("RFC 5352 3.3: the cache is asked first, and again when it is stale")
def test_a_registrar_is_asked_once_and_again_when_that_is_wanted() -> None:
    async def body(users: PoolUser, registrar: Registrar, heard: list[Message]) -> None:
        for _ in range(5):
            assert ports(await users.resolve("echo")) == [1, 2]
        assert len(heard) == 1
        registrar.ports = (3,)
        assert ports(await users.resolve("echo")) == [1, 2]
        assert ports(await users.resolve("echo", fresh=True)) == [3]
        assert ports(await users.resolve("echo")) == [3]
        assert len(heard) == 2

    with_registrar(body)


@pytest.mark.parametrize("policy", [policies.LeastUsed(0), policies.WeightedRandom(1)])
def test_of_loads_and_weights_a_registrar_is_asked_each_time(policy: Policy) -> None:
    async def body(users: PoolUser, _: Registrar, heard: list[Message]) -> None:
        for k in range(3):
            await users.resolve("echo")
            assert len(heard) == k + 1

    with_registrar(body, policy)


def test_for_how_long_is_remembered_can_be_said() -> None:
    async def body(users: PoolUser, _: Registrar, heard: list[Message]) -> None:
        await users.resolve("echo")
        await users.resolve("echo")
        assert len(heard) == 2

    with_registrar(body, stale_after=0.0)


@pytest.mark.rfc("RFC 5352 6.5.1: messages wait while a pool is resolved")
def test_many_who_ask_at_once_wait_for_one_answer() -> None:
    async def body(users: PoolUser, _: Registrar, heard: list[Message]) -> None:
        await asyncio.gather(*(users.resolve("echo", fresh=k % 2 == 0) for k in range(50)))
        assert len(heard) == 1
        leaving = [asyncio.create_task(users.resolve("other")) for _ in range(3)]
        await asyncio.sleep(0)
        leaving[0].cancel()
        assert ports(await leaving[1]) == ports(await leaving[2]) == [1, 2]

    with_registrar(body)


@pytest.mark.rfc("RFC 5352 6.3: the cache can be filled and purged")
def test_what_is_remembered_can_be_filled_and_purged() -> None:
    async def body(users: PoolUser, registrar: Registrar, heard: list[Message]) -> None:
        await users.populate("echo")
        registrar.ports = (3,)
        assert ports(await users.resolve("echo")) == [1, 2]
        await users.populate(b"echo")
        assert ports(await users.resolve("echo")) == [3]
        assert len(heard) == 2
        for purge in ("echo", None):
            users.purge(purge)
            await users.resolve("echo")
        assert len(heard) == 4
        users.purge("other")
        await users.resolve("echo")
        assert len(heard) == 4

    with_registrar(body)


def test_a_pool_that_is_not_there_is_not_asked_for_by_everybody_in_that_second() -> None:
    async def body(users: PoolUser, registrar: Registrar, heard: list[Message]) -> None:
        registrar.ports = ()
        for _ in range(5):
            with pytest.raises(UnknownPoolError, match="there is no pool 'echo'"):
                await users.resolve("echo")
        assert len(heard) == 1
        registrar.ports = (1,)
        assert ports(await users.resolve("echo", fresh=True)) == [1]

    with_registrar(body)


def test_a_number_of_elements_is_always_asked_for() -> None:
    async def body(users: PoolUser, _: Registrar, heard: list[Message]) -> None:
        for _k in range(2):
            await users.resolve("echo", items=1)
        await users.resolve("echo")
        assert [m.items for m in heard if isinstance(m, asap.HandleResolution)] == [1, 1, None]

    with_registrar(body)


def test_while_a_pool_is_watched_nobody_has_to_ask_whatever_the_policy() -> None:
    async def body(users: PoolUser, registrar: Registrar, heard: list[Message]) -> None:
        registrar.subscribes = True
        updates = users.watch("echo")
        await anext(updates)
        for _ in range(5):
            assert ports(await users.resolve("echo")) == [1, 2]
        assert len(heard) == 1
        await updates.aclose()  # type: ignore[attr-defined] # the iterator is a generator
        await users.resolve("echo")
        assert (
            len([m for m in heard if m == asap.HandleResolution(pool_handle=b"echo")]) == 2
        )  # S = 0, and the question

    with_registrar(body, policies.LeastUsed(0))


def test_an_element_that_was_found_dead_is_not_tried_again_by_the_next_one() -> None:
    async def body(users: PoolUser, registrar: Registrar, heard: list[Message]) -> None:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        registrar.ports = (1, port)
        for k in range(4):
            async with await users.connect("echo") as connection:
                assert connection.element.identifier == port
                assert connection.tried == (1 if k == 0 else 0)
        assert len([m for m in heard if isinstance(m, asap.EndpointUnreachable)]) == 1
        assert len([m for m in heard if isinstance(m, asap.HandleResolution)]) == 1
        server.close()

    with_registrar(body)


def test_a_pool_of_which_all_are_dead_is_reported_once_each() -> None:
    async def body(users: PoolUser, _: Registrar, heard: list[Message]) -> None:
        for _k in range(3):
            with pytest.raises(NoElementError):
                async with users.session("echo", patience=0.5):
                    pass
        reports = [m.pe_identifier for m in heard if isinstance(m, asap.EndpointUnreachable)]
        assert sorted(reports) == [1, 2]

    with_registrar(body)


@pytest.mark.rfc("RFC 5352 6.5.1: messages wait while a pool is resolved")
def test_messages_that_wait_for_a_pool_are_bounded() -> None:
    async def main() -> None:
        async with silent() as scope, PoolUser(scope, patience=30) as users:
            waiting = [asyncio.create_task(users.send("echo", b"x")) for _ in range(MOST_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match="wait for pools to be resolved"):
                await users.send("echo", b"one too many")
            waiting[0].cancel()
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await users.send("echo", bytes(2 * 1024 * 1024))
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert users._mail._waiting == users._mail._waiting_octets == 0

    asyncio.run(main())


def test_outside_of_its_block_a_pool_user_says_so_whatever_is_asked() -> None:
    async def main() -> None:
        users = PoolUser(Scope(registrars=(), bundle=None))
        for call in (users.send("echo", b"x"), users.populate("echo"), users.connect("echo")):
            with pytest.raises(RuntimeError, match="inside its `async with`"):
                await call
        session = users.session("echo")
        with pytest.raises(RuntimeError, match="inside its `async with`"):
            _ = session.element

    asyncio.run(main())
