# SPDX-License-Identifier: Apache-2.0
"""A coalescing queue: however often a key is put in, it is worked on once, one task a key, a few keys at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

_log: Final = logging.getLogger(__name__)
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
GATHER: Final = 0.05
"""Seconds in which what belongs together is waited for: one change is several events."""


NEVER: Final = float("inf")
"""What ``work`` returns of a key that is gone: it is looked at again only if somebody puts it in."""


class Key(NamedTuple):
    """A pool."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def of(cls, pool: Mapping[str, Any]) -> Key:
        """Of a ServerPool, as the API server has it."""
        return cls(pool["metadata"]["namespace"], pool["metadata"]["name"])


class WorkQueue:
    """Works on keys.

    Args:
        work: does it for one key; returns the seconds after which to look again, or ``None``.
        most: keys worked on at a time.
        resync: seconds after which each key is looked at again, whatever was said.

    Attributes:
        beat: when the queue last was at work or found nothing to do, in the loop's time: a watchdog looks at it.
    """

    def __init__(self, work: Callable[[Key], Awaitable[float | None]], *, most: int = 8, resync: float = 300.0) -> None:
        self._work = work
        self._most = most
        self._resync = resync
        self._due: dict[Key, float] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self.beat = asyncio.get_running_loop().time()

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def add(self, key: Key, after: float = GATHER) -> None:
        """Have a key looked at, soon or after some seconds; the earlier of two wishes counts."""
        if key in self._running and after <= GATHER:
            self._again.add(key)
            return
        due = asyncio.get_running_loop().time() + after
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._wake.set()

    async def run(self) -> None:
        """Work for ever."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self.beat = now = loop.time()
                self._wake.clear()
                for key in sorted((k for k, due in self._due.items() if due <= now), key=self._due.__getitem__):
                    if len(self._running) >= self._most:
                        break
                    if key not in self._running:
                        del self._due[key]
                        self._running[key] = loop.create_task(self._one(key))
                await self._rest(now)
        finally:
            for task in self._running.values():
                task.cancel()

    async def _rest(self, now: float) -> None:
        """Until something is due, or was put in, or is done."""
        waiting = [due for key, due in self._due.items() if key not in self._running]
        full = len(self._running) >= self._most
        pause = 1.0 if full or not waiting else min(1.0, max(0.0, min(waiting) - now))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _one(self, key: Key) -> None:
        try:
            after = await self._work(key)
            self._failures.pop(key, None)
        except Exception as e:  # noqa: BLE001 - one pool's trouble must not stop the others
            count = self._failures[key] = self._failures.get(key, 0) + 1
            after = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 10)) * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads load
            _log.warning("%s: %s; trying again in %.1f s", key, str(e) or type(e).__name__, after)
            _log.debug("%s", key, exc_info=e)
        finally:
            self._running.pop(key, None)
            self._wake.set()
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif after != NEVER:
            self.add(key, self._resync if after is None else after)
