# SPDX-License-Identifier: Apache-2.0
"""Fuzzes every target for its share of the time: ``python -m fuzz --seconds 120 [--seed N] [--keep] [TARGET...]``.

The fuzzer is atheris (libFuzzer, led by the branches of our own modules), which the group `fuzz` installs. It begins
with seeds and corpus; the run ends with status 1 if an input was a fault. Such an input lies in the folder of faults;
once it is understood it goes to tests/fuzz/regressions/TARGET, and stays there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import Final

from fuzz.engine import Fuzzing, start, targets

_RUNS: Final = re.compile(r"^#(\d+)\s", re.MULTILINE)
_FOUND: Final = re.compile(r"\bcov: (\d+)")


def say(line: str) -> None:
    """One line for whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def report(ended: Fuzzing, status: int) -> None:
    """Say how the fuzzing of one target ended."""
    said = ended.said
    runs = max(map(int, _RUNS.findall(said)), default=0)
    branches = max(map(int, _FOUND.findall(said)), default=0)
    seconds = time.monotonic() - ended.begun
    word = "FAULT" if status else "good"
    say(f"{ended.target.name:20} {runs:9,} inputs, {branches:5} branches, {seconds:5.1f} s, {word}")
    if status:
        say(said[-6000:])


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzzes all that reads octets of a stranger.")
    parser.add_argument("--seconds", type=int, default=120, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)) or 1, help="of all that is random")
    parser.add_argument("--faults", type=Path, default=Path("fuzz-faults"), help="folder for inputs that are faults")
    parser.add_argument("--keep", action="store_true", help="keep small inputs that found something in the corpus")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="targets at a time")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them unless some are named")
    return parser.parse_args()


def main() -> int:
    """Fuzz; returns the status for the shell."""
    wanted = arguments()
    try:
        known = targets()
    except ModuleNotFoundError as e:
        say(f"{e}: run this by `make fuzz`")
        return 2
    unknown = [name for name in wanted.targets if name not in known]
    if unknown:
        say(f"there is no target {unknown[0]}; there are {', '.join(known)}")
        return 2
    waiting = [known[name] for name in wanted.targets or known]
    share = max(1, wanted.seconds * wanted.jobs // len(waiting))
    say(f"{len(waiting)} targets, {share} s each, {wanted.jobs} at a time, --seed {wanted.seed}")
    wanted.faults.mkdir(parents=True, exist_ok=True)
    running: dict[int, Fuzzing] = {}
    faults = 0
    while waiting or running:
        while waiting and len(running) < wanted.jobs:
            begun = start(waiting.pop(0), share, wanted.seed, wanted.faults)
            running[begun.pid] = begun
        pid, status = os.wait()
        ended = running.pop(pid)
        report(ended, status)
        faults += bool(status)
        if wanted.keep:
            ended.keep_found()
        ended.end()
    if faults:
        say(f"{faults} targets with faults; the inputs are in {wanted.faults}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
