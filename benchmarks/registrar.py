# SPDX-License-Identifier: Apache-2.0
"""The registrar on an event loop of our choice, which may be watched.

RSERPOOL_BENCHMARK_LOOP is uvloop (the default) or asyncio. With RSERPOOL_BENCHMARK_STEPS=1 each step of the loop that
takes longer than 5 ms is said on standard error, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any, Final

from rserpool.daemon.lean import without_second_openssl

TICK: Final = 0.002
LONG: Final = 0.005


async def _watch() -> None:
    """A step is as long as the loop was late, but for the time in which the process had no processor."""
    while True:
        began, cpu = time.monotonic(), time.thread_time()
        await asyncio.sleep(TICK)
        now = time.monotonic()
        step = min(now - began - TICK, time.thread_time() - cpu)
        if step > LONG:
            print(json.dumps({"step": round(step, 4), "at": now}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    uvloop = os.environ.pop("RSERPOOL_BENCHMARK_LOOP", "uvloop") == "uvloop"
    watched = os.environ.pop("RSERPOOL_BENCHMARK_STEPS", "") == "1"
    without_second_openssl(uvloop=uvloop)
    from rserpool.daemon.process import run_daemon
    from rserpool_registrar.config import RegistrarSettings
    from rserpool_registrar.daemon import main

    async def run(settings: Any, stop: asyncio.Event) -> int:
        """The registrar's main, watched."""
        watcher = asyncio.create_task(_watch()) if watched else None
        try:
            return await main(settings, stop)
        finally:
            if watcher is not None:
                watcher.cancel()

    sys.exit(run_daemon("rserpool-registrar", RegistrarSettings, run, None, uvloop=uvloop))
