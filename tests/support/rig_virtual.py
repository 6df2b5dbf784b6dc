# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time passes as soon as nobody has anything to do: for what waits, and has no sockets."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits: it lets the deadline come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0 if timeout is not None else None)
        if not events and timeout is not None:
            self.now += max(0.0, timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def virtually(main: Awaitable[T]) -> T:
    """Run in virtual time."""

    async def run() -> T:
        return await main

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())
