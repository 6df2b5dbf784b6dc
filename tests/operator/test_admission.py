# SPDX-License-Identifier: Apache-2.0
"""The webhook, asked as the API server asks it, and as somebody who is not the API server may."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from rserpool_operator import names
from rserpool_operator.admission.desk import AdmissionDesk
from rserpool_operator.kube import KubeError, Object
from rserpool_operator.metrics import OperatorMetrics
from support.rig_cluster import raw_pool
from support.rig_pods import INSTALLATION, TEAM_A, patched, pod, sidecar
from support.rig_world import World


class Webhook:
    """The desk, asked as the API server asks it."""

    def __init__(self) -> None:
        self.world = World()
        self._desk = AdmissionDesk(self.world.kube, INSTALLATION, OperatorMetrics(), lambda: 0.0)

    def post(self, body: bytes) -> tuple[int, Object]:
        async def ask() -> tuple[int, Object]:
            payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
            payload.feed_data(body)
            payload.feed_eof()
            request = make_mocked_request("POST", "/admission/pods", payload=payload)
            response = await self._desk.pods(request)
            return response.status, json.loads(response.body or b"")  # type: ignore[arg-type] # the body is text

        return asyncio.run(ask())

    def review(self, of: Object, namespace: str = "demo") -> Object:
        asked = {"uid": "review-1", "namespace": namespace, "object": of}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
        status, answer = self.post(json.dumps(review).encode())
        assert status == 200
        assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert answer["response"]["uid"] == "review-1"
        return dict(answer["response"])

    def admitted(self, of: Object, namespace: str = "demo") -> Object:
        response = self.review(of, namespace)
        assert response["allowed"] is True
        return patched(of, json.loads(base64.b64decode(response.get("patch", "W10="))))


def test_a_member_gets_the_version_that_its_pool_has() -> None:
    webhook = Webhook()
    member = pod(labels={names.POOL_LABEL: "echo"})
    assert sidecar(webhook.admitted(member))["image"].endswith(":1.0.0")
    raw = raw_pool()
    raw["status"] = {"version": "0.8"}
    webhook.world.put(raw)
    assert sidecar(webhook.admitted(member))["image"].endswith(":0.8")
    webhook.world.put(raw_pool(version="0.9"))
    after = webhook.admitted(member)
    assert sidecar(after)["image"].endswith(":0.9")
    assert after["metadata"]["annotations"][names.INJECTED] == "0.9"


def test_a_member_of_a_pool_that_does_not_exist_yet_or_is_wrong_gets_its_sidecar_all_the_same() -> None:
    webhook = Webhook()
    assert sidecar(webhook.admitted(pod(labels={names.POOL_LABEL: "later"})))
    webhook.world.put(raw_pool("later", policy={"type": "Nonsense"}))
    assert sidecar(webhook.admitted(pod(labels={names.POOL_LABEL: "later"})))


def test_a_pod_may_be_a_member_of_one_pool_and_a_user_of_another() -> None:
    webhook = Webhook()
    webhook.world.put(raw_pool("db", "data", users=TEAM_A))
    webhook.world.namespace("demo", team="a")
    after = webhook.admitted(pod(labels={names.POOL_LABEL: "echo", names.USES_LABEL: "db.data"}))
    assert sidecar(after)
    assert {"name": "rserpool.db.data"} in [v.get("configMap") for v in after["spec"]["volumes"]]


def test_a_pod_that_may_not_use_a_pool_is_refused_with_the_reason() -> None:
    webhook = Webhook()
    webhook.world.put(raw_pool("db", "data", users=TEAM_A))
    webhook.world.namespace("demo", team="b")
    for label in ("db.data", "none.data", "?"):
        response = webhook.review(pod(labels={names.USES_LABEL: label}))
        assert response["allowed"] is False
        assert response["status"]["code"] == 403
        assert response["status"]["message"]
        assert "patch" not in response


def test_a_pod_without_a_label_is_let_through_as_it_is() -> None:
    assert Webhook().review(pod()) == {"uid": "review-1", "allowed": True}


def test_a_pod_is_not_let_through_blindly_while_the_api_server_does_not_answer() -> None:
    webhook = Webhook()

    async def away(*_: Any) -> Object | None:
        raise KubeError(0, "NoAnswer", "no answer")

    webhook._desk._kube.get = away  # type: ignore[method-assign, assignment] # the API server is away
    response = webhook.review(pod(labels={names.POOL_LABEL: "echo"}))
    assert response["allowed"] is False
    assert response["status"]["code"] == 503


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"request": 1}', b'{"request": {"uid": "1"}}', b"[" * 100_000],
    ids=lambda b: b[:12].decode(),
)
def test_what_is_no_review_is_refused(body: bytes) -> None:
    status, answer = Webhook().post(body)
    assert status == 400
    assert answer["reason"] == "BadRequest"


@pytest.mark.parametrize(
    "asked",
    [
        {"uid": "1", "namespace": "demo", "object": None},
        {"uid": "1", "namespace": "demo", "object": []},
        {"uid": "1", "namespace": "demo", "object": {"metadata": {"labels": {names.POOL_LABEL: "echo"}}}},
        {"uid": "1", "namespace": "demo", "object": {"metadata": {"labels": [1]}, "spec": {}}},
        {"uid": "1", "namespace": 1, "object": {"metadata": {"labels": {names.POOL_LABEL: "echo"}}, "spec": {}}},
    ],
)
def test_what_is_no_pod_is_refused_and_not_an_error_of_the_server(asked: Any) -> None:
    status, answer = Webhook().post(json.dumps({"request": asked}).encode())
    assert status == 400 or answer["response"]["allowed"] is False


@pytest.mark.parametrize("name", ["../../../../../api/v1/namespaces/x/secrets/y", "a/b", "..", "A", "a?b", "%2e%2e"])
def test_what_is_no_name_is_never_asked_for(name: str) -> None:
    for namespace, label in (("demo", name), (name, "echo")):
        webhook = Webhook()
        asked: Object = {"uid": "1", "namespace": namespace, "object": pod(labels={names.POOL_LABEL: label})}
        webhook.post(json.dumps({"request": asked}).encode())
        assert [r for r in webhook.world.reads if f"/{name}" in r or f"{name}/" in r] == []
