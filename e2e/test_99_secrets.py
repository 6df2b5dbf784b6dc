# SPDX-License-Identifier: Apache-2.0
"""No key and no token of the cluster is in a log, an Event, a status or any other object that is no Secret.

Each namespace of the tests was searched before it was deleted (harness/namespaces.py); here is the rest, and the sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from harness.cluster import SYSTEM
from harness.known import KNOWN
from harness.kubectl import apply, get, kubectl
from harness.namespaces import LABEL
from harness.secrecy import SEARCHED, look
from harness.waiting import wait_for


def test_the_operator_and_what_is_left_tell_no_secret(cluster: object) -> None:
    namespaces = [n["metadata"] for n in get("namespaces", "-l", LABEL)]
    left = [n["name"] for n in namespaces if "deletionTimestamp" not in n]
    found = [leak for name in (SYSTEM, *left) for leak in look(name)]
    assert found == []


def test_no_event_of_any_namespace_tells_one(cluster: object) -> None:
    told = get("events.events.k8s.io", "-A")
    assert told
    found = [f"{event['metadata']['name']}: {leak.what}" for event in told for leak in KNOWN.find(json.dumps(event))]
    assert found == []


def test_nothing_did_in_any_namespace_that_the_tests_had(
    cluster: object, record_property: Callable[[str, object], None]
) -> None:
    assert SEARCHED.leaks == []
    assert SEARCHED.keys, "no key was known"
    assert SEARCHED.texts > 10
    record_property("figure", f"secrets: {SEARCHED.texts} texts searched for {SEARCHED.keys} keys, and tokens")


def test_one_that_is_told_is_found_and_not_told_again(namespace: str) -> None:
    """A search that finds nothing proves nothing."""
    token = wait_for(lambda: kubectl("create", "token", "default", "-n", namespace).strip(), 30, "there is the account")
    apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leak"}, "data": {"a": f"x {token} y"}},
        namespace=namespace,
    )
    try:
        found = look(namespace)
    finally:
        kubectl("delete", "configmap", "leak", "-n", namespace)
    assert found == [f"configmaps {namespace}/leak, line 1: a token that a test asked for"] * len(found)
    assert found
    assert token.rpartition(".")[2] not in "".join(found)
