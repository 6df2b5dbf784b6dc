# SPDX-License-Identifier: Apache-2.0
"""Of several replicas one leads; another follows soon when it dies, and at once when it ends in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.leaderelection import leaderelection

from rserpool.daemon.settings import load
from rserpool_operator.config import LeaseSection, OperatorSettings
from rserpool_operator.kube import KubeError, Object
from rserpool_operator.kube.kinds import LEASE
from rserpool_operator.leader import LostLeaseError, lead
from support.rig_cluster import SYSTEM
from support.rig_virtual import virtually
from support.rig_world import World, WorldKube

SECTION: LeaseSection = load(
    OperatorSettings,
    None,
    {
        "RSERPOOL_INSTALLATION_NAMESPACE": SYSTEM,
        "RSERPOOL_INSTALLATION_POD": "x",
        "RSERPOOL_NODE_IMAGE": "x",
        "RSERPOOL_NODE_VERSION": "1",
    },
).lease


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library looks at the wall's clock; here that is the loop's, which costs nothing."""
    clock = SimpleNamespace(time=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(leaderelection, "time", clock)


class Replica(WorldKube):
    """One candidate, whose requests may fail."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.name = name
        self.away = False
        self.leads = False
        self.task = asyncio.create_task(lead(self, SECTION, SYSTEM, name, self._work))

    async def _work(self) -> None:
        self.leads = True
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False

    def _ask(self) -> None:
        if self.away:
            raise KubeError(0, "NoAnswer", "no answer")

    async def get(self, *args: Any) -> Object | None:
        self._ask()
        return await super().get(*args)

    async def create(self, *args: Any) -> Object:
        self._ask()
        return await super().create(*args)

    async def patch(self, *args: Any) -> Object:
        self._ask()
        return await super().patch(*args)

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LostLeaseError):
            await self.task


async def until(holds: Callable[[], bool], seconds: float) -> float:
    """Wait for something in virtual time; returns how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holds():
        assert loop.time() - began < seconds
        await asyncio.sleep(0.1)
    return loop.time() - began


def electing(test: Callable[[World, Replica, Replica], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        world.namespace(SYSTEM)
        first = Replica(world, "first")
        await until(lambda: first.leads, 10.0)
        second = Replica(world, "second")
        try:
            await test(world, first, second)
        finally:
            await first.end()
            await second.end()

    virtually(main())


def test_one_leads_and_the_other_waits_for_as_long_as_it_does() -> None:
    async def test(world: World, first: Replica, second: Replica) -> None:
        for _ in range(60):
            await asyncio.sleep(1.0)
            assert (first.leads, second.leads) == (True, False)
        (lease,) = world.of(LEASE)
        assert lease["spec"]["holderIdentity"] == "first"

    electing(test)


def test_a_leader_that_ends_in_order_is_followed_at_once() -> None:
    async def test(_: World, first: Replica, second: Replica) -> None:
        await asyncio.sleep(5.0)
        await first.end()
        assert not first.leads
        assert await until(lambda: second.leads, 10.0) <= 2 * SECTION.retry

    electing(test)


def test_a_leader_that_cannot_renew_gives_up_before_another_leads() -> None:
    async def test(_: World, first: Replica, second: Replica) -> None:
        await asyncio.sleep(5.0)
        first.away = True
        while not second.leads:
            assert not (first.leads and second.leads)
            await asyncio.sleep(0.1)
        assert not first.leads
        with pytest.raises(LostLeaseError):
            await first.task

    electing(test)


def test_two_never_lead_at_once_whoever_loses_its_connection_and_when() -> None:
    async def test(_: World, first: Replica, second: Replica) -> None:
        for moment in range(120):
            second.away = moment % 7 == 0
            await asyncio.sleep(1.0)
            assert [first.leads, second.leads].count(True) == 1

    electing(test)
