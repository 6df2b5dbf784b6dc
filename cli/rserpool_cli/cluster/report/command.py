# SPDX-License-Identifier: Apache-2.0
"""`rserpool report`: makes the archive, and says what is in it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rserpool_cli.cluster.kubectl import Kubectl
from rserpool_cli.cluster.pools import find_pool
from rserpool_cli.cluster.report.archive import Archive
from rserpool_cli.cluster.report.gathering import Bounds, Gathering


def run_report(kubectl: Kubectl, name: str, path: Path | None, bounds: Bounds, now: datetime) -> int:
    """Write a report.

    Args:
        kubectl: the cluster.
        name: of the pool.
        path: of the archive; ``None``: a name that says pool and time, in this folder.
        bounds: how much goes into it.
        now: the time that is written on it.

    Raises:
        CommandError: there is no such pool, or the archive cannot be written.
    """
    pool = find_pool(kubectl, name)
    folder = f"rserpool-report-{pool.namespace}-{pool.name}-{now:%Y%m%dT%H%M%SZ}"
    path = path or Path(f"{folder}.tar.gz")
    with Archive(path, folder, now) as archive:
        Gathering(kubectl, pool, archive, bounds).run()
    print(f"{path}: {archive.files} files, {path.stat().st_size // 1024 + 1} KiB, without keys and tokens")
    for what, why in archive.missing.items():
        print(f"  not in it: {what}: {why}")
    print("It has names, addresses and identities of your cluster: hand it to whom you trust with these.")
    return 0
