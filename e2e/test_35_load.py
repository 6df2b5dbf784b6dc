# SPDX-License-Identifier: Apache-2.0
"""A load-adaptive policy follows the load there is: who has much to do is asked last, until it has not."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness import apps
from harness.cluster import Cluster, cluster
from harness.kubectl import apply
from harness.namespaces import fresh
from harness.pools import dumps, elements
from harness.waiting import NotYet, wait_for
from support.goals import TIMES

ELEMENTS: Final = 3
HELD: Final = 8
"""Connections of those ten that make an application fully loaded."""
FOLLOWS: Final = 3.0
"""Seconds from a load to the registrars knowing it; three times that is asserted."""

BUSY: Final = """
import asyncio, json
active = 0

async def serve(reader, writer):
    global active
    counted = 0  # who says nothing is no work: probes connect, too
    try:
        while line := await reader.readline():
            active, counted = active + 1 - counted, 1
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        active -= counted
        writer.close()

async def load(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    body = json.dumps({"load": min(1.0, active / 10)}).encode()
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\nconnection: close\\r\\n\\r\\n" % len(body) + body)
    await writer.drain()
    writer.close()

async def main():
    await asyncio.start_server(serve, "0.0.0.0", 7007)
    async with await asyncio.start_server(load, "0.0.0.0", 7008) as server:
        await server.serve_forever()

asyncio.run(main())
"""
"""Echoes, and says how busy it is: each connection on which something was said is a tenth."""

HOLD: Final = """
import socket, sys, time
held = [socket.create_connection((sys.argv[1], 7007), 5) for _ in range(int(sys.argv[2]))]
for connection in held:
    connection.sendall(b"work\\n")
    assert connection.recv(99) == b"work\\n"
print("held", flush=True)
sys.stdin.read()
"""

ASK: Final = """
import asyncio, json, sys
from rserpool.client import PoolUser

async def main():
    async with PoolUser(patience=10) as users:
        for _ in range(int(sys.argv[1])):
            found = await users.resolve("echo", fresh=True)
            print(json.dumps([str(e.transport.address) for e in found.elements]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool whose elements say how busy they are."""
    del cluster
    with fresh("e2e-35-load") as name:
        pool = apps.pool(policy={"type": "LeastUsed"})
        load = {"source": "http", "path": "/load", "port": 7008, "smoothing": "0s"}
        pool["spec"]["elements"]["load"] = load
        asker = apps.idle("asker", rserpool_io__uses="echo")
        apply([pool, apps.application("busy", BUSY, replicas=ELEMENTS), asker], namespace=name)
        apps.until_ready(name)
        apps.until_pods_ready(name, "busy", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS)
        apps.until_pods_ready(name, "asker", 1)
        yield name


def _loads(namespace: str) -> list[dict[str, float]]:
    """What each registrar believes of each element's load, by address."""
    found = []
    for told in dumps(namespace, "echo").values():
        held = elements(told).values()
        found.append({e["transport"].split(":")[1]: _load(e["policy"]) for e in held})
    return found


def _load(policy: str) -> float:
    match = re.fullmatch(r"LeastUsed\(load=(\d+)\)", policy)
    assert match is not None, policy
    return int(match[1]) / 0xFFFFFFFF


def _until(namespace: str, address: str, lowest: float, highest: float) -> float:
    """Wait until every registrar believes an element's load to be in this range; returns the seconds."""
    began = time.monotonic()

    def believed() -> bool:
        said = [loads.get(address) for loads in _loads(namespace)]
        if not all(load is not None and lowest <= load <= highest for load in said):
            raise NotYet(said)
        return True

    wait_for(believed, 30, f"the load of {address} is between {lowest} and {highest} everywhere", every=0.5)
    return time.monotonic() - began


def _answers(namespace: str, count: int) -> list[list[str]]:
    """Addresses in the order in which a user is told to try them."""
    said = apps.run_python(namespace, "asker", "main", ASK, str(count))
    return [json.loads(line) for line in said.splitlines() if line.startswith("[")]


def test_who_is_busy_is_asked_last_until_it_is_idle_again(home: str, record_property: Any) -> None:
    busy, *idle = [pod["status"]["podIP"] for pod in apps.pods(home, "busy")]
    for address in (busy, *idle):
        _until(home, address, 0.0, 0.0)
    assert {answer[0] for answer in _answers(home, 12)} == {busy, *idle}, "equal loads take turns"
    command = ["kubectl", "-n", home, "exec", "-i", "asker", "--", "python3", "-c", HOLD, busy, str(HELD)]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=cluster().environment()
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        rose = _until(home, busy, HELD / 10 - 0.01, HELD / 10 + 0.01)
        answers = _answers(home, 12)
        assert {answer[-1] for answer in answers} == {busy}, "the busy one comes last"
        assert {answer[0] for answer in answers} == set(idle)
    finally:
        holder.communicate(timeout=20)
    fell = _until(home, busy, 0.0, 0.0)
    assert busy in {answer[0] for answer in _answers(home, 12)}
    record_property("figure", f"load is known everywhere {rose:.1f} s after it rose, {fell:.1f} s after it fell")
    assert max(rose, fell) <= TIMES * FOLLOWS
