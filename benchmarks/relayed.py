# SPDX-License-Identifier: Apache-2.0
"""What a sidecar's control channel costs: memory with many users over TLS, and how much one core relays."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time
from typing import Final

from figures import Figure, Figures, Options, processor_time, quiet, say
from support import rig_figures as rig
from support.rig_channel import RawUser
from support.running import ElementProcess, RunningPool, manifest, pool_running, started

APPLICATION: Final = """
import asyncio, os
async def serve(reader, writer):
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()
    writer.close()
async def main():
    place = os.environ["RSERPOOL_ADDRESS"], int(os.environ["RSERPOOL_PORT"])
    async with await asyncio.start_server(serve, *place) as server:
        await server.serve_forever()
asyncio.run(main())
"""
"""It says what it hears."""
PIECE: Final = b"x" * 60_000
CLIENTS: Final = ("127.99.0.1", "127.99.0.2", "127.99.0.3")
"""A sidecar takes 512 connections of one address."""


def run(options: Options) -> Figures:
    count, pieces = (30, 20) if options.quick else (1000, 1000)
    busy = quiet(options)
    alone, crowded, rates = list[float](), list[float](), list[float]()
    for turn in range(options.runs):
        text = manifest(replicas=1, more="  controlChannel: true\n")
        with pool_running(text, "--elements", "1", program=(sys.executable, "-c", APPLICATION)) as pool:
            started(pool)
            (element,) = pool.elements
            alone.append(rig.resident(element.sidecar_pid))
            crowded.append(pool.run(_crowd(pool, element, count)))
            rates.append(pool.run(_relayed(pool, element, pieces)))
        say(f"turn {turn + 1}: {alone[-1]:.1f} MiB, {crowded[-1]:.1f} with {count} users; {rates[-1]:.0f} MiB a second")
    what = {"what": "VmRSS of the sidecar, an echo behind it, all over TLS", **busy}
    each = [(many - few) * 1024 / count for many, few in zip(crowded, alone, strict=True)]
    yield Figure(name="sidecar with its control channel, no user", unit="MiB", values=tuple(alone), notes=what)
    yield Figure(name=f"the same with {count:,} users", unit="MiB", values=tuple(crowded), notes=what)
    yield Figure(name="a relayed connection", unit="KiB", values=tuple(each), notes=what)
    notes = {
        "what": f"{len(PIECE) * pieces / 2**20:.0f} MiB each way by one user, by the sidecar's processor time",
        **busy,
    }
    yield Figure(name="one core relays each way", unit="MiB/s", values=tuple(rates), notes=notes)


async def _connected(pool: RunningPool, element: ElementProcess, local: str) -> RawUser:
    context = ssl.create_default_context(cadata=pool.state["bundle"])
    context.check_hostname = False
    return await RawUser.connect(element.port, context, host=element.address, local=local)


async def _crowd(pool: RunningPool, element: ElementProcess, count: int) -> float:
    """Memory while so many users are there, each of whom has been answered once."""
    users: list[RawUser] = []
    try:
        for number in range(count):
            user = await _connected(pool, element, CLIENTS[number % len(CLIENTS)])
            users.append(user)
            await user.say(b"hello")
            assert await user.heard(5) == b"hello"
        return rig.resident(element.sidecar_pid)
    finally:
        for user in users:
            user.abort()
        await asyncio.sleep(0.5)


async def _relayed(pool: RunningPool, element: ElementProcess, pieces: int) -> float:
    user = await _connected(pool, element, CLIENTS[0])
    before, began = processor_time(element.sidecar_pid), time.monotonic()

    async def speak() -> None:
        for _ in range(pieces):
            await user.say(PIECE)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            await user.heard(len(PIECE) * pieces)
        used = processor_time(element.sidecar_pid) - before
        return len(PIECE) * pieces / 2**20 / (used or time.monotonic() - began)
    finally:
        with contextlib.suppress(OSError):
            user.abort()
