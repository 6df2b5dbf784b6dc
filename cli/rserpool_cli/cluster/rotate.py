# SPDX-License-Identifier: Apache-2.0
"""`rserpool rotate-ca`: another key for a pool's certificate authority, while the pool runs."""

from __future__ import annotations

import json

from rserpool_cli.cluster.kubectl import Kubectl
from rserpool_cli.cluster.pools import KIND, Pool, find_pool
from rserpool_cli.errors import CommandError
from rserpool_operator import names


def run_rotate(kubectl: Kubectl, name: str, *, go_on: bool) -> int:
    """Ask for it, or for going on without pods that do not answer.

    Raises:
        CommandError: there is no such pool, it has no CA of its own, nothing is being replaced (or something is), or it
            may not be changed.
    """
    pool = find_pool(kubectl, name)
    coming = _under_way(pool)
    if go_on:  # whoever signs: a move to your issuer, or from it, waits for pods as another key does
        return _go_on(kubectl, pool, coming)
    if pool.signer == "IssuerRef":
        raise CommandError(
            f"{pool.full}: its CA is your issuer's (signer IssuerRef): write another one into spec.security.signer;"
            " docs/authority.md says how the pool moves to it"
        )
    return _rotate(kubectl, pool, coming)


def _under_way(pool: Pool) -> int | None:
    """The generation that a replacement is about; ``None``: there is none."""
    coming, former = pool.count("authority", "next"), pool.count("authority", "former")
    return coming if coming is not None else pool.count("authority", "generation") if former is not None else None


def _rotate(kubectl: Kubectl, pool: Pool, coming: int | None) -> int:
    if coming is not None:
        missing = ", ".join((pool.status.get("authority") or {}).get("missing") or ())
        waits = f"; it waits for {missing}" if missing else ""
        raise CommandError(f"{pool.full}: generation {coming} of its CA is just being introduced{waits}")
    signs = pool.count("authority", "generation")
    if signs is None:
        raise CommandError(f"{pool.full} has no CA yet that could be replaced: see `rserpool status {pool.full}`")
    number = max(signs, pool.asked_generation) + 1
    patch = json.dumps({"spec": {"security": {"ca": {"generation": number}}}})
    kubectl.run("patch", KIND, pool.name, "--type=merge", "-p", patch, namespace=pool.namespace)
    print(f"{pool.full}: generation {number} of its CA is asked for")
    print("First every process is made to trust it beside the present one (2 minutes at least), then it signs and all")
    print("obtain new certificates, then the former one goes. No pod is restarted.")
    print(f"How far it is: kubectl -n {pool.namespace} get serverpool {pool.name} -o jsonpath={{.status.authority}}")
    return 0


def _go_on(kubectl: Kubectl, pool: Pool, coming: int | None) -> int:
    if coming is None:
        raise CommandError(f"{pool.full}: its CA is not being replaced just now")
    missing = (pool.status.get("authority") or {}).get("missing") or ()
    mark = f"{names.GO_ON}={coming}"
    kubectl.run("annotate", KIND, pool.name, "--overwrite", mark, namespace=pool.namespace)
    without = f"without {', '.join(missing)}" if missing else "without whoever does not answer"
    print(f"{pool.full}: generation {coming} of its CA is introduced {without}")
    print(
        "These pods are cut off until they enrol again, which they do by themselves as soon as they reach the operator."
    )
    return 0
