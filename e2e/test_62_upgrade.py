# SPDX-License-Identifier: Apache-2.0
"""A new operator restarts nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness import apps, helm, operators
from harness.cluster import Cluster
from harness.kubectl import apply, get, kubectl
from harness.pools import lives, registrar_pods
from harness.waiting import NotYet, wait_for

REGISTRARS = 3


@pytest.fixture(scope="module", autouse=True)
def _members(namespace: str) -> None:
    apply([apps.pool(signer="CertManager"), apps.echo(replicas=2)], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_members(namespace, "echo", 2)
    apply(apps.user("user"), namespace=namespace)
    apps.until_served(namespace, "user")


def test_another_operator_with_other_values_restarts_no_registrar_and_no_application(
    namespace: str, cluster: Cluster, record_property: Any
) -> None:
    since, before = time.time(), lives(registrar_pods(namespace, "echo") + apps.pods(namespace, "echo"))
    template = get("statefulset", "echo-registrar", "-n", namespace)["spec"]["template"]
    with helm.as_before() as given:
        helm.install(
            given,
            image_tag=cluster.next_version,
            log_format="text",
            log_level="debug",
            enrolment_perSecond=7,
            image_pullPolicy="Never",
            node_registrarResources={"requests": {"cpu": "20m", "memory": "80Mi"}},
            node_sidecarResources={"requests": {"cpu": "20m", "memory": "50Mi"}},
        )
        leader = operators.until_complete()
        assert {p["spec"]["containers"][0]["image"] for p in operators.replicas()} == {
            f"rserpool-operator:{cluster.next_version}"
        }

        def looked() -> bool:
            text = operators.page(leader)
            done = operators.total(operators.samples(text, "rserpool_operator_reconciles_total"), outcome="done")
            asked = operators.total(operators.samples(text, "rserpool_operator_control_requests_total"))
            if done < 2 or asked < REGISTRARS:
                raise NotYet(f"{done:g} times, asked {asked:g} times")
            return True

        wait_for(looked, 60, "the new leader has looked at the pools, and their processes have found it")
        apps.until_ready(namespace)
        assert lives(registrar_pods(namespace, "echo") + apps.pods(namespace, "echo")) == before
        assert get("statefulset", "echo-registrar", "-n", namespace)["spec"]["template"] == template
        assert apps.server_pool(namespace)["status"]["version"] == cluster.version
        # a member that comes now fits the registrars
        kubectl("-n", namespace, "scale", "deployment", "echo", "--replicas=3")
        apps.until_members(namespace, "echo", 3)
        assert {p["spec"]["initContainers"][0]["image"] for p in apps.pods(namespace, "echo")} == {
            cluster.image("node")
        }
    operators.until_complete()
    apps.until_members(namespace, "echo", 3)
    after = lives(registrar_pods(namespace, "echo") + apps.pods(namespace, "echo"))
    assert {name: life for name, life in after.items() if name in before} == before
    asked = apps.asked(namespace, "user", since)
    failed = apps.failures(asked)
    record_property("figure", f"helm upgrade and back: {len(asked)} requests meanwhile, {len(failed)} failed")
    assert failed == []
