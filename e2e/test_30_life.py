# SPDX-License-Identifier: Apache-2.0
"""An application's own life: it grows, shrinks, is replaced and moved, and its users notice nothing."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from harness import apps
from harness.cluster import Cluster, cluster
from harness.kubectl import Manifest, apply, get, kubectl
from harness.namespaces import fresh
from harness.nodes import workers
from harness.pools import agreement
from harness.waiting import NotYet, wait_for

DRAIN: Final = 3
GRACE: Final = 5 + DRAIN
"""Seconds: what the pods ask for themselves, and what the webhook adds."""
APPS: Final = ("echo", "stubborn")


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool whose members end at once when told to (echo) or not at all (stubborn), and a user of each of them."""
    del cluster
    with fresh("e2e-30-life") as name:
        apply(apps.pool(), namespace=name)
        apply([_budget(app) for app in APPS], namespace=name)
        apply([apps.echo(replicas=3), apps.echo("stubborn", replicas=2, manner="ignore")], namespace=name)
        apps.until_ready(name)
        for app, count in (("echo", 3), ("stubborn", 2)):
            apps.until_pods_ready(name, app, count)
        apps.until_members(name, "echo", 5)
        apply(apps.user("user", each=True, nodeName=workers()[0]), namespace=name)
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
        agreement(home, "echo", registrars=3, elements=6)
        figure = _served(home, since, "drain of a worker")
    finally:
        kubectl("uncordon", goes)
    record_property("figure", figure)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a pod ended."""

    seconds: float
    """From its deletion to the end of its last container, as its kubelet says it, in whole seconds."""
    codes: dict[str, int]
    """Exit statuses of its containers."""


def _ends(namespace: str, pods: list[str]) -> dict[str, End]:
    """Delete pods, and see how they end."""
    command = ["kubectl", "-n", namespace, "get", "pods", "--watch", "-o", "json"]
    with tempfile.TemporaryFile("w+") as file:  # a pipe would be full before it is read
        watch = subprocess.Popen(command, stdout=file, env=cluster().environment())
        try:
            kubectl("-n", namespace, "delete", "pods", *pods, timeout=90)
        finally:
            watch.kill()
            watch.wait()
        file.seek(0)
        seen = list(_documents(file.read()))
    return {pod: _end([s for s in seen if s["metadata"]["name"] == pod]) for pod in pods}


def _end(seen: list[Manifest]) -> End:
    """Of a pod, as it was at all times."""
    first = next(pod["metadata"] for pod in seen if "deletionTimestamp" in pod["metadata"])
    grace = timedelta(seconds=first["deletionGracePeriodSeconds"])
    deleted = datetime.fromisoformat(first["deletionTimestamp"]) - grace
    status = seen[-1]["status"]
    ended = {
        c["name"]: c["state"]["terminated"] for c in [*status["initContainerStatuses"], *status["containerStatuses"]]
    }
    finished = max(datetime.fromisoformat(state["finishedAt"]) for state in ended.values())
    codes = {name: int(state["exitCode"]) for name, state in ended.items()}
    return End(seconds=(finished - deleted).total_seconds(), codes=codes)


def _documents(text: str) -> Iterator[Manifest]:
    """JSON objects that follow each other; the last may have been cut off."""
    decoder, at = json.JSONDecoder(), 0
    while (begin := text.find("{", at)) >= 0:
        try:
            found, at = decoder.raw_decode(text, begin)
        except ValueError:
            return
        yield found


def test_pods_end_within_their_grace_period_while_all_registrars_are_down(home: str, record_property: Any) -> None:
    kubectl("-n", home, "patch", "serverpool", "echo", "--type=merge", "-p", '{"spec":{"paused":true}}')
    kubectl("-n", home, "scale", "statefulset", "echo-registrar", "--replicas=0")
    wait_for(
        lambda: not get("pods", "-n", home, "-l", "rserpool.io/server-pool=echo,app.kubernetes.io/component=registrar"),
        60,
        "all registrars are gone",
    )
    there = {app: [str(pod["metadata"]["name"]) for pod in apps.pods(home, app)] for app in APPS}
    chosen = [there[app][0] for app in APPS]
    stay = {pod for app in APPS for pod in there[app][1:]}
    grace = {get("pod", pod, "-n", home)["spec"]["terminationGracePeriodSeconds"] for pod in chosen}
    assert grace == {GRACE}
    ended = _ends(home, chosen)
    for app, pod in zip(APPS, chosen, strict=True):
        end = ended[pod]
        record_property("figure", f"{app} ends without registrars: {end.seconds:g} s of {GRACE}, {end.codes}")
    finish, stubborn = (ended[pod] for pod in chosen)
    assert finish.seconds < GRACE
    assert finish.codes == {"echo": 0, "rserpool-sidecar": 0}, "nobody had to be killed"
    # what ignores SIGTERM is killed at the end; the kubelet gives its sidecar two seconds then
    assert stubborn.seconds <= GRACE + 3
    assert stubborn.codes == {"echo": 137, "rserpool-sidecar": 0}
    others = {pod["metadata"]["name"]: apps.is_ready(pod) for app in APPS for pod in apps.pods(home, app)}
    assert {others[pod] for pod in stay} == {True}, "the others serve on"

    kubectl("-n", home, "patch", "serverpool", "echo", "--type=merge", "-p", '{"spec":{"paused":false}}')
    apps.until_ready(home, timeout=90)
    # new pods have never been registered before their registrars were back
    _settle(home, **{app: len(found) for app, found in there.items()})
