# SPDX-License-Identifier: Apache-2.0
"""Where a registrar's time goes, by cProfile: one text file for each kind of load, kept in benchmarks/profiles."""

from __future__ import annotations

import io
import pstats
import sys
import time
from pathlib import Path
from typing import Final

from callers import REGISTRATION, RESOLUTION, measure
from figures import REPOSITORY, Figure, Figures, Options, conditions, say
from scope import Scope, scope

FOLDER: Final = Path(__file__).parent / "profiles"
LINES: Final = 40


def run(options: Options) -> Figures:
    seconds = 1.0 if options.quick else 10.0
    for what in (RESOLUTION, REGISTRATION):
        for secure in (False, True):
            with scope(secure=secure) as pool:
                profile = _start(pool)
                pool.elements(3)
                pool.registered(3)
                rate = measure(pool, what, seconds)
                load = f"{what}s over {'TLS' if secure else 'TCP'}, 32 associations, {rate.per_second:,.0f} /s"
                yield _write(pool, profile, f"{what}-{'tls' if secure else 'tcp'}", load, options)
    count = 50 if options.quick else 1000
    with scope() as pool:
        profile = _start(pool)
        pool.elements(count)
        pool.registered(count)
        time.sleep(3 * seconds)
        load = f"{count:,} own elements over TLS register, then are kept alive for {3 * seconds:g} s"
        yield _write(pool, profile, "elements", load, options)


def _start(pool: Scope) -> Path:
    profile = pool.folder / "profile"
    pool.start(1, (sys.executable, "-OO", "-m", "cProfile", "-o", str(profile), "-m", "rserpool_registrar"))
    return profile


def _write(pool: Scope, profile: Path, name: str, load: str, options: Options) -> Figure:
    say(load)
    pool.registrars[0].end()
    text = io.StringIO()
    stats = pstats.Stats(str(profile), stream=text)
    calls = stats.total_calls  # type: ignore[attr-defined] # typeshed leaves out what it has counted
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(LINES)
    head = "\n".join(f"{key}: {value}" for key, value in conditions().items())
    body = _short(text.getvalue())
    if not options.quick:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.txt").write_text(f"{load}\n{head}\nuvloop; times are under cProfile\n\n{body}")
    return Figure(
        name=f"profile of {name}",
        unit="calls",
        values=(float(calls),),
        notes={"load": load, "file": "not written (--quick)" if options.quick else f"benchmarks/profiles/{name}.txt"},
    )


def _short(text: str) -> str:
    """Paths as they are in the repository, without empty lines at the ends of tables."""
    shortened = text.replace(f"{REPOSITORY}/", "").replace(f"{sys.base_prefix}/lib/", "")
    lines = [line.rstrip() for line in shortened.splitlines() if not line.startswith("Random listing")]
    return "\n".join(line for line in lines if "/profile" not in line) + "\n"
