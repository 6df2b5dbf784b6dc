# SPDX-License-Identifier: Apache-2.0
"""Resolutions and re-registrations a second of one registrar, over TCP and over TLS."""

from __future__ import annotations

import statistics

from callers import CALLERS, REGISTRATION, RESOLUTION, measure
from figures import Figure, Figures, Options, quiet, say
from scope import scope


def run(options: Options) -> Figures:
    seconds = 0.5 if options.quick else 5.0
    for what in (RESOLUTION, REGISTRATION):
        for secure in (False, True):
            busy = quiet(options)
            with scope(secure=secure) as pool:
                pool.start(1)
                pool.elements(3)
                pool.registered(3)
                rates = [measure(pool, what, seconds) for _ in range(options.runs)]
            say(f"{what}, {'TLS' if secure else 'TCP'}")
            answer = "answers hold 3 elements" if what == RESOLUTION else "as an element refreshes its registration"
            yield Figure(
                name=f"{what}s a second over {'TLS' if secure else 'TCP'}",
                unit="/s",
                values=tuple(r.per_second for r in rates),
                notes={
                    "how": f"{CALLERS} associations with one request each on its way, {seconds:g} s; {answer}",
                    "cost": f"{statistics.median(r.cpu_microseconds for r in rates):.0f} us of its CPU each,"
                    f" so {statistics.median(r.capacity for r in rates):,.0f} /s if it had nothing to wait for",
                    "registrar": f"alone, uvloop, on a CPU of its own, which it used to"
                    f" {statistics.median(r.registrar_busy for r in rates) * 100:.0f} %",
                    **busy,
                },
            )
