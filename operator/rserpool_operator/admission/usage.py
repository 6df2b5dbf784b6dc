# SPDX-License-Identifier: Apache-2.0
"""Gives a pool user's pod its pool: a mount that says where the registrars are and whom to trust."""

from __future__ import annotations

import copy
import re
from typing import Final, NamedTuple

from rserpool.pool import ServerPool
from rserpool.pool.values import LABEL_PATTERN
from rserpool_operator import names
from rserpool_operator.admission.injection import AdmissionError
from rserpool_operator.kube.kinds import Object
from rserpool_operator.selectors import selects

VOLUME: Final = "rserpool-pool"
_LABEL: Final = re.compile(LABEL_PATTERN)


class Used(NamedTuple):
    """Which pool a pod uses."""

    namespace: str
    name: str


def used_pool(label: str, namespace: str) -> Used:
    """Read the label: ``POOL``, of the pod's own namespace, or ``POOL.NAMESPACE``.

    Raises:
        AdmissionError: it is neither.
    """
    name, dot, other = label.partition(".")
    if not _LABEL.fullmatch(name) or (dot and not _LABEL.fullmatch(other)):
        raise AdmissionError(f"label {names.USES_LABEL}: {label!r}: write POOL or POOL.NAMESPACE")
    return Used(other or namespace, name)


def may_use(used: Used, namespace: str, pool: ServerPool | None, labels: dict[str, str], account: str) -> None:
    """Whether pods of that namespace and service account may use the pool.

    Raises:
        AdmissionError: they may not; the text says why, and what to change.
    """
    full = f"{used.namespace}/{used.name}"
    if pool is None:
        if used.namespace == namespace:
            return  # it may still come; until then its mount is not there, and the pod waits
        raise AdmissionError(f"there is no ServerPool {full} that namespace {namespace} may use")
    users = pool.spec.users
    selector = users.namespaces
    if used.namespace != namespace and not (
        (selector.match_labels or selector.match_expressions) and selects(selector, labels)
    ):
        raise AdmissionError(
            f"namespace {namespace} may not use ServerPool {full}: its labels are not selected by spec.users.namespaces"
        )
    if users.service_accounts and account not in users.service_accounts:
        raise AdmissionError(
            f"service account {account} may not use ServerPool {full}: it is none of spec.users.serviceAccounts"
        )


def mount(pod: Object, used: Used) -> Object:
    """The pod with the pool mounted into each container that has nothing there yet."""
    changed = copy.deepcopy(pod)
    spec = changed["spec"]
    volume = {"name": VOLUME, "configMap": {"name": names.users_config_map(used.name, used.namespace)}}
    spec["volumes"] = [*(v for v in spec.get("volumes") or [] if v.get("name") != VOLUME), volume]
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container.get("name") == names.SIDECAR:
            continue
        mounted = container.get("volumeMounts") or []
        if not any(m.get("mountPath") == names.MOUNTED for m in mounted):
            container["volumeMounts"] = [*mounted, {"name": VOLUME, "mountPath": names.MOUNTED, "readOnly": True}]
    return changed
