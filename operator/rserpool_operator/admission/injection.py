# SPDX-License-Identifier: Apache-2.0
"""Gives a member its sidecar: a native one, which starts before the application and ends after it.

Its own preStop hook takes the element out of the pool; an application container without a preStop sleeps through the
drain meanwhile, so that it still serves while its last users leave. Applying this twice changes nothing.
"""

from __future__ import annotations

import copy
import re
from typing import Final, NamedTuple

from rserpool.asap.authorisation import Role
from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment
from rserpool_operator import names
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import Object
from rserpool_operator.manifests.common import (
    OUR_VOLUMES,
    RESTRICTED,
    asap_port,
    environment,
    mesh_annotations,
    mounts,
    probe,
    volumes,
)

DRAIN: Final = 10
"""Seconds, for pods of pools that do not exist yet."""
_CPU: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
GRACE: Final = 30
"""Kubernetes' own default, if a pod says nothing."""


class AdmissionError(ValueError):
    """A pod that cannot be what its label says; the text is shown to whoever creates it."""


def inject(pod: Object, name: str, pool: ServerPool | None, version: str, installation: Installation) -> Object:
    """The pod with its sidecar.

    Args:
        pod: as it is to be created.
        name: of the pool, by its label.
        pool: the same; ``None`` if it does not exist yet (the sidecar waits for it, with a token).
        version: of the sidecar's image.
        installation: what all pods need to know.

    Raises:
        AdmissionError: it cannot be a member.
    """
    if pod["spec"].get("hostNetwork"):
        raise AdmissionError(
            f"a member of pool {name} needs addresses of its own: remove spec.hostNetwork, or the label"
            f" {names.POOL_LABEL}"
        )
    _refuse_intruders(pod["spec"], name)
    changed = copy.deepcopy(pod)
    metadata, spec = changed.setdefault("metadata", {}), changed["spec"]
    ports = _ports(spec, pool)
    others = [c for c in spec.get("initContainers") or [] if c.get("name") != names.SIDECAR]
    way = pool.spec.security.enrolment if pool is not None else Enrolment.TOKEN
    sidecar = _sidecar(name, ports, version, installation, way)
    if pool is None or pool.spec.policy.type.adaptive:
        sidecar["env"] += _cpus(spec)
    spec["initContainers"] = [sidecar, *others]
    known = spec.get("imagePullSecrets") or []
    more = [{"name": n} for n in installation.pull_secrets if {"name": n} not in known]
    if more:
        spec["imagePullSecrets"] = [*known, *more]
    others = [v for v in spec.get("volumes") or [] if v.get("name") not in OUR_VOLUMES]
    spec["volumes"] = [*others, *volumes(name, Role.ELEMENT, way)]
    drain = round(pool.spec.elements.drain.total_seconds()) if pool is not None else DRAIN
    annotations = {**_annotations(pod), names.INJECTED: version, **mesh_annotations(ports.asap, *ports.channel)}
    if _sleep_before_the_end(spec, drain) and names.DRAINED not in annotations:
        grace = spec.get("terminationGracePeriodSeconds")
        spec["terminationGracePeriodSeconds"] = (GRACE if grace is None else grace) + drain
        annotations[names.DRAINED] = str(drain)
    metadata["annotations"] = annotations
    return changed


def _refuse_intruders(spec: Object, name: str) -> None:
    """The identity's folder, and token or leaf, are the sidecar's alone."""
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container.get("name") == names.SIDECAR:
            continue
        mounted = OUR_VOLUMES & {mount.get("name") for mount in container.get("volumeMounts") or []}
        if mounted:
            raise AdmissionError(
                f"container {container.get('name')} mounts {', '.join(sorted(mounted))}, which is for the sidecar of"
                f" pool {name} alone: remove that volumeMount"
            )


def _annotations(pod: Object) -> dict[str, str]:
    return dict((pod.get("metadata") or {}).get("annotations") or {})


class _Ports(NamedTuple):
    """Of a sidecar.

    Attributes:
        channel: for pool users; none, if the pool has no control channel.
        local: for the application; none, if it certainly has nothing to look for there.
    """

    asap: int
    http: int
    channel: tuple[int, ...]
    local: tuple[int, ...]


def _ports(spec: Object, pool: ServerPool | None) -> _Ports:
    """Ports no container of the pod says it uses; a pool that does not exist yet may turn out to have a channel."""
    taken = {port.get("containerPort") for c in spec.get("containers") or [] for port in c.get("ports") or []}
    if pool is not None:
        taken.add(pool.spec.elements.port)

    def free(wanted: int) -> int:
        while wanted in taken:
            wanted += 10_000 if wanted < 50_000 else 1
        taken.add(wanted)
        return wanted

    asap, http = free(asap_port(pool) if pool is not None else names.ASAP_TLS), free(names.SIDECAR_HTTP)
    if pool is not None and not pool.spec.control_channel:
        return _Ports(asap, http, (), ())
    return _Ports(asap, http, (free(names.CHANNEL),), (free(names.CHANNEL_HTTP),))


def _sidecar(name: str, ports: _Ports, version: str, installation: Installation, way: Enrolment) -> Object:
    http = ports.http
    variables = {
        "NETWORK_ASAP_PORT": (ports.asap,),
        "NETWORK_HTTP_PORT": (http,),
        "CHANNEL_PORT": ports.channel,
        "CHANNEL_HTTP_PORT": ports.local,
    }
    offered = {"rserpool-asap": (ports.asap,), "rserpool-http": (http,), "rserpool-users": ports.channel}
    return {
        "name": names.SIDECAR,
        "image": installation.image_of(version),
        "imagePullPolicy": installation.pull_policy,
        "command": ["rserpool-sidecar"],
        "restartPolicy": "Always",
        "env": [
            *environment(installation, name, way),
            *({"name": f"RSERPOOL_{key}", "value": str(port)} for key, found in variables.items() for port in found),
        ],
        "ports": [
            {"name": key, "containerPort": port, "protocol": "TCP"} for key, found in offered.items() for port in found
        ],
        # it answers as soon as it runs: an application must never wait for a registration that waits for it
        "startupProbe": probe("/healthz", http, periodSeconds=1, failureThreshold=60),
        "livenessProbe": probe("/healthz", http, periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": probe("/readyz", http, periodSeconds=1, timeoutSeconds=2, failureThreshold=2),
        "lifecycle": {"preStop": {"exec": {"command": ["rserpool-sidecar", "drain"]}}},
        "resources": copy.deepcopy(installation.sidecar_resources),
        "securityContext": copy.deepcopy(RESTRICTED),
        "volumeMounts": mounts(way),
    }


def _cpus(spec: Object) -> list[Object]:
    """How many CPUs the application may use, if each of its containers has a limit: what a load of 1 means to it."""
    limits = [
        str(((c.get("resources") or {}).get("limits") or {}).get("cpu", "")) for c in spec.get("containers") or []
    ]
    found = [_CPU.fullmatch(limit) for limit in limits]
    cpus = sum(float(part[1]) / (1000 if part[2] else 1) for part in found if part is not None)
    return [{"name": "RSERPOOL_LOAD_CPUS", "value": f"{cpus:g}"}] if cpus and all(found) else []


def _sleep_before_the_end(spec: Object, seconds: int) -> bool:
    """Let the application serve on while its users leave; a preStop of its own is left alone."""
    if seconds <= 0:
        return False
    given = False
    for container in spec.get("containers") or []:
        if not (container.get("lifecycle") or {}).get("preStop"):
            container["lifecycle"] = {
                **(container.get("lifecycle") or {}),
                "preStop": {"sleep": {"seconds": seconds}},
            }
            given = True
    return given
