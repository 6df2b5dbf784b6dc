# SPDX-License-Identifier: Apache-2.0
"""Labels, annotations, ports and the names of objects: what is written in more than one place."""

from __future__ import annotations

from typing import Final

GROUP: Final = "rserpool.io"
FIELD_MANAGER: Final = "rserpool-operator"

POOL_LABEL: Final = "rserpool.io/pool"
"""On a pod: it is a member of that pool of its namespace."""
USES_LABEL: Final = "rserpool.io/uses"
"""On a pod: it uses that pool, ``POOL`` or ``POOL.NAMESPACE``."""
INJECTED: Final = "rserpool.io/injected"
"""Annotation of a pod: the version of the sidecar it was given."""
OWNER_LABEL: Final = "rserpool.io/server-pool"
"""On our objects: the pool's name."""
OWNER_NAMESPACE_LABEL: Final = "rserpool.io/server-pool-namespace"
"""On our objects outside the pool's namespace."""
OWNER_UID_LABEL: Final = "rserpool.io/server-pool-uid"
APPLIED: Final = "rserpool.io/applied"
"""Annotation of our objects: a hash of what was applied last."""
SHAPE: Final = "rserpool.io/shape"
"""Annotation of a StatefulSet: a hash of what its pods are replaced for."""
DRAINED: Final = "rserpool.io/drain"
"""Annotation of a pod: seconds by which its grace period was lengthened."""
RENEW: Final = "rserpool.io/renew"
"""Annotation of a ServerPool: leaves obtained before it had this value are renewed, and so are the keys of cookies."""
ACCEPT_CA: Final = "rserpool.io/accept-ca"
"""Annotation of a ServerPool: the user's word that a CA key that was lost may be replaced by this one (or ``new``)."""
GO_ON: Final = "rserpool.io/go-on"
"""Annotation of a ServerPool: a CA generation; its introduction waits for no pod that does not answer."""
COOKIE_KEYS: Final = "rserpool.io/cookie-keys"
"""Annotation of the Secret with a pool's cookie keys: their numbers, the newest first."""
COOKIE_KEYS_CHANGED: Final = "rserpool.io/cookie-keys-changed"
"""Annotation of that Secret: when the newest key was made."""
FINALIZER: Final = "rserpool.io/authority"
LEADER_LABEL: Final = "rserpool.io/leader"
"""On the operator's pods: which of them leads; the leader's Service selects it."""

MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "rserpool-operator"}

ASAP_TLS, ASAP_PLAIN, ENRP_TLS, ENRP_PLAIN = 3864, 3863, 9902, 9901
REGISTRAR_HTTP, SIDECAR_HTTP = 8080, 8081
CHANNEL, CHANNEL_HTTP = 7008, 8082
AUDIENCE: Final = "rserpool.io/enrolment"
"""Of the tokens with which pods enrol; the API server takes them for nothing else."""

SIGNER: Final = "rserpool.io/pool"
"""Whom PodCertificateRequests name as their signer: this operator, for all pools."""
KEY_TYPE: Final = "ECDSAP256"
"""Of the keys that kubelets make for us."""
CLAIMED_POOL: Final = "rserpool.io/pool"
CLAIMED_ROLE: Final = "rserpool.io/role"
"""What a PodCertificateRequest asks for, in its user's annotations; nobody has verified them."""

RUN: Final = "/run/rserpool"
IDENTITY: Final = f"{RUN}/identity"
"""Memory-backed folder of our container: key, leaf, bundle, settings, control socket."""
TOKEN: Final = f"{RUN}/token"
CREDENTIAL: Final = f"{RUN}/credential"
CREDENTIAL_FILE: Final = "credential.pem"
"""Where the kubelet keeps key and leaf of a pod, one file, if the pool's enrolment is PodCertificate."""
SOCKET: Final = f"{IDENTITY}/control.sock"
MOUNTED: Final = "/var/run/rserpool"
"""Where a pool user's pod finds its pool."""
NODE_USER: Final = 65532
"""The user of both images."""

SIDECAR: Final = "rserpool-sidecar"
INSTALLATION_CA: Final = "rserpool-installation-ca"
"""Secret of the operator's namespace."""


def registrar_set(pool: str) -> str:
    """The StatefulSet, its PodDisruptionBudget, its ServiceAccount and its NetworkPolicy."""
    return f"{pool}-registrar"


def peers_service(pool: str) -> str:
    """The headless Service for ENRP: all registrars, ready or not."""
    return f"{pool}-peers"


def asap_service(pool: str) -> str:
    """The headless Service for ASAP: the ready registrars."""
    return pool


def users_config_map(pool: str, namespace: str) -> str:
    """What pool users mount; the same name in each namespace that may use the pool."""
    return f"rserpool.{pool}.{namespace}"


def cookie_keys(namespace: str, pool: str, uid: str) -> str:
    """The Secret with the keys of a pool's cookies in the operator's namespace."""
    return f"{namespace}.{pool}.{uid[:8]}-cookies"


def authority(namespace: str, pool: str, uid: str, generation: int) -> str:
    """Certificate, Issuer and Secret of a pool's CA in the operator's namespace."""
    return f"{namespace}.{pool}.{uid[:8]}-g{generation}"
