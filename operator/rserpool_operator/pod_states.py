# SPDX-License-Identifier: Apache-2.0
"""What a pod of a pool is, by what the API server says of it."""

from __future__ import annotations

from collections.abc import Iterable

from rserpool_operator import names
from rserpool_operator.kube.kinds import Object
from rserpool_operator.observed import Member, RegistrarPod


def has_ended(pod: Object) -> bool:
    """Whether a pod's work is over."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def member_of(pod: Object, *, early: bool) -> Member:
    """A member; ``early``: it may have a leaf as soon as it has an address, since the kubelet obtains it."""
    metadata = pod["metadata"]
    version = (metadata.get("annotations") or {}).get(names.INJECTED, "")
    containers = pod["spec"].get("initContainers") or []
    injected = any(c.get("name") == names.SIDECAR for c in containers)
    own = [c for c in (pod.get("status") or {}).get("initContainerStatuses") or [] if c.get("name") == names.SIDECAR]
    return Member(
        name=metadata["name"],
        uid=metadata["uid"],
        version=version if injected else "",
        service_account=pod["spec"].get("serviceAccountName") or "default",
        started=_may_have_leaf(pod, own, early=early),
    )


def registrar_of(pod: Object, *, early: bool) -> RegistrarPod:
    """A registrar; ``early`` as of a member."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])
    return RegistrarPod(
        name=metadata["name"],
        uid=metadata["uid"],
        ready=ready and "deletionTimestamp" not in metadata,
        trouble=_trouble(status),
        started=_may_have_leaf(pod, status.get("containerStatuses") or [], early=early),
    )


def _may_have_leaf(pod: Object, containers: Iterable[Object], *, early: bool) -> bool:
    """Whether a pod may hold a leaf: its container obtains it, or (``early``) the kubelet, before it has an address."""
    return _has_started(pod, containers) or (early and bool((pod.get("status") or {}).get("podIPs")))


def _has_started(pod: Object, containers: Iterable[Object]) -> bool:
    """Whether our container may ever have run. Until it has, the pod is Pending; the reverse does not hold."""
    if (pod.get("status") or {}).get("phase") != "Pending":
        return True
    return any(
        c.get("restartCount") or c.get("lastState") or set(c.get("state") or {}) & {"running", "terminated"}
        for c in containers
    )


_PATIENT = frozenset({"ContainerCreating", "PodInitializing"})


def _trouble(status: Object) -> str:
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _PATIENT:
            return " ".join(f"{waiting['reason']}: {waiting.get('message', '')}".split())[:200].rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return " ".join(f"{condition.get('reason')}: {condition.get('message', '')}".split())[:200]
    return ""
