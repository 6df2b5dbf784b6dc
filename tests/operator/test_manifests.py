# SPDX-License-Identifier: Apache-2.0
"""What a pool consists of is what Kubernetes takes, in every version it is made for; labels select as Kubernetes does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from charts.schemas import custom_faults, kubernetes_faults
from rserpool.pool import ServerPool
from rserpool.pool.model import Selector
from rserpool_operator import names
from rserpool_operator.kube import Object
from rserpool_operator.manifests import registrars, services, users
from rserpool_operator.observe import read_pool
from rserpool_operator.selectors import selects
from support.rig_cluster import Cluster, installation, raw_pool
from support.rig_pools import specs

DEFINITION = yaml.safe_load((Path(__file__).parents[2] / "crds" / "serverpools.rserpool.io.yaml").read_text())
VERSIONS = ("1.30", "1.33", "1.37")
UID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def pool(**spec: Any) -> ServerPool:
    found, problems = read_pool(raw_pool(**spec))
    assert found is not None, problems
    return found


def manifests(of: ServerPool) -> list[Object]:
    return [
        registrars.service_account(of, UID),
        registrars.pod_disruption_budget(of, UID),
        registrars.stateful_set(of, UID, "1.0", installation(pull_secrets=("registry",))),
        services.asap(of, UID),
        services.peers(of, UID),
        services.network_policy(of, UID),
        users.config_map(of, UID, "demo", "PEM", "cluster.local"),
        users.config_map(of, UID, "friend", "", "cluster.local"),
    ]


@given(specs)
@settings(max_examples=15)
def test_every_manifest_is_one_that_kubernetes_takes(spec: dict[str, Any]) -> None:
    for manifest in manifests(pool(**spec)):
        for version in VERSIONS:
            assert kubernetes_faults(manifest, version) == [], manifest["kind"]


@given(specs, st.integers(1, 9))
@settings(max_examples=20)
def test_what_may_change_while_registrars_run_is_not_in_their_template(spec: dict[str, Any], replicas: int) -> None:
    before = registrars.stateful_set(pool(**spec), UID, "1.0", installation())
    spec["registrars"] = spec["registrars"] | {"replicas": replicas}
    changes = {"timers": {"profile": "RFC"}, "limits": {"elements": 5}, "users": {"anonymous": False}}
    spec |= {**changes, "policy": {"type": "LeastUsed"}, "elements": {"port": 1, "weight": 5}}
    after = registrars.stateful_set(pool(**spec), UID, "1.0", installation())
    assert after["spec"]["template"] == before["spec"]["template"]


def test_a_registrar_runs_under_the_restricted_standard_with_no_token_but_its_own() -> None:
    pod = registrars.stateful_set(pool(), UID, "1.0", installation())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "requests" in container["resources"]
    (token,) = [v["projected"]["sources"] for v in pod["volumes"] if "projected" in v]
    assert token[0]["serviceAccountToken"]["audience"] == names.AUDIENCE
    environment = {e["name"]: e.get("value", "") for e in container["env"]}
    assert environment["RSERPOOL_SECURITY_DNS_NAMES"] == "".join(
        f"{name}.demo.svc,{name}.demo.svc.cluster.local," for name in ("$(POD_NAME).echo-peers", "echo")
    ).rstrip(",")
    assert next(iter(environment)) == "POD_NAME"  # or it would not be replaced in the others


def test_no_registrar_is_labelled_as_a_member() -> None:
    template = registrars.stateful_set(pool(), UID, "1.0", installation())["spec"]["template"]
    assert names.POOL_LABEL not in template["metadata"]["labels"]
    assert names.USES_LABEL not in template["metadata"]["labels"]


@pytest.mark.parametrize(("mode", "asap", "enrp"), [("Secure", 3864, 9902), ("Insecure", 3863, 9901)])
def test_a_pool_listens_with_tls_or_without_and_never_both(mode: str, asap: int, enrp: int) -> None:
    of = pool(security={"mode": mode})
    assert [p["port"] for p in services.asap(of, UID)["spec"]["ports"]] == [asap]
    assert [p["port"] for p in services.peers(of, UID)["spec"]["ports"]] == [enrp]
    assert services.asap(of, UID)["spec"]["publishNotReadyAddresses"] is False
    assert services.peers(of, UID)["spec"]["publishNotReadyAddresses"] is True
    (container,) = registrars.stateful_set(of, UID, "1", installation())["spec"]["template"]["spec"]["containers"]
    assert [p["containerPort"] for p in container["ports"]] == [asap, enrp, 8080]


def test_a_network_policy_lets_only_registrars_in_where_registrars_speak() -> None:
    spec = services.network_policy(pool(), UID)["spec"]
    enrp, others = spec["ingress"]
    assert enrp["from"] == [{"podSelector": spec["podSelector"]}]
    assert [p["port"] for p in enrp["ports"]] == [9902]
    assert "from" not in others
    assert 9902 not in [p["port"] for p in others["ports"]]


@given(specs)
@settings(max_examples=10)
def test_a_status_is_what_the_definition_of_the_kind_says_at_every_moment(spec: dict[str, Any]) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(**spec))
    for _ in range(8):
        asyncio.run(cluster.reconcile(key))
        cluster.step()
        status = {k: cluster.raw(key)[k] for k in ("apiVersion", "kind", "metadata", "status")}
        assert custom_faults(status | {"spec": raw_pool()["spec"]}, DEFINITION) == []
    assert cluster.ready(key)


LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from(("1", "2", "")), max_size=2)


def by_the_book(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As Kubernetes' documentation has it, written anew."""
    for key, value in selector["matchLabels"].items():
        if key not in labels or labels[key] != value:
            return False
    for e in selector["matchExpressions"]:
        there, values = e["key"] in labels, e.get("values") or []
        holds = {
            "In": there and labels.get(e["key"]) in values,
            "NotIn": not there or labels.get(e["key"]) not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }
        if not holds[e["operator"]]:
            return False
    return True


EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("ab"),
            "operator": st.sampled_from(("In", "NotIn")),
            "values": st.lists(st.sampled_from(("1", "2", "")), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries({"key": st.sampled_from("ab"), "operator": st.sampled_from(("Exists", "DoesNotExist"))}),
)


@given(st.fixed_dictionaries({"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}), LABELS)
def test_a_selector_selects_what_kubernetes_selects(selector: dict[str, Any], labels: dict[str, str]) -> None:
    assert selects(Selector.model_validate(selector), labels) is by_the_book(selector, labels)


@pytest.mark.parametrize(
    "expression",
    [{"key": "a", "operator": "Gt", "values": ["1"]}, {"key": "a"}, {}, {"operator": "In", "key": "a", "values": None}],
)
def test_an_expression_that_nobody_understands_selects_nobody(expression: dict[str, Any]) -> None:
    selector = Selector.model_validate({"matchExpressions": [expression]})
    assert selects(selector, {"a": "1"}) is False


def test_an_empty_selector_selects_everything() -> None:
    assert selects(Selector(), {})
    assert selects(Selector(), {"a": "1"})
