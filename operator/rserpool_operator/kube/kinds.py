# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that are read and written, and where the API server keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
Object = dict[str, Any]
"""An object as its JSON says it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects.

    Attributes:
        api_version: such as ``apps/v1``; the core group has no slash.
        kind: in the singular, as manifests say it.
        plural: as paths say it.
        namespaced: whether its objects live in namespaces.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Where the API server has it.

        Raises:
            ValueError: there can be no such namespace or name. What strangers write never becomes another path.
        """
        for part in (namespace if self.namespaced else None, name):
            if part is not None and not _is_name(part):
                raise ValueError(f"{part[:80]!r} is no name of an object")
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


SERVER_POOL: Final = Kind("rserpool.io/v1alpha1", "ServerPool", "serverpools")
POD: Final = Kind("v1", "Pod", "pods")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
SECRET: Final = Kind("v1", "Secret", "secrets")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE: Final = Kind("v1", "Service", "services")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
STATEFUL_SET: Final = Kind("apps/v1", "StatefulSet", "statefulsets")
POD_DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
CERTIFICATE: Final = Kind("cert-manager.io/v1", "Certificate", "certificates")
ISSUER: Final = Kind("cert-manager.io/v1", "Issuer", "issuers")
CERTIFICATE_REQUEST: Final = Kind("cert-manager.io/v1", "CertificateRequest", "certificaterequests")
POD_CERTIFICATE_REQUEST: Final = Kind("certificates.k8s.io/v1", "PodCertificateRequest", "podcertificaterequests")
"""Since Kubernetes 1.37."""
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT: Final = Kind("events.k8s.io/v1", "Event", "events")
TOKEN_REVIEW: Final = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
MUTATING_WEBHOOK: Final = Kind(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    namespaced=False,
)

_ALL: Final = (
    SERVER_POOL,
    POD,
    NODE,
    NAMESPACE,
    SECRET,
    CONFIG_MAP,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    POD_DISRUPTION_BUDGET,
    NETWORK_POLICY,
    CERTIFICATE,
    ISSUER,
    CERTIFICATE_REQUEST,
    POD_CERTIFICATE_REQUEST,
    EVENT,
    TOKEN_REVIEW,
    MUTATING_WEBHOOK,
)
_BY_NAME: Final = {(k.api_version, k.kind): k for k in _ALL}


def _is_name(text: str) -> bool:
    """Whether an object can be called so (RFC 1123)."""
    return len(text) <= 253 and bool(_NAME.fullmatch(text)) and ".." not in text


class Ref(NamedTuple):
    """Which object: its kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name}"


def kind_of(manifest: Object) -> Kind:
    """The kind a manifest says it is of.

    Raises:
        KeyError: it is none that this operator knows.
    """
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]


def controller_of(live: Object) -> Object:
    """The owner that controls an object, of which Kubernetes allows one; empty: nobody does."""
    owners: list[Object] = live["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def ref_of(manifest: Object) -> Ref:
    """Which object a manifest is."""
    metadata = manifest["metadata"]
    return Ref(kind_of(manifest), metadata.get("namespace", ""), metadata["name"])
