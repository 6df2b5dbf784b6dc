# SPDX-License-Identifier: Apache-2.0
"""Does the API server reach the operator's webhook? Asked by a pod that is created and then not kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rserpool_cli.cluster.findings import Finding, fail, ok, warn
from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest, read_json
from rserpool_operator import names

CONFIGURATION: Final = "rserpool-operator"
PROBE: Final = "rserpool-check"
"""Name of pods, and of the pool that the pod is labelled for; there need be no such pool."""
RESTRICTED: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": names.NODE_USER,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_NOT_THERE: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """What came of it.

    Attributes:
        image: of the sidecar that the pod was given.
        pull_policy: of that image.
        namespace: in which it was tried; ``None``: kubectl's own.
    """

    finding: Finding
    image: str = ""
    pull_policy: str = "IfNotPresent"
    namespace: str | None = None


def registered(kubectl: Kubectl) -> tuple[Finding, Manifest | None]:
    """Whether the API server has been told of the webhook, and by what it knows it."""
    what = "webhook registered"
    try:
        configuration: Manifest = kubectl.get(
            "mutatingwebhookconfigurations.admissionregistration.k8s.io", CONFIGURATION
        )
    except KubectlError as e:
        if e.reason == "NotFound":
            return fail(what, f"there is no MutatingWebhookConfiguration {CONFIGURATION}", "install the chart"), None
        reason = "you may not read it; ask an administrator to run this" if e.reason == "Forbidden" else str(e)
        return warn(what, "not looked at", reason), None
    hooks = configuration.get("webhooks") or []
    bare = [h["name"] for h in hooks if not (h.get("clientConfig") or {}).get("caBundle")]
    if bare or not hooks:
        remedy = "the operator fills it in: see its log"
        return fail(what, f"no caBundle in {', '.join(bare) or 'any webhook'}", remedy), configuration
    return ok(what, ", ".join(h["name"] for h in hooks)), configuration


def _excluded(configuration: Manifest | None) -> tuple[list[str], list[str]]:
    """Namespaces the webhook does not look at, and those it looks at, if it names them."""
    excluded, listed = ["kube-system"], list[str]()
    for hook in (configuration or {}).get("webhooks") or []:
        for term in (hook.get("namespaceSelector") or {}).get("matchExpressions") or []:
            if term.get("key") == "kubernetes.io/metadata.name":
                (excluded if term.get("operator") == "NotIn" else listed).extend(term.get("values") or [])
    return excluded, listed


def place(kubectl: Kubectl, configuration: Manifest | None) -> str | None:
    """A namespace in which the webhook is asked: the user's, if it is one."""
    excluded, listed = _excluded(configuration)
    own = kubectl.namespace
    if listed and own not in listed:
        return listed[0]
    return _NOT_THERE if own in excluded else own


def pod(name: str, image: str, command: Sequence[str], **fields: Any) -> Manifest:
    """A pod that Pod Security "restricted" lets pass."""
    container = {
        "name": "main",
        "image": image,
        "command": list(command),
        "securityContext": RESTRICTED,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": PROBE}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
            **fields,
        },
    }


def reaches(kubectl: Kubectl, configuration: Manifest | None) -> Dry:
    """Create a pod that is not kept, and see whether it is given its sidecar."""
    what, namespace = "webhook reached", place(kubectl, configuration)
    manifest = pod(PROBE, "example.invalid/none", ["true"])
    manifest["metadata"]["labels"][names.POOL_LABEL] = PROBE
    try:
        answer = kubectl.run(
            "create", "--dry-run=server", "-f", "-", "-o", "json", namespace=namespace, given=json.dumps(manifest)
        )
        made = read_json(answer)
    except KubectlError as e:
        if '.rserpool.io"' in str(e):  # the name of our webhook; others may have a say in pods too
            remedy = "see the operator's log, and whether the API server reaches its Service on port 8443"
            return Dry(finding=fail(what, str(e), remedy))
        reason = f"you may not create pods there: {e}" if e.reason == "Forbidden" else str(e)
        return Dry(finding=warn(what, "not tried", reason))
    sidecars = [c for c in made["spec"].get("initContainers") or [] if c.get("name") == names.SIDECAR]
    if not sidecars:
        remedy = "name a namespace that the operator serves with -n, or install the chart"
        where = made["metadata"].get("namespace", namespace)
        return Dry(finding=fail(what, f"a member's pod in namespace {where} got no sidecar", remedy))
    return Dry(
        finding=ok(what, f"a member's pod is given {sidecars[0]['image']}"),
        image=sidecars[0]["image"],
        pull_policy=sidecars[0].get("imagePullPolicy", "IfNotPresent"),
        namespace=made["metadata"].get("namespace"),
    )
