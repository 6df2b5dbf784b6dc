# SPDX-License-Identifier: Apache-2.0
"""The operator's replicas: who they are, what they have counted and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from harness import api
from harness.cluster import SYSTEM
from harness.kubectl import KubectlError, Manifest, conditions, get, kubectl
from harness.waiting import NotYet, wait_for

SELECTOR: Final = "app.kubernetes.io/name=rserpool-operator"
LEADER: Final = "rserpool.io/leader"
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Samples = dict[frozenset[tuple[str, str]], float]
"""Values of one metric by their labels."""


def replicas() -> list[Manifest]:
    """The operator's pods that are Ready and not on their way out, by name."""
    found = [p for p in get("pods", "-n", SYSTEM, "-l", SELECTOR) if "deletionTimestamp" not in p["metadata"]]
    ready = [p for p in found if conditions(p).get("Ready", {}).get("status") == "True"]
    return sorted(ready, key=lambda p: str(p["metadata"]["name"]))


def leader() -> str:
    """Name of the pod that leads; fails an assertion if it is not exactly one."""
    leading = [p["metadata"]["name"] for p in replicas() if p["metadata"]["labels"].get(LEADER) == "true"]
    assert len(leading) == 1, f"replicas that lead: {leading}"
    return str(leading[0])


def until_complete(count: int = 2, timeout: float = 90) -> str:
    """Wait until so many replicas are Ready and one of them leads; returns its name."""

    def complete() -> str:
        names = [p["metadata"]["name"] for p in replicas()]
        if len(names) != count:
            raise NotYet(names)
        return leader()

    return wait_for(complete, timeout, f"{count} replicas of the operator are ready, and one leads")


def page(pod: str, *, namespace: str = SYSTEM, port: int = 8080) -> str:
    """A pod's metrics."""
    try:
        return api.page(pod, port, namespace=namespace)
    except api.ApiError as e:
        raise KubectlError(("get", "--raw", pod), e.status, str(e)) from None


def samples(text: str, name: str) -> Samples:
    """Of one metric, by its labels."""
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def total(found: Samples, **labels: str) -> float:
    """The sum over all samples that have these labels."""
    return sum(value for key, value in found.items() if set(labels.items()) <= key)


def everywhere(name: str) -> Samples:
    """One metric's values, of all replicas together."""
    found: Samples = {}
    for text in _of_each(page):
        for key, value in samples(text, name).items():
            found[key] = found.get(key, 0.0) + value
    return found


def writes(*without: str) -> Samples:
    """Requests to the API server that write, of all replicas together, but for those to the resources `without`."""
    found = everywhere("rserpool_operator_api_requests_total")
    return {
        key: value
        for key, value in found.items()
        if dict(key)["verb"] in WRITES and dict(key)["resource"] not in without
    }


def lines(since: str) -> list[dict[str, Any]]:
    """What all replicas have logged since then (as :func:`now` says it)."""
    texts = _of_each(lambda pod: kubectl("-n", SYSTEM, "logs", pod, f"--since-time={since}"))
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]


def _of_each(ask: Callable[[str], str]) -> list[str]:
    """Ask all replicas at the same time."""
    names = [p["metadata"]["name"] for p in replicas()]
    with ThreadPoolExecutor(max(1, len(names))) as threads:
        return list(threads.map(ask, names))


def now(ago: float = 0.0) -> str:
    """The time some seconds ago, for :func:`lines`; nodes are containers, and have this machine's clock."""
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def kill(pod: str) -> None:
    """Delete a replica without a farewell; one that is gone already is no error."""
    try:
        kubectl("-n", SYSTEM, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    except KubectlError as e:
        if "not found" not in e.message:
            raise
