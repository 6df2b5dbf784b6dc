# SPDX-License-Identifier: Apache-2.0
"""A registrar is killed, or frozen: how soon all elements are owned by, and answer to, those that are left."""

from __future__ import annotations

import itertools
import os
import signal
import time

from answering import answering
from figures import Figure, Figures, Options, quiet, say
from scope import Scope, scope
from support import rig_figures as rig


def run(options: Options) -> Figures:
    count = 20 if options.quick else 100
    faults = (("killed", signal.SIGKILL, rig.KILLED_REGISTRAR), ("frozen", signal.SIGSTOP, None))
    for registrars, (word, number, goal) in itertools.product((2, 3), faults):
        values, owned = [], []
        busy = quiet(options)
        for _ in range(options.runs):
            with scope() as pool:
                pool.start(registrars)
                pool.elements(count)
                pool.registered(count)
                time.sleep(2.0)  # keep-alives are spread by then
                owned.append(pool.registrars[0].counts()["own"])
                values.append(_hit(pool, count, number))
                say(f"{word} registrar of {registrars} {values[-1]:.2f} s")
        yield Figure(
            name=f"{word} registrar of {registrars}",
            unit="s",
            values=tuple(values),
            goal=goal,
            notes={
                "what": f"{number.name}; {count} elements over TLS in one process, of which {owned} were its own",
                "until": "every registrar left holds all of them with a living home, which has an association to each",
                **busy,
            },
        )


def _hit(pool: Scope, count: int, number: signal.Signals) -> float:
    victim, *left = pool.registrars
    os.kill(victim.process.pid, number)
    began = time.monotonic()
    pool.wait("all elements answer elsewhere", answering(left, count), 0.02)
    return time.monotonic() - began
