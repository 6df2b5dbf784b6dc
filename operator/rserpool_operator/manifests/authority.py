# SPDX-License-Identifier: Apache-2.0
"""A pool's authority as cert-manager's objects, in the operator's namespace, and a request to it.

One Certificate a CA generation, whose key is never changed by a renewal: a renewed CA with a new key would make
strangers of all leaves (cert-manager's own default since 1.18).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.kube.kinds import Object

LEAF: Final = "leaf"
TRIAL: Final = "trial"
"""Component of a request with which an issuer is tried."""


def authority_labels(pool: ServerPool, uid: str) -> dict[str, str]:
    """Whose authority it is. Labels hold 63 characters, as much as a namespace's name may have."""
    return {
        **names.MANAGED_BY,
        "app.kubernetes.io/component": "authority",
        names.OWNER_LABEL: pool.metadata.name,
        names.OWNER_NAMESPACE_LABEL: pool.metadata.namespace,
        names.OWNER_UID_LABEL: uid,
    }


def leaf_labels(pool: ServerPool, uid: str) -> dict[str, str]:
    """Of requests for leaves: cert-manager gives its own requests the labels of the Certificate they are for."""
    return authority_labels(pool, uid) | {"app.kubernetes.io/component": LEAF}


def trial_labels(pool: ServerPool, uid: str) -> dict[str, str]:
    """Of a request with which an issuer is tried."""
    return authority_labels(pool, uid) | {"app.kubernetes.io/component": TRIAL}


def common_name(namespace: str, pool: str, uid: str, generation: int) -> str:
    """Of a CA: at most 64 characters (RFC 5280), another one for each pool that ever was."""
    text = f"{namespace}/{pool}/{uid}/{generation}"
    return f"rserpool {hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _metadata(pool: ServerPool, uid: str, name: str, namespace: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": authority_labels(pool, uid)}


def root_issuer(pool: ServerPool, uid: str, name: str, namespace: str) -> Object:
    """Signs the CA's own certificate."""
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": _metadata(pool, uid, f"{name}-root", namespace),
        "spec": {"selfSigned": {}},
    }


def certificate(pool: ServerPool, uid: str, name: str, namespace: str, generation: int) -> Object:
    """The CA's certificate; cert-manager makes the key, and keeps it in the Secret of that name."""
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": _metadata(pool, uid, name, namespace),
        "spec": {
            "isCA": True,
            "commonName": common_name(pool.metadata.namespace, pool.metadata.name, uid, generation),
            "secretName": name,
            "secretTemplate": {"labels": authority_labels(pool, uid)},
            "duration": go_duration(pool.spec.security.ca.duration),
            # with the same key; we replace the key before that, at two thirds of its life
            "renewBefore": go_duration(pool.spec.security.ca.duration / 12),
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
            "usages": ["cert sign", "crl sign"],
            "issuerRef": {"name": f"{name}-root", "kind": "Issuer", "group": "cert-manager.io"},
        },
    }


def issuer(pool: ServerPool, uid: str, name: str, namespace: str) -> Object:
    """Signs the pool's leaves."""
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": _metadata(pool, uid, name, namespace),
        "spec": {"ca": {"secretName": name}},
    }


def request_name(pod_uid: str, csr: bytes) -> str:
    """Named by pod and request: asking again for the same finds what was asked for."""
    return f"{pod_uid}-{hashlib.sha256(csr).hexdigest()[:12]}"


def certificate_request(
    name: str, namespace: str, labels: dict[str, str], issuer_ref: Object, csr: bytes, role: Role, life: timedelta
) -> Object:
    """A leaf's."""
    usages: Sequence[str] = ["digital signature", "client auth"]
    if role is not Role.USER:
        usages = [*usages, "server auth"]
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "request": base64.b64encode(csr).decode(),
            "issuerRef": issuer_ref,
            "duration": go_duration(life),
            "isCA": False,
            "usages": list(usages),
        },
    }


def go_duration(duration: timedelta) -> str:
    """As the API server writes it back, so that it does not look changed: ``24h0m0s``."""
    seconds = round(duration.total_seconds())
    return f"{seconds // 3600}h{seconds % 3600 // 60}m{seconds % 60}s"
