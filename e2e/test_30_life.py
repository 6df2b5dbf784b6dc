# SPDX-License-Identifier: Apache-2.0
"""An application's own life: it grows, shrinks, is replaced and moved, and its users notice nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness import apps
from harness.cluster import Cluster
from harness.kubectl import Manifest, apply, kubectl
from harness.namespaces import fresh
from harness.nodes import workers
from harness.waiting import NotYet, wait_for

APPS: Final = ("echo", "stubborn")


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool whose members end at once when told to (echo) or not at all (stubborn), and a user of each of them."""
    del cluster
    with fresh("e2e-30-life") as name:
        pool = apps.pool()
        # a user may hold an answer for seconds before it connects, where processors are short
        pool["spec"]["elements"]["drain"] = "8s"
        apply(pool, namespace=name)
        apply([_budget(app) for app in APPS], namespace=name)
        apply([apps.echo(replicas=3), apps.echo("stubborn", replicas=2, manner="ignore")], namespace=name)
        apps.until_ready(name)
        for app, count in (("echo", 3), ("stubborn", 2)):
            apps.until_pods_ready(name, app, count)
        apps.until_members(name, "echo", 5)
        patient = {"WAIT": "4", "PATIENCE": "4"}  # which is less than the drain
        apply(apps.user("user", each=True, nodeName=workers()[0], environment=patient), namespace=name)
        wait_for(lambda: any(a.by for a in apps.asked(name, "user")), 60, "the user is served")
        yield name


def _budget(app: str) -> Manifest:
    """Who moves pods moves them one after the other; without it an application is gone by its own choice."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": app}}},
    }


def _scale(namespace: str, app: str, count: int) -> None:
    kubectl("-n", namespace, "scale", "deployment", app, f"--replicas={count}")


def _settle(namespace: str, **counts: int) -> None:
    """Wait until the applications have so many pods, and the pool exactly these as elements at every registrar."""
    found = [pod for app, count in counts.items() for pod in apps.until_pods_ready(namespace, app, count, timeout=90)]
    held = apps.until_members(namespace, "echo", len(found))
    addresses = {f"tcp:{pod['status']['podIP']}:{apps.PORT}" for pod in found}
    assert {e["transport"] for pool in held["pools"] for e in pool["elements"]} == addresses

    def counted() -> bool:
        said = apps.server_pool(namespace)["status"]["elements"]
        if (said["registered"], said["notInjected"]) != (len(found), 0) or said["matched"] < len(found):
            raise NotYet(said)
        return True

    wait_for(counted, 60, "the status counts the elements")


def _served(namespace: str, since: float, what: str) -> str:
    """Not one request failed since then, and none resolved to an element that refuses; returns a figure."""
    end = time.time()

    def asked_after() -> bool:
        return apps.asked(namespace, "user")[-1].at > end

    wait_for(asked_after, 30, "the user goes on asking")
    found = apps.asked(namespace, "user", since)
    failed = [a for a in found if a.failed]
    slowest = max(a.resolve for a in found)
    assert not failed, f"{len(failed)} of {len(found)} requests failed: {failed[:5]}"
    assert len(found) >= 5 * (end - since), "the user asks all the time"
    connections = sum(len(a.got) for a in found)
    return f"{what}: {len(found)} requests, {connections} connections, none failed; slowest resolve {slowest:.2f} s"


def test_an_application_grows_and_shrinks_and_no_request_fails(home: str, record_property: Any) -> None:
    since = time.time()
    _scale(home, "echo", 6)
    _settle(home, echo=6, stubborn=2)
    _scale(home, "echo", 2)
    _settle(home, echo=2, stubborn=2)
    _scale(home, "stubborn", 1)
    _settle(home, echo=2, stubborn=1)
    record_property("figure", _served(home, since, "Deployment 3 → 6 → 2"))


def test_an_application_is_replaced_by_a_rolling_update_and_no_request_fails(home: str, record_property: Any) -> None:
    _scale(home, "stubborn", 2)
    _settle(home, echo=2, stubborn=2)
    before = {pod["metadata"]["uid"] for app in APPS for pod in apps.pods(home, app)}
    since = time.time()
    kubectl("-n", home, "rollout", "restart", *(f"deployment/{app}" for app in APPS))
    for app in APPS:
        kubectl("-n", home, "rollout", "status", f"deployment/{app}", "--timeout=120s", timeout=130)
    _settle(home, echo=2, stubborn=2)
    record_property("figure", _served(home, since, "rolling update"))
    assert not before & {pod["metadata"]["uid"] for app in APPS for pod in apps.pods(home, app)}


def test_a_worker_is_drained_and_no_request_fails(home: str, record_property: Any) -> None:
    _scale(home, "echo", 4)
    _settle(home, echo=4, stubborn=2)
    stays, goes = workers()
    since = time.time()
    try:
        kubectl("drain", goes, "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=150)
        _settle(home, echo=4, stubborn=2)
        assert {pod["spec"]["nodeName"] for app in APPS for pod in apps.pods(home, app)} == {stays}
        figure = _served(home, since, "drain of a worker")
    finally:
        kubectl("uncordon", goes)
    record_property("figure", figure)
