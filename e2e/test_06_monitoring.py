# SPDX-License-Identifier: Apache-2.0
"""What the chart renders for Prometheus and Grafana, and its admission policies, on and off.

Needs Helm, Go, and Prometheus' promtool.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts import test_rules
from charts.rendering import CHART, NAMESPACE, program, rendered, run, template
from charts.schemas import Manifest, custom_faults, kubernetes_faults
from rserpool_operator import names

PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.90.1"
PROMETHEUS: Final = "monitoring.coreos.com/v1"
KUBERNETES: Final = ("1.30", "1.37")
RUNBOOK: Final = "https://docs.example/runbook.md"
LABELS: Final = {"release": "prometheus"}
ON: Final[dict[str, Any]] = {
    "image": {"allowLocal": True},
    "monitoring": {
        "podMonitors": {"enabled": True, "interval": "15s", "labels": LABELS},
        "rules": {"enabled": True, "labels": LABELS, "runbookUrl": RUNBOOK},
        "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Pools"}},
    },
    "validatingAdmissionPolicies": {"enabled": True, "exemptGroups": ["admins", "break-glass"]},
}
POLICIES: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@cache
def manifests(*namespaces: str) -> list[Manifest]:
    """With everything on; for some namespaces only, if any are named."""
    done = template({**ON, **({"watch": {"namespaces": list(namespaces)}} if namespaces else {})})
    assert done.returncode == 0, done.stderr
    return [m for m in yaml.safe_load_all(done.stdout) if m is not None]


def of_kind(kind: str, *namespaces: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests(*namespaces) if m["kind"] == kind}


def test_by_default_there_is_nothing_of_it() -> None:
    found = {m["kind"] for m in rendered("local")} & {"PodMonitor", "PrometheusRule", "ConfigMap", *POLICIES}
    assert found == set()


def test_the_prometheus_operator_knows_every_field() -> None:
    definitions = prometheus_definitions()
    ours = [m for m in manifests() if m["apiVersion"] == PROMETHEUS]
    assert [m["kind"] for m in ours] == ["PodMonitor"] * 3 + ["PrometheusRule"]
    assert [f"{m['kind']}: {f}" for m in ours for f in custom_faults(m, definitions[m["kind"]])] == []
    wrong = yaml.safe_load(json.dumps(ours[0]))
    wrong["spec"]["podMetricsEndpoints"][0]["intervall"] = "1s"
    (fault,) = custom_faults(wrong, definitions["PodMonitor"])
    assert fault.startswith("spec.podMetricsEndpoints[0]: ")


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field_of_the_rest(version: str) -> None:
    rest = [m for m in manifests() if m["apiVersion"] != PROMETHEUS]
    assert [f"{m['kind']} {m['metadata']['name']}: {f}" for m in rest for f in kubernetes_faults(m, version)] == []


def test_every_object_has_the_charts_labels_and_those_that_were_asked_for() -> None:
    for kind, wanted in (("PodMonitor", LABELS), ("PrometheusRule", LABELS), ("ConfigMap", {"grafana_dashboard": "1"})):
        for m in of_kind(kind).values():
            assert wanted.items() <= m["metadata"]["labels"].items()
            assert m["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rserpool"
            assert m["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("namespaces", [(), ("demo", "other")], ids=["everywhere", "listed"])
def test_the_monitors_reach_where_the_operator_does(namespaces: tuple[str, ...]) -> None:
    found = of_kind("PodMonitor", *namespaces)
    wanted = {"matchNames": list(namespaces)} if namespaces else {"any": True}
    assert {name: m["spec"]["namespaceSelector"] for name, m in found.items()} == {
        "rserpool-operator": {"matchNames": [NAMESPACE]},
        "rserpool-registrars": wanted,
        "rserpool-sidecars": wanted,
    }
    for m in found.values():
        (endpoint,) = m["spec"]["podMetricsEndpoints"]
        assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "15s")
        assert bool(endpoint.get("honorLabels")) is (m["metadata"]["name"] == "rserpool-operator")


def test_the_monitor_of_the_operator_selects_its_pods_and_its_port() -> None:
    selector = of_kind("PodMonitor")["rserpool-operator"]["spec"]["selector"]["matchLabels"]
    (deployment,) = of_kind("Deployment").values()
    pod = deployment["spec"]["template"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert "http" in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]


def test_every_alert_names_its_section_of_the_runbook() -> None:
    groups = of_kind("PrometheusRule")["rserpool"]["spec"]["groups"]
    source = yaml.safe_load((CHART / "rules" / "rserpool.yaml").read_text())["groups"]
    for group, written in zip(groups, source, strict=True):
        for rule, plain in zip(group["rules"], written["rules"], strict=True):
            assert rule["annotations"].pop("runbook_url") == f"{RUNBOOK}#{rule['alert'].lower()}"
            assert rule == plain


def test_prometheus_takes_the_rules_as_they_are_rendered(tmp_path: Path) -> None:
    groups = of_kind("PrometheusRule")["rserpool"]["spec"]["groups"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {sum(len(group['rules']) for group in groups)} rules found" in done.stdout
    groups[0]["rules"][0]["expr"] = "sum by (namespace"
    file.write_text(yaml.safe_dump({"groups": groups}))
    assert promtool("check", "rules", str(file)).returncode != 0


@pytest.mark.parametrize("file", test_rules.FILES, ids=lambda file: file.stem)
def test_each_alert_fires_when_it_shall_with_these_words_and_not_when_it_shall_not(file: Path) -> None:
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_a_case_that_is_not_so_is_found_out(tmp_path: Path) -> None:
    """Of a promtool that says yes to everything nothing could be learnt."""
    cases = yaml.safe_load(test_rules.FILES[0].read_text())
    cases["rule_files"] = [str(test_rules.CHART)]
    first = next(case for case in cases["tests"] if " fires: " in case["name"])
    first["alert_rule_test"][-1]["exp_alerts"][0]["exp_annotations"]["summary"] += " Not so."
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump({**cases, "tests": [first]}))
    done = promtool("test", "rules", str(file))
    assert done.returncode != 0
    assert "Not so." in done.stdout + done.stderr


def test_the_dashboard_comes_through_unchanged() -> None:
    config_map = of_kind("ConfigMap")["rserpool-dashboard"]
    assert config_map["metadata"]["annotations"] == {"grafana_folder": "Pools"}
    text = config_map["data"]["rserpool.json"]
    assert json.loads(text) == json.loads((CHART / "dashboards" / "rserpool.json").read_text())
    assert len(text) < 900_000, "a ConfigMap takes a megabyte"


@pytest.mark.parametrize("namespaces", [(), ("demo", "other")], ids=["everywhere", "listed"])
def test_the_policies_are_bound_and_look_where_the_operator_does(namespaces: tuple[str, ...]) -> None:
    policies, bindings = (of_kind(kind, *namespaces) for kind in POLICIES)
    assert set(policies) == {"rserpool-registrar-pods", "rserpool-enrolment-tokens", "rserpool-pod-certificates"}
    assert {b["spec"]["policyName"] for b in bindings.values()} == set(policies)
    expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
    for policy in policies.values():
        assert policy["spec"]["failurePolicy"] == "Fail"
        there = policy["spec"]["matchConstraints"].get("namespaceSelector")
        assert there == ({"matchExpressions": [expression]} if namespaces else None)
    for binding in bindings.values():
        assert binding["spec"]["validationActions"] == ["Deny", "Audit"]
        assert "matchResources" not in binding["spec"], "nothing may narrow it"


def test_a_registrars_pod_is_closed_by_every_door_but_to_the_groups_that_are_named() -> None:
    spec = of_kind(POLICIES[0])["rserpool-registrar-pods"]["spec"]
    doors = {
        (verb, name)
        for r in spec["matchConstraints"]["resourceRules"]
        for verb in r["operations"]
        for name in r["resources"]
    }
    assert doors == {
        ("CONNECT", "pods/exec"),
        ("CONNECT", "pods/attach"),
        ("CONNECT", "pods/portforward"),
        ("UPDATE", "pods/ephemeralcontainers"),
    }
    conditions = {c["name"]: c["expression"] for c in spec["matchConditions"]}
    assert '["admins","break-glass"]' in conditions["others"]
    assert names.registrar_set("") in conditions["registrar"]
    assert [v["expression"] for v in spec["validations"]] == ["false"]


def test_only_kubelets_get_tokens_for_enrolment() -> None:
    spec = of_kind(POLICIES[0])["rserpool-enrolment-tokens"]["spec"]
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE"], ["serviceaccounts/token"])
    assert f"'{names.AUDIENCE}'" in spec["matchConditions"][0]["expression"]
    assert "'system:nodes' in request.userInfo.groups" in spec["validations"][0]["expression"]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(program("promtool", "e2e/lab/binaries.sh builds it, or https://prometheus.io/download"), *arguments)


@cache
def prometheus_definitions() -> dict[str, Manifest]:
    """The CustomResourceDefinitions of the Prometheus Operator, by kind, from its Go module."""
    go = program("go", "https://go.dev/dl")
    done = run(go, "mod", "download", "-json", PROMETHEUS_OPERATOR)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    found: dict[str, Manifest] = {}
    for name in ("podmonitors", "prometheusrules"):
        definition = yaml.safe_load((folder / f"monitoring.coreos.com_{name}.yaml").read_text())
        found[definition["spec"]["names"]["kind"]] = definition
    return found
