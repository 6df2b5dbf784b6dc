# SPDX-License-Identifier: Apache-2.0
"""`rserpool up`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rserpool_cli.errors import CommandError
from rserpool_cli.up.scale import element_count

if TYPE_CHECKING:
    from rserpool.pool import ServerPool
    from rserpool_cli.types import Commands
    from rserpool_cli.up.loopback import Network


def add_to(commands: Commands) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "up",
        help="run the pool of a manifest on this machine",
        usage="rserpool up [-h] [--elements N] [--weights W,W...] [--restart SECONDS] [--pool NAME] FILE"
        " [-- COMMAND ...]",
        description="Run the pool of a ServerPool manifest on this machine: registrars, the application's processes and"
        " their sidecars, as real processes over mutual TLS. Ends with Ctrl-C.",
        epilog="In COMMAND, {address} and {port} stand for where the process is to serve; it also finds them in"
        " RSERPOOL_ADDRESS and RSERPOOL_PORT. Without COMMAND the manifest's annotation rserpool.io/up-command is run.",
    )
    parser.add_argument("--elements", type=element_count, default=3, metavar="N", help="how many elements (default: 3)")
    parser.add_argument(
        "--weights", type=_weights, default=(), metavar="W,W...", help="weights of the elements, in turn"
    )
    parser.add_argument(
        "--restart", type=_pause, default=3.0, metavar="SECONDS", help="start what died again after (3; 0: never)"
    )
    parser.add_argument("--pool", metavar="NAME", help="which pool, if the file has several")
    parser.add_argument("--single-address", action="store_true", help="use 127.0.0.1 and many ports, as on macOS")
    parser.add_argument(
        "--network",
        type=_networks,
        default=(),
        metavar="NET[,NET]",
        help="addresses of this machine to use instead of 127.X/16: fd00:1::/112, or one of each family",
    )
    parser.add_argument(
        "--multicast", action="store_true", help="registrars announce themselves by multicast, sidecars listen"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the manifest, or a folder of manifests")
    parser.set_defaults(run=run)


def _pause(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, 0 or more")
    return seconds


def _weights(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) <= 0xFFFFFFFF for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers separated by commas, such as 5,1,1")
    return tuple(int(part) for part in parts)


def _networks(text: str) -> tuple[Network, ...]:
    from rserpool_cli.up.loopback import read_networks  # noqa: PLC0415 - only this option needs it

    try:
        return read_networks(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def run(arguments: argparse.Namespace) -> int:
    """Run a pool until Ctrl-C.

    Raises:
        CommandError: the manifest has faults, or this machine cannot run it.
    """
    pool = _read(arguments.file, arguments.pool)
    return asyncio.run(_run(pool, arguments))


def _read(file: Path, name: str | None) -> ServerPool:
    from rserpool.pool import ManifestError, read_manifests  # noqa: PLC0415 - slow to load, and only this command needs it

    try:
        manifests = read_manifests(file)
    except ManifestError as e:
        *others, last = e.lines()
        for line in others:
            print(f"rserpool up: {line}", file=sys.stderr)
        raise CommandError(last) from None
    pools = [m.pool for m in manifests if name in (None, m.pool.metadata.name)]
    if not pools:
        wanted = f"no ServerPool named {name}" if name else "no ServerPool (apiVersion rserpool.io/v1alpha1)"
        raise CommandError(f"{file}: there is {wanted}")
    if len(pools) > 1:
        names = ", ".join(p.metadata.name for p in pools)
        raise CommandError(f"{file}: there are several ServerPools ({names}); choose one with --pool")
    return pools[0]


async def _run(pool: ServerPool, arguments: argparse.Namespace) -> int:
    from rserpool_cli.up.loopback import claim  # noqa: PLC0415 - likewise
    from rserpool_cli.up.plan import UpOptions  # noqa: PLC0415 - likewise
    from rserpool_cli.up.session import Session  # noqa: PLC0415 - likewise
    from rserpool_cli.up.state import pool_directory  # noqa: PLC0415 - likewise

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:8.2f}  {line}", flush=True)

    options = UpOptions(
        elements=arguments.elements,
        command=tuple(arguments.program),
        weights=arguments.weights,
        multicast=arguments.multicast,
    )
    claimed = claim(single=arguments.single_address, networks=arguments.network)
    with claimed as addresses, pool_directory(pool) as directory:
        session = Session(pool, options, arguments.file, addresses, directory, restart=arguments.restart, say=say)
        say(
            f"pool {pool.full_name}: {len(session.plan.registrars)} registrars, {arguments.elements} elements,"
            f" policy {pool.spec.policy.type}; Ctrl-C ends it"
        )
        await session.run(stop)
    return 0
