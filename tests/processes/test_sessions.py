# SPDX-License-Identifier: Apache-2.0
"""A session with a pool that `rserpool up` runs: processes are killed under it, and it goes on where it was."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys

import pytest

from rserpool.client import Failover, PoolUser, Session
from support.running import REPOSITORY, ElementProcess, RunningPool, manifest, pool_running, started

COUNTER = (sys.executable, str(REPOSITORY / "examples" / "counter" / "counter.py"))
CLIENT = REPOSITORY / "examples" / "counter" / "client.py"
FRAMED = "  controlChannel: true\n"
PATIENCE = 20.0


async def counted(session: Session) -> int:
    """Have a line counted; said again where it was lost with its element."""
    while True:
        await session.send(b"line\n")
        try:
            async with asyncio.timeout(1.0):
                heard = b""
                while not heard.endswith(b"\n"):
                    heard += await session.receive()
                return int(heard.split()[0])
        except TimeoutError:
            continue


def element_of(pool: RunningPool, session: Session) -> ElementProcess:
    [address] = session.element.transport.addresses
    return next(e for e in pool.elements if e.address == str(address))


@pytest.mark.rfc(
    "RFC 5352 3.8: the newest cookie goes first to the next element",
    "PROTOCOL 12.3: the application hears of a fail-over before any data goes to the next element",
)
def test_whatever_is_killed_under_a_session_it_goes_on_counting_where_it_was() -> None:
    with pool_running(manifest("counter", replicas=2, more=FRAMED), program=COUNTER) as pool:
        started(pool)
        asked: list[Failover] = []

        async def body() -> None:
            async with (
                PoolUser(pool.scope) as users,
                users.session("counter", on_failover=asked.append, patience=PATIENCE) as session,
            ):
                assert session.security.version == "TLSv1.3"
                last = 0
                for kill in ("pid", "sidecar_pid"):
                    for _ in range(3):
                        number = await counted(session)
                        assert number == last + 1
                        last = number
                    victim, before = element_of(pool, session), session.element
                    os.kill(getattr(victim, kill), signal.SIGKILL)
                    number = await counted(session)
                    assert last < number <= last + 2  # a line whose answer was lost has been counted, perhaps
                    assert session.element.identifier != before.identifier
                    last = number
                assert session.failovers == len(asked) == 2
                assert all(f.cookie and f.new.security.protected for f in asked)

        pool.run(body())


def test_the_example_client_counts_on_when_its_element_is_killed() -> None:
    with pool_running(manifest("counter", replicas=1, more=FRAMED), program=COUNTER) as pool:
        started(pool)
        client = subprocess.Popen(
            [sys.executable, str(CLIENT), "20"],
            env={**os.environ, "XDG_RUNTIME_DIR": str(pool.runtime)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert client.stdout is not None
        lines = [client.stdout.readline() for _ in range(3)]
        elements = {e.address: e for e in pool.elements}
        assert len(elements) == 3
        by = int(lines[-1].split()[-1], 16)

        async def place() -> str:
            async with PoolUser(pool.scope) as users:
                found = (await users.resolve("counter")).elements
                return str(next(e for e in found if e.identifier == by).transport.addresses[0])

        os.kill(elements[pool.run(place())].pid, signal.SIGKILL)
        said, _ = client.communicate(timeout=60)
        assert client.returncode == 0, said
        text = "".join(lines) + said
        numbers = [int(n) for n in re.findall(r"^(\d+) by", text, re.MULTILINE)]
        assert len(numbers) == 20
        assert numbers == sorted(set(numbers))
        assert numbers[-1] <= 21
        assert f"lost {by:#010x}" in text
