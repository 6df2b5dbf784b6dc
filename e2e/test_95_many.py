# SPDX-License-Identifier: Apache-2.0
"""There can be many pools: the last file, since their end takes the cluster a while."""

from __future__ import annotations

import time
from typing import Any

from harness import apps, operators
from harness.kubectl import apply, conditions, get
from harness.namespaces import fresh
from harness.waiting import NotYet, wait_for

MANY = 30


def test_thirty_pools_at_once_become_ready(record_property: Any) -> None:
    with fresh("e2e-many") as namespace:
        before, small = (
            memory(),
            {"resources": {"requests": {"cpu": "5m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}}},
        )
        pools = [apps.pool(f"pool-{number}", replicas=1) for number in range(MANY)]
        for pool in pools:
            pool["spec"]["registrars"] |= small
        began = time.monotonic()
        apply(pools, namespace=namespace)

        def ready() -> bool:
            found = get("serverpools", "-n", namespace)
            states = [conditions(p).get("Ready", {}).get("status") == "True" for p in found]
            if sum(states) < MANY:
                raise NotYet(f"{sum(states)} are Ready")
            return True

        wait_for(ready, 240, f"{MANY} pools are Ready", every=1.0)
        took, after = time.monotonic() - began, memory()
        record_property(
            "figure",
            f"{MANY} pools at once: all Ready after {took:.1f} s; the operator's replicas take "
            f"{', '.join(f'{n:.0f}' for n in after)} MiB (before: {', '.join(f'{n:.0f}' for n in before)} MiB)",
        )
        assert all(n < 400 for n in after), "near the limit of the chart's 512 MiB"
        for number in range(0, MANY, 10):
            apps.until_members(namespace, f"pool-{number}", 0, registrars=1)
        operators.until_complete()


def memory() -> list[float]:
    """Resident memory of the operator's replicas in MiB, the leader's first."""
    leader = operators.until_complete()
    names = sorted((p["metadata"]["name"] for p in operators.replicas()), key=lambda name: name != leader)
    found = [operators.samples(operators.page(name), "process_resident_memory_bytes") for name in names]
    return [operators.total(values) / 2**20 for values in found]
