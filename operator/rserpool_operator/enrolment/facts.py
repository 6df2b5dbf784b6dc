# SPDX-License-Identifier: Apache-2.0
"""Reads what the decision is made on: token, pod, pool. Always live; nothing is remembered."""

from __future__ import annotations

from rserpool.pool.model import Enrolment
from rserpool_operator import names
from rserpool_operator.enrolment.decision import Bearer, PodFacts, PoolFacts
from rserpool_operator.kube import Kube, Object
from rserpool_operator.kube.kinds import NODE, POD, SERVER_POOL, STATEFUL_SET, TOKEN_REVIEW, controller_of
from rserpool_operator.observe import read_pool

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


async def bearer_of(kube: Kube, token: str) -> Bearer | str:
    """Ask the API server whose token it is; a text says what is wrong with it.

    Raises:
        KubeError: it cannot be asked.
    """
    review = {
        "apiVersion": TOKEN_REVIEW.api_version,
        "kind": TOKEN_REVIEW.kind,
        "spec": {"token": token, "audiences": [names.AUDIENCE]},
    }
    status = (await kube.create(TOKEN_REVIEW, None, review)).get("status") or {}
    if not status.get("authenticated"):
        return "the token is not valid: expired, of another audience, or of a pod that is gone"
    if names.AUDIENCE not in (status.get("audiences") or []):
        return f"the token is not for the audience {names.AUDIENCE}"
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    pod_name, pod_uid = extra.get(_POD_NAME) or [""], extra.get(_POD_UID) or [""]
    parts = str(user.get("username", "")).split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"] or not pod_uid[0]:
        return "the token is not bound to a pod"
    namespace, account = parts[2:]
    return Bearer(
        way=Enrolment.TOKEN,
        namespace=namespace,
        service_account=f"{namespace}/{account}",
        pod_name=pod_name[0],
        pod_uid=pod_uid[0],
    )


async def pod_facts(kube: Kube, namespace: str, name: str, *, with_node: bool) -> PodFacts | None:
    """A pod as it is now; ``None`` if it is gone.

    Raises:
        KubeError: it cannot be read.
    """
    pod = await kube.get(POD, namespace, name)
    if pod is None:
        return None
    node = pod["spec"].get("nodeName")
    labels: dict[str, str] = {}
    if with_node and node:
        found = await kube.get(NODE, "", node)
        labels = dict((found or {}).get("metadata", {}).get("labels") or {})
    return facts_of(pod, labels)


def facts_of(pod: Object, node_labels: dict[str, str]) -> PodFacts:
    """What matters of a pod."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    controller = controller_of(pod)
    if controller.get("kind") != "StatefulSet":
        controller = {}
    addresses = [entry.get("ip", "") for entry in status.get("podIPs") or []]
    return PodFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        service_account=spec.get("serviceAccountName") or "default",
        labels=metadata.get("labels") or {},
        phase=status.get("phase", "Pending"),
        addresses=tuple(a for a in addresses if a),
        deleting="deletionTimestamp" in metadata,
        host_network=bool(spec.get("hostNetwork")),
        controller_uid=controller.get("uid", ""),
        node_labels=node_labels,
        sidecar=any(c.get("name") == names.SIDECAR for c in spec.get("initContainers") or []),
    )


async def pool_facts(kube: Kube, namespace: str, name: str) -> tuple[PoolFacts, Object] | None:
    """A pool as it is now, and the object itself; ``None`` if there is none.

    Raises:
        KubeError: it cannot be read.
    """
    raw = await kube.get(SERVER_POOL, namespace, name)
    if raw is None:
        return None
    pool, _ = read_pool(raw)
    live = await kube.get(STATEFUL_SET, namespace, names.registrar_set(name))
    owners = ((live or {}).get("metadata") or {}).get("ownerReferences") or []
    ours = live is not None and any(o.get("uid") == raw["metadata"]["uid"] for o in owners)
    return PoolFacts(
        pool=pool,
        deleting="deletionTimestamp" in raw["metadata"],
        stateful_set_uid=live["metadata"]["uid"] if live is not None and ours else "",
    ), raw
