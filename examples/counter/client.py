# SPDX-License-Identifier: Apache-2.0
"""Counts with the pool, and goes on where it was when the element it counts with dies: `python client.py [TIMES]`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from rserpool.client import Failover, PoolUser, Session


async def agree(failover: Failover) -> bool:
    """Asked before anything goes to another element; one with less security than the last gets nothing."""
    old, new = failover.old, failover.new
    print(f"lost {old.element.identifier:#010x}: {failover.reason}; {new.element.identifier:#010x}: {new.security}")
    return new.security.protected or not old.security.protected


async def count(session: Session) -> str:
    """Have a line counted. A line that was under way when its element died may be lost with it: it is said again."""
    while True:
        await session.send(b"line\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                heard = b""
                while not heard.endswith(b"\n"):
                    heard += await session.receive()
                return heard.decode().split()[0]


async def main(times: int) -> None:
    """Count, ten times a second."""
    async with PoolUser() as users, users.session("counter", on_failover=agree) as session:
        for _ in range(times):
            number = await count(session)
            print(f"{number} by {session.element.identifier:#010x}", flush=True)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000_000))
