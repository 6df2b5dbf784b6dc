# SPDX-License-Identifier: Apache-2.0
"""The quick start: what it says to apply is what comes up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.apps import until_members, until_pods_ready, until_ready
from harness.cluster import REPOSITORY, Cluster
from harness.kubectl import conditions, kubectl
from harness.waiting import wait_for

DEMO = "demo"


@pytest.fixture
def _demo() -> Iterator[None]:
    kubectl("delete", "namespace", DEMO, "--ignore-not-found", "--timeout=120s", timeout=130)  # of an earlier run
    yield
    kubectl("delete", "namespace", DEMO, "--wait=false", "--ignore-not-found")


@pytest.mark.usefixtures("_demo")
def test_the_example_is_a_pool_with_three_members_and_a_client_that_is_answered_by_each(
    cluster: Cluster, record_property: Any
) -> None:
    began = time.monotonic()
    kubectl("apply", "-f", str(REPOSITORY / "examples" / "echo"))
    found = until_ready(DEMO)
    until_members(DEMO, "echo", 3)
    record_property("figure", f"kubectl apply -f examples/echo/: three members after {time.monotonic() - began:.1f} s")
    until_pods_ready(DEMO, "echo", 3)
    assert found["status"]["version"] == cluster.version
    degraded = conditions(found)["TransportDegraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "SctpUnavailable")

    def answered() -> bool:
        lines = kubectl("-n", DEMO, "logs", "deploy/client").splitlines()
        by = {line.split()[0] for line in lines if " hello " in line}
        assert len(by) == 3, f"answered by {by}"
        return True

    wait_for(answered, 60, "the client is answered by each of the three", every=1)

    def shown() -> bool:
        table = kubectl("-n", DEMO, "get", "serverpools").split()
        assert table[:9] == ["NAME", "HANDLE", "POLICY", "REGISTRARS", "WANTED", "ELEMENTS", "MATCHED", "READY", "AGE"]
        assert table[9:17] == ["echo", "echo", "RoundRobin", "3", "3", "3", "3", "True"]
        return True

    wait_for(shown, 90, "the table shows them", every=1)  # registrars tell the operator of elements when it asks
