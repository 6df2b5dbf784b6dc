# SPDX-License-Identifier: Apache-2.0
"""Plays the script of a seed again, and makes it short if it fails::

    PYTHONPATH=tests .venv/bin/python -m simulation.replay KIND SEED

or plays a script that somebody has written, from standard input, with a seed for what it leaves open::

    PYTHONPATH=tests .venv/bin/python -m simulation.replay - SEED < script

``--events NAME...`` shows what these nodes said; ``--as-it-is`` leaves the script as long as it is.
"""

from __future__ import annotations

import argparse
import sys

from simulation.generate import KINDS, generate
from simulation.invariants import Violation
from simulation.run import Verdict, run
from simulation.script import Script
from simulation.shrink import shrink


def same_failure(seed: int, violation: Violation, script: Script) -> bool:
    """Whether a script breaks the same invariant."""
    found = run(script, seed).violation
    return found is not None and found.invariant == violation.invariant


def report(kind: str, seed: int, script: Script, verdict: Verdict) -> str:
    """What a failing seed comes down to: how to see it again, and the short script."""
    assert verdict.violation is not None
    violation = verdict.violation
    short = shrink(script, lambda candidate: same_failure(seed, violation, candidate))
    said = run(short, seed).violation
    return "\n".join(
        (
            f"{violation}",
            f"again: PYTHONPATH=tests .venv/bin/python -m simulation.replay {kind} {seed}",
            f"in short, with seed {seed}:",
            str(short),
            f"{said}",
        )
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="simulation.replay", description="Play the script of a seed again.")
    parser.add_argument("kind", choices=[*KINDS, "-"])
    parser.add_argument("seed", type=int)
    parser.add_argument("--as-it-is", action="store_true", help="do not make a failing script short")
    parser.add_argument("--events", nargs="*", default=[], metavar="NAME", help="show what these nodes say")
    options = parser.parse_args(arguments)
    script = Script.parse(sys.stdin.read()) if options.kind == "-" else generate(options.seed, options.kind)
    said: list[str] = []
    verdict = run(script, options.seed, tell=said.append if options.events else None, names=options.events)
    print(*said, sep="\n", end="\n" if said else "")  # noqa: T201 - a command
    if verdict.violation is None:
        print(f"{script}\nnothing violated in {verdict.seconds:g} s; history {verdict.history[:16]}")  # noqa: T201 - a command
        return 0
    if options.as_it_is:
        print(f"{script}\n{verdict.violation}")  # noqa: T201 - a command
    else:
        print(report(options.kind, options.seed, script, verdict))  # noqa: T201 - a command
    return 1


if __name__ == "__main__":
    sys.exit(main())
