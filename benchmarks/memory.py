# SPDX-License-Identifier: Apache-2.0
"""Resident memory (VmRSS) of sidecars and registrars: idle, and with 1,000 elements over TLS."""

from __future__ import annotations

import time
from typing import Final

from figures import Figure, Figures, Options, quiet, say
from rserpool.transport.http import Target, ask
from scope import Scope, scope
from support import rig_figures as rig
from support.running import ECHO, pool_running, started

WHAT: Final = "VmRSS of /proc/PID/status, shared pages included; python -OO, as `rserpool up` starts daemons"


def run(options: Options) -> Figures:
    yield _sidecars(options)
    yield _registrars(options, 3, rig.REGISTRAR_OVER_THREE)
    yield _registrars(options, 1, rig.REGISTRAR_OWN)


def _sidecars(options: Options) -> Figure:
    settle = 3 if options.quick else 30
    busy = quiet(options)
    with pool_running(ECHO) as pool:
        started(pool)
        say(f"three sidecars, {settle} s")
        for element in pool.elements:  # as a cluster does all the time
            for path in ("/metrics", "/readyz"):
                pool.run(ask(Target(host=element.address, port=8081), "GET", path))
        time.sleep(settle)
        pids = [e.sidecar_pid for e in pool.elements]
        values = tuple(rig.resident(pid) for pid in pids)
        own = max(rig.resident(pid, "RssAnon") for pid in pids)
        idle = max(rig.resident(r.pid) for r in pool.registrars if r.pid is not None)
    return Figure(
        name="sidecar resident",
        unit="MiB",
        values=values,
        goal=rig.SIDECAR_RESIDENT,
        notes={
            "measured": WHAT,
            "when": f"{settle} s after the start, probing over TCP, scraped once",
            "of that its own": f"{own:.1f} MiB (RssAnon)",
            "a registrar of that pool": f"{idle:.1f} MiB with 3 elements",
            **busy,
        },
    )


def _registrars(options: Options, registrars: int, goal: float) -> Figure:
    count, settle = (50, 5) if options.quick else (1000, 30)
    busy = quiet(options)
    with scope() as pool:
        pool.start(registrars)
        empty = max(rig.resident(r.process.pid) for r in pool.registrars)
        elements = pool.elements(count)
        seconds = pool.registered(count)
        say(f"{count} elements at {registrars} registrars are registered after {seconds:.1f} s; {settle} s more")
        before = [r.cpu for r in pool.registrars], time.monotonic(), elements.said["homeless"]
        time.sleep(settle)
        passed = time.monotonic() - before[1]
        used = [(r.cpu - b) / passed * 100 for r, b in zip(pool.registrars, before[0], strict=True)]
        values = tuple(rig.resident(r.process.pid) for r in pool.registrars)
        own = max(rig.resident(r.process.pid, "RssAnon") for r in pool.registrars)
        held = _held(pool, count)
        moves = elements.said["homeless"] - before[2]
    over = "own elements" if registrars == 1 else f"elements over {registrars} registrars"
    return Figure(
        name=f"registrar resident with {count:,} {over}",
        unit="MiB",
        values=values,
        goal=goal if not options.quick else None,
        notes={
            "measured": f"{WHAT}; each registrar a value",
            "elements": f"{count:,} over TLS, each its own association, address and certificate; Fast timers",
            "when": f"{settle} s after all were registered (in {seconds:.1f} s); held: {held}",
            "empty": f"{empty:.1f} MiB",
            "of that its own": f"{own:.1f} MiB (RssAnon)",
            "CPU meanwhile": ", ".join(f"{u:.0f} %" for u in used) + " of one core",
            "elements that lost their home meanwhile": str(moves),
            **busy,
        },
    )


def _held(pool: Scope, count: int) -> str:
    counts = [r.counts() for r in pool.registrars]
    assert all(c["known"] == count for c in counts), counts
    return ", ".join(f"{c['own']} own of {c['known']}" for c in counts)
