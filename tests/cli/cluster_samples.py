# SPDX-License-Identifier: Apache-2.0
"""Objects of a cluster, as `kubectl get -o json` shows them, cut down to what matters."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
SINCE = "2026-11-25T20:00:00Z"
HOMES = {"echo-registrar-0": "0x0000000a", "echo-registrar-1": "0x0000000b"}


def condition(kind: str, status: str, reason: str, message: str = "") -> Manifest:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": SINCE,
        "observedGeneration": 1,
    }


def server_pool(*conditions: Manifest, name: str = "echo", namespace: str = "demo", **spec: Any) -> Manifest:
    """A ServerPool; without conditions one that is as it should be."""
    return {
        "apiVersion": "rserpool.io/v1alpha1",
        "kind": "ServerPool",
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": SINCE},
        "spec": {"policy": {"type": "RoundRobin"}, "registrars": {"replicas": 2}, **spec},
        "status": {
            "observedGeneration": 1,
            "version": "0.1.0",
            "conditions": list(conditions) or [condition("Ready", "True", "Serving", "2 of 2 registrars serve")],
            "registrars": {"replicas": 2, "ready": 2, "transports": ["TCP"]},
            "elements": {"matched": 2, "enrolled": 2, "registered": 2, "notInjected": 0, "outdated": 0},
            "authority": {"generation": 1, "phase": "Active", "notAfter": "2027-11-25T20:00:00Z"},
        },
    }


def pod(name: str, address: str, *, sidecar: bool = True, ready: bool = True, **more: Any) -> Manifest:
    """A pod that runs."""
    sidecars = [{"name": "rserpool-sidecar"}] if sidecar else []
    running = {"state": {"running": {"startedAt": SINCE}}, "restartCount": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {}},
        "spec": {"nodeName": "worker", "initContainers": sidecars, "containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [{"name": c["name"], **running} for c in sidecars],
            "containerStatuses": [{"name": "main", **running}],
            **more,
        },
    }


def registrar(ordinal: int, **more: Any) -> Manifest:
    return pod(f"echo-registrar-{ordinal}", f"10.0.0.{ordinal + 1}", sidecar=False, **more)


def element(number: int, home: str = "0x0000000a") -> Manifest:
    return {
        "identifier": f"{number:#010x}",
        "home": home,
        "life": 30000,
        "transport": f"tcp:10.0.1.{number}:7007",
        "policy": "RoundRobin()",
        "asap": f"tcp:10.0.1.{number}:3864",
    }


def dump(registrar: str, *elements: Manifest, phase: str = "serving") -> Manifest:
    """What `rserpool dump` prints in a registrar's container."""
    pools = [{"handle": "echo", "policy": "ROUND_ROBIN", "transport": "TCP", "elements": list(elements)}]
    held = {
        "server_id": HOMES[registrar],
        "phase": phase,
        "endpoints": ["tcp:10.0.0.1:9902"],
        "handlespace": {"pools": pools if elements else [], "checksums": {}},
        "peers": [],
    }
    return {"/run/rserpool/identity/control.sock": held}


def event(kind: str, name: str, minute: int, reason: str, message: str, **more: Any) -> Manifest:
    """As the core API shows an Event that was made by events.k8s.io/v1."""
    when = f"2026-11-25T20:{minute:02}:00.000000Z"
    return {
        "kind": "Event",
        "involvedObject": {"kind": kind, "name": name, "namespace": "demo"},
        "metadata": {"name": f"{name}.{minute}", "creationTimestamp": when},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "eventTime": when,
        "firstTimestamp": None,
        "lastTimestamp": None,
        **more,
    }
