# SPDX-License-Identifier: Apache-2.0
"""Serves the mutating webhook: ``POST /admission/pods``, an AdmissionReview (admission.k8s.io/v1)."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from rserpool.asap.limits import Rate
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.admission.injection import inject
from rserpool_operator.admission.usage import may_use, mount, used_pool
from rserpool_operator.answers import json_of, refused
from rserpool_operator.buckets import Buckets
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import NAMESPACE, SERVER_POOL
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.observe import read_pool

_log: Final = logging.getLogger(__name__)
RATE: Final = Rate(200, 2000)
"""Of one source: the API server's, when a large application starts."""
MOST_REVIEW: Final = 8 * 1024 * 1024
"""Octets of the API server's request: a pod can be large."""


class AdmissionDesk:
    """Looks at pods that are created."""

    def __init__(
        self, kube: Kube, installation: Installation, metrics: OperatorMetrics, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._buckets = Buckets(RATE)
        self._kube = kube
        self._installation = installation
        self._metrics = metrics

    async def pods(self, request: web.Request) -> web.Response:
        """One review."""
        if not self._buckets.allow(str(request.remote), self._clock()):
            return refused(429, "TooMany", "too many requests; ask later")
        try:
            review = await json_of(request, MOST_REVIEW)
            uid, pod, namespace = _asked(review)
        except (ValueError, KeyError, TypeError, AttributeError):
            return refused(400, "BadRequest", "the body must be an AdmissionReview of a pod")
        try:
            changed = await self._admit(pod, namespace)
        except ValueError as e:  # an AdmissionError, or a name that can be none
            self._metrics.admissions.labels("refused").inc()
            _log.info("refused a pod of namespace %s: %s", namespace, e)
            return _answer(review, {"uid": uid, "allowed": False, "status": {"code": 403, "message": str(e)}})
        except KubeError as e:
            self._metrics.admissions.labels("failed").inc()
            message = f"rserpool-operator cannot read the ServerPool now: {e}"
            return _answer(review, {"uid": uid, "allowed": False, "status": {"code": 503, "message": message}})
        response: dict[str, Any] = {"uid": uid, "allowed": True}
        operations = patch(pod, changed)
        self._metrics.admissions.labels("changed" if operations else "unchanged").inc()
        if operations:
            response |= {
                "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(operations).encode()).decode(),
            }
        return _answer(review, response)

    async def _admit(self, pod: Object, namespace: str) -> Object:
        labels = (pod.get("metadata") or {}).get("labels") or {}
        changed = pod
        member, uses = labels.get(names.POOL_LABEL), labels.get(names.USES_LABEL)
        if member:
            pool, status = await self._pool(namespace, member)
            version = (pool.spec.version if pool else "") or str(status.get("version", ""))
            changed = inject(changed, member, pool, version or self._installation.version, self._installation)
        if uses:
            used = used_pool(uses, namespace)
            pool, _ = await self._pool(used.namespace, used.name)
            own = await self._kube.get(NAMESPACE, "", namespace) if used.namespace != namespace else None
            account = pod["spec"].get("serviceAccountName") or "default"
            may_use(used, namespace, pool, ((own or {}).get("metadata") or {}).get("labels") or {}, account)
            changed = mount(changed, used)
        return changed

    async def _pool(self, namespace: str, name: str) -> tuple[ServerPool | None, Object]:
        raw = await self._kube.get(SERVER_POOL, namespace, name)
        if raw is None:
            return None, {}
        return read_pool(raw)[0], raw.get("status") or {}


def _asked(review: Object) -> tuple[str, Object, str]:
    """The review's number, the pod, and its namespace.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no review of a pod.
    """
    asked = review["request"]
    uid, pod, namespace = asked["uid"], asked["object"], asked["namespace"]
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    parts = (metadata, spec, metadata.get("labels") or {}, metadata.get("annotations") or {})
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    if not all(isinstance(part, dict) for part in (*parts, *containers)) or not isinstance(namespace, str):
        raise ValueError("no pod")
    return str(uid), pod, namespace


def patch(before: Object, after: Object) -> list[Object]:
    """The JSON patch from one pod to another: the fields of metadata and spec that differ, as a whole."""
    operations: list[Object] = []
    for part in ("metadata", "spec"):
        old, new = before.get(part) or {}, after.get(part) or {}
        if part not in before and new:
            operations.append({"op": "add", "path": f"/{part}", "value": new})
            continue
        operations += [
            {"op": "add", "path": f"/{part}/{key}", "value": value}  # "add" also replaces
            for key, value in new.items()
            if old.get(key) != value
        ]
    return operations


def _answer(review: Object, response: Object) -> web.Response:
    return web.json_response(
        {"apiVersion": review.get("apiVersion", "admission.k8s.io/v1"), "kind": "AdmissionReview", "response": response}
    )
