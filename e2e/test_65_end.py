# SPDX-License-Identifier: Apache-2.0
"""Whatever is deleted first: nothing hangs, nothing is left, and a new pool of that name is another pool."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness import apps, helm, leavings, operators
from harness.cluster import SYSTEM
from harness.intruder import IDENTITY, attempt, dial, enrol, who
from harness.kubectl import KubectlError, apply, exec_in, get, kubectl, logs
from harness.namespaces import fresh
from harness.waiting import NotYet, wait_for

OLD = "/dev/shm/old.pem"
PATIENCE = 60


@pytest.fixture(scope="module")
def homes() -> Iterator[dict[str, str]]:
    """Namespaces, each with a pool and its application: made at the same time, since each is to go in its own way."""
    signers = {"pool-first": "CertManager", "app-first": "Embedded", "namespace": "CertManager", "again": "Embedded"}
    with ExitStack() as stack:
        found = {name: stack.enter_context(fresh(f"e2e-{name}")) for name in signers}
        for name, namespace in found.items():
            apply([apps.pool(signer=signers[name], replicas=2), apps.echo(replicas=1)], namespace=namespace)
        for namespace in found.values():
            apps.until_ready(namespace)
            apps.until_members(namespace, "echo", 1, registrars=2)
            assert leavings.of_pools_of(namespace), "its authority is nowhere"
        yield found


def delete(namespace: str, *what: str) -> float:
    """Delete, and wait until it is gone; returns the seconds that took."""
    began = time.monotonic()
    kubectl("-n", namespace, "delete", *what, f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    return time.monotonic() - began


def nothing_left(namespace: str, *, but: str = "/") -> None:
    """Wait until nothing is left of a pool, in its namespace and in the operator's; `but` that pod."""

    def nothing() -> bool:
        left = [n for n in leavings.left_in(namespace) if n != f"Pod {namespace}/{but}"]
        left += leavings.of_pools_of(namespace)
        if left:
            raise NotYet(left)
        return True

    wait_for(nothing, PATIENCE, f"nothing is left of what was in {namespace}")


def test_the_pool_goes_first_and_then_its_application(homes: dict[str, str], record_property: Any) -> None:
    namespace = homes["pool-first"]
    (before,) = apps.pods(namespace, "echo")
    took = delete(namespace, "serverpool", "echo")
    nothing_left(namespace, but=before["metadata"]["name"])
    (after,) = apps.until_pods_ready(namespace, "echo", 1)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [c["restartCount"] for c in after["status"]["initContainerStatuses"]] == [0]
    began = time.monotonic()
    delete(namespace, "deployment", "echo")
    nothing_left(namespace)
    ended = time.monotonic() - began
    record_property("figure", f"ServerPool gone after {took:.1f} s; its application after {ended:.1f} s more")


def test_the_application_goes_first_and_then_its_pool(homes: dict[str, str]) -> None:
    namespace = homes["app-first"]
    delete(namespace, "deployment", "echo")
    apps.until_members(namespace, "echo", 0, registrars=2)
    delete(namespace, "serverpool", "echo")
    nothing_left(namespace)


def test_all_at_once_and_a_pool_that_never_became_ready() -> None:
    with fresh("e2e-at-once") as namespace:
        apply([apps.pool(signer="CertManager", replicas=2), apps.echo(replicas=1)], namespace=namespace)
        delete(namespace, "serverpool,deployment", "--all")
        nothing_left(namespace)


def test_a_namespace_goes_with_a_pool_in_it(homes: dict[str, str], record_property: Any) -> None:
    namespace, began = homes["namespace"], time.monotonic()
    kubectl("delete", "namespace", namespace, "--timeout=120s", timeout=130)
    took = time.monotonic() - began
    record_property("figure", f"namespace with a pool and its application gone after {took:.1f} s")
    with pytest.raises(KubectlError, match="not found"):
        get("namespace", namespace)
    assert leavings.of_pools_of(namespace) == []


def test_a_pool_of_the_same_name_has_another_authority_and_refuses_old_leaves(
    homes: dict[str, str], record_property: Any
) -> None:
    namespace = homes["again"]
    (pod,) = apps.pods(namespace, "echo")
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    before = apps.server_pool(namespace)
    exec_in(name, apps.SIDECAR, "cp", IDENTITY, OLD, namespace=namespace)  # within its pod
    delete(namespace, "serverpool", "echo")
    apply(apps.pool(replicas=2), namespace=namespace)
    after = apps.until_ready(namespace)
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert before["status"]["authority"]["keys"]["1"] != after["status"]["authority"]["keys"]["1"]
    address = get("pod", "echo-registrar-0", "-n", namespace)["status"]["podIP"]
    attempts = dial(address, uid, leaf=OLD), enrol(who(namespace, "echo", uid), leaf=OLD)
    old, renewed = attempt(namespace, name, apps.SIDECAR, *attempts)
    # (in the registrar's log this is one line with what the sidecar tries itself: a line a minute for each peer)
    assert (old.answer, old.fate) == ("", "TLSV1_ALERT_UNKNOWN_CA"), old
    assert renewed.status == 403 or (renewed.status == 0 and renewed.fate), renewed
    assert "refused handshake" in logs("echo-registrar-0", "registrar", namespace=namespace)
    # the member itself notices that it is not believed any more, and enrols anew, without hands
    began = time.monotonic()
    apps.until_members(namespace, "echo", 1, registrars=2, timeout=120)
    record_property("figure", f"a member joins the pool that was made anew: {time.monotonic() - began:.1f} s later")
    (still,) = apps.pods(namespace, "echo")
    assert still["metadata"]["uid"] == uid
    assert sum(c["restartCount"] for c in still["status"]["initContainerStatuses"]) == 0
    delete(namespace, "serverpool,deployment", "--all")
    nothing_left(namespace)


def only_kept() -> bool:
    """What stays is by what pods that still run know the operator: they find it again when it is installed again."""
    left = leavings.left_in(SYSTEM)
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
            nothing_left(namespace)

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
