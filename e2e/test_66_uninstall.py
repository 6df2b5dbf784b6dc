# SPDX-License-Identifier: Apache-2.0
"""An installation goes when there are no pools, and leaves nothing; what comes afterwards works."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness import apps, helm, operators
from harness.cluster import SYSTEM
from harness.kubectl import apply, get
from harness.leavings import PATIENCE, delete, left_in, until_nothing_left
from harness.namespaces import fresh
from harness.waiting import NotYet, wait_for


def only_kept() -> bool:
    """What stays is by what pods that still run know the operator: they find it again when it is installed again."""
    left = left_in(SYSTEM)
    assert left == [f"Lease {SYSTEM}/rserpool-operator", f"Secret {SYSTEM}/rserpool-installation-ca"], left
    return True


def test_helm_uninstall_is_refused_by_name_while_there_are_pools_and_leaves_nothing_after_them(
    record_property: Any,
) -> None:
    given = helm.values()
    operators.until_complete()
    try:
        with fresh("e2e-uninstall") as namespace:
            apply(apps.pool("kept", replicas=1), namespace=namespace)
            apps.until_ready(namespace, "kept")
            with pytest.raises(helm.HelmError) as refused:
                helm.helm("uninstall", helm.RELEASE, "--wait", "--timeout", "2m")
            assert f"{namespace}/kept" in str(refused.value), str(refused.value)
            # nothing was taken away: the pool can still go, another one come, and the release be upgraded again
            helm.roll_back()
            helm.install(given)
            apply(apps.pool("late", replicas=1), namespace=namespace)
            apps.until_ready(namespace, "late")
            delete(namespace, "serverpools", "--all")
            until_nothing_left(namespace)

        def no_pools() -> bool:
            names = [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in get("serverpools", "-A")]
            if names:
                raise NotYet(names)
            return True

        wait_for(no_pools, PATIENCE, "pools of tests before this one are gone")
        began = time.monotonic()
        helm.helm("uninstall", helm.RELEASE, "--wait", "--timeout", "2m")
        record_property("figure", f"helm uninstall: {time.monotonic() - began:.1f} s")
        assert not [w for w in get("mutatingwebhookconfigurations") if "rserpool" in w["metadata"]["name"]]
        assert not [r for r in get("clusterroles,clusterrolebindings") if "rserpool" in r["metadata"]["name"]]
        wait_for(only_kept, PATIENCE, "of the operator nothing is left but what a new installation goes on with")
        assert get("crd", "serverpools.rserpool.io")["metadata"]["name"], "the kind stays"
    finally:
        helm.install(given)
    operators.until_complete()
    with fresh("e2e-installed-again") as namespace:
        apply([apps.pool("echo", replicas=1), apps.echo(replicas=1)], namespace=namespace)
        apps.until_ready(namespace)
        apps.until_members(namespace, "echo", 1, registrars=1)
