# SPDX-License-Identifier: Apache-2.0
"""Whatever is deleted first: nothing hangs, nothing is left, and a new pool of that name is another pool."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness import apps, leavings
from harness.intruder import IDENTITY, attempt, dial, enrol, who
from harness.kubectl import KubectlError, apply, exec_in, get, kubectl, logs
from harness.leavings import delete, until_nothing_left
from harness.namespaces import fresh

OLD = "/dev/shm/old.pem"


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


def test_the_pool_goes_first_and_then_its_application(homes: dict[str, str], record_property: Any) -> None:
    namespace = homes["pool-first"]
    (before,) = apps.pods(namespace, "echo")
    took = delete(namespace, "serverpool", "echo")
    until_nothing_left(namespace, but=before["metadata"]["name"])
    (after,) = apps.until_pods_ready(namespace, "echo", 1)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [c["restartCount"] for c in after["status"]["initContainerStatuses"]] == [0]
    began = time.monotonic()
    delete(namespace, "deployment", "echo")
    until_nothing_left(namespace)
    ended = time.monotonic() - began
    record_property("figure", f"ServerPool gone after {took:.1f} s; its application after {ended:.1f} s more")


def test_the_application_goes_first_and_then_its_pool(homes: dict[str, str]) -> None:
    namespace = homes["app-first"]
    delete(namespace, "deployment", "echo")
    apps.until_members(namespace, "echo", 0, registrars=2)
    delete(namespace, "serverpool", "echo")
    until_nothing_left(namespace)


def test_all_at_once_and_a_pool_that_never_became_ready() -> None:
    with fresh("e2e-at-once") as namespace:
        apply([apps.pool(signer="CertManager", replicas=2), apps.echo(replicas=1)], namespace=namespace)
        delete(namespace, "serverpool,deployment", "--all")
        until_nothing_left(namespace)


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
    until_nothing_left(namespace)
