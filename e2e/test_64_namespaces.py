# SPDX-License-Identifier: Apache-2.0
"""An operator for a list of namespaces: it serves these, with no right in any other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import apps, helm, operators
from harness.cluster import SYSTEM
from harness.kubectl import KubectlError, apply, kubectl
from harness.namespaces import fresh
from harness.waiting import wait_for

OPERATOR = f"system:serviceaccount:{SYSTEM}:rserpool-operator"


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    with fresh("e2e-64-other") as name:
        yield name


def may(verb: str, resource: str, *where: str) -> bool:
    """Whether the operator may do that there."""
    try:
        return kubectl("auth", "can-i", verb, resource, *where, "--as", OPERATOR).strip() == "yes"
    except KubectlError as e:  # "no" is an exit status, too
        return e.message == "yes"


def test_pools_of_the_list_are_served_and_others_are_left_alone(namespace: str, other: str) -> None:
    with helm.as_before() as given:
        helm.install(given, watch_namespaces=[namespace])
        operators.until_complete()
        apply([apps.pool(replicas=2), apps.echo(replicas=2)], namespace=namespace)
        apply(apps.pool(replicas=2), namespace=other)
        apps.until_ready(namespace)
        apps.until_members(namespace, "echo", 2, registrars=2)
        assert "status" not in apps.server_pool(other)
        assert may("patch", "statefulsets", "-n", namespace)
        for verb, resource in (("get", "pods"), ("list", "serverpools"), ("patch", "statefulsets"), ("get", "secrets")):
            assert not may(verb, resource, "-n", other), f"{verb} {resource} of another namespace"
        kubectl("-n", namespace, "delete", "serverpool", "echo", "--timeout=30s")
    operators.until_complete()
    wait_for(lambda: apps.server_pool(other).get("status"), 60, "with the former values the other pool is looked at")
    apps.until_ready(other)
