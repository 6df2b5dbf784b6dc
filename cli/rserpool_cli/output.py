# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare ``-o``."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="table (default) or json")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they must be."""
    lines = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def show(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=indent, ensure_ascii=False))
