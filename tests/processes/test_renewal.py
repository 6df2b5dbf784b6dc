# SPDX-License-Identifier: Apache-2.0
"""Leaves of twenty seconds: everybody gets new ones while connections stand, traffic flows and nobody notices."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from rserpool.client import PoolUser
from rserpool.transport.http import Target, ask
from support.running import RunningPool, manifest, pool_running, started

LIFE = 20.0
LEAVES = """\
  security: {signer: {type: Embedded}, leafDuration: 20s}
"""
ESTABLISHED = "01"


@pytest.mark.timeout(180)
def test_leaves_are_renewed_while_connections_stand_and_traffic_flows() -> None:
    with pool_running(manifest(more=LEAVES), "--restart", "0") as pool:
        started(pool)
        before = associations(pool)
        homes = pool.dumps()["echo-registrar-0"]["handlespace"]
        assert len(before) >= 3 + 3  # each element and its home, each registrar and the other two

        resolved, echoed = pool.run(traffic(pool, 2 * LIFE))

        assert resolved > 20
        assert echoed > 20
        for renewals in pool.run(renewed(pool)):
            assert renewals >= 2
        assert before <= associations(pool)
        pool.settled_with_all()
        assert pool.dumps()["echo-registrar-0"]["handlespace"] == homes
        for registrar in pool.registrars:
            assert pool.metric(registrar, "rserpool_refusals_total") == 0
            assert pool.metric(registrar, "rserpool_leaf_failures_total") == 0


async def traffic(pool: RunningPool, seconds: float) -> tuple[int, int]:
    """Users that stay, users that come and go, and an application's connection; any failure is the test's."""
    end = time.monotonic() + seconds
    resolved = echoed = 0
    async with PoolUser(pool.scope) as staying, await staying.connect("echo") as connection:
        while time.monotonic() < end:
            await staying.resolve("echo", fresh=True)
            async with PoolUser(pool.scope) as passing:
                assert len((await passing.resolve("echo")).elements) == 3
            resolved += 1
            connection.writer.write(b"on and on\n")
            assert b"on and on" in await connection.reader.readline()
            echoed += 1
            await asyncio.sleep(0.2)  # the rhythm of the traffic
    return resolved, echoed


async def renewed(pool: RunningPool) -> list[float]:
    """How often each process has renewed its leaf."""
    places = [(r.address, r.http_port) for r in pool.registrars] + [(e.address, 8081) for e in pool.elements]
    counts = []
    for host, port in places:
        text = (await ask(Target(host=host, port=port), "GET", "/metrics")).body.decode()
        counts.append(
            next(
                float(line.split()[1]) for line in text.splitlines() if line.startswith("rserpool_leaf_renewals_total ")
            )
        )
    return counts


def associations(pool: RunningPool) -> set[tuple[str, str]]:
    """Both ends of every ASAP and ENRP connection that stands, as the kernel of this machine has them."""
    subnet = pool.registrars[0].address.split(".")[1]
    ports = {f"{pool.registrars[0].asap_port:04X}", f"{pool.registrars[0].enrp_port:04X}"}
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        of_pool = int(local[4:6], 16) == int(subnet)
        if state == ESTABLISHED and of_pool and local.partition(":")[2] in ports:
            found.add((local, remote))
    return found
