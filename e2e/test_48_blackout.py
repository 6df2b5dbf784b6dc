# SPDX-License-Identifier: Apache-2.0
"""Nobody is left but the application: its pods are none the worse, whatever happens to those who look after them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from harness import apps, operators
from harness.cluster import SYSTEM, Cluster
from harness.endings import ends
from harness.kubectl import Manifest, apply, exec_in, get, kubectl
from harness.namespaces import fresh
from harness.waiting import NotYet, wait_for

ELEMENTS: Final = 3
MINUTE: Final = 60.0
DRAIN: Final = 3
GRACE: Final = 5 + DRAIN
"""Seconds: what the pods ask for themselves, and what the webhook adds."""
ENDING: Final = {"finish": "finish", "stubborn": "ignore"}
"""Pods, and what each does on SIGTERM."""
UNREADY: Final = 12.0
"""Seconds in which a pod is surely unready that will be: it is probed each second, and elements re-register in ten."""
REGISTRARS: Final = "rserpool.io/server-pool=echo,app.kubernetes.io/component=registrar"


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool, its application, and two members that belong to nobody: one ends when told to, one does not."""
    del cluster
    with fresh("e2e-48-blackout") as name:
        apply([apps.pool(), apps.echo(replicas=ELEMENTS), apps.idle("asker")], namespace=name)
        apply([apps.member(pod, manner=manner) for pod, manner in ENDING.items()], namespace=name)
        apps.until_ready(name)
        apps.until_pods_ready(name, "echo", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS + len(ENDING))
        yield name


def _state(pod: Manifest) -> dict[str, Any]:
    """What must not change of a pod: who it is, since when it is ready, and how often something was started in it."""
    status = pod["status"]
    (ready,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    both = [*status["initContainerStatuses"], *status["containerStatuses"]]
    return {
        "uid": pod["metadata"]["uid"],
        "ready": (ready["status"], ready["lastTransitionTime"]),
        "containers": {c["name"]: (c["ready"], c["restartCount"]) for c in both},
    }


def _states(namespace: str) -> dict[str, dict[str, Any]]:
    return {pod["metadata"]["name"]: _state(pod) for pod in apps.pods(namespace, "echo")}


def _answers(namespace: str) -> bool:
    """Whether each application answers, asked directly: a Service would find it so."""
    ask = (
        "import socket, sys\nfor a in sys.argv[1:]:\n s = socket.create_connection((a, 7007), 5)\n s.sendall(b'x\\n')\n"
    )
    ask += " assert s.recv(99).endswith(b' x\\n')"
    addresses = [pod["status"]["podIP"] for pod in apps.pods(namespace, "echo")]
    exec_in("asker", "main", "python3", "-c", ask, *addresses, namespace=namespace)
    return len(addresses) == ELEMENTS


def _no_pods(namespace: str, selector: str) -> bool:
    found = [p["metadata"]["name"] for p in get("pods", "-n", namespace, "-l", selector)]
    if found:
        raise NotYet(found)
    return True


def _scale(namespace: str, kind: str, name: str, count: int) -> None:
    kubectl("-n", namespace, "scale", kind, name, f"--replicas={count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dark:
    """Nobody looks after the application."""

    since: float
    """On the monotonic clock."""
    before: dict[str, dict[str, Any]]
    """Its pods as they were until then."""
    operators: int
    """Replicas of the operator that there were."""


@pytest.fixture(scope="module")
def dark(home: str) -> Iterator[Dark]:
    """Without operator and registrars, until a test brings the operator back."""
    before, replicas = _states(home), len(operators.replicas())
    assert len(before) == ELEMENTS
    assert {s["ready"][0] for s in before.values()} == {"True"}
    assert replicas == 2
    try:
        _scale(SYSTEM, "deployment", "rserpool-operator", 0)
        wait_for(lambda: _no_pods(SYSTEM, operators.SELECTOR), 60, "the operator is gone")
        _scale(home, "statefulset", "echo-registrar", 0)
        wait_for(lambda: _no_pods(home, REGISTRARS), 60, "all registrars are gone")
        yield Dark(since=time.monotonic(), before=before, operators=replicas)
    finally:
        _scale(SYSTEM, "deployment", "rserpool-operator", replicas)
        operators.until_complete(replicas)


def test_pods_end_within_their_grace_period_while_all_registrars_are_down(
    home: str, dark: Dark, record_property: Any
) -> None:
    grace = {get("pod", pod, "-n", home)["spec"]["terminationGracePeriodSeconds"] for pod in ENDING}
    assert grace == {GRACE}
    ended = ends(home, list(ENDING))
    for pod, end in ended.items():
        record_property("figure", f"{pod} ends without registrars: {end.seconds:g} s of {GRACE}, {end.codes}")
    finish, stubborn = (ended[pod] for pod in ENDING)
    assert finish.seconds <= GRACE + 1  # whole seconds, at both ends
    assert finish.codes == {"echo": 0, "rserpool-sidecar": 0}, "nobody had to be killed"
    # what ignores SIGTERM is killed at the end; the kubelet gives its sidecar two seconds then
    assert stubborn.seconds <= GRACE + 3
    assert stubborn.codes == {"echo": 137, "rserpool-sidecar": 0}
    assert_same(dark.before, _states(home))  # the others serve on


def test_registrars_and_operator_are_gone_for_a_minute_and_no_application_notices(
    home: str, dark: Dark, record_property: Any
) -> None:
    before = dark.before

    def over() -> bool:
        assert_same(before, _states(home))
        return time.monotonic() - dark.since > MINUTE

    wait_for(over, MINUTE + 30, "a minute has passed", every=2)
    assert _answers(home)
    _scale(SYSTEM, "deployment", "rserpool-operator", dark.operators)
    back = time.monotonic()
    operators.until_complete(dark.operators)
    # the operator finds its StatefulSet changed, and makes it what it was
    apps.until_ready(home, timeout=90)
    apps.until_members(home, "echo", ELEMENTS, timeout=90)
    record_property("figure", f"all is back {time.monotonic() - back:.1f} s after the operator was asked for again")
    assert_same(before, _states(home))

    def counted() -> bool:
        said = apps.server_pool(home)["status"]["elements"]
        if (said["matched"], said["registered"], said["notInjected"]) != (ELEMENTS, ELEMENTS, 0):
            raise NotYet(said)
        return True

    wait_for(counted, 90, "the status counts again what there is")


def assert_same(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
    """No application pod became unready, was restarted, or replaced: what is not so now can never become so again.

    Raises:
        RuntimeError: one did; no assertion, which would be waited for to become true.
    """
    if after != before:
        raise RuntimeError(f"application pods changed: {before} -> {after}")


def test_the_pool_is_deleted_and_no_application_notices(home: str, record_property: Any) -> None:
    before = _states(home)
    began = time.monotonic()
    kubectl("-n", home, "delete", "serverpool", "echo", timeout=60)
    wait_for(lambda: _no_pods(home, REGISTRARS), 60, "all registrars are gone")
    record_property("figure", f"pool and registrars are gone {time.monotonic() - began:.1f} s after its deletion")

    gone = time.monotonic()

    def over() -> bool:
        assert_same(before, _states(home))
        return time.monotonic() - gone > UNREADY

    wait_for(over, MINUTE, "some probes have been made", every=2)
    assert _answers(home)
    assert not kubectl("get", "serverpools", "-n", home, "-o", "name")
