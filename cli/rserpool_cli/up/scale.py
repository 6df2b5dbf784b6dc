# SPDX-License-Identifier: Apache-2.0
"""`rserpool scale`: more or fewer elements of a pool that runs on this machine."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rserpool.client.scope import running_states
from rserpool.daemon.control import ControlError, control
from rserpool_cli.errors import CommandError
from rserpool_cli.scope import named_running

if TYPE_CHECKING:
    from rserpool_cli.types import Commands

MOST_ELEMENTS: Final = 1000
PATIENCE: Final = 60.0
"""Seconds until as many elements as were wanted have been started or ended."""


def add_to(commands: Commands) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "scale",
        help="change how many elements `up` runs",
        description="Start elements of a pool that `rserpool up` runs here, or end its last ones; those leave first.",
    )
    parser.add_argument("elements", type=element_count, metavar="N", help="how many there are to be")
    parser.add_argument("--pool", metavar="[NAMESPACE/]NAME", help="one of several pools that run on this machine")
    parser.set_defaults(run=run)


def element_count(text: str) -> int:
    """A number of elements, as the command line has it."""
    if not text.isdigit() or not 1 <= int(text) <= MOST_ELEMENTS:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 to {MOST_ELEMENTS}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Ask the process that runs the pool.

    Raises:
        CommandError: there is none, or it cannot.
    """
    scope = named_running(arguments.pool)
    state = next(s for s in running_states() if s["directory"] == scope.origin)
    asked = control(Path(state["socket"]), "POST", "/scale", {"elements": arguments.elements}, timeout=PATIENCE)
    try:
        answer = asyncio.run(asked)
    except ControlError as e:
        raise CommandError(str(e)) from None
    print(f"{scope.namespace}/{scope.pool}: from {answer['before']} elements to {answer['elements']}")
    return 0
