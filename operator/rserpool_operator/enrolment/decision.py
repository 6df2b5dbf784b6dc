# SPDX-License-Identifier: Apache-2.0
"""May this pod have this identity? One pure function; everything that can be wrong has its words (threats 2.1 to 2.5).

A refusal that may become right by itself says so (``retry``): the pod asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rserpool.asap.authorisation import Role
from rserpool.identity import LeafIdentity
from rserpool.identity.revoked import LEAF_REVOKED, Revoked
from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment
from rserpool_operator import names
from rserpool_operator.manifests.common import dns_names
from rserpool_operator.selectors import selects


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is asked for."""

    namespace: str
    pool: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whom the API server says a token, or a PodCertificateRequest, is of. A renewal's bearer is known by its leaf.

    Attributes:
        way: by which it comes in; ``None`` for a leaf, which is good whichever way its holder once came.
        service_account: ``namespace/name``; empty for a leaf, which does not name one.
        serial: the leaf's serial number; 0 for who has none yet.
        pod_name: empty for a leaf.
    """

    way: Enrolment | None = None

    namespace: str
    pod_uid: str
    pod_name: str = ""
    service_account: str = ""
    serial: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A pod as it is now.

    Attributes:
        controller_uid: of its controller, if that is a StatefulSet.
        sidecar: it has the injected container.
    """

    namespace: str
    name: str
    uid: str
    service_account: str
    labels: Mapping[str, str]
    phase: str
    addresses: tuple[str, ...]
    deleting: bool = False
    host_network: bool = False
    controller_uid: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    sidecar: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """The pool as it is now.

    Attributes:
        pool: ``None`` if its spec has faults.
        stateful_set_uid: of its registrars; empty: there are none yet.
    """

    pool: ServerPool | None
    deleting: bool = False
    stateful_set_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The identity the pod may have, with a registrar's host names."""

    identity: LeafIdentity
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Why not.

    Attributes:
        word: for programs and metrics.
        message: for people; it goes back to the pod.
        retry: it may become right by itself.
        never: it follows from the request, or from what of a pod cannot change: nobody can make it right.
    """

    word: str
    message: str
    retry: bool = False
    never: bool = False


def may(
    claim: Claim,
    bearer: Bearer,
    pod: PodFacts | None,
    facts: PoolFacts | None,
    *,
    trust_domain: str,
    cluster_domain: str,
    source: str | None,
) -> Granted | Denied:
    """Decide.

    Args:
        claim: what is asked for.
        bearer: who asks, as proved by token or leaf.
        pod: the pod of that UID now; ``None`` if it is gone.
        facts: the claimed pool now; ``None`` if there is none.
        trust_domain: of the installation.
        cluster_domain: of the cluster.
        source: the address it asks from; ``None`` if it is not looked at.
    """
    refusal = _about_the_pod(claim, bearer, pod, source) or _about_the_pool(claim, facts)
    if refusal is not None:
        return refusal
    assert pod is not None
    assert facts is not None
    assert facts.pool is not None
    way = facts.pool.spec.security.enrolment
    if bearer.way not in (None, way):
        message = (
            f"pods of ServerPool {facts.pool.full_name} enrol by {way}, not by {bearer.way}: recreate pod {pod.name}"
        )
        return Denied(word="OtherEnrolment", message=message)
    revoked = Revoked.of(facts.pool.spec.security.revoked)
    if revoked.pod(pod.uid, pod.service_account):
        message = f"pod {pod.name} or its service account is in spec.security.revoked"
        return Denied(word="Revoked", message=message)
    if bearer.serial in revoked.serials:
        token = way is Enrolment.TOKEN
        more = (
            "the pod's token may obtain another one"
            if token
            else "the next one of its kubelet, or of a new pod, is good"
        )
        message = f"this leaf of pod {pod.name} is in spec.security.revoked; {more}"
        return Denied(word=LEAF_REVOKED, message=message)
    match claim.role:
        case Role.REGISTRAR:
            refusal, hosts = _registrar(pod, facts, facts.pool), _hosts(claim, pod, cluster_domain)
        case Role.ELEMENT:
            refusal, hosts = _element(claim, pod, facts.pool), ()
        case _:
            refusal = Denied(
                word="RoleNotOffered", message="pods are registrars or elements; users need no certificate", never=True
            )
            hosts = ()
    if refusal is not None:
        return refusal
    identity = LeafIdentity(
        trust_domain=trust_domain, namespace=claim.namespace, pool=claim.pool, role=claim.role, pod_uid=pod.uid
    )
    return Granted(identity=identity, dns_names=hosts)


def _hosts(claim: Claim, pod: PodFacts, cluster_domain: str) -> tuple[str, ...]:
    return dns_names(claim.namespace, claim.pool, pod.name, cluster_domain)


def _about_the_pod(claim: Claim, bearer: Bearer, pod: PodFacts | None, source: str | None) -> Denied | None:
    if bearer.namespace != claim.namespace:
        message = f"a pod of namespace {bearer.namespace} is no part of pool {claim.namespace}/{claim.pool}"
        return Denied(word="ForeignNamespace", message=message)
    if pod is None or pod.uid != bearer.pod_uid:
        return Denied(word="PodGone", message=f"the pod with UID {bearer.pod_uid} is gone", never=True)
    if bearer.service_account and bearer.service_account != f"{pod.namespace}/{pod.service_account}":
        what = "request" if bearer.way is Enrolment.POD_CERTIFICATE else "token"
        message = f"the {what} is not of the pod's own service account"
        return Denied(word="ServiceAccount", message=message, never=True)
    if pod.deleting:
        return Denied(word="PodEnding", message=f"pod {pod.name} is being deleted", never=True)
    if pod.phase not in ("Pending", "Running"):
        return Denied(word="PodEnded", message=f"pod {pod.name} is {pod.phase}", never=True)
    if pod.host_network:
        message = f"pod {pod.name} is on its node's network, whose addresses it shares"
        return Denied(word="HostNetwork", message=message, never=True)
    if source is not None:
        if not pod.addresses:
            message = f"pod {pod.name} has no address yet as far as the API server knows"
            return Denied(word="NoAddressYet", message=message, retry=True)
        if source not in pod.addresses:
            return Denied(word="SourceAddress", message=f"pod {pod.name} does not have the address {source}")
    return None


def _about_the_pool(claim: Claim, facts: PoolFacts | None) -> Denied | None:
    name = f"{claim.namespace}/{claim.pool}"
    if facts is None:
        return Denied(word="PoolNotFound", message=f"there is no ServerPool {name} yet", retry=True)
    own = facts.pool.metadata if facts.pool is not None else None
    if own is not None and (own.namespace, own.name) != (claim.namespace, claim.pool):
        return Denied(word="PoolNotFound", message=f"there is no ServerPool {name} yet", retry=True)
    if facts.deleting:
        return Denied(word="PoolEnding", message=f"ServerPool {name} is being deleted", retry=True)
    if facts.pool is None:
        return Denied(word="PoolInvalid", message=f"ServerPool {name} is not accepted; see its status", retry=True)
    return None


def _registrar(pod: PodFacts, facts: PoolFacts, pool: ServerPool) -> Denied | None:
    name = names.registrar_set(pool.metadata.name)
    if not facts.stateful_set_uid or pod.controller_uid != facts.stateful_set_uid:
        return Denied(word="NotARegistrar", message=f"pod {pod.name} is not controlled by StatefulSet {name}")
    if pod.service_account != name:
        return Denied(word="ServiceAccount", message=f"registrars run as service account {name}", never=True)
    stem, _, ordinal = pod.name.rpartition("-")
    if stem != name or not ordinal.isdecimal() or int(ordinal) >= pool.spec.registrars.replicas:
        message = f"the pool has {pool.spec.registrars.replicas} registrars, and {pod.name} is none of them"
        return Denied(word="NotARegistrar", message=message)
    return None


def _element(claim: Claim, pod: PodFacts, pool: ServerPool) -> Denied | None:
    labelled = pod.labels.get(names.POOL_LABEL)
    if labelled != claim.pool:
        how = f"is labelled for pool {labelled}" if labelled else f"has no label {names.POOL_LABEL}"
        return Denied(word="NotAMember", message=f"pod {pod.name} {how}, not for {claim.pool}")
    if not pod.sidecar:
        return Denied(word="NotInjected", message=f"pod {pod.name} has no sidecar: recreate it", never=True)
    allowed = pool.spec.elements.service_accounts
    if allowed and pod.service_account not in allowed:
        message = (
            f"service account {pod.service_account} is none of spec.elements.serviceAccounts: {', '.join(allowed)}"
        )
        return Denied(word="ServiceAccountNotAllowed", message=message, retry=True)
    if not selects(pool.spec.elements.nodes, pod.node_labels):
        message = f"the node of pod {pod.name} is not selected by spec.elements.nodes"
        return Denied(word="NodeNotAllowed", message=message, retry=True)
    return None
