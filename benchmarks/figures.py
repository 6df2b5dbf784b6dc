# SPDX-License-Identifier: Apache-2.0
"""What a benchmark gives: figures with their goals, and the conditions they were taken under."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says.

    Attributes:
        quick: as few and as small runs as show that it works.
        runs: how many runs of what is timed.
        quiet: seconds to wait at most, before each timed benchmark, for others to leave the machine alone.
    """

    quick: bool = False
    runs: int = 5
    quiet: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured quantity.

    Attributes:
        values: one for each run.
        goal: at most that much, by the worst run; ``None`` where nothing is promised.
        notes: its own conditions.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What comes of it."""
        if self.goal is None:
            return "printed, no goal"
        over = max(self.values) - self.goal
        return "goal met" if over <= 0 else f"missed by {number(over)} {self.unit}"

    def __str__(self) -> str:
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        runs = len(self.values)
        value = number(middle) if runs == 1 else f"{number(low)} / {number(middle)} / {number(high)}"
        which = "1 run" if runs == 1 else f"min / median / max of {runs} runs"
        goal = "" if self.goal is None else f", goal <= {number(self.goal)}"
        lines = [f"{self.name}: {value} {self.unit} ({which}{goal}): {self.verdict}"]
        return "\n".join((*lines, *(f"    {key}: {text}" for key, text in self.notes.items())))

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "name": self.name,
            "unit": self.unit,
            "values": [round(value, 4) for value in self.values],
            "min": round(min(self.values), 4),
            "median": round(statistics.median(self.values), 4),
            "max": round(max(self.values), 4),
            "goal": self.goal,
            "verdict": self.verdict,
            "notes": dict(self.notes),
        }


Figures = Iterator[Figure]


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def conditions() -> dict[str, str]:
    """The machine, the interpreter, the time."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "bytecode": "not kept (PYTHONDONTWRITEBYTECODE): starts compile" if sys.dont_write_bytecode else "kept",
        "revision": _revision(),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _revision() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def say(text: str) -> None:
    """Progress, beside the results."""
    print(f"... {text}", file=sys.stderr, flush=True)


def busy(seconds: float = 1.0) -> float:
    """Share of all processors that was busy for a while, in per cent: what others do to our figures."""

    def times() -> tuple[int, int]:
        values = [int(word) for word in _lines("/proc/stat")[0].split()[1:9]]
        return sum(values), values[3] + values[4]

    total, idle = times()
    time.sleep(seconds)
    total_after, idle_after = times()
    return 100 * (1 - (idle_after - idle) / max(1, total_after - total))


def quiet(options: Options, below: float = 10.0) -> dict[str, str]:
    """Wait for a quiet moment as long as the options allow; tells how busy the machine was before a run."""
    deadline = time.monotonic() + options.quiet
    now = busy()
    while now > below and time.monotonic() < deadline:
        say(f"others use {now:.0f} % of the machine; waiting")
        time.sleep(5)
        now = busy(2.0)
    return {"machine busy before": f"{now:.0f} % of {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}"}


def processor_time(pid: int) -> float:
    """Seconds of CPU a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
