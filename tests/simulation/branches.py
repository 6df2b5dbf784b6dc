# SPDX-License-Identifier: Apache-2.0
"""Which branches of the machines neither unit tests nor simulation take: at most 5 %, and each listed with a reason.

``python -m simulation.branches REPORT`` reads coverage.py's JSON report, prints what is taken of each module, and fails
where ``uncovered.toml`` and the report differ. Lines are named by what they say, so that the list outlives edits.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST = 95.0
LIST = Path(__file__).with_name("uncovered.toml")


@dataclass(frozen=True, slots=True, order=True)
class Branch:
    """A way from one line to another that nothing takes.

    Attributes:
        file: below ``protocol/rserpool``.
        line: what the line says that it leaves.
        to: what the line says that it leads to; ``return`` for the end of the function.
    """

    file: str
    line: str
    to: str


def missing(report: dict[str, Any], sources: Path) -> Iterator[Branch]:
    """The branches a report says were not taken."""
    for name, figures in report["files"].items():
        lines = (sources / name).read_text(encoding="utf-8").splitlines()
        for leaves, leads in figures["missing_branches"]:
            to = lines[leads - 1].strip() if leads > 0 else "return"
            yield Branch(name.removeprefix("protocol/rserpool/"), lines[leaves - 1].strip(), to)


def listed(text: str) -> dict[Branch, str]:
    """The branches that are excused, with the reason of each."""
    entries = tomllib.loads(text).get("branch", [])
    return {Branch(e["file"], e["line"], e["to"]): e["reason"] for e in entries}


def differences(found: set[Branch], excused: dict[Branch, str]) -> list[str]:
    """What is wrong with the list."""
    wrong = [f"not taken, and not listed: {b.file}: {b.line} -> {b.to}" for b in sorted(found - excused.keys())]
    wrong += [f"listed, but taken or gone: {b.file}: {b.line} -> {b.to}" for b in sorted(excused.keys() - found)]
    wrong += [f"listed without a reason: {b.file}: {b.line}" for b, reason in sorted(excused.items()) if not reason]
    return wrong


def table(report: dict[str, Any]) -> Iterator[str]:
    """How many branches of each module were taken."""
    for name, figures in sorted(report["files"].items()):
        summary = figures["summary"]
        if summary["num_branches"]:
            taken = summary["covered_branches"]
            yield f"{name.removeprefix('protocol/rserpool/'):32} {taken:4} of {summary['num_branches']:4}"


def percent(report: dict[str, Any]) -> float:
    """How many of all branches were taken."""
    totals = report["totals"]
    return float(100 * totals["covered_branches"] / totals["num_branches"])


def main(path: str) -> int:
    """The command."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    print(*table(report), sep="\n")  # noqa: T201 - a command
    excused = listed(LIST.read_text(encoding="utf-8"))
    wrong = differences(set(missing(report, Path())), excused)
    share = percent(report)
    print(f"branches of the machines: {share:.2f} %, {len(excused)} listed with their reasons")  # noqa: T201 - a command
    if share < LEAST:
        wrong.append(f"less than {LEAST:g} % of the branches are taken")
    print(*wrong, sep="\n", end="\n" if wrong else "")  # noqa: T201 - a command
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
