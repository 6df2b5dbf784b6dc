# SPDX-License-Identifier: Apache-2.0
"""The registrar on uvloop and on asyncio's own loop, in turns: what each is worth, and what it costs."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Final

from callers import REGISTRATION, RESOLUTION, measure
from figures import Figure, Figures, Options, quiet, say
from scope import scope
from support import rig_figures as rig

LOOPS: Final = ("uvloop", "asyncio")
COMMAND: Final = (sys.executable, "-OO", str(Path(__file__).parent / "registrar.py"))


def run(options: Options) -> Figures:
    seconds, many = (0.5, 10) if options.quick else (4.0, 300)
    found: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    busy = quiet(options)
    for turn in range(options.runs):
        for loop in LOOPS:
            say(f"{loop}, turn {turn + 1}")
            for what, secure in ((RESOLUTION, False), (RESOLUTION, True), (REGISTRATION, True)):
                with scope(secure=secure) as pool:
                    pool.start(1, COMMAND, {"RSERPOOL_BENCHMARK_LOOP": loop})
                    pool.elements(3)
                    pool.registered(3)
                    rate = measure(pool, what, seconds)
                name = f"{what}s a second over {'TLS' if secure else 'TCP'}"
                found.setdefault((name, loop), []).append(rate.per_second)
                costs.setdefault((name, loop), []).append(rate.cpu_microseconds)
            with scope() as pool:
                pool.start(1, COMMAND, {"RSERPOOL_BENCHMARK_LOOP": loop})
                found.setdefault(("resident, empty", loop), []).append(rig.resident(pool.registrars[0].process.pid))
                pool.elements(many)
                pool.registered(many)
                cpu, began = pool.registrars[0].cpu, time.monotonic()
                time.sleep(2 * seconds)
                used = (pool.registrars[0].cpu - cpu) / (time.monotonic() - began) * 100
                found.setdefault((f"CPU of keeping {many} own elements alive", loop), []).append(used)
                name = f"resident with {many} own elements"
                found.setdefault((name, loop), []).append(rig.resident(pool.registrars[0].process.pid))
    for (name, loop), values in found.items():
        if loop == LOOPS[0]:
            other = found[name, LOOPS[1]]
            notes = {"asyncio": f"{statistics.median(other):,.1f} (median)", **busy}
            if (name, loop) in costs:
                cost = [statistics.median(costs[name, key]) for key in LOOPS]
                notes["CPU of the registrar"] = f"{cost[0]:.0f} us each, asyncio {cost[1]:.0f} us"
            beside = statistics.median(other)
            notes["uvloop by asyncio"] = f"{statistics.median(values) / beside:.2f}" if beside else "too short to say"
            unit = {"resident": "MiB", "CPU": "%"}.get(name.split()[0].rstrip(","), "/s")
            yield Figure(name=f"uvloop: {name}", unit=unit, values=tuple(values), notes=notes)
