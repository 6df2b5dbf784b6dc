# SPDX-License-Identifier: Apache-2.0
"""A pool user that listens finds registrars which nobody has named to it, and believes them no more than others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest

from rserpool.asap.announce import Multicast
from rserpool.client import NoRegistrarError, PoolUser, Scope
from rserpool.transport.discovery import announcing
from rserpool.wire import RFC, Message, asap, policies
from support.ports import free_port
from support.rig_model import authority, element, scripted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127/8 is this machine's")
GROUP, OWN, LOCAL = IPv4Address("239.255.76.34"), IPv4Address("127.0.0.1"), IPv4Address("127.78.0.9")


def group() -> Multicast:
    """A group nobody else in this test run uses."""
    return Multicast((GROUP,), free_port())


def answer(message: Message) -> list[Message]:
    if not isinstance(message, asap.HandleResolution):
        return []
    found = (element(1, port=7),)
    return [asap.HandleResolutionResponse(pool_handle=b"echo", policy=policies.RoundRobin(), elements=found)]


@asynccontextmanager
async def announced(where: Multicast) -> AsyncIterator[Scope]:
    """A registrar that nobody is told of but by its announcements; the scope of a user who knows none."""
    async with scripted(answer) as (scope, _):
        port = scope.registrars[0][1]
        says = announcing(where, (OWN,), port, server_id=1, t6=0.05, rng=Random(1), dialect=RFC, registrars=lambda: 0)
        task = asyncio.create_task(says.run())
        try:
            yield replace(scope, registrars=(), local=LOCAL)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_a_registrar_that_is_only_announced_is_found_and_asked() -> None:
    async def main() -> None:
        where = group()
        async with announced(where) as scope, PoolUser(scope, patience=5.0, multicast=where) as users:
            assert [e.identifier for e in (await users.resolve("echo")).elements] == [1]
        async with announced(where) as scope, PoolUser(scope, patience=0.3) as deaf:
            with pytest.raises(NoRegistrarError):
                await deaf.resolve("echo")

    asyncio.run(main())


def test_whoever_is_announced_has_to_prove_to_be_a_registrar() -> None:
    async def main() -> None:
        where = group()
        async with (
            announced(where) as scope,
            PoolUser(replace(scope, bundle=authority().bundle), patience=0.8, multicast=where) as users,
        ):
            with pytest.raises(NoRegistrarError):
                await users.resolve("echo")

    asyncio.run(main())


def test_without_an_address_of_ones_own_nobody_can_listen() -> None:
    with pytest.raises(ValueError, match="address of one's own"):
        PoolUser(Scope(registrars=(), bundle=None), multicast=Multicast())


def test_a_group_that_cannot_be_joined_is_told_at_once() -> None:
    async def main() -> None:
        elsewhere = Scope(registrars=(), bundle=None, local=IPv4Address("203.0.113.9"))
        with pytest.raises(OSError, match=r"device|address"):
            async with PoolUser(elsewhere, multicast=group()):
                pass

    asyncio.run(main())
