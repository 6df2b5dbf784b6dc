# SPDX-License-Identifier: Apache-2.0
"""The registrars: their StatefulSet, ServiceAccount and PodDisruptionBudget.

Nothing in the template follows from what may change in the ServerPool while registrars run: that comes through the
control channel. So neither another timer nor a new operator restarts a registrar; another image version does.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import Object
from rserpool_operator.manifests.common import (
    RESTRICTED,
    asap_port,
    enrp_port,
    environment,
    labels,
    manifest,
    mesh_annotations,
    mounts,
    probe,
    registrar_selector,
    volumes,
)

GRACE: Final = 10
"""Seconds for a registrar to say goodbye in."""


def service_account(pool: ServerPool, uid: str) -> Object:
    """The registrars' own, with no rights and no token but the one for enrolment."""
    name = names.registrar_set(pool.metadata.name)
    return manifest("v1", "ServiceAccount", name, pool, uid, "registrar", automountServiceAccountToken=False)


def pod_disruption_budget(pool: ServerPool, uid: str) -> Object:
    """A drained node takes registrars one at a time."""
    spec = {
        "maxUnavailable": pool.spec.registrars.pod_disruption_budget.max_unavailable,
        "selector": {"matchLabels": registrar_selector(pool.metadata.name)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    name = names.registrar_set(pool.metadata.name)
    return manifest("policy/v1", "PodDisruptionBudget", name, pool, uid, "registrar", spec=spec)


def stateful_set(pool: ServerPool, uid: str, version: str, installation: Installation) -> Object:
    """The StatefulSet."""
    name = pool.metadata.name
    selector = registrar_selector(name)
    registrars = pool.spec.registrars
    spec: Object = {
        "replicas": registrars.replicas,
        "serviceName": names.peers_service(name),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector},
        "updateStrategy": {"type": "RollingUpdate"},
        "template": {
            "metadata": {
                "labels": labels(pool, "registrar"),
                "annotations": {
                    "kubectl.kubernetes.io/default-container": "registrar",
                    **mesh_annotations(asap_port(pool), enrp_port(pool)),
                },
            },
            "spec": {
                "serviceAccountName": names.registrar_set(name),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": GRACE,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [_container(pool, version, installation)],
                "volumes": volumes(name, Role.REGISTRAR, pool.spec.security.enrolment),
                "topologySpreadConstraints": registrars.topology_spread_constraints or [_spread(selector)],
            },
        },
    }
    pod = spec["template"]["spec"]
    if registrars.node_selector:
        pod["nodeSelector"] = dict(registrars.node_selector)
    if registrars.tolerations:
        pod["tolerations"] = [dict(t) for t in registrars.tolerations]
    if installation.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in installation.pull_secrets]
    made = manifest("apps/v1", "StatefulSet", names.registrar_set(name), pool, uid, "registrar", spec=spec)
    made["metadata"]["annotations"] = {names.SHAPE: _shape(pool, version, installation)}
    return made


def _shape(pool: ServerPool, version: str, installation: Installation) -> str:
    """What registrars are replaced for: their image's version, what the ServerPool says of pods, and the way to us."""
    own = pool.spec.registrars.model_dump(mode="json", exclude={"replicas", "pod_disruption_budget"})
    away = (installation.enrolment_url, installation.control_url, installation.authority)
    return hashlib.sha256(json.dumps([version, own, away], sort_keys=True).encode()).hexdigest()[:16]


def _spread(selector: dict[str, str]) -> Object:
    """Over nodes, where there are several: a node's end must not be the end of two registrars."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }


def _container(pool: ServerPool, version: str, installation: Installation) -> Object:
    name, namespace = pool.metadata.name, pool.metadata.namespace
    peers = f"$(POD_NAME).{names.peers_service(name)}.{namespace}.svc"
    shared = f"{names.asap_service(name)}.{namespace}.svc"
    domain = installation.cluster_domain
    hosts = ",".join((peers, f"{peers}.{domain}", shared, f"{shared}.{domain}"))
    asap, enrp = asap_port(pool), enrp_port(pool)
    return {
        "name": "registrar",
        "image": installation.image_of(version),
        "imagePullPolicy": installation.pull_policy,
        "command": ["rserpool-registrar"],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            *environment(installation, name, pool.spec.security.enrolment),
            {"name": "RSERPOOL_SECURITY_DNS_NAMES", "value": hosts},
            {"name": "RSERPOOL_NETWORK_ASAP_PORT", "value": str(asap)},
            {"name": "RSERPOOL_NETWORK_ENRP_PORT", "value": str(enrp)},
            {"name": "RSERPOOL_NETWORK_HTTP_PORT", "value": str(names.REGISTRAR_HTTP)},
        ],
        "ports": [
            {"name": "asap", "containerPort": asap, "protocol": "TCP"},
            {"name": "enrp", "containerPort": enrp, "protocol": "TCP"},
            {"name": "http", "containerPort": names.REGISTRAR_HTTP, "protocol": "TCP"},
        ],
        "startupProbe": probe("/healthz", names.REGISTRAR_HTTP, periodSeconds=1, failureThreshold=60),
        "livenessProbe": probe(
            "/healthz", names.REGISTRAR_HTTP, periodSeconds=10, timeoutSeconds=5, failureThreshold=6
        ),
        "readinessProbe": probe("/readyz", names.REGISTRAR_HTTP, periodSeconds=2, timeoutSeconds=2),
        "resources": pool.spec.registrars.resources or installation.registrar_resources,
        "securityContext": RESTRICTED,
        "volumeMounts": mounts(pool.spec.security.enrolment),
    }
