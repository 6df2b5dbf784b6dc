# SPDX-License-Identifier: Apache-2.0
"""`rserpool resolve` on a cluster: a registrar's pod asks itself, as any pool user would, and tells what it got."""

from __future__ import annotations

from typing import Final

from rserpool_cli.cluster.kubectl import Kubectl, KubectlError
from rserpool_cli.cluster.members import REGISTRAR, registrars_of
from rserpool_cli.cluster.pools import find_pool
from rserpool_cli.errors import CommandError
from rserpool_cli.scope import NO_ANSWER, NO_REGISTRAR
from rserpool_operator import names

BUNDLE: Final = f"{names.IDENTITY}/bundle.pem"
_PREFIX: Final = "rserpool resolve: "


def run_resolve(kubectl: Kubectl, name: str, handle: str | None, items: int | None, output: str) -> int:
    """Resolve.

    Args:
        kubectl: the cluster.
        name: of the pool.
        handle: another one than the pool's own.
        items: how many elements to ask for.
        output: table or json.

    Raises:
        CommandError: no answer, or none that helps; its status says which.
    """
    pool = find_pool(kubectl, name)
    ready = [r for r in registrars_of(kubectl, pool) if r.ready and r.address]
    if not ready:
        raise CommandError(f"no registrar of {pool.full} is ready; see `rserpool status {pool.full}`", NO_REGISTRAR)
    host = f"[{ready[0].address}]" if ":" in ready[0].address else ready[0].address
    port = names.ASAP_TLS if pool.secure else names.ASAP_PLAIN
    trust = ("--bundle", BUNDLE) if pool.secure else ("--insecure",)
    limit = ("--items", str(items)) if items is not None else ()
    command = ("rserpool", "resolve", "--registrar", f"{host}:{port}", *trust, *limit, "-o", output, "--")
    try:
        answer = kubectl.exec(pool.namespace, ready[0].pod, REGISTRAR, *command, handle or _written(pool.handle))
    except KubectlError as e:
        told = str(e).removeprefix("kubectl: ")
        if not told.startswith(_PREFIX):
            raise
        status = e.ended if NO_REGISTRAR <= e.ended <= NO_ANSWER else 1
        raise CommandError(f"{ready[0].pod}: {told.removeprefix(_PREFIX)}", status) from None
    print(answer, end="")
    return 0


def _written(handle: str) -> str:
    """A handle so that it is read as text, whatever it looks like."""
    return f"0x{handle.encode().hex()}" if handle.startswith("0x") else handle
