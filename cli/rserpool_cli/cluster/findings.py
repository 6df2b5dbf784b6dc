# SPDX-License-Identifier: Apache-2.0
"""What a check has found: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One of them.

    Attributes:
        what: was looked at.
        seen: there.
        remedy: what to do about it; empty: nothing.
    """

    level: Level
    what: str
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.level:<4}  {self.what}: {self.seen}" + (f": {self.remedy}" if self.remedy else "")


def ok(what: str, seen: str) -> Finding:
    """All is well."""
    return Finding(level=Level.OK, what=what, seen=seen)


def warn(what: str, seen: str, remedy: str) -> Finding:
    """Something to know of."""
    return Finding(level=Level.WARN, what=what, seen=seen, remedy=remedy)


def fail(what: str, seen: str, remedy: str) -> Finding:
    """Pools will not work."""
    return Finding(level=Level.FAIL, what=what, seen=seen, remedy=remedy)
