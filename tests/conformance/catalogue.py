# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every requirement once, in our own words, with its level, and why there is no test where there is none."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "catalogue"
ORDER: Final = ("octets", "registrar", "registrars", "element", "user", "policies", "security", "scope")
LEVELS: Final = ("MUST", "SHOULD", "MAY", "Project")
"""The RFC's words; *Project*: a choice of ours where the RFCs leave one."""


class CatalogueError(ValueError):
    """The catalogue contradicts itself; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One requirement.

    Attributes:
        name: its section and a few words, such as ``RFC 5353 3.5.1: the target of a takeover is alive``.
        level: one of :data:`LEVELS`.
        text: one sentence.
        without: why no test proves it; empty where tests must.
    """

    name: str
    level: str
    text: str
    without: str = ""

    @property
    def section(self) -> str:
        """Where it is required, such as ``RFC 5353 3.5.1``."""
        return self.name.partition(": ")[0]

    @property
    def words(self) -> str:
        """The name without the section."""
        return self.name.partition(": ")[2]


@dataclass(frozen=True, slots=True)
class Chapter:
    """Requirements that belong together."""

    title: str
    requirements: tuple[Requirement, ...]


def chapters() -> tuple[Chapter, ...]:
    """Read the catalogue.

    Raises:
        CatalogueError: a field is missing, or a name stands there twice.
    """
    read = tuple(_chapter(FOLDER / f"{name}.toml") for name in ORDER)
    names = [r.name for chapter in read for r in chapter.requirements]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogueError(f"required twice: {twice}")
    return read


def _chapter(file: Path) -> Chapter:
    table = tomllib.loads(file.read_text())
    return Chapter(table["title"], tuple(_requirement(file, entry) for entry in table["requirement"]))


def _requirement(file: Path, entry: dict[str, str]) -> Requirement:
    try:
        found = Requirement(**entry)
    except TypeError as e:
        raise CatalogueError(f"{file.name}: {entry.get('name')}: {e}") from None
    if found.level not in LEVELS or not found.words or not found.text.endswith("."):
        raise CatalogueError(f"{file.name}: {found.name}: it needs a section, words, a level and a sentence")
    return found
