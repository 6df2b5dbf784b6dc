# SPDX-License-Identifier: Apache-2.0
"""`rserpool check`: what a cluster lacks is said with what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from cli.cluster_samples import condition, server_pool
from cli.fake_kubectl import FORBIDDEN, NO_PATH, REFUSED, FakeCluster
from rserpool_cli.cluster.check_nodes import clocks
from rserpool_cli.cluster.check_webhook import PROBE
from rserpool_cli.cluster.kubectl import Kubectl
from rserpool_cli.main import main

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)
REACHES = "create --dry-run=server"
NODES = "get nodes"


def lease(name: str, seconds: float, now: datetime | None = None, **spec: Any) -> dict[str, Any]:
    """One that was renewed so many seconds ago."""
    when = (now or datetime.now(UTC)) - timedelta(seconds=seconds)
    renewed = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"kind": "Lease", "metadata": {"name": name}, "spec": {"renewTime": renewed, **spec}}


def deployment(ready: int, namespace: str = "rserpool-system", name: str = "rserpool-operator") -> dict[str, Any]:
    status = {"readyReplicas": ready} if ready else {}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": 2}, "status": status}


def webhooks(bundle: str = "Q0E=", operators: Mapping[str, list[str]] = MappingProxyType({})) -> dict[str, Any]:
    terms = [
        {"key": "kubernetes.io/metadata.name", "operator": operator, "values": values}
        for operator, values in operators.items()
    ]
    hook = {"clientConfig": {"caBundle": bundle}, "namespaceSelector": {"matchExpressions": terms}}
    return {"webhooks": [{"name": f"{name}.rserpool.io", **hook} for name in ("elements", "users")]}


def injected(*containers: dict[str, Any]) -> dict[str, Any]:
    """A pod as a dry run shows it."""
    return {
        "kind": "Pod",
        "metadata": {"name": PROBE, "namespace": "default"},
        "spec": {"initContainers": list(containers)},
    }


SIDECAR = {"name": "rserpool-sidecar", "image": "reg/rserpool-node:0.1.0", "imagePullPolicy": "Never"}
LEADING = {"metadata": {"name": "rserpool-operator-a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.fixture
def good(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster that has all."""
    cluster.answer_in_process(monkeypatch)
    cluster.says("--raw /version", {"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
    cluster.says(
        "--raw /apis/rserpool.io/v1alpha1", {"kind": "APIResourceList", "resources": [{"name": "serverpools"}]}
    )
    cluster.says("--raw /apis/cert-manager.io/v1", {"kind": "APIResourceList", "resources": []})
    cluster.says("get deployments.apps -A -l app.kubernetes.io/name=rserpool-operator", [deployment(2)])
    cluster.says("name=cert-manager", [deployment(1, "cert-manager", "cert-manager")])
    cluster.says(
        "get leases.* rserpool-operator", lease("rserpool-operator", 1, holderIdentity="a", leaseDurationSeconds=10)
    )
    cluster.says("get pods -l rserpool.io/leader=true", [LEADING])
    cluster.says("get mutatingwebhook", webhooks(operators={"NotIn": ["rserpool-system", "kube-system"]}))
    cluster.says(REACHES, injected(SIDECAR))
    cluster.says("get serverpools", [server_pool()])
    cluster.says("auth can-i", "yes\n")
    cluster.says("-n kube-node-lease", [lease("worker", 3), lease("worker2", 9)])
    return cluster


def checked(capsys: Capture, status: int, *words: str) -> dict[str, list[str]]:
    """What was found, by what was looked at."""
    assert main(["check", *words]) == status
    found: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        level, what, seen = re.fullmatch(r"(ok|warn|FAIL) +([^:]+): (.+)", line).groups()  # type: ignore[union-attr] # no match is a failure, too
        found.setdefault(what, []).append(f"{level} {seen}")
    return found


def test_a_cluster_that_has_all_is_ok_line_by_line(good: FakeCluster, capsys: Capture) -> None:
    found = checked(capsys, 0)
    assert found == {
        "cluster": ["ok Kubernetes v1.37.2"],
        "ServerPools": ["ok served as rserpool.io/v1alpha1"],
        "operator": ["ok rserpool-system/rserpool-operator, 2 of 2 ready"],
        "leader": ["ok a"],
        "webhook registered": ["ok elements.rserpool.io, users.rserpool.io"],
        "webhook reached": ["ok a member's pod is given reg/rserpool-node:0.1.0"],
        "cert-manager": ["ok cert-manager.io/v1 is served"],
        "right to make pools": ["ok you may create serverpools.rserpool.io in the namespace of kubectl's context"],
        "right to see a pool's pods": ["ok you may get pods in the namespace of kubectl's context"],
        "right to ask registrars what they hold": ["ok you may create pods/exec in the namespace of kubectl's context"],
        "SCTP": ["ok not in use, and no pool asks for it"],
        "clocks": ["ok 2 nodes agree with this machine's"],
    }
    tried = good.given(REACHES)
    assert tried["metadata"]["labels"]["rserpool.io/pool"] == PROBE
    assert tried["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] is True


def test_a_cluster_that_does_not_answer_is_all_there_is_to_say(cluster: FakeCluster, capsys: Capture) -> None:
    cluster.says("", error=REFUSED)
    (found,) = checked(capsys, 1)["cluster"]
    assert found.startswith("FAIL it cannot be reached: kubectl: The connection to the server")
    assert len(cluster.calls()) == 1


@pytest.mark.parametrize(
    ("asked", "answer", "what", "found", "status"),
    [
        ("--raw /version", {"gitVersion": "v1.29.9+k3s1"}, "cluster", "FAIL it is Kubernetes v1.29.9+k3s1: 1.30 or newer", 1),
        ("--raw /version", {"gitVersion": "moon"}, "cluster", "warn it is of version moon", 0),
        ("/apis/rserpool", {"kind": "APIResourceList"}, "ServerPools", "FAIL the cluster knows their group", 1),
        ("name=rserpool-operator", [], "operator", "FAIL there is none: install the chart: helm install", 1),
        ("name=rserpool-operator", [deployment(0)], "operator", "FAIL rserpool-system/rserpool-operator, 0 of 2 ready: kubectl", 1),
        ("name=rserpool-operator", [deployment(1)], "operator", "warn rserpool-system/rserpool-operator, 1 of 2 ready", 0),
        ("name=rserpool-operator", [deployment(2), deployment(2, "x")], "operator", "FAIL there are several: rserpool-system/", 1),
        ("get leases.* rserpool-operator", lease("l", 1, holderIdentity=""), "leader", "FAIL no replica of the operator leads", 1),
        ("get leases.* rserpool-operator", lease("l", 99, holderIdentity="a"), "leader", "FAIL a has not renewed its Lease for ", 1),
        ("get pods -l rserpool.io/leader", [], "leader", "warn a leads, and no ready pod has the label", 0),
        ("get mutating", webhooks(""), "webhook registered", "FAIL no caBundle in elements.rserpool.io, users.", 1),
        ("get mutating", {"webhooks": []}, "webhook registered", "FAIL no caBundle in any webhook", 1),
        (REACHES, injected(), "webhook reached", "FAIL a member's pod in namespace default got no sidecar: name a namespace", 1),
        ("name=cert-manager", [deployment(0, "cm", "cert-manager")], "cert-manager", "FAIL cm/cert-manager is not ready; demo/echo needs it", 1),
        ("-n kube-node-lease", [], "clocks", "warn no node has a Lease", 0),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_do(
    asked: str, answer: Any, what: str, found: str, status: int, good: FakeCluster, capsys: Capture
) -> None:
    good.says(asked, answer)
    (line,) = checked(capsys, status)[what]
    assert line.startswith(found)


@pytest.mark.parametrize(
    ("asked", "error", "what", "found", "status"),
    [
        ("/apis/rserpool", NO_PATH, "ServerPools", "FAIL the cluster does not know them: install the chart", 1),
        ("/apis/rserpool", REFUSED, "ServerPools", "warn not looked at: kubectl: The connection", 0),
        ("name=rserpool-operator", FORBIDDEN.format("deployments"), "operator", "warn not looked at: you may not read Deployments", 0),
        ("get leases.* rserpool-operator", FORBIDDEN.format("leases"), "leader", "warn not looked at: you may not read leases", 0),
        ("get leases.* rserpool-operator", "error: moon", "leader", "warn not looked at: kubectl: moon", 0),
        ("get mutating", NO_PATH, "webhook registered", "FAIL there is no MutatingWebhookConfiguration rserpool-operator", 1),
        ("get mutating", FORBIDDEN.format("x"), "webhook registered", "warn not looked at: you may not read it", 0),
        ("get mutating", "error: moon", "webhook registered", "warn not looked at: kubectl: moon", 0),
        (
            REACHES,
            ('Error from server (InternalError): error when creating "STDIN": Internal error occurred: failed calling webhook'
            ' "elements.rserpool.io": failed to call webhook: Post "https://rserpool-operator.rserpool-system.svc:8443/admission/'
            'pods?timeout=5s": context deadline exceeded'),
            "webhook reached",
            'FAIL kubectl: Error from server (InternalError): error when creating "STDIN"',
            1,
        ),
        (REACHES, FORBIDDEN.format("pods"), "webhook reached", "warn not tried: you may not create pods there", 0),
        (REACHES, 'Error from server: admission webhook "x.example" denied the request: no', "webhook reached", "warn not tried: kubectl", 0),
        (REACHES, "error: moon", "webhook reached", "warn not tried: kubectl: moon", 0),
        ("/apis/cert-manager", NO_PATH, "cert-manager", "FAIL there is none; demo/echo needs it: install it as", 1),
        ("name=cert-manager", FORBIDDEN.format("x"), "cert-manager", "ok cert-manager.io/v1 is served", 0),
        ("auth can-i create serverpools", "no", "right to make pools", "warn you may not create serverpools.rserpool.io", 0),
        ("auth can-i create serverpools", "error: moon", "right to make pools", "warn not known: kubectl: moon", 0),
        ("-n kube-node-lease", FORBIDDEN.format("leases"), "clocks", "warn not looked at: you may not read the nodes' Leases", 0),
        ("get serverpools", FORBIDDEN.format("x"), "SCTP", "ok no pool has told which transports it uses", 0),
    ],
)  # fmt: skip
def test_what_may_not_or_cannot_be_looked_at_is_told_from_what_is_wrong(
    asked: str, error: str, what: str, found: str, status: int, good: FakeCluster, capsys: Capture
) -> None:
    good.says(asked, error=error)
    (line,) = checked(capsys, status)[what]
    assert line.startswith(found)


def test_the_answer_no_is_read_where_kubectl_writes_it(good: FakeCluster, capsys: Capture) -> None:
    warning = "Warning: resource 'pods' is not namespace scoped"
    good.says("auth can-i create pods", "no\n", error=warning, status=1)
    (line,) = checked(capsys, 0)["right to ask registrars what they hold"]
    assert line.startswith("warn you may not create pods/exec")
    assert good.calls("can-i create pods --subresource=exec")


def test_cert_manager_is_not_missed_where_no_pool_wants_it(good: FakeCluster, capsys: Capture) -> None:
    good.says("get serverpools", [server_pool(security={"signer": {"type": "Embedded"}})])
    good.says("/apis/cert-manager", error=NO_PATH)
    (line,) = checked(capsys, 0)["cert-manager"]
    assert line.startswith("warn there is none: install it as")


@pytest.mark.parametrize(
    ("selector", "words", "namespace"),
    [
        ({"NotIn": ["rserpool-system"]}, [], None),
        ({"NotIn": ["rserpool-system"]}, ["-n", "demo"], "demo"),
        ({"NotIn": ["rserpool-system"]}, ["-n", "rserpool-system"], "default"),
        ({"NotIn": ["rserpool-system"], "In": ["demo", "other"]}, [], "demo"),
        ({"NotIn": ["rserpool-system"], "In": ["demo", "other"]}, ["-n", "other"], "other"),
    ],
)
def test_the_webhook_is_tried_where_it_looks(
    selector: dict[str, list[str]], words: list[str], namespace: str | None, good: FakeCluster, capsys: Capture
) -> None:
    good.says("get mutating", webhooks(operators=selector))
    checked(capsys, 0, *words)
    (call,) = good.calls(REACHES)
    assert call[:2] == (["-n", namespace] if namespace else ["create", "--dry-run=server"])


def test_clocks_of_nodes_are_compared_with_ours(good: FakeCluster) -> None:
    def clock(*leases: dict[str, Any]) -> list[str]:
        good.says("-n kube-node-lease", list(leases))
        return [str(finding) for finding in clocks(Kubectl(program="kubectl"), NOW)]

    assert clock(lease("a", 60, NOW), lease("b", -2, NOW)) == ["ok    clocks: 2 nodes agree with this machine's"]
    remedy = "it is down, or its clock is wrong: certificates are not valid before their time"
    ages = {"a": 3, "b": -30, "c": 4, "d": 100, "e": 1}
    assert clock(*(lease(name, age, NOW) for name, age in ages.items())) == [
        f"warn  clocks: node b is 30 s ahead: {remedy}",
        f"warn  clocks: node d wrote its Lease 100 s ago: {remedy}",
    ]
    broken = {"metadata": {"name": "x"}, "spec": {}}
    assert clock(lease("a", 603, NOW), lease("b", 605, NOW), lease("c", 607, NOW), broken) == [
        "warn  clocks: this machine's differs from most nodes' by 605 s: set it right"
    ]


def test_sctp_is_told_from_what_pools_say(good: FakeCluster, capsys: Capture) -> None:
    both, tcp = server_pool(name="both"), server_pool(condition("TransportDegraded", "True", "SctpUnavailable"))
    both["status"]["registrars"]["transports"] = ["SCTP", "TCP"]
    good.says("get serverpools", [both])
    assert checked(capsys, 0)["SCTP"] == ["ok in use by demo/both"]
    good.says("get serverpools", [both, tcp])
    assert checked(capsys, 0)["SCTP"] == [
        "warn asked for and not to be had by demo/echo: they work over TCP; --nodes tells which nodes lack it"
    ]


def node(name: str, *, ready: bool = True, **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": spec,
        "status": {"conditions": conditions},
    }


def said(node: str, message: str | None) -> dict[str, Any]:
    """The pod of a node, after it has run."""
    terminated = {"state": {"terminated": {"exitCode": 0, "message": message}}} if message else {}
    return {"spec": {"nodeName": node}, "status": {"containerStatuses": [{"name": "main", **terminated}]}}


def test_each_node_is_asked_by_a_pod_that_does_not_stay(good: FakeCluster, capsys: Capture) -> None:
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    nodes = [
        node("a"),
        node("b"),
        node("c"),
        node("cp", taints=[taint]),
        node("off", unschedulable=True),
        node("dead", ready=False),
    ]
    good.says(NODES, nodes)
    good.says("create -f -", "pod/x created\n")
    good.says("wait", error="error: timed out waiting for the condition on pods/x")
    good.says("get pods -l rserpool.io/check", [said("a", "yes"), said("b", "Protocol not supported"), said("c", None)])
    good.says("delete pods", "")
    assert checked(capsys, 0, "--nodes")["SCTP"][1:] == [
        "ok node a has it",
        (
            "warn node b has none (Protocol not supported): load the kernel's module sctp on it, or leave it:"
            " such pools speak TCP there"
        ),
        "warn node c did not say within 60 s: kubectl describe node c",
    ]
    made = good.given("create -f -")["items"]
    assert [pod["spec"]["nodeName"] for pod in made] == ["a", "b", "c"]
    assert {pod["spec"]["containers"][0]["image"] for pod in made} == {SIDECAR["image"]}
    assert all("rserpool.io/pool" not in pod["metadata"]["labels"] for pod in made)
    run = made[0]["metadata"]["labels"]["rserpool.io/check"]
    assert good.calls(f"-n default delete pods -l rserpool.io/check={run} ")


@pytest.mark.parametrize("asked", [NODES, "create -f -"])
def test_where_nodes_may_not_be_asked_it_is_said_and_cleaned_up(asked: str, good: FakeCluster, capsys: Capture) -> None:
    good.says(NODES, [node("a")])
    good.says("create -f -", "pod/x created\n")
    good.says("delete pods", error="error: moon")
    good.says(asked, error=FORBIDDEN.format("x"))
    assert main(["check", "--nodes"]) == 0
    out = capsys.readouterr().out
    assert "warn  SCTP: nodes were not looked at: kubectl: Error from server (Forbidden)" in out
    assert ("pods of this check may be left: kubectl delete pods -l rserpool.io/check=" in out) is (asked != NODES)


def test_without_a_webhook_there_is_no_image_to_ask_nodes_with(good: FakeCluster, capsys: Capture) -> None:
    good.says(REACHES, injected())
    assert checked(capsys, 1, "--nodes")["SCTP"][1].startswith(
        "warn nodes were not looked at: the webhook names the image"
    )
    assert good.calls(NODES) == []
