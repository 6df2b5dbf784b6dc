# SPDX-License-Identifier: Apache-2.0
"""`PoolUser.watch`: a pool now, and whenever it has changed, whichever registrar tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from rserpool.client import PoolUser, Resolution
from rserpool.pool import ServerPool
from support.rig_model import LONGEST, RunningPool, insecure, running, runtime_folder, server_pool


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


def with_pool(
    body: Callable[[RunningPool, PoolUser], Coroutine[Any, Any, None]],
    pool: ServerPool | None = None,
    elements: int = 2,
) -> None:
    async def main() -> None:
        async with running(pool or insecure(), elements) as found, PoolUser(found.scope, patience=10) as user:
            await body(found, user)

    asyncio.run(main())


async def until(updates: AsyncIterator[Resolution], count: int) -> Resolution:
    """The next update with so many elements."""
    async with asyncio.timeout(LONGEST):
        async for update in updates:
            if len(update.elements) == count:
                return update
    raise AssertionError("the watch has ended")


@pytest.mark.parametrize("handle", ["", "x" * 256, b"x" * 70_000], ids=["none", "one too long", "endless"])
def test_a_handle_that_cannot_be_is_refused_at_once_and_spoils_nothing(handle: str | bytes) -> None:
    async def body(_: RunningPool, user: PoolUser) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(ValueError, match="1 to 255 octets"):
                await anext(user.watch(handle))
            assert len((await anext(user.watch("echo"))).elements) == 2

    with_pool(body)


def same(one: Resolution, other: Resolution) -> bool:
    return {e.identifier for e in one.elements} == {e.identifier for e in other.elements}


@pytest.mark.parametrize("pool", [insecure(), server_pool()], ids=["Insecure", "Secure"])
def test_a_pool_is_shown_at_once_and_as_elements_leave_and_come(pool: ServerPool) -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        updates = user.watch("echo")
        assert len((await anext(updates)).elements) == 2
        await found.end_sidecar(0)
        assert len((await anext(updates)).elements) == 1
        found.start_sidecar(0)
        assert len((await anext(updates)).elements) == 2

    with_pool(body, pool)


def test_a_pool_that_is_not_there_yet_is_one_without_elements_until_it_comes() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        await found.end_sidecar(0)
        await found.has(0)
        updates = user.watch("echo")
        assert (await anext(updates)).elements == ()
        found.start_sidecar(0)
        assert len((await until(updates, 1)).elements) == 1

    with_pool(body, elements=1)


def test_the_last_element_that_leaves_takes_the_pool_with_it() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        updates = user.watch("echo")
        await anext(updates)
        await found.end_sidecar(0)
        assert (await anext(updates)).elements == ()

    with_pool(body, elements=1)


def test_two_watchers_of_a_pool_both_see_it_and_one_may_go() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        one, other = user.watch("echo"), user.watch(b"echo")
        assert same(await anext(one), await anext(other))
        await one.aclose()  # type: ignore[attr-defined] # the iterator is a generator
        await found.end_sidecar(1)
        assert len((await anext(other)).elements) == 1
        await other.aclose()  # type: ignore[attr-defined] # the iterator is a generator
        assert user._directory.machine._watched == set()
        assert user._directory._followers == {}
        assert user._watchers == set()

    with_pool(body)


def test_a_change_of_registrars_is_no_change_of_the_pool_and_later_ones_are_seen() -> None:
    async def body(found: RunningPool, user: PoolUser) -> None:
        updates = user.watch("echo")
        before = await anext(updates)
        coming = asyncio.ensure_future(anext(updates))
        await found.end_registrar(0)
        await found.settled_homes()
        assert not coming.done()
        await found.end_sidecar(0)
        async with asyncio.timeout(LONGEST):
            after = await coming
        assert len(after.elements) == 1
        assert {e.identifier for e in after.elements} < {e.identifier for e in before.elements}

    with_pool(body, insecure(registrars={"replicas": 2}))
