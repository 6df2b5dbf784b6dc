# SPDX-License-Identifier: Apache-2.0
"""How the API server keeps what it is given: with defaults, without what is empty, quantities in its own writing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

from rserpool_operator.kube import Kind, Object
from rserpool_operator.kube.kinds import SERVER_POOL, SERVICE, STATEFUL_SET

CERT_MANAGER: Final = "cert-manager.io"
_NO_POINTERS: Final = frozenset({"publishNotReadyAddresses", "hostNetwork", "hostPID", "readOnly", "stdin", "tty"})
"""Flags that the API server leaves out when they are false: for it, false and absent are the same there."""


def as_stored(manifest: Object, kind: Kind) -> Object:
    """With the API server's defaults, in its way of writing."""
    if kind == SERVER_POOL or kind.api_version.startswith(CERT_MANAGER):
        return manifest
    found = {key: _omitted(value, key) if key == "spec" else value for key, value in manifest.items()}
    if kind == SERVICE:
        _service(found["spec"])
    elif kind == STATEFUL_SET:
        _stateful_set(found["spec"])
    return found


def _omitted(value: Any, name: str) -> Any:
    """Without what is left out because it is empty."""
    if isinstance(value, list):
        return [_omitted(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: _omitted(v, k) for k, v in value.items() if v is not None and v not in ("", [])}
    return {k: v for k, v in kept.items() if not (v is False and k in _NO_POINTERS)}


def _service(spec: Object) -> None:
    spec.setdefault("type", "ClusterIP")
    spec |= {"sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack"}
    spec |= {"clusterIPs": [spec.get("clusterIP", "10.0.0.1")], "ipFamilies": ["IPv4"]}


def _stateful_set(spec: Object) -> None:
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"})
    spec.setdefault("updateStrategy", {}).setdefault("rollingUpdate", {"partition": 0})
    template = spec["template"]
    template["metadata"].setdefault("creationTimestamp", None)
    pod = template["spec"]
    for key, value in (("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("schedulerName", "default")):
        pod.setdefault(key, value)
    pod["serviceAccount"] = pod["serviceAccountName"]
    for volume in pod.get("volumes", []):
        size = volume.get("emptyDir", {}).get("sizeLimit")
        if size is not None:
            volume["emptyDir"]["sizeLimit"] = quantity(size)
    for container in pod.get("containers", []):
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        for part, given in container["resources"].items():
            container["resources"][part] = {k: quantity(v) for k, v in given.items()}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for key, default in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1)):
                container[probe].setdefault(key, default)
            container[probe].setdefault("failureThreshold", 3)


def quantity(value: Any) -> str:
    """A quantity as the API server writes it."""
    number = Decimal(str(value)) if isinstance(value, int | float) else Decimal(parse_quantity(value))
    if str(value).endswith("i") and number == int(number):
        for power, suffix in ((6, "Ei"), (5, "Pi"), (4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
            if number and not number % 1024**power:
                return f"{int(number) // 1024**power}{suffix}"
        return str(int(number))
    for power, suffix in ((6, "E"), (5, "P"), (4, "T"), (3, "G"), (2, "M"), (1, "k"), (0, "")):
        if number and not number % 1000**power:
            return f"{int(number) // 1000**power}{suffix}"
    for power, suffix in ((1, "m"), (2, "u"), (3, "n")):
        if number and not number * 1000**power % 1:
            return f"{int(number * 1000**power)}{suffix}"
    return "0"
