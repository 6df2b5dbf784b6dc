# SPDX-License-Identifier: Apache-2.0
"""Registrars that fail, one way after the other: users go on being told, and elements stay where they are."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Any, Final

import pytest

from harness import apps, nodes
from harness.apps import Asked
from harness.cluster import Cluster
from harness.kubectl import apply, exec_in, get, kubectl
from harness.namespaces import fresh
from harness.pools import dump, dumps, elements, registrars
from harness.waiting import NotYet, wait_for
from harness.watching import Watch, now, watching
from support.goals import TIMES

GOAL: Final = 1.0
"""Seconds: a resolution of a user that knows all registrars, and a registrar that is started again."""
ELEMENTS: Final = 3
USERS: Final = 6
"""In one process, so that each registrar is likely to be the one that some of them ask."""


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool."""
    del cluster
    with fresh("e2e-45-registrars") as name:
        apply([apps.pool(), apps.echo(replicas=ELEMENTS)], namespace=name)
        apps.until_ready(name)
        apps.until_pods_ready(name, "echo", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS)
        yield name


@pytest.fixture
def users(home: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pod of new users, each with a registrar of its choice, on the node with the fewest registrars."""
    _back(home)  # whatever became of the test before
    name = f"user-{zlib.crc32(request.node.name.encode()):08x}"
    # with the usual patience, which is the goal, what is late on a busy machine would be no answer instead of a figure
    environment = apps.PATIENT | {"USERS": str(USERS), "PATIENCE": str(TIMES * GOAL)}
    apply(apps.user(name, environment=environment, nodeName=_by_registrars(home)[0]), namespace=home)
    _until_served(home, name, of=USERS)
    yield name
    kubectl("-n", home, "delete", "pod", name, "--wait=false")


def _where(namespace: str) -> dict[str, str]:
    """The registrars' nodes."""
    return {pod: nodes.node_of(pod, namespace=namespace) for pod in registrars(namespace, "echo")}


def _by_registrars(namespace: str) -> list[str]:
    """The workers, those with few registrars first."""
    used = list(_where(namespace).values())
    return sorted(nodes.workers(), key=lambda node: (used.count(node), node))


def _until_served(namespace: str, user: str, since: float = 0.0, of: int = 1) -> None:
    """Wait until so many requests that ended after that were answered."""

    def served() -> bool:
        asked = apps.asked(namespace, user, since)
        if sum(bool(a.by) for a in asked) < of:
            raise NotYet(asked[-1:])
        return True

    wait_for(served, 60, f"{user} is served")


def _asking(namespace: str, user: str, pods: list[str]) -> int:
    """How many users have one of these registrars, as their kernel says it."""
    table = exec_in(user, "user", "cat", "/proc/net/tcp", namespace=namespace).splitlines()[1:]
    peers = [line.split()[2].split(":") for line in table if line.split()[3] == "01"]
    asked = [str(IPv4Address(bytes.fromhex(host)[::-1])) for host, port in peers if int(port, 16) == 3864]
    addresses = {get("pod", pod, "-n", namespace)["status"]["podIP"] for pod in pods}
    return sum(host in addresses for host in asked)


def _back(namespace: str) -> None:
    """All registrars serve and hold the same again, and the API says so."""
    apps.until_members(namespace, "echo", ELEMENTS, timeout=120)

    def told() -> bool:
        status = apps.server_pool(namespace)["status"]
        said = {c["type"]: c["status"] for c in status["conditions"]}
        if (said["Ready"], said["RegistrarsReady"], status["registrars"]["ready"]) != ("True", "True", 3):
            raise NotYet(status["registrars"], said)
        return bool(status["elements"]["registered"] == ELEMENTS) or _not_yet(status["elements"])

    wait_for(told, 90, "the status says that all is well")
    apps.until_pods_ready(namespace, "echo", ELEMENTS)


def _not_yet(seen: Any) -> bool:
    raise NotYet(seen)


def _resolved(namespace: str, user: str, since: float, what: str, *, but: str = "") -> str:
    """Each resolution since then was answered, and soon; returns a figure. Failures of the kind `but` are let pass."""
    _until_served(namespace, user, now(), of=USERS)
    found = apps.asked(namespace, user, since)
    failed = [a for a in found if a.failed and a.failed != but]
    assert not failed, f"{what}: {len(failed)} of {len(found)} failed: {failed[:5]}"
    slowest = max(a.resolve for a in found)
    assert slowest <= TIMES * GOAL, f"{what}: the slowest resolution took {slowest:.2f} s"
    return f"{what}: {len(found)} resolutions, none failed, slowest {slowest:.2f} s (goal {GOAL:g} s)"


def _silence(asked: list[Asked]) -> float:
    """The longest time without an answer."""
    answered = [a.at for a in asked if a.failed != "resolve"]
    return max(after - before for before, after in pairwise(answered))


def _kept(watch: Watch, since: float) -> None:
    """No registrar that ran on forgot an element because another one was lost."""
    assert watch.fewest(since) >= ELEMENTS


def _homes(namespace: str) -> dict[str, str]:
    """Registrars that are home to elements, by server ID."""
    held = dumps(namespace, "echo")
    homes = {e["home"] for e in elements(next(iter(held.values()))).values()}
    return {d["server_id"]: pod for pod, d in held.items() if d["server_id"] in homes}


def _chosen(namespace: str, users: str) -> tuple[str, str, int]:
    """The home registrar that most users ask: its server ID, its pod, and how many they are."""
    homes = _homes(namespace)
    asking = {server: _asking(namespace, users, [pod]) for server, pod in homes.items()}
    server = max(asking, key=lambda s: asking[s])
    return server, homes[server], asking[server]


def test_the_node_of_registrars_is_cut_off(home: str, users: str, record_property: Any) -> None:
    where = _where(home)
    node = _by_registrars(home)[-1]
    lost = [pod for pod, at in where.items() if at == node]
    living = [pod for pod in where if pod not in lost]
    assert lost
    assert living
    there = {
        f"tcp:{p['status']['podIP']}:{apps.PORT}" for p in apps.pods(home, "echo") if p["spec"]["nodeName"] == node
    }
    held = elements(dump(home, living[0]))
    gone = [i for i, e in held.items() if e["transport"] in there]
    stay = [i for i in held if i not in gone]
    asking = _asking(home, users, lost)
    with watching(home, living) as watch:
        since = now()
        with nodes.cut_off(node):
            for element in gone:
                watch.left(element, since)
            ours = {dump(home, pod)["server_id"] for pod in living}

            def adopted() -> bool:
                homes = {e["home"] for e in elements(dump(home, living[0])).values()}
                return homes <= ours or _not_yet(homes)

            wait_for(adopted, 30, "those that are left are home to all that is left")
            what = f"node of {len(lost)} registrars, asked by {asking} of {USERS} users, cut off"
            # elements of that node are given out until it is known that they are gone
            figure = _resolved(home, users, since, what, but="connect")
        assert stay
        assert all(set(stay) <= set(seen.elements) for seen in watch.all(since)), "elements elsewhere stay"
    record_property("figure", figure)
    _back(home)


def test_the_home_registrars_pod_is_deleted(home: str, users: str, record_property: Any) -> None:
    server, pod, asking = _chosen(home, users)
    with watching(home, [p for p in registrars(home, "echo") if p != pod]) as watch:
        since = now()
        kubectl("-n", home, "delete", "pod", pod)
        _back(home)
        what = f"home registrar's pod deleted, asked by {asking} of {USERS} users"
        record_property("figure", _resolved(home, users, since, what))
        _kept(watch, since)
    assert dump(home, pod)["server_id"] != server


def test_the_home_registrars_container_is_killed_and_is_back_with_a_new_server_id(
    home: str, users: str, record_property: Any
) -> None:
    server, pod, asking = _chosen(home, users)
    place = f"{pod}.echo-peers.{home}.svc.cluster.local:3864"
    only = {"RSERPOOL_REGISTRARS": place, "RSERPOOL_BUNDLE": "/var/run/rserpool/bundle.pem"}
    apply(apps.user("direct", environment=only), namespace=home)
    _until_served(home, "direct")
    with watching(home, [p for p in registrars(home, "echo") if p != pod]) as watch:
        since = now()
        nodes.kill_container(pod, "registrar", namespace=home)
        wait_for(lambda: dump(home, pod)["server_id"] != server, 30, f"{pod} was started again")
        _back(home)
        what = f"home registrar's container killed, asked by {asking} of {USERS} users"
        record_property("figure", _resolved(home, users, since, what))
        _kept(watch, since)
    started, serving = _life(home, pod)
    _until_served(home, "direct", now())
    silence = _silence(apps.asked(home, "direct", since - 1))
    record_property("figure", f"  serves {serving - started:.2f} s after its process began (goal {GOAL:g} s)")
    record_property("figure", f"  and {serving - since:.2f} s after it was killed: its kubelet looks once a second")
    record_property("figure", f"  a user that knows only this registrar was without an answer for {silence:.2f} s")
    assert serving - started <= TIMES * GOAL
    kubectl("-n", home, "delete", "pod", "direct", "--wait=false")


def _life(namespace: str, pod: str) -> tuple[float, float]:
    """When a registrar's process was started, and when it began to serve; seconds of the epoch."""
    ages = "import os, time; now = time.time(); up = float(open('/proc/uptime').read().split()[0]);"
    ages += (
        "print(now - up + int(open('/proc/1/stat').read().rpartition(')')[2].split()[19]) / os.sysconf('SC_CLK_TCK'))"
    )
    started = float(exec_in(pod, "registrar", "python3", "-c", ages, namespace=namespace))
    log = kubectl("-n", namespace, "logs", pod, "-c", "registrar", "--timestamps")
    (line, *_) = [line for line in log.splitlines() if re.search(r"\bserving, with", line)]
    return started, datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", line.split()[0])).timestamp()


def test_two_registrars_are_lost_at_once(home: str, users: str, record_property: Any) -> None:
    asking = {pod: _asking(home, users, [pod]) for pod in registrars(home, "echo")}
    third, first, second = sorted(asking, key=lambda pod: asking[pod])
    with watching(home, [third]) as watch:
        since = now()
        kubectl("-n", home, "delete", "pods", first, second, "--grace-period=0", "--force")
        _back(home)
        what = f"two registrars at once, asked by {asking[first] + asking[second]} of {USERS} users"
        record_property("figure", _resolved(home, users, since, what))
        _kept(watch, since)


def test_all_registrars_are_restarted_one_after_the_other(home: str, users: str, record_property: Any) -> None:
    before = {d["server_id"] for d in dumps(home, "echo").values()}
    since = now()
    kubectl("-n", home, "rollout", "restart", "statefulset/echo-registrar")
    kubectl("-n", home, "rollout", "status", "statefulset/echo-registrar", "--timeout=120s", timeout=130)
    _back(home)
    record_property("figure", _resolved(home, users, since, "rolling restart of all registrars"))
    assert not before & {d["server_id"] for d in dumps(home, "echo").values()}
