# SPDX-License-Identifier: Apache-2.0
"""`rserpool pools` and `rserpool dump`: what registrars hold, told by their control sockets."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rserpool.client.scope import running_pools
from rserpool.daemon.control import ControlError, control
from rserpool_cli.errors import CommandError
from rserpool_cli.output import add_output, show, table

if TYPE_CHECKING:
    from rserpool_cli.types import Commands

_NOWHERE = (
    "no pool runs on this machine; start one with `rserpool up`, or name a registrar's control socket with --socket"
)


def add_to(commands: Commands) -> None:
    """Declare both commands."""
    pools = commands.add_parser(
        "pools", help="pools that run on this machine", description="List pools and registrars."
    )
    pools.set_defaults(run=run_pools)
    dump = commands.add_parser(
        "dump",
        help="all that registrars hold",
        description="Print what registrars hold, as JSON: the handlespace in canonical form, and how they stand to each"
        " other. Two registrars agree exactly if their handlespaces are equal.",
    )
    dump.add_argument("name", nargs="?", metavar="REGISTRAR", help="only this one, such as echo-registrar-0")
    dump.set_defaults(run=run_dump, output="json")
    for parser in (pools, dump):
        parser.add_argument("--socket", type=Path, metavar="PATH", help="a registrar's control socket")
        parser.add_argument("--pool", metavar="[NAMESPACE/]NAME", help="only this pool")
    add_output(pools)


def _sockets(arguments: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """Control sockets by pool and registrar."""
    if arguments.socket is not None:
        return {"": {str(arguments.socket): arguments.socket}}
    found: dict[str, dict[str, Path]] = {}
    for scope in running_pools():
        full = f"{scope.namespace}/{scope.pool}"
        if arguments.pool in (None, full, scope.pool):
            found[full] = dict(scope.sockets)
    if not found:
        raise CommandError(f"no pool {arguments.pool} runs on this machine" if arguments.pool else _NOWHERE)
    return found


async def _ask_all(sockets: Mapping[str, Path]) -> dict[str, dict[str, Any] | ControlError]:
    """Each registrar's dump, or why there is none."""

    async def ask(path: Path) -> dict[str, Any] | ControlError:
        try:
            answer: dict[str, Any] = await control(path, "GET", "/dump")
        except ControlError as e:
            return e
        return answer

    answers = await asyncio.gather(*(ask(path) for path in sockets.values()))
    return dict(zip(sockets, answers, strict=True))


def run_pools(arguments: argparse.Namespace) -> int:
    """List pools.

    Raises:
        CommandError: there is none, or no registrar answers.
    """
    rows: list[dict[str, Any]] = []
    for pool, sockets in _sockets(arguments).items():
        dumps = asyncio.run(_ask_all(sockets))
        good = {name: d for name, d in dumps.items() if not isinstance(d, ControlError)}
        if not good:
            raise CommandError(f"{pool}: no registrar answers: {next(iter(dumps.values()))}")
        spaces = [d["handlespace"] for d in good.values() if d["phase"] == "serving"]
        agree = all(space == spaces[0] for space in spaces)
        handles = {p["handle"]: p for space in spaces for p in space["pools"]}
        for handle, entry in handles.items() or [("", {"policy": "-", "elements": []})]:
            rows.append(
                {
                    "pool": pool,
                    "handle": handle or "(nobody registered)",
                    "policy": entry["policy"],
                    "elements": len(entry["elements"]),
                    "registrars": f"{len(spaces)}/{len(sockets)}",
                    "agree": agree,
                }
            )
    if arguments.output == "json":
        show(rows)
    else:
        cells = [(*list(r.values())[:-1], "yes" if r["agree"] else "no") for r in rows]
        print(table(("POOL", "HANDLE", "POLICY", "ELEMENTS", "REGISTRARS", "AGREE"), cells))
    return 0


def run_dump(arguments: argparse.Namespace) -> int:
    """Print dumps.

    Raises:
        CommandError: there is no such registrar, or it does not answer.
    """
    sockets = {name: path for pool in _sockets(arguments).values() for name, path in pool.items()}
    if arguments.name is not None:
        if arguments.name not in sockets:
            raise CommandError(f"there is no registrar {arguments.name}; there are {', '.join(sockets)}")
        sockets = {arguments.name: sockets[arguments.name]}
    dumps = asyncio.run(_ask_all(sockets))
    for dump in dumps.values():
        if isinstance(dump, ControlError) and len(dumps) == 1:
            raise CommandError(str(dump))
    show({name: {"error": str(d)} if isinstance(d, ControlError) else d for name, d in dumps.items()})
    return 0
