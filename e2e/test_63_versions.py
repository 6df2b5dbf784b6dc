# SPDX-License-Identifier: Apache-2.0
"""A new version replaces one registrar after another, and stops at a bad one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness import apps
from harness.cluster import Cluster
from harness.kubectl import Manifest, apply, conditions, kubectl
from harness.pools import lives, registrar_pods
from harness.waiting import NotYet, wait_for

REGISTRARS = 3


@pytest.fixture(scope="module", autouse=True)
def _members(namespace: str) -> None:
    apply([apps.pool(), apps.echo(replicas=3)], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_members(namespace, "echo", 3)
    apply(apps.user("user", environment=apps.PATIENT | {"PATIENCE": "3"}), namespace=namespace)
    apps.until_served(namespace, "user")


def registrars(namespace: str) -> list[Manifest]:
    return registrar_pods(namespace, "echo")


def images(namespace: str) -> list[str]:
    return [p["spec"]["containers"][0]["image"] for p in registrars(namespace)]


def test_another_version_of_the_pool_replaces_one_registrar_at_a_time(namespace: str, cluster: Cluster) -> None:
    since, before, most = time.time(), lives(registrars(namespace)), 0
    kubectl("-n", namespace, "patch", "serverpool", "echo", "--type=merge", "-p", _version(cluster.next_version))

    def replaced() -> bool:
        nonlocal most
        pods = registrars(namespace)
        most = max(most, REGISTRARS - sum(apps.is_ready(p) and "deletionTimestamp" not in p["metadata"] for p in pods))
        now = {p["spec"]["containers"][0]["image"] for p in pods}
        if now != {f"rserpool-node:{cluster.next_version}"} or not all(apps.is_ready(p) for p in pods):
            raise NotYet(now)
        return len(pods) == REGISTRARS

    wait_for(replaced, 120, "all registrars run the new version", every=0.1)
    assert most == 1, f"{most} registrars were away at a time"
    after = lives(registrars(namespace))
    assert not set(after.values()) & set(before.values())
    found = apps.until_ready(namespace)
    assert found["status"]["version"] == cluster.next_version
    assert found["status"]["elements"]["outdated"] == 3
    apps.until_members(namespace, "echo", 3)
    assert apps.failures(apps.asked(namespace, "user", since)) == []


def test_a_version_that_does_not_start_stops_at_the_first_registrar_and_is_undone(
    namespace: str, cluster: Cluster, record_property: Any
) -> None:
    since, before = time.time(), lives(registrars(namespace))
    kubectl("-n", namespace, "patch", "serverpool", "echo", "--type=merge", "-p", _version("no-such-version"))

    def stuck() -> Manifest:
        said = conditions(apps.server_pool(namespace))
        if said["Stalled"]["reason"] != "RolloutStuck":
            raise NotYet({kind: (c["status"], c["reason"], c["message"]) for kind, c in said.items()})
        return said["RegistrarsReady"]

    told = wait_for(stuck, 90, "the pool says that its rollout is stuck")
    assert (told["status"], told["reason"]) == ("False", "RolloutStuck")
    assert f"echo-registrar-{REGISTRARS - 1}" in told["message"]
    others = {name: life for name, life in before.items() if not name.endswith(f"-{REGISTRARS - 1}")}
    assert {name: life for name, life in lives(registrars(namespace)).items() if name in others} == others
    assert conditions(apps.server_pool(namespace))["Ready"]["status"] == "True"
    apps.until_members(namespace, "echo", 3, registrars=REGISTRARS - 1)
    kubectl("-n", namespace, "patch", "serverpool", "echo", "--type=merge", "-p", _version(cluster.next_version))
    apps.until_ready(namespace)
    assert images(namespace) == [f"rserpool-node:{cluster.next_version}"] * REGISTRARS
    assert {name: life for name, life in lives(registrars(namespace)).items() if name in others} == others
    apps.until_members(namespace, "echo", 3)
    asked = apps.asked(namespace, "user", since)
    slowest = max(r.resolve for r in asked)
    record_property("figure", f"rolling, stuck and undone: {len(asked)} requests, slowest resolve() {slowest:.2f} s")
    assert slowest < 3.0
    assert apps.failures(asked) == []


def _version(tag: str) -> str:
    return f'{{"spec":{{"version":"{tag}"}}}}'
