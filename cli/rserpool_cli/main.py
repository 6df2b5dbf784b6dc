# SPDX-License-Identifier: Apache-2.0
"""The entry point: which command was asked for, and what its outcome is as an exit status.

Exit statuses: 0 done; 1 the command could not do what was asked, and one line on standard error says why; 2 the
command line itself is wrong; 3 no registrar; 4 no such pool; 5 refused; 6 no answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rserpool import __version__
from rserpool_cli.cluster.beside import dump_beside
from rserpool_cli.errors import CommandError

PLUGIN: Final = ("kubectl-rserpool", "kubectl_rserpool")
"""What kubectl calls its plugin `rserpool`."""


def build_parser(program: str = "rserpool") -> argparse.ArgumentParser:
    """The command line with all its commands."""
    # not before they are needed: see cluster/beside.py
    from rserpool_cli import decode, look, resolve  # noqa: PLC0415 - see above
    from rserpool_cli.cluster import commands as cluster  # noqa: PLC0415 - see above
    from rserpool_cli.up import command as up  # noqa: PLC0415 - see above
    from rserpool_cli.up import scale  # noqa: PLC0415 - see above

    parser = argparse.ArgumentParser(
        prog=program, description="Reliable Server Pooling: run, look at and use server pools."
    )
    parser.add_argument("--version", action="version", version=f"rserpool {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in (up, scale, resolve, look, cluster, decode):
        command.add_to(commands)
    version = commands.add_parser("version", help="which version this is")
    version.set_defaults(run=_version)
    return parser


def program_name(argv0: str) -> str:
    """How the user calls us."""
    return "kubectl rserpool" if Path(argv0).stem in PLUGIN else "rserpool"


def _version(_: argparse.Namespace) -> int:
    print(f"rserpool {__version__}")
    return 0


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    called = program_name(sys.argv[0])
    if words == ["dump"] and called == "rserpool":
        told = dump_beside()
        if told is not None:
            return _print(told)
    parser = build_parser(called)
    program: list[str] = []
    if "--" in words and words[0] == "up":  # what follows is somebody else's command line
        at = words.index("--")
        words, program = words[:at], words[at + 1 :]
        if not program:
            parser.error("up: there is no command after --")
    arguments = parser.parse_args(words)
    arguments.program = program
    arguments.plugin = called != "rserpool"
    try:
        status: int = arguments.run(arguments)
    except CommandError as e:
        print(f"{called} {arguments.command}: {e}", file=sys.stderr)
        return e.status
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
