# SPDX-License-Identifier: Apache-2.0
"""`rserpool resolve` and `rserpool watch`: what a pool handle stands for, once or as it changes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rserpool.client import PoolUser, PoolUserError, Resolution, Scope
from rserpool.client.scope import MOUNTED, running_states
from rserpool.handlespace import describe_policy, describe_transport
from rserpool.wire import PoolElement, readable_handle
from rserpool_cli.cluster.where import add_cluster, asks_cluster, names_a_pool, on_cluster
from rserpool_cli.errors import CommandError
from rserpool_cli.output import add_output, show, table
from rserpool_cli.scope import STATUSES, UNKNOWN_POOL, add_scope, failure, named_running, scope_of

if TYPE_CHECKING:
    from rserpool_cli.cluster.kubectl import Kubectl
    from rserpool_cli.types import Commands


def add_to(commands: Commands) -> None:
    """Declare both commands."""
    resolve = commands.add_parser(
        "resolve",
        help="which elements a pool has",
        description="Ask a registrar what a handle stands for.",
        epilog=STATUSES,
    )
    resolve.add_argument(
        "handle",
        metavar="HANDLE",
        help="pool handle, 0x and hex digits for one that is not text; or NAMESPACE/POOL, and on a cluster POOL",
    )
    resolve.add_argument("--items", type=_items, metavar="N", help="how many elements to ask for")
    resolve.set_defaults(run=run_resolve)
    watch = commands.add_parser(
        "watch", help="show a pool's changes", description="Show a pool now and whenever it changes, until Ctrl-C.",
        epilog=STATUSES,
    )  # fmt: skip
    watch.add_argument("handle", metavar="HANDLE", help="pool handle")
    watch.set_defaults(run=run_watch)
    for parser in (resolve, watch):
        add_scope(parser)
        add_output(parser)
    add_cluster(resolve)


def _items(text: str) -> int:
    if not text.isdigit() or int(text) > 0xFFFFFFFF:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 0 to {0xFFFFFFFF}")
    return int(text)


def handle_of(text: str) -> bytes:
    """The octets of a handle as people write it."""
    if text.startswith("0x"):
        with contextlib.suppress(ValueError):
            return bytes.fromhex(text[2:])
    return text.encode()


def run_resolve(arguments: argparse.Namespace) -> int:
    """Resolve once.

    Raises:
        CommandError: no answer, or none that helps; its status says which.
    """
    told = arguments.registrar or arguments.bundle or arguments.insecure
    if told and arguments.cluster:
        raise CommandError("write either --registrar or --cluster", 2)
    if not told and asks_cluster(arguments):
        return on_cluster(arguments, lambda kubectl: _resolve_there(kubectl, arguments))
    missed = None if told else _missed(arguments)
    if missed is not None:
        return on_cluster(arguments, lambda kubectl: _resolve_there(kubectl, arguments), missed)
    return asyncio.run(_resolve(arguments))


def _resolve_there(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.resolve import run_resolve as run  # noqa: PLC0415 - not in a registrar's container

    pool, handle = (arguments.pool, arguments.handle) if arguments.pool else (arguments.handle, None)
    return run(kubectl, pool, handle, arguments.items, arguments.output)


def _missed(arguments: argparse.Namespace) -> CommandError | None:
    """What is not on this machine, if it is for a cluster to know."""
    if not arguments.pool and ("RSERPOOL_REGISTRARS" in os.environ or (MOUNTED / "registrars").is_file()):
        return None
    wanted = arguments.pool or (arguments.handle if names_a_pool(arguments.handle) else "")
    namespace, _, pool = wanted.rpartition("/")
    for state in running_states():
        if (pool in ("", state["pool"]) and namespace in ("", state["namespace"])) or state["handle"] == wanted:
            return None
    try:
        scope_of(arguments)
    except CommandError as e:
        return e
    return CommandError(f"no pool {wanted} runs on this machine", UNKNOWN_POOL)


def _scope_and_handle(arguments: argparse.Namespace) -> tuple[Scope, str]:
    """The pool to ask and its handle, by which it is named, or else by NAMESPACE/POOL."""
    handle: str = arguments.handle
    if names_a_pool(handle) and not (arguments.pool or arguments.registrar or arguments.bundle or arguments.insecure):
        states = list(running_states())
        if all(state["handle"] != handle for state in states):
            for state in states:
                if handle == f"{state['namespace']}/{state['pool']}":
                    return named_running(handle), state["handle"]
    return scope_of(arguments), handle


async def _resolve(arguments: argparse.Namespace) -> int:
    scope, handle = _scope_and_handle(arguments)
    async with PoolUser(scope) as users:
        try:
            resolution = await users.resolve(handle_of(handle), items=arguments.items)
        except PoolUserError as e:
            raise failure(e) from None
        except ValueError as e:
            raise CommandError(str(e), 2) from None
    if arguments.output == "json":
        show(to_jsonable(resolution))
    else:
        print(_table(resolution))
    return 0


def run_watch(arguments: argparse.Namespace) -> int:
    """Show changes until interrupted.

    Raises:
        CommandError: there is no such handle, or no pool to ask.
    """
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(_watch(arguments))
        except ValueError as e:
            raise CommandError(str(e), 2) from None
    return 0


async def _watch(arguments: argparse.Namespace) -> None:
    known: dict[int, PoolElement] = {}
    async with PoolUser(scope_of(arguments)) as users:
        async for resolution in users.watch(handle_of(arguments.handle)):
            if arguments.output == "json":
                show(to_jsonable(resolution), indent=None)
                continue
            when = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
            now = {e.identifier: e for e in resolution.elements}
            for element in resolution.elements:
                if element.identifier not in known:
                    print(f"{when}  + {_line(element)}", flush=True)
            for identifier in known.keys() - now.keys():
                print(f"{when}  - {_line(known[identifier])}", flush=True)
            print(f"{when}  {len(now)} element(s)", flush=True)
            known = now


def _line(element: PoolElement) -> str:
    return f"{element.identifier:#010x}  {describe_transport(element.transport)}"


def _table(resolution: Resolution) -> str:
    policy = describe_policy(resolution.policy).partition("(")[0] if resolution.policy is not None else "RoundRobin"
    rows = [
        (f"{e.identifier:#010x}", describe_transport(e.transport), describe_policy(e.policy), f"{e.home:#010x}")
        for e in resolution.elements
    ]
    head = f"{readable_handle(resolution.handle)}: {len(rows)} element(s), policy {policy}, in the order to try them"
    return f"{head}\n{table(('ELEMENT', 'TRANSPORT', 'POLICY', 'HOME'), rows)}"


def to_jsonable(resolution: Resolution) -> dict[str, Any]:
    """A resolution as JSON data."""
    return {
        "handle": readable_handle(resolution.handle),
        "policy": describe_policy(resolution.policy) if resolution.policy is not None else "RoundRobin()",
        "elements": [
            {
                "identifier": f"{e.identifier:#010x}",
                "transport": describe_transport(e.transport),
                "policy": describe_policy(e.policy),
                "home": f"{e.home:#010x}",
            }
            for e in resolution.elements
        ],
    }
