# SPDX-License-Identifier: Apache-2.0
"""`rserpool pools`, `rserpool elements` and `rserpool dump`: what registrars hold, told by their control sockets."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rserpool.client.scope import running_pools
from rserpool.daemon.control import ControlError, control
from rserpool_cli.cluster.beside import SOCKET
from rserpool_cli.cluster.where import add_cluster, asks_cluster, names_a_pool, on_cluster
from rserpool_cli.errors import CommandError
from rserpool_cli.output import add_output, show, table

if TYPE_CHECKING:
    from rserpool_cli.cluster.kubectl import Kubectl
    from rserpool_cli.types import Commands

Sockets = dict[str, dict[str, Path]]
"""Control sockets by pool and registrar."""
_NOWHERE = (
    "no pool runs on this machine; start one with `rserpool up`, or name a registrar's control socket with --socket"
)


class NotHereError(CommandError):
    """What was asked for does not run on this machine."""


def add_to(commands: Commands) -> None:
    """Declare the commands."""
    pools = commands.add_parser(
        "pools",
        help="pools that run on this machine, or on a cluster",
        description="List pools and registrars.",
    )
    pools.set_defaults(run=run_pools)
    elements = commands.add_parser(
        "elements",
        help="a pool's elements, and who is missing",
        description="List the elements that a pool's registrars hold; on a cluster, also members that are none.",
    )
    elements.add_argument("name", nargs="?", metavar="[NAMESPACE/]POOL", help="the pool")
    elements.set_defaults(run=run_elements)
    dump = commands.add_parser(
        "dump",
        help="all that registrars hold",
        description="Print what registrars hold, as JSON: the handlespace in canonical form, and how they stand to each"
        " other. Two registrars agree exactly if their handlespaces are equal.",
    )
    dump.add_argument(
        "names",
        nargs="*",
        metavar="NAMESPACE/POOL | REGISTRAR",
        help="only this pool, or only this registrar, such as echo-registrar-0, or both",
    )
    dump.set_defaults(run=run_dump, output="json")
    for parser in (pools, elements, dump):
        parser.add_argument("--socket", type=Path, metavar="PATH", help="a registrar's control socket")
        parser.add_argument("--pool", metavar="[NAMESPACE/]NAME", help="only this pool")
        add_cluster(parser)
    add_output(pools)
    add_output(elements)


def _sockets(arguments: argparse.Namespace, pool: str | None) -> Sockets:
    """Those of a pool, or of all that run here."""
    if arguments.socket is not None:
        return {"": {str(arguments.socket): arguments.socket}}
    if pool is None and os.environ.get(SOCKET):
        return {"": {os.environ[SOCKET]: Path(os.environ[SOCKET])}}
    found: Sockets = {}
    for scope in running_pools():
        full = f"{scope.namespace}/{scope.pool}"
        if pool in (None, full, scope.pool):
            found[full] = dict(scope.sockets)
    if not found:
        raise NotHereError(f"no pool {pool} runs on this machine" if pool else _NOWHERE)
    return found


def _here_or_there(
    arguments: argparse.Namespace, pool: str | None, here: Callable[[Sockets], int], there: Callable[[Kubectl], int]
) -> int:
    """Do it on this machine, if the pool runs here and no cluster is asked for; else on the cluster."""
    if arguments.socket is None and asks_cluster(arguments):
        return on_cluster(arguments, there)
    try:
        sockets = _sockets(arguments, pool)
    except NotHereError as e:
        return on_cluster(arguments, there, e)
    return here(sockets)


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


def _good(pool: str, sockets: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """The dumps of the registrars that answer.

    Raises:
        CommandError: none of them does.
    """
    dumps = asyncio.run(_ask_all(sockets))
    good = {name: d for name, d in dumps.items() if not isinstance(d, ControlError)}
    if not good:
        raise CommandError(f"{pool}: no registrar answers: {next(iter(dumps.values()))}")
    if not any("phase" in d for d in good.values()):
        raise CommandError(f"{next(iter(good))} is a sidecar's: it holds no pools; see `rserpool dump`")
    return good


def run_pools(arguments: argparse.Namespace) -> int:
    """List pools.

    Raises:
        CommandError: there is none, or no registrar answers.
    """

    def there(kubectl: Kubectl) -> int:
        from rserpool_cli.cluster.pools import run_pools as run  # noqa: PLC0415 - not in a registrar's container

        return run(kubectl, arguments.pool, arguments.output)

    return _here_or_there(arguments, arguments.pool, lambda sockets: _pools_here(sockets, arguments.output), there)


def _pools_here(here: Sockets, output: str) -> int:
    rows: list[dict[str, Any]] = []
    for pool, sockets in here.items():
        good = _good(pool, sockets)
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
    if output == "json":
        show(rows)
    else:
        cells = [(*list(r.values())[:-1], "yes" if r["agree"] else "no") for r in rows]
        print(table(("POOL", "HANDLE", "POLICY", "ELEMENTS", "REGISTRARS", "AGREE"), cells))
    return 0


def run_elements(arguments: argparse.Namespace) -> int:
    """List elements.

    Raises:
        CommandError: there is no such pool, or no registrar answers.
    """
    if arguments.name and arguments.pool:
        raise CommandError("the pool is named twice: leave out --pool", 2)
    name = arguments.name or arguments.pool

    def there(kubectl: Kubectl) -> int:
        from rserpool_cli.cluster.elements import run_elements as run  # noqa: PLC0415 - not in a registrar's container

        return run(kubectl, name, arguments.output)

    return _here_or_there(arguments, name, lambda sockets: _elements_here(sockets, arguments.output), there)


def _elements_here(here: Sockets, output: str) -> int:
    from rserpool_cli.cluster.holdings import merge  # noqa: PLC0415 - only this command needs it
    from rserpool_cli.cluster.listing import differences, plain_elements, shown  # noqa: PLC0415 - likewise

    if len(here) > 1:
        raise CommandError(f"several pools run on this machine; name one: {', '.join(here)}", 2)
    ((pool, sockets),) = here.items()
    holdings = merge(_good(pool, sockets))
    if output == "json":
        show({"elements": plain_elements(holdings), "differences": list(holdings.differences)})
        return 0
    print(shown(holdings))
    for line in differences(holdings):
        print(line)
    return 0


def run_dump(arguments: argparse.Namespace) -> int:
    """Print dumps.

    Raises:
        CommandError: there is no such registrar, or it does not answer.
    """
    pool, registrar = _dumped(arguments)

    def there(kubectl: Kubectl) -> int:
        from rserpool_cli.cluster.elements import run_dump as run  # noqa: PLC0415 - not in a registrar's container

        # a single word is a registrar's name on a machine, whose pools are few, and a pool's on a cluster
        return run(kubectl, registrar) if pool is None else run(kubectl, pool, registrar)

    return _here_or_there(arguments, pool, lambda sockets: _dump_here(sockets, registrar), there)


def _dumped(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """The pool and the registrar that are named."""
    words: list[str] = arguments.names
    named = len(words) > 1 or (bool(words) and names_a_pool(words[0]))
    if len(words) > 2 or (named and arguments.pool):
        raise CommandError("write a pool and a registrar at most, such as: demo/echo echo-registrar-0", 2)
    if named:
        return words[0], words[1] if len(words) == 2 else None
    return arguments.pool, words[0] if words else None


def _dump_here(here: Sockets, name: str | None) -> int:
    sockets = {registrar: path for pool in here.values() for registrar, path in pool.items()}
    if name is not None:
        if name not in sockets:
            raise CommandError(f"there is no registrar {name}; there are {', '.join(sockets)}")
        sockets = {name: sockets[name]}
    dumps = asyncio.run(_ask_all(sockets))
    for dump in dumps.values():
        if isinstance(dump, ControlError) and len(dumps) == 1:
            raise CommandError(str(dump))
    show({name: {"error": str(d)} if isinstance(d, ControlError) else d for name, d in dumps.items()})
    return 0
