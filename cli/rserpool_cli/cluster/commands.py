# SPDX-License-Identifier: Apache-2.0
"""`rserpool status`, `check`, `renew` and `rotate-ca`: commands that mean a cluster and nothing else."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rserpool_cli.cluster.where import add_cluster, on_cluster

if TYPE_CHECKING:
    from rserpool_cli.types import Commands


def add_to(commands: Commands) -> None:
    """Declare them."""
    status = commands.add_parser(
        "status",
        help="is a cluster's pool ready, and if not, why",
        description="Tell whether a pool is ready, and if not, why, and what to do.",
        epilog="exit status: 0 ready, 1 not ready, 2 wrong command line, 4 no such pool",
    )
    status.set_defaults(run=_status)
    renew = commands.add_parser(
        "renew",
        help="new certificates for a cluster's pool, now",
        description="Have every process of a pool obtain a new certificate now. Newer connections replace all first.",
    )
    renew.set_defaults(run=_renew)
    rotate = commands.add_parser(
        "rotate-ca",
        help="another key for the CA of a cluster's pool",
        description="Replace the key of a pool's certificate authority while the pool runs, and nobody notices.",
    )
    rotate.add_argument(
        "--go-on",
        action="store_true",
        help="have a replacement that is under way go on without the pods that do not answer; they are cut off",
    )
    rotate.set_defaults(run=_rotate)
    report = commands.add_parser(
        "report",
        help="all there is to see of a cluster's pool, in one archive, without keys and tokens",
        description="Gather logs, Events, dumps, metrics and certificates of a pool in one tar.gz. It only reads.",
    )
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="the archive; there must be no such file yet")
    report.add_argument("--lines", type=_count, default=5000, metavar="N", help="lines of each log (5000)")
    report.add_argument("--sidecars", type=_count, default=20, metavar="N", help="sidecars at most (20)")
    report.set_defaults(run=_report)
    check = commands.add_parser(
        "check",
        help="has a cluster what pools need",
        description="Look at a cluster: version, operator, webhook, cert-manager, your rights, SCTP, clocks.",
        epilog="exit status: 0 pools can work, 1 they cannot (a line begins with FAIL)",
    )
    check.add_argument(
        "--nodes", action="store_true", help="start a pod on each node for a moment to see whether it has SCTP"
    )
    check.set_defaults(run=_check)
    for parser in (status, renew, rotate, report):
        parser.add_argument("pool", metavar="[NAMESPACE/]POOL", help="the ServerPool")
    for parser in (status, renew, rotate, check, report):
        add_cluster(parser, optional=False)


def _status(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.status import run_status  # noqa: PLC0415 - not in a registrar's container

    return on_cluster(arguments, lambda kubectl: run_status(kubectl, arguments.pool))


def _renew(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.renew import run_renew  # noqa: PLC0415 - likewise

    return on_cluster(arguments, lambda kubectl: run_renew(kubectl, arguments.pool))


def _rotate(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.rotate import run_rotate  # noqa: PLC0415 - likewise

    return on_cluster(arguments, lambda kubectl: run_rotate(kubectl, arguments.pool, go_on=arguments.go_on))


def _check(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.check import run_check  # noqa: PLC0415 - likewise

    return on_cluster(arguments, lambda kubectl: run_check(kubectl, nodes=arguments.nodes))


def _report(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.report.command import run_report  # noqa: PLC0415 - likewise
    from rserpool_cli.cluster.report.gathering import Bounds  # noqa: PLC0415 - likewise

    bounds = Bounds(lines=arguments.lines, sidecars=arguments.sidecars)
    now = datetime.now(UTC)
    return on_cluster(arguments, lambda kubectl: run_report(kubectl, arguments.pool, arguments.output, bounds, now))


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
