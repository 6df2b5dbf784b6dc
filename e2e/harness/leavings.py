# SPDX-License-Identifier: Apache-2.0
"""Objects that the operator has made, wherever they are."""

from __future__ import annotations

import time
from typing import Final

from harness.cluster import SYSTEM
from harness.kubectl import Manifest, get, kubectl
from harness.waiting import NotYet, wait_for

OURS: Final = "app.kubernetes.io/managed-by=rserpool-operator"
POOL_LABEL: Final = "rserpool.io/server-pool"
_IN_NAMESPACES: Final = (
    "statefulsets.apps,services,serviceaccounts,configmaps,poddisruptionbudgets.policy,"
    "networkpolicies.networking.k8s.io,controllerrevisions.apps,persistentvolumeclaims"
)
_IN_SYSTEM: Final = (
    "secrets,certificates.cert-manager.io,issuers.cert-manager.io,certificaterequests.cert-manager.io,"
    "configmaps,services,serviceaccounts"
)
PATIENCE: Final = 60
"""Seconds until what was deleted is gone at the latest."""
_EVERYBODYS: Final = frozenset({("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")})


def name_of(thing: Manifest) -> str:
    """Kind, namespace and name."""
    return f"{thing['kind']} {thing['metadata']['namespace']}/{thing['metadata']['name']}"


def ours() -> dict[str, str]:
    """Resource versions of all that pools consist of, but for pods, by name."""
    found = get(f"{_IN_NAMESPACES}", "-A", "-l", OURS)
    found += get(_IN_SYSTEM, "-n", SYSTEM, "-l", OURS)
    found += get("serverpools.rserpool.io", "-A")
    return {name_of(thing): str(thing["metadata"]["resourceVersion"]) for thing in found}


def of_pools_of(namespace: str) -> list[str]:
    """What the operator keeps in its own namespace for pools of another one: their authorities."""
    found = get(_IN_SYSTEM, "-n", SYSTEM, "-l", f"rserpool.io/server-pool-namespace={namespace}")
    # whatever its labels: the name begins with the pool's namespace
    found += [t for t in get(_IN_SYSTEM, "-n", SYSTEM) if t["metadata"]["name"].startswith(f"{namespace}.")]
    return sorted({name_of(thing) for thing in found})


def left_in(namespace: str) -> list[str]:
    """What is in a namespace beside what every namespace has: nothing, if only a pool was in it and is gone."""
    found = get(f"{_IN_NAMESPACES},secrets,pods,leases,endpointslices.discovery.k8s.io", "-n", namespace)
    return sorted(name_of(thing) for thing in found if (thing["kind"], thing["metadata"]["name"]) not in _EVERYBODYS)


def delete(namespace: str, *what: str) -> float:
    """Delete, and wait until it is gone; returns the seconds that took."""
    began = time.monotonic()
    kubectl("-n", namespace, "delete", *what, f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    return time.monotonic() - began


def until_nothing_left(namespace: str, *, but: str = "/") -> None:
    """Wait until nothing is left of a pool, in its namespace and in the operator's; `but` that pod."""

    def nothing() -> bool:
        left = [n for n in left_in(namespace) if n != f"Pod {namespace}/{but}"] or of_pools_of(namespace)
        if left:
            raise NotYet(left)
        return True

    wait_for(nothing, PATIENCE, f"nothing is left of what was in {namespace}", every=1)  # a look reads a dozen lists
