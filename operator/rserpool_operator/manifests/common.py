# SPDX-License-Identifier: Apache-2.0
"""What our containers have in common, and how our objects are labelled."""

from __future__ import annotations

from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment, Mode
from rserpool.pool.rules import LONGEST_POD_CERTIFICATE
from rserpool_operator import names
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import Object

IDENTITY_VOLUME: Final = "rserpool-identity"
TOKEN_VOLUME: Final = "rserpool-token"  # noqa: S105 - a volume's name
CREDENTIAL_VOLUME: Final = "rserpool-credential"
OUR_VOLUMES: Final = frozenset({IDENTITY_VOLUME, TOKEN_VOLUME, CREDENTIAL_VOLUME})
"""For our containers alone."""
TOKEN_LIFE: Final = 3600
"""Seconds; only the first enrolment uses it. The kubelet keeps it fresh."""

RESTRICTED: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": names.NODE_USER,
    "runAsGroup": names.NODE_USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Security context of our containers: Pod Security "restricted", and more."""


def labels(pool: ServerPool, component: str = "") -> dict[str, str]:
    """Labels of an object of this pool."""
    found = {
        "app.kubernetes.io/name": "rserpool",
        "app.kubernetes.io/instance": pool.metadata.name,
        **names.MANAGED_BY,
        names.OWNER_LABEL: pool.metadata.name,
    }
    if component:
        found["app.kubernetes.io/component"] = component
    return found


def registrar_selector(pool: str) -> dict[str, str]:
    """Labels that a pool's registrars have, and nobody else."""
    return {names.OWNER_LABEL: pool, "app.kubernetes.io/component": "registrar"}


def manifest(
    api_version: str, kind: str, name: str, pool: ServerPool, uid: str, component: str = "", **fields: Any
) -> Object:
    """An object in the pool's namespace that goes when the ServerPool goes."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": pool.metadata.namespace,
            "labels": labels(pool, component),
            "ownerReferences": [owner(pool, uid)],
        },
        **fields,
    }


def owner(pool: ServerPool, uid: str) -> Object:
    """The reference to the ServerPool."""
    return {
        "apiVersion": pool.api_version,
        "kind": pool.kind,
        "name": pool.metadata.name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def asap_port(pool: ServerPool) -> int:
    """Where registrars take ASAP: one port for TLS, another one without."""
    return names.ASAP_TLS if pool.spec.security.mode is Mode.SECURE else names.ASAP_PLAIN


def enrp_port(pool: ServerPool) -> int:
    """Where registrars take ENRP."""
    return names.ENRP_TLS if pool.spec.security.mode is Mode.SECURE else names.ENRP_PLAIN


def registrar_hosts(namespace: str, pool: str, replicas: int, cluster_domain: str) -> list[str]:
    """The name of each registrar; it has one whether it is ready or not."""
    suffix = f"{names.peers_service(pool)}.{namespace}.svc.{cluster_domain}"
    return [f"{names.registrar_set(pool)}-{ordinal}.{suffix}" for ordinal in range(replicas)]


def dns_names(namespace: str, pool: str, pod: str, cluster_domain: str) -> tuple[str, ...]:
    """Host names in a registrar's certificate (RFC 5352 9.2), in their order."""
    own, shared = f"{pod}.{names.peers_service(pool)}.{namespace}.svc", f"{names.asap_service(pool)}.{namespace}.svc"
    return (own, f"{own}.{cluster_domain}", shared, f"{shared}.{cluster_domain}")


def environment(installation: Installation, pool: str, way: Enrolment = Enrolment.TOKEN) -> list[Object]:
    """What a registrar or sidecar must know before it can ask for the rest. Nothing here is secret."""
    if way is Enrolment.POD_CERTIFICATE:
        file = f"{names.CREDENTIAL}/{names.CREDENTIAL_FILE}"
        source = {"RSERPOOL_SECURITY_SOURCE": "pod-certificate", "RSERPOOL_SECURITY_CREDENTIAL_FILE": file}
    else:
        source = {"RSERPOOL_SECURITY_TOKEN_FILE": f"{names.TOKEN}/token"}
    fixed = {
        "RSERPOOL_POOL_NAME": pool,
        "RSERPOOL_POOL_TRUST_DOMAIN": installation.trust_domain,
        "RSERPOOL_SECURITY_URL": installation.enrolment_url,
        "RSERPOOL_SECURITY_AUTHORITY": installation.authority,
        **source,
        "RSERPOOL_SECURITY_DIRECTORY": names.IDENTITY,
        "RSERPOOL_OPERATOR_URL": installation.control_url,
        "RSERPOOL_CONTROL_SOCKET": names.SOCKET,
        "RSERPOOL_LOG_FORMAT": installation.log_format,
    }
    own = {
        "RSERPOOL_POOL_NAMESPACE": "metadata.namespace",
        "RSERPOOL_NETWORK_ADDRESS": "status.podIP",
        "RSERPOOL_SECURITY_POD_UID": "metadata.uid",
    }
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in own.items()
        ),
    ]


def mounts(way: Enrolment = Enrolment.TOKEN) -> list[Object]:
    """Where our container finds its identity, and its token or what the kubelet has obtained for it."""
    name, path = TOKEN_VOLUME, names.TOKEN
    if way is Enrolment.POD_CERTIFICATE:
        name, path = CREDENTIAL_VOLUME, names.CREDENTIAL
    return [
        {"name": IDENTITY_VOLUME, "mountPath": names.IDENTITY},
        {"name": name, "mountPath": path, "readOnly": True},
    ]


def volumes(pool: str, role: Role, way: Enrolment = Enrolment.TOKEN) -> list[Object]:
    """The identity's folder, which is in memory, and the way in.

    That is a token which is good for enrolment only, or a leaf that the kubelet asks for by a key of its own making.
    """
    if way is Enrolment.POD_CERTIFICATE:
        certificate = {
            "signerName": names.SIGNER,
            "keyType": names.KEY_TYPE,
            "credentialBundlePath": names.CREDENTIAL_FILE,
            # for how long it is valid, the ServerPool says; that may change while the pod lives
            "maxExpirationSeconds": round(LONGEST_POD_CERTIFICATE.total_seconds()),
            "userAnnotations": {names.CLAIMED_POOL: pool, names.CLAIMED_ROLE: role.value},
        }
        name, source = CREDENTIAL_VOLUME, {"podCertificate": certificate}
    else:
        token = {"audience": names.AUDIENCE, "expirationSeconds": TOKEN_LIFE, "path": "token"}
        name, source = TOKEN_VOLUME, {"serviceAccountToken": token}
    return [
        {"name": IDENTITY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        {"name": name, "projected": {"defaultMode": 0o444, "sources": [source]}},
    ]


def probe(path: str, port: int, **fields: int) -> Object:
    """An httpGet probe."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, **fields}


def mesh_annotations(*ports: int) -> dict[str, str]:
    """Keep service meshes away from our ports: identities and addresses must be the pods' own."""
    text = ",".join(str(port) for port in ports)
    return {
        "traffic.sidecar.istio.io/excludeInboundPorts": text,
        "traffic.sidecar.istio.io/excludeOutboundPorts": text,
        "config.linkerd.io/skip-inbound-ports": text,
        "config.linkerd.io/skip-outbound-ports": text,
    }
