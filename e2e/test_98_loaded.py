# SPDX-License-Identifier: Apache-2.0
"""All processors are busy for minutes, and nobody is taken for dead. Runs only with E2E_LOADED=SECONDS."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import pytest

from harness import apps, operators
from harness.kubectl import Manifest, apply
from harness.nodes import workers
from harness.pools import dumps, registrars
from harness.waiting import NotYet, wait_for

SECONDS: Final = float(os.environ.get("E2E_LOADED", "0"))
ELEMENTS: Final = 6
BURNERS: Final = 2 * (os.cpu_count() or 1)
"""On each worker: together they could use all processors several times over."""

pytestmark = [
    pytest.mark.skipif(not SECONDS, reason="write E2E_LOADED=600 for ten minutes of it"),
    pytest.mark.timeout(int(SECONDS) + 300),
]


def _burner(number: int, node: str) -> Manifest:
    pod = apps.idle(f"burner-{number}-{node}"[:60], burner="yes")
    (container,) = pod["spec"]["containers"]
    container["command"] = ["python3", "-c", "while True: pass"]
    container["resources"] = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    pod["spec"]["nodeName"] = node
    return pod


def _judgements(namespace: str) -> dict[str, dict[str, float]]:
    """How often each registrar has removed an element or given up a registrar, by its metrics."""
    found = {}
    for pod in registrars(namespace, "echo"):
        page = operators.page(pod, namespace=namespace)
        removed = operators.samples(page, "rserpool_element_changes_total")
        given_up = operators.samples(page, "rserpool_peer_changes_total")
        found[pod] = {
            "elements removed": operators.total(removed, change="removed"),
            "elements moved": operators.total(removed, change="moved"),
            "takeovers": operators.total(given_up, state="takeover"),
            "registrars gone": operators.total(given_up, state="gone"),
        }
    return found


def test_with_all_processors_busy_no_healthy_element_and_no_registrar_is_removed(
    namespace: str, record_property: Any
) -> None:
    apply([apps.pool(), apps.echo(replicas=ELEMENTS), apps.user("user")], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_members(namespace, "echo", ELEMENTS)
    apps.until_served(namespace, "user")
    apply([_burner(n, node) for n in range(BURNERS) for node in workers()], namespace=namespace)
    for node in workers():
        for number in range(BURNERS):
            apps.until_pods_ready(namespace, f"burner-{number}-{node}"[:60], 1, timeout=120)
    before, since, began = _judgements(namespace), time.time(), time.monotonic()
    lowest = ELEMENTS

    def over() -> bool:
        nonlocal lowest
        for told in dumps(namespace, "echo").values():
            lowest = min(lowest, sum(len(p["elements"]) for p in told["handlespace"]["pools"]))
        if time.monotonic() - began < SECONDS:
            raise NotYet(f"{time.monotonic() - began:.0f} s, {lowest} elements at least")
        return True

    wait_for(over, SECONDS + 120, f"{SECONDS:g} s have passed", every=5)
    after = _judgements(namespace)
    asked = apps.asked(namespace, "user", since)
    slowest = max(a.resolve for a in asked)
    record_property(
        "figure",
        f"{SECONDS:g} s with {BURNERS * len(workers())} busy loops on {os.cpu_count()} processors: {after} "
        f"(before: {before}); {len(asked)} requests, {len(apps.failures(asked))} failed, slowest {slowest:.2f} s",
    )
    for pod, counts in after.items():
        more = {what: count - before[pod][what] for what, count in counts.items()}
        assert (more["elements removed"], more["takeovers"], more["registrars gone"]) == (0, 0, 0), (pod, more)
    assert lowest == ELEMENTS
