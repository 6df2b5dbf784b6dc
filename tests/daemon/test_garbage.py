# SPDX-License-Identifier: Apache-2.0
"""Full garbage collections come seldom, by a task, and as Python has them when it ends."""

from __future__ import annotations

import asyncio
import gc

from rserpool.daemon import garbage
from support.rig_virtual import virtually


def test_nothing_but_the_task_collects_everything_while_it_runs() -> None:
    usual = gc.get_threshold()
    full = list[int]()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            full.append(1)

    async def run() -> None:
        task = asyncio.create_task(garbage.collect_seldom())
        await asyncio.sleep(garbage.EVERY / 2)
        assert gc.get_threshold() == (*usual[:2], garbage.NEVER)
        assert full == []
        await asyncio.sleep(garbage.EVERY)
        assert full == [1]
        task.cancel()

    gc.callbacks.append(note)
    try:
        virtually(run())
    finally:
        gc.callbacks.remove(note)
    assert gc.get_threshold() == usual
