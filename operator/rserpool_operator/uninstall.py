# SPDX-License-Identifier: Apache-2.0
"""`rserpool-operator uninstall-check`: refuses an uninstallation that would leave ServerPools alone."""

from __future__ import annotations

import sys
from typing import Final

from rserpool_operator.config import OperatorSettings
from rserpool_operator.kube import Kube, KubeError, connect
from rserpool_operator.kube.kinds import SERVER_POOL

MOST_SHOWN: Final = 20


async def check(settings: OperatorSettings) -> int:
    """Say which pools are left; returns the exit status: 0 if there are none."""
    api = await connect()
    try:
        kube = Kube(api)
        pools: list[str] = []
        for namespace in settings.installation.watch or (None,):
            found = await kube.list(SERVER_POOL, namespace, metadata_only=True)
            pools += [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found]
    except KubeError as e:
        if e.status == 404:  # no such kind: there is nothing of ours
            return 0
        sys.stderr.write(f"rserpool: cannot look for ServerPools: {e}\n")
        return 1
    finally:
        await api.close()
    if not pools:
        return 0
    shown = ", ".join(sorted(pools)[:MOST_SHOWN]) + (", …" if len(pools) > MOST_SHOWN else "")
    sys.stderr.write(
        f"rserpool: not uninstalled: {len(pools)} ServerPool(s) are left, and nobody would look after them: {shown}\n"
        "rserpool: delete them first (kubectl delete serverpools --all -n NAMESPACE), then uninstall again;\n"
        "rserpool: or keep what is installed: helm rollback RELEASE (Helm believes that it is being uninstalled)\n"
    )
    return 1
