# SPDX-License-Identifier: Apache-2.0
"""All registrars away for a minute: longer than a registration lives. Elements wait, users are told, all comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from rserpool.client import Connection, NoRegistrarError, PoolUser
from support.goals import TIMES
from support.running import RunningPool, manifest, pool_running, started

MINUTE = 60.0


@pytest.mark.rfc("PROTOCOL 18: after a minute without any registrar everything comes back by itself")
@pytest.mark.timeout(180)
def test_all_registrars_are_down_for_a_minute_and_everything_comes_back_by_itself() -> None:
    with pool_running(manifest(), "--restart", str(MINUTE)) as pool:
        started(pool)
        before = {name: dump["server_id"] for name, dump in pool.dumps().items()}
        processes = {e.name: (e.pid, e.sidecar_pid) for e in pool.elements}
        pool.run(meanwhile(pool))
        pool.wait("three registrars are back", lambda: len(pool.dumps()) == 3, within=30)
        back = pool.settled_with_all()
        after = {name: dump["server_id"] for name, dump in pool.dumps().items()}
        assert not set(before.values()) & set(after.values())
        assert {e.name: (e.pid, e.sidecar_pid) for e in pool.elements} == processes
        assert back < 30
        pool.run(resolves(pool))


async def meanwhile(pool: RunningPool) -> None:
    """A client's view: what it has goes on, what it asks for fails soon and with the right words."""
    async with PoolUser(pool.scope) as users, await users.connect("echo") as connection:
        began = time.monotonic()
        for registrar in pool.registrars:
            assert registrar.pid is not None
            os.kill(registrar.pid, signal.SIGKILL)
        while time.monotonic() - began < MINUTE:
            assert await echoes(connection)
            asked = time.monotonic()
            with pytest.raises(NoRegistrarError):
                await users.resolve("echo", fresh=True)
            assert time.monotonic() - asked < TIMES * 1.0
            await asyncio.sleep(1.0)  # what is awaited is the minute itself


async def echoes(connection: Connection) -> bool:
    connection.writer.write(b"still there\n")
    return b"still there" in await connection.reader.readline()


async def resolves(pool: RunningPool) -> None:
    async with PoolUser(pool.scope) as users:
        assert len((await users.resolve("echo", fresh=True)).elements) == 3
