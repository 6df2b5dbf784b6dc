# SPDX-License-Identifier: Apache-2.0
"""A cluster that has no cert-manager: pools that sign for themselves need none, and others say what they lack.

The last file: it takes cert-manager away, and brings it back.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness import apps
from harness.cluster import REPOSITORY, Cluster
from harness.kubectl import apply, conditions, kubectl
from harness.waiting import wait_for


@pytest.fixture(scope="module", autouse=True)
def _taken_away(cluster: Cluster) -> Iterator[None]:
    environment = {**cluster.environment(), "E2E_OFFLINE": "1" if cluster.offline else "0"}

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=200)

    run("helm", "-n", "cert-manager", "uninstall", "cert-manager", "--wait")
    kubectl("delete", "crd", "-l", "app.kubernetes.io/name=cert-manager", "--ignore-not-found")
    yield
    run(str(REPOSITORY / "e2e" / "cluster.sh"), cluster.name)


def test_an_embedded_pool_needs_no_cert_manager_and_another_one_says_that_it_does(
    namespace: str, record_property: Any
) -> None:
    began = time.monotonic()
    apply([apps.pool(), apps.echo(), apps.pool("other", signer="CertManager", replicas=1)], namespace=namespace)
    apps.until_ready(namespace)
    record_property("figure", f"without cert-manager: an Embedded pool is Ready after {time.monotonic() - began:.1f} s")
    apps.until_members(namespace, "echo", 3)
    apply(apps.user("user"), namespace=namespace)
    apps.until_served(namespace, "user")

    def said() -> bool:
        found = conditions(apps.server_pool(namespace, "other"))
        assert found.get("AuthorityReady", {}).get("reason") == "CertManagerMissing"
        assert (found["Stalled"]["status"], found["Stalled"]["reason"]) == ("True", "CertManagerMissing")
        assert "security.signer.type: Embedded" in found["Stalled"]["message"]
        return True

    wait_for(said, 30, "the other pool says what it lacks")
    kubectl("-n", namespace, "delete", "serverpools", "--all", "--timeout=30s")
