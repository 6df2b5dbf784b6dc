# SPDX-License-Identifier: Apache-2.0
"""`rserpool renew`: every process of a pool gets a new certificate now."""

from __future__ import annotations

from datetime import UTC, datetime

from rserpool_cli.cluster.kubectl import Kubectl
from rserpool_cli.cluster.pools import KIND, find_pool
from rserpool_cli.errors import CommandError
from rserpool_operator import names


def run_renew(kubectl: Kubectl, name: str) -> int:
    """Ask for it.

    Raises:
        CommandError: there is no such pool, it has no certificates, or it may not be changed.
    """
    pool = find_pool(kubectl, name)
    if not pool.secure:
        raise CommandError(f"{pool.full} is Insecure: it has no certificates to renew")
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    mark = f"{names.RENEW}={when}"
    kubectl.run("annotate", KIND, pool.name, "--overwrite", mark, namespace=pool.namespace)
    print(f"{pool.full}: renewal asked for at {when}")
    print("Registrars obtain new certificates and keys within seconds, sidecars within 40 s; the authority stays.")
    print("Every connection is replaced by a newer one first.")
    print("If the operator or the authority cannot be reached, all go on with what they have.")
    return 0
