# SPDX-License-Identifier: Apache-2.0
"""Elements that fail, one way after the other: they leave every registrar in seconds, and come back by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from harness import apps, nodes
from harness.cluster import Cluster
from harness.kubectl import apply, get, kubectl
from harness.namespaces import fresh
from harness.pools import dumps, elements, registrars
from harness.waiting import NotYet, wait_for
from harness.watching import Watch, now, watching
from support.goals import TIMES

GOAL: Final = 3.0
GOAL_WITH_HOME: Final = 6.0
"""Seconds: where the element's home vanished together with it."""
ELEMENTS: Final = 4


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool with elements and registrars on both workers."""
    del cluster
    with fresh("e2e-40-elements") as name:
        apply([apps.pool(), apps.echo(replicas=ELEMENTS)], namespace=name)
        apps.until_ready(name)
        apps.until_pods_ready(name, "echo", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS)
        assert {len([p for p in apps.pods(name, "echo") if p["spec"]["nodeName"] == n]) for n in nodes.workers()} == {2}
        yield name


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An element and its pod."""

    identifier: str
    pod: str
    node: str
    home_node: str
    """Where the registrar is that it is registered with."""


def _members(namespace: str) -> list[Member]:
    _back(namespace)  # whatever became of the test before
    held = dumps(namespace, "echo")
    homes = {d["server_id"]: nodes.node_of(pod, namespace=namespace) for pod, d in held.items()}
    by_address = {f"tcp:{p['status']['podIP']}:{apps.PORT}": p for p in apps.pods(namespace, "echo")}
    found = []
    for identifier, element in elements(next(iter(held.values()))).items():
        pod = by_address[element["transport"]]
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        found.append(Member(identifier=identifier, pod=name, node=node, home_node=homes[element["home"]]))
    assert len(found) == ELEMENTS
    return found


def _restarts(namespace: str, pod: str) -> dict[str, int]:
    status = get("pod", pod, "-n", namespace)["status"]
    both = [*status["initContainerStatuses"], *status["containerStatuses"]]
    return {c["name"]: c["restartCount"] for c in both}


def _back(namespace: str, *, count: int = ELEMENTS) -> None:
    """All is as it was: pods ready, all registrars agree, the status counts them."""
    apps.until_pods_ready(namespace, "echo", count, timeout=90)
    apps.until_members(namespace, "echo", count, timeout=90)

    def counted() -> bool:
        status = apps.server_pool(namespace)["status"]
        if status["elements"]["registered"] != count or status["registrars"]["ready"] != 3:
            raise NotYet(status)
        return True

    wait_for(counted, 90, "the status counts them")


def test_an_application_that_is_killed_leaves_and_comes_back(home: str, record_property: Any) -> None:
    member = _members(home)[0]
    before = _restarts(home, member.pod)

    def restarted(times: int) -> bool:
        return _restarts(home, member.pod)["echo"] == before["echo"] + times

    # the kubelet starts it again at once the first time, which is too soon to be missed
    nodes.kill_container(member.pod, "echo", namespace=home)
    wait_for(lambda: restarted(1), 30, "the application was started again")
    _back(home)  # after all it may have been missed
    with watching(home, registrars(home, "echo")) as watch:
        since = now()
        nodes.kill_container(member.pod, "echo", namespace=home)
        took = watch.left(member.identifier, since)
        back = watch.came(member.identifier, since + took)
    record_property("figure", f"application killed: gone from every registrar after {took:.2f} s (goal {GOAL:g} s)")
    record_property("figure", f"  back {back:.1f} s later, of which its kubelet made it wait 10")
    assert took <= TIMES * GOAL
    _back(home)
    assert _restarts(home, member.pod) == {"rserpool-sidecar": before["rserpool-sidecar"], "echo": before["echo"] + 2}


def test_a_sidecar_that_is_killed_leaves_and_comes_back_and_its_application_runs_on(
    home: str, record_property: Any
) -> None:
    member = _members(home)[1]
    before = _restarts(home, member.pod)
    with watching(home, registrars(home, "echo")) as watch:
        since = now()
        nodes.kill_container(member.pod, "rserpool-sidecar", namespace=home)
        took = watch.left(member.identifier, since)
        back = watch.came(member.identifier, since + took)
    record_property("figure", f"sidecar killed: gone from every registrar after {took:.2f} s (goal {GOAL:g} s)")
    record_property("figure", f"  back {back:.1f} s later")
    assert took <= TIMES * GOAL
    _back(home)
    after = _restarts(home, member.pod)
    assert after == {"rserpool-sidecar": before["rserpool-sidecar"] + 1, "echo": before["echo"]}


def test_a_pod_that_is_deleted_by_force_leaves(home: str, record_property: Any) -> None:
    member = _members(home)[2]
    with watching(home, registrars(home, "echo")) as watch:
        since = now()
        kubectl("-n", home, "delete", "pod", member.pod, "--grace-period=0", "--force")
        took = watch.left(member.identifier, since)
    record_property("figure", f"pod deleted by force: gone from every registrar after {took:.2f} s (goal {GOAL:g} s)")
    assert took <= TIMES * GOAL
    _back(home)
    assert member.identifier not in elements(next(iter(dumps(home, "echo").values())))


def _lost(
    home: str, node: str, watch: Watch, members: list[Member], since: float
) -> Iterator[tuple[float, float, str]]:
    """How long it took until each element of a node was gone, its goal, and what it was."""
    for member in (m for m in members if m.node == node):
        with_home = member.home_node == node
        took = watch.left(member.identifier, since)
        yield took, GOAL_WITH_HOME if with_home else GOAL, "and its home" if with_home else "its home elsewhere"


@pytest.mark.parametrize("fault", ["frozen", "cut off"])
def test_the_elements_of_a_worker_that_is_lost_leave_and_come_back_with_it(
    home: str, fault: str, record_property: Any
) -> None:
    members = _members(home)
    where = {pod: nodes.node_of(pod, namespace=home) for pod in registrars(home, "echo")}
    # one that leaves at least one registrar; elements whose home is elsewhere first, then those whose home goes too
    affected = [m.node for m in members if (m.home_node == m.node) == (fault == "cut off")]
    choice = [n for n in nodes.workers() if set(where.values()) != {n}]
    node = max(choice, key=lambda n: (affected.count(n), n))
    living = [pod for pod, at in where.items() if at != node]
    assert living
    uids = {p["metadata"]["uid"] for p in apps.pods(home, "echo")}
    with watching(home, living) as watch:
        since = now()
        with nodes.frozen(node) if fault == "frozen" else nodes.cut_off(node):
            found = list(_lost(home, node, watch, members, since))
            others = {m.identifier for m in members if m.node != node}
            healed = now()
        back = max(watch.came(m.identifier, healed) for m in members if m.node == node)
    for took, goal, what in found:
        record_property(
            "figure", f"worker {fault}, {what}: gone from every registrar after {took:.2f} s (goal {goal:g} s)"
        )
    record_property("figure", f"  back {back:.1f} s after the worker was")
    assert len(found) == 2
    assert len(others) == 2
    assert all(took <= TIMES * goal for took, goal, _ in found), found
    _back(home)
    assert {p["metadata"]["uid"] for p in apps.pods(home, "echo")} == uids, "nobody had to make new pods"
