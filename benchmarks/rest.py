# SPDX-License-Identifier: Apache-2.0
"""A scope at rest: what keeping 1,000 elements alive costs each registrar, and each element's connection."""

from __future__ import annotations

import re
import subprocess
import time

from figures import Figure, Figures, Options, quiet, say
from scope import Scope, scope

OVER_THREE, ALONE, TRAFFIC = 8.0, 20.0, 120.0
"""Goals: per cent of a core for each registrar of three and for a single one; octets a second of TLS for an element."""
_COUNTS = re.compile(r"bytes_(sent|received):(\d+)")


def run(options: Options) -> Figures:
    count, seconds = (30, 3.0) if options.quick else (1000, 20.0)
    for registrars, goal in ((3, OVER_THREE), (1, ALONE)):
        busy = quiet(options)
        with scope() as pool:
            pool.start(registrars)
            pool.elements(count)
            pool.registered(count)
            time.sleep(10.0 if not options.quick else 1.0)  # keep-alives are spread by then
            used, octets = [], []
            for _ in range(options.runs):
                before, cpu, began = _octets(pool), [r.cpu for r in pool.registrars], time.monotonic()
                time.sleep(seconds)
                passed, after = time.monotonic() - began, _octets(pool)
                used += [(r.cpu - c) / passed * 100 for r, c in zip(pool.registrars, cpu, strict=True)]
                octets.append((after - before) / passed / count)
                say(f"{', '.join(f'{u:.1f} %' for u in used[-registrars:])}; {octets[-1]:.0f} octets/s an element")
        over = f"over {registrars} registrars" if registrars > 1 else "at one registrar"
        notes = {"what": f"{count:,} elements over TLS, Fast timers, {options.runs} x {seconds:g} s", **busy}
        yield Figure(
            name=f"CPU of a registrar at rest, elements {over}",
            unit="% of a core",
            values=tuple(used),
            goal=None if options.quick else goal,
            notes=notes,
        )
        yield Figure(
            name=f"TLS of an element at rest, {over}",
            unit="octets/s",
            values=tuple(octets),
            goal=None if options.quick else TRAFFIC,
            notes={"what": "TCP payload, both directions, of connections to the registrars' ASAP ports", **busy},
        )


def _octets(pool: Scope) -> int:
    """Sent and received so far by the registrars' ends of their elements' connections."""
    total = 0
    for registrar in pool.registrars:
        source = f"src {registrar.place.address}:{registrar.place.ports['asap']}"
        table = subprocess.run(
            ["ss", "-tinH", "state", "established", source], capture_output=True, text=True, check=True
        ).stdout
        total += sum(int(number) for _, number in _COUNTS.findall(table))
    return total
