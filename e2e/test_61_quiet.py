# SPDX-License-Identifier: Apache-2.0
"""With nothing to do the operator writes nothing."""

from __future__ import annotations

import time
from typing import Any

from harness import apps, leavings, operators
from harness.kubectl import apply, conditions, get
from harness.waiting import NotYet, wait_for

SETTLED = 60
"""Seconds without a write."""


def test_with_nothing_to_do_the_operator_writes_nothing(namespace: str, record_property: Any) -> None:
    operators.until_complete()
    pools = [apps.pool(replicas=2), apps.pool("other", signer="CertManager", replicas=1)]
    apply([*pools, apps.echo(replicas=3)], namespace=namespace)
    apps.until_pods_ready(namespace, "echo", 3)
    apps.until_members(namespace, "echo", 3, registrars=2)

    def settled() -> bool:
        for found in get("serverpools", "-A"):
            said = {kind: c["status"] for kind, c in conditions(found).items()}
            if (said.get("Ready"), said.get("Reconciling"), said.get("TrustCurrent")) != ("True", "False", "True"):
                raise NotYet(f"{found['metadata']['name']}: {said}")
            counts = found["status"]["elements"]  # a leader hears of every process within half a minute
            if not counts["matched"] == counts["enrolled"] == counts["registered"]:
                raise NotYet(f"{found['metadata']['name']}: {counts}")
        return True

    wait_for(settled, 120, "all pools are settled")
    objects, writes = leavings.ours(), operators.writes("leases")
    names = [p["metadata"]["name"] for p in operators.replicas()]
    time.sleep(SETTLED)  # what is measured is that nothing happens in it
    assert names == [p["metadata"]["name"] for p in operators.replicas()], "an operator pod was replaced meanwhile"
    after = {dict(key)["verb"] + " " + dict(key)["resource"]: n for key, n in operators.writes("leases").items()}
    before = {dict(key)["verb"] + " " + dict(key)["resource"]: n for key, n in writes.items()}
    more = {key: n - before.get(key, 0.0) for key, n in after.items() if n != before.get(key, 0.0)}
    changed = {n for n, version in leavings.ours().items() if objects.get(n) != version}
    record_property("figure", f"{len(objects)} objects of ours, {SETTLED} s: {sum(more.values()):g} writes")
    assert more == {}
    assert changed == set()
    apps.until_members(namespace, "echo", 3, registrars=2, timeout=5)
