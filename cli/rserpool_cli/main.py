# SPDX-License-Identifier: Apache-2.0
"""The entry point: which command was asked for, and what its outcome is as an exit status.

Exit statuses: 0 done; 1 the command could not do what was asked, and one line on standard error says why; 2 the
command line itself is wrong; 3 no registrar; 4 no such pool; 5 refused; 6 no answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rserpool import __version__
from rserpool_cli import decode, look, resolve
from rserpool_cli.errors import CommandError
from rserpool_cli.up import command as up
from rserpool_cli.up import scale

_COMMANDS = (up, scale, resolve, look, decode)


def build_parser() -> argparse.ArgumentParser:
    """The command line with all its commands."""
    parser = argparse.ArgumentParser(
        prog="rserpool", description="Reliable Server Pooling: run, look at and use server pools."
    )
    parser.add_argument("--version", action="version", version=f"rserpool {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    version = commands.add_parser("version", help="which version this is")
    version.set_defaults(run=_version)
    return parser


def _version(_: argparse.Namespace) -> int:
    print(f"rserpool {__version__}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    program: list[str] = []
    if "--" in words and words[0] == "up":  # what follows is somebody else's command line
        at = words.index("--")
        words, program = words[:at], words[at + 1 :]
        if not program:
            parser.error("up: there is no command after --")
    arguments = parser.parse_args(words)
    arguments.program = program
    try:
        status: int = arguments.run(arguments)
    except CommandError as e:
        print(f"rserpool {arguments.command}: {e}", file=sys.stderr)
        return e.status
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
