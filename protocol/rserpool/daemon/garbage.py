# SPDX-License-Identifier: Apache-2.0
"""Garbage collection that keeps nobody waiting.

Python's full collection looks at every object of the process, and comes whenever they have become a quarter more: with
10,000 elements each is a step of 60 ms, just while a registrar joins. Nearly everything here goes when its last
reference goes; for what forms cycles the collections of young objects are enough, with a full one now and then.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

NEVER: Final = 1_000_000_000
EVERY: Final = 600.0
"""Seconds between full collections."""


async def collect_seldom() -> None:
    """Run for ever: leave full collections to this task alone."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    try:
        while True:
            await asyncio.sleep(EVERY)
            gc.collect()
    finally:
        gc.set_threshold(young, middle, old)
