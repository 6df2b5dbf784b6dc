# SPDX-License-Identifier: Apache-2.0
"""What people judge us by in seconds and MiB: the goals, and how each is measured on a pool that `rserpool up` runs.

Shared by benchmarks/ (which judge) and tests/processes/test_figures.py (which allows three times the goal).
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rserpool.daemon.control import ControlError, control
from support.running import PATIENCE, ElementProcess, RegistrarProcess, RunningPool, elements_of, transports

SIDECAR_RESIDENT: Final = 42.0
"""MiB, as all that is called resident here: VmRSS of /proc/PID/status, pages shared with others included."""
REGISTRAR_OVER_THREE: Final = 60.0
REGISTRAR_OWN: Final = 100.0
SIDECAR_START: Final = 1.0
"""Seconds, as all below."""
KILLED_APPLICATION: Final = 2.0
HUNG_APPLICATION: Final = 4.0
STOPPED_SIDECAR: Final = 3.0
KILLED_SIDECAR: Final = 0.3
KILLED_REGISTRAR: Final = 3.0

HEALTH: Final = "{httpGet: {path: /}}"
WEB: Final = "python3 -m http.server {port} --bind {address}"
"""An application that answers GET: one that is stopped hangs, since its kernel still accepts connections."""
LOOK: Final = 0.01
"""Seconds between two looks: how exact a time is."""


def resident(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; ``RssAnon`` is what it shares with nobody."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def began(pid: int) -> float:
    """When a process was started, on CLOCK_BOOTTIME, to 10 ms."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def until(pool: RunningPool, what: str, so: Callable[[], bool], since: float | None = None) -> float:
    """Look until it is so; returns the seconds since now, or since a time on CLOCK_BOOTTIME."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME) if since is None else since
    limit = time.monotonic() + PATIENCE
    while not so():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}\n{pool.story()}")
        time.sleep(LOOK)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - before


def holders(pool: RunningPool, transport: str, without: Sequence[str] = ()) -> int:
    """How many registrars hold an element."""
    return sum(transport in transports(dump["handlespace"]) for dump in pool.dumps(without).values())


def out_after(pool: RunningPool, element: ElementProcess, pid: int, number: signal.Signals) -> float:
    """Send a signal to a part of an element; returns the seconds until no registrar holds it."""
    registrars = len(pool.registrars)
    assert holders(pool, element.transport) == registrars
    os.kill(pid, number)
    return until(pool, f"{element.name} is out of all registrars", lambda: not holders(pool, element.transport))


def in_after_start(pool: RunningPool, elements: int) -> float:
    """Have one element more; returns the seconds from its sidecar's start to all registrars holding it."""
    pool.run(control(Path(pool.state["socket"]), "POST", "/scale", {"elements": elements}, timeout=PATIENCE))
    registrars = len(pool.registrars)
    element = pool.elements[-1]
    until(pool, "the new element's sidecar is started", lambda: pool.elements[-1].sidecar_pid is not None)
    since = began(pool.elements[-1].sidecar_pid)
    there = f"all registrars hold {element.name}"
    return until(pool, there, lambda: holders(pool, element.transport) == registrars, since)


def rehomed_after_kill(pool: RunningPool, victim: RegistrarProcess) -> float:
    """Kill a registrar; returns the seconds until all elements have another home, and an association to it."""
    wanted = sorted(e.transport for e in pool.elements)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)

    def answering() -> bool:
        dumps = pool.dumps(without=[victim.name])
        alive = {dump["server_id"] for dump in dumps.values()}
        spaces = [dump["handlespace"] for dump in dumps.values()]
        owned = all(
            transports(space) == wanted and {e["home"] for e in elements_of(space)} <= alive for space in spaces
        )
        return owned and attached(pool, victim.name) == len(wanted)

    return until(pool, f"all elements answer elsewhere than at {victim.name}", answering)


def attached(pool: RunningPool, without: str) -> int:
    """How many elements have an association to a registrar that is their home."""
    count = 0
    for registrar in pool.registrars:
        if registrar.name != without:
            try:
                status = pool.run(control(Path(registrar.socket), "GET", "/status", timeout=1.0))
            except ControlError:
                continue
            count += status["counts"]["attached"]
    return count
