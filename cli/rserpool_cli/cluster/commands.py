# SPDX-License-Identifier: Apache-2.0
"""`rserpool status`, `rserpool check` and `rserpool renew`: commands that mean a cluster and nothing else."""

from __future__ import annotations

import argparse
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
        description="Have every process of a pool obtain a new certificate now. No connection is closed.",
    )
    renew.set_defaults(run=_renew)
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
    for parser in (status, renew):
        parser.add_argument("pool", metavar="[NAMESPACE/]POOL", help="the ServerPool")
    for parser in (status, renew, check):
        add_cluster(parser, optional=False)


def _status(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.status import run_status  # noqa: PLC0415 - not before it is asked for

    return on_cluster(arguments, lambda kubectl: run_status(kubectl, arguments.pool))


def _renew(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.renew import run_renew  # noqa: PLC0415 - likewise

    return on_cluster(arguments, lambda kubectl: run_renew(kubectl, arguments.pool))


def _check(arguments: argparse.Namespace) -> int:
    from rserpool_cli.cluster.check import run_check  # noqa: PLC0415 - likewise

    return on_cluster(arguments, lambda kubectl: run_check(kubectl, nodes=arguments.nodes))
