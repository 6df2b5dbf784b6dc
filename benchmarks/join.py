# SPDX-License-Identifier: Apache-2.0
"""A registrar joins a scope of 10,000 elements: how soon it holds them all, and whom that keeps waiting."""

from __future__ import annotations

import json
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

from asking import Asker
from figures import Figure, Figures, Options, quiet, say
from scope import Registrar, Scope, scope

SYNCHRONISED, DELAYED, STEP = 3.0, 0.1, 0.02
"""Goals, seconds."""
GROUPS: Final = 4
"""Processes that share the elements: each may have 20,000 sockets."""
COMMAND: Final = (sys.executable, "-OO", str(Path(__file__).parent / "registrar.py"))
WATCHED: Final = {"RSERPOOL_BENCHMARK_STEPS": "1"}
_STEP: Final = re.compile(r'^\{"step": .*\}$', re.MULTILINE)


def run(options: Options) -> Figures:
    count = 200 if options.quick else 10_000
    took: list[float] = []
    delayed: list[float] = []
    steps: list[float] = []
    failures: list[str] = []
    busy = quiet(options)
    with scope() as pool:
        pool.timers = {"keep_alive": "30s", "keep_alive_timeout": "5s"}  # else 10,000 of them take all processors
        pool.start(2, COMMAND, WATCHED)
        for group in range(GROUPS):
            share = count // GROUPS
            pool.elements(share, 30.0, group=group, first=group * share, life=900)
        say(f"{count:,} elements are registered after {pool.registered(count):.0f} s")
        for turn in range(options.runs):
            time.sleep(3.0)
            with Asker(pool, pool.addresses.client, every=0.02) as user:
                time.sleep(2.0)
                began = time.monotonic()
                newest = pool.join(COMMAND, WATCHED)
                pool.wait("the new registrar holds all", partial(_holds, newest, count), 0.01)
                took.append(time.monotonic() - began)
                time.sleep(1.0)
            asked = [a for a in user.asked if a["at"] >= began]
            delayed.append(max(a["took"] for a in asked))
            failures += [a["failed"] for a in asked if a["failed"]]
            steps.append(max((s["step"] for s in _steps(pool) if s["at"] > began), default=0.0))
            said = f"slowest of {len(asked)} resolutions {delayed[-1]:.3f} s, longest step {steps[-1]:.4f} s"
            say(f"turn {turn + 1}: {took[-1]:.2f} s, {said}")
            newest.end()
            pool.registrars.pop()
    what = f"{count:,} elements over TLS at two registrars; keep-alives every 30 s, for two processors have no more"
    notes = {"what": what, **busy}
    started = "from the start of its process until its control socket says that it serves and holds all"
    yield Figure(
        name=f"a registrar joins, {count:,} elements",
        unit="s",
        values=tuple(took),
        goal=SYNCHRONISED,
        notes={**notes, "until": started},
    )
    yield Figure(
        name="slowest resolve() meanwhile",
        unit="s",
        values=tuple(delayed),
        goal=DELAYED,
        notes={"what": "a user asks for three elements every 20 ms", "failed": "; ".join(failures) or "none"},
    )
    yield Figure(
        name="longest step of an event loop meanwhile",
        unit="s",
        values=tuple(steps),
        goal=STEP,
        notes={
            "what": "of three registrars: processor time between two turns of a task that sleeps 2 ms; 0: below 5 ms"
        },
    )


def _holds(registrar: Registrar, count: int) -> bool:
    status = registrar.ask("/status") or {}
    return status.get("phase") == "serving" and status.get("counts", {}).get("elements") == count


def _steps(pool: Scope) -> list[dict[str, float]]:
    texts = [log.read_text() for log in pool.folder.glob("r*.log")]
    return [json.loads(line) for text in texts for line in _STEP.findall(text)]
