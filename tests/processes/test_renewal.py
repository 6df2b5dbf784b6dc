# SPDX-License-Identifier: Apache-2.0
"""Leaves of twenty seconds: all get new ones, every connection is replaced by a newer one, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from rserpool.client import PoolUser
from rserpool.transport.http import Target, ask
from support.running import RunningPool, elements_of, manifest, pool_running, started

LIFE = 20.0
LEAVES = """\
  security: {signer: {type: Embedded}, leafDuration: 20s}
"""
ESTABLISHED = "01"


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
@pytest.mark.timeout(180)
def test_leaves_are_renewed_and_connections_replaced_while_traffic_flows_and_no_element_is_ever_missing() -> None:
    with pool_running(manifest(more=LEAVES), "--restart", "0") as pool:
        started(pool)
        before = associations(pool)
        members = identifiers(pool)
        assert len(before) >= 3 + 3  # each element and its home, each registrar and the other two

        resolved, echoed, seen = pool.run(served(pool, 2 * LIFE))

        assert resolved > 20
        assert echoed > 20
        for renewals in pool.run(renewed(pool)):
            assert renewals >= 2
        assert seen > 100
        assert not before & associations(pool), "one stands that was opened with a leaf that is over"
        pool.settled_with_all()
        assert identifiers(pool) == members
        for registrar in pool.registrars:
            assert pool.metric(registrar, "rserpool_refusals_total") == 0  # none lasted until its leaf was over
            assert pool.metric(registrar, "rserpool_leaf_failures_total") == 0


def identifiers(pool: RunningPool) -> set[str]:
    """Of all elements, as the first registrar knows them."""
    return {e["identifier"] for e in elements_of(pool.dumps()["echo-registrar-0"]["handlespace"])}


async def served(pool: RunningPool, seconds: float) -> tuple[int, int, int]:
    """Traffic, while what every registrar holds is looked at all the time; how often each of the three happened."""
    looking = asyncio.create_task(complete(pool))
    try:
        resolved, echoed = await traffic(pool, seconds)
    finally:
        looking.cancel()
        (seen,) = await asyncio.gather(looking, return_exceptions=True)
    assert isinstance(seen, int), seen
    return resolved, echoed, seen


async def complete(pool: RunningPool) -> int:
    """Look until cancelled: every registrar knows all three elements and both of its peers; returns how often."""
    seen = 0
    try:
        while True:
            for registrar in pool.registrars:
                page = await ask(Target(host=registrar.address, port=registrar.http_port), "GET", "/metrics")
                values = dict(line.rsplit(" ", 1) for line in page.body.decode().splitlines() if line[:1] != "#")
                assert float(values['rserpool_elements{state="known"}']) == 3
                peers = {name: float(n) for name, n in values.items() if name.startswith("rserpool_peers{")}
                assert peers == {name: 2.0 * ('"active"' in name) for name in peers}
                seen += 1
            await asyncio.sleep(0.1)  # the rhythm of the look
    except asyncio.CancelledError:
        return seen


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
