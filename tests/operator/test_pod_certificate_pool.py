# SPDX-License-Identifier: Apache-2.0
"""A pool whose pods enrol by the kubelet: what it consists of, and what it says where there are no such kubelets."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from charts.schemas import kubernetes_faults
from rserpool.asap.authorisation import Role
from rserpool.pool.model import Enrolment
from rserpool_operator import names
from rserpool_operator.kube import Ref
from rserpool_operator.kube.kinds import STATEFUL_SET
from rserpool_operator.manifests.common import volumes
from rserpool_operator.observe import observe, read_pool
from support.rig_cluster import Cluster, member, raw_pool

WAY: Final[dict[str, Any]] = {"enrolment": "PodCertificate", "signer": {"type": "Embedded"}}


def test_its_registrars_have_a_leaf_of_the_kubelets_and_no_token() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(security=WAY))
    assert cluster.settle(key)
    made = cluster.world.objects[Ref(STATEFUL_SET, "demo", "echo-registrar")]
    assert kubernetes_faults({k: v for k, v in made.items() if k != "status"}, "1.37") == []
    pod = made["spec"]["template"]["spec"]
    assert [v["name"] for v in pod["volumes"]] == ["rserpool-identity", "rserpool-credential"]
    (source,) = pod["volumes"][1]["projected"]["sources"]
    assert source["podCertificate"]["userAnnotations"] == {"rserpool.io/pool": "echo", "rserpool.io/role": "registrar"}
    (container,) = pod["containers"]
    variables = {e["name"]: e.get("value") for e in container["env"]}
    assert variables["RSERPOOL_SECURITY_SOURCE"] == "pod-certificate"
    assert "RSERPOOL_SECURITY_TOKEN_FILE" not in variables
    assert {m["mountPath"] for m in container["volumeMounts"]} == {names.IDENTITY, names.CREDENTIAL}


def test_how_long_leaves_are_valid_changes_no_pod() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(security=WAY))
    assert cluster.settle(key)
    ref = Ref(STATEFUL_SET, "demo", "echo-registrar")
    before = cluster.world.objects[ref]["spec"]["template"]
    cluster.change(key, lambda raw: raw["spec"]["security"].update(leafDuration="2h"))
    assert cluster.settle(key)
    assert cluster.world.objects[ref]["spec"]["template"] == before


def test_where_kubelets_cannot_nothing_is_begun_until_they_can() -> None:
    cluster = Cluster()
    cluster.world.pod_certificates = False
    key = cluster.create(raw_pool(security=WAY))
    assert cluster.settle(key)
    assert cluster.condition(key, "Accepted") == ("False", "PodCertificatesMissing")
    assert cluster.condition(key, "Stalled") == ("True", "PodCertificatesMissing")
    assert cluster.condition(key, "Ready")[0] == "False"
    assert cluster.world.of(STATEFUL_SET) == []
    assert "1.37" in next(e["note"] for e in cluster.world.events if e["reason"] == "PodCertificatesMissing")
    cluster.world.pod_certificates = True
    assert cluster.settle(key)
    assert cluster.condition(key, "Accepted") == ("True", "Valid")
    assert len(cluster.world.of(STATEFUL_SET)) == 1


def test_a_pool_that_enrols_by_token_does_not_ask_whether_kubelets_can() -> None:
    cluster = Cluster()
    cluster.world.pod_certificates = False
    key = cluster.create(raw_pool(security={"signer": {"type": "Embedded"}}))
    assert cluster.settle(key)
    assert cluster.condition(key, "Accepted") == ("True", "Valid")
    assert [read for read in cluster.world.reads if "podcertificaterequests" in read] == []


@pytest.mark.parametrize(("security", "counted"), [(WAY, True), ({"signer": {"type": "Embedded"}}, False)])
def test_a_replacement_of_the_ca_waits_for_a_pod_whose_kubelet_has_its_leaf_already(
    security: dict[str, Any], *, counted: bool
) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(security=security))
    for name, addresses in (("with", [{"ip": "10.2.0.1"}]), ("without", [])):
        pod = member(name, "echo")
        pod["status"] = {"phase": "Pending", "podIPs": addresses}
        cluster.world.put(pod)
    seen = asyncio.run(observe(cluster.world.kube, cluster.raw(key), cluster.operator, {}))
    assert {m.name: m.started for m in seen.members} == {"with": counted, "without": False}


def test_only_the_operators_own_authority_can_sign_what_names_nobody() -> None:
    for signer in ({"type": "CertManager"}, {"type": "IssuerRef", "issuerRef": {"name": "x"}, "caBundle": "TUlJ"}):
        pool, problems = read_pool(raw_pool(security={**WAY, "signer": signer}))
        assert pool is None
        assert [p for p in problems if "write Embedded" in p]


def test_each_way_has_a_volume_of_its_own() -> None:
    by_token, by_kubelet = (volumes("echo", Role.ELEMENT, way) for way in Enrolment)
    assert {v["name"] for v in by_token} & {v["name"] for v in by_kubelet} == {"rserpool-identity"}
