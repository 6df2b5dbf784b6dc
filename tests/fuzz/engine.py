# SPDX-License-Identifier: Apache-2.0
"""One target under libFuzzer, by atheris, in a process of its own: it ends with the first fault.

A process is forked from one that has loaded everything already, with its branches watched.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzz.trial import CORPUS, FaultError, Target, attempt, keep

WATCHED: Final = ("rserpool", "rserpool_operator", "rserpool_sidecar", "rserpool_registrar", "h11", "prometheus_client")
"""Packages whose branches say whether an input is something new."""
WEIGH_EACH: Final = 64
"""Every so many inputs memory is measured, too."""
RSS: Final = 1024
"""MiB of one fuzzing process."""
ONE_INPUT: Final = 20
"""Seconds after which libFuzzer holds that an input never ends."""
SMALL: Final = 400
"""Octets of an input that is kept."""
MOST_KEPT: Final = 12
"""Inputs of a target that are kept: where the next run begins need not be where this one ended."""


def targets() -> Mapping[str, Target]:
    """All targets, loaded so that their branches are watched; nothing of ours may have been loaded before.

    Raises:
        ModuleNotFoundError: atheris is not installed.
    """
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(WATCHED)):
        found: Mapping[str, Target] = importlib.import_module("fuzz.targets").TARGETS
    return found


@dataclass(slots=True)
class Fuzzing:
    """One target that is being fuzzed.

    Attributes:
        target: which.
        pid: of its process.
        folder: where it reads and writes.
        begun: when, by the monotonic clock.
    """

    target: Target
    pid: int
    folder: Path
    begun: float = field(default_factory=time.monotonic)

    @property
    def said(self) -> str:
        """What libFuzzer has said."""
        return (self.folder / "log").read_text(errors="replace")

    def keep_found(self) -> None:
        """Take the newest small inputs that found something to the corpus, as far as there is room."""
        kept = len(list((CORPUS / self.target.name).glob("*")))
        files = sorted((self.folder / "found").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        small = [octets for octets in map(Path.read_bytes, files) if 0 < len(octets) <= SMALL]
        for octets in small[: max(0, MOST_KEPT - kept)]:
            keep(octets, CORPUS / self.target.name)

    def end(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder)


def start(target: Target, seconds: int, seed: int, faults: Path) -> Fuzzing:
    """Begin to fuzz a target, in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "found").mkdir()
    for octets in target.inputs():
        keep(octets, folder / "seeds")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Fuzzing(target, pid, folder)
    status = 70
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.disable(logging.CRITICAL)
        options = {
            "max_total_time": seconds,
            "seed": seed,
            "max_len": target.longest,
            "timeout": ONE_INPUT,
            "rss_limit_mb": RSS,
            "artifact_prefix": f"{faults / target.name}-",
        }
        _run(target, faults, [*(f"-{k}={v}" for k, v in options.items()), str(folder / "found"), str(folder / "seeds")])
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError("unreachable")


def _run(target: Target, faults: Path, arguments: list[str]) -> None:
    """Fuzz until libFuzzer has enough, or there is a fault: it ends the process either way."""
    atheris: Any = importlib.import_module("atheris")
    count = 0
    with target.open() as read:

        def one(octets: bytes) -> None:
            nonlocal count
            count += 1
            try:
                attempt(target, read, octets, weigh=count % WEIGH_EACH == 0)
            except FaultError:
                sys.stderr.write(f"the input is in {keep(octets, faults / target.name)}\n")
                raise

        atheris.Setup(["fuzz", *arguments], one)
        atheris.Fuzz()
