# SPDX-License-Identifier: Apache-2.0
"""What the chart renders, against the schemas of several versions of Kubernetes; needs Helm, but no cluster."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts.rendering import (
    CHART,
    NAMESPACE,
    VALUES,
    bound_cluster_roles,
    deployment,
    environment,
    flags,
    helm,
    pod_specs,
    program,
    rendered,
    roles,
    run,
    template,
)
from charts.schemas import Manifest, custom_faults, definition_in, kubernetes_faults
from rserpool.daemon.settings import load
from rserpool_operator import names
from rserpool_operator.config import OperatorSettings

CERT_MANAGER: Final = "github.com/cert-manager/cert-manager@v1.21.1"
KUBERNETES: Final = ("1.30", "1.33", "1.37")
NAMES: Final = tuple(VALUES)

FORBIDDEN_VERBS: Final = {"*", "bind", "escalate", "impersonate", "approve", "sign", "use"}
SIGNS: Final = {
    "apiGroups": ["certificates.k8s.io"],
    "resources": ["signers"],
    "resourceNames": ["rserpool.io/pool"],
    "verbs": ["sign"],
}
"""For the signer that our own pods name, and no other."""
CLUSTER_WIDE: Final = [
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"],
        "resourceNames": ["serverpools.rserpool.io"],
        "verbs": ["get"],
    },
    {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["mutatingwebhookconfigurations"],
        "resourceNames": ["rserpool-operator"],
        "verbs": ["get", "patch"],
    },
    SIGNS,
]
"""Everything that the operator may do outside the namespaces in its list."""


def test_the_chart_passes_helm_lint_whatever_the_values(tmp_path: Path) -> None:
    for name, values in VALUES.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(values))
        done = helm("lint", "--strict", str(CHART), "--namespace", NAMESPACE, "--values", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_knows_every_field_of_what_is_rendered(name: str, version: str) -> None:
    manifests = rendered(name)
    faults = [f"{m['kind']} {m['metadata']['name']}: {f}" for m in manifests for f in kubernetes_faults(m, version)]
    assert faults == []


@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_rendered_once_and_has_its_labels(name: str) -> None:
    manifests = rendered(name)
    seen = Counter((m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests)
    assert [key for key, times in seen.items() if times > 1] == []
    for m in manifests:
        if m["kind"] != "CustomResourceDefinition":
            assert m["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rserpool", m["metadata"]["name"]


def test_an_empty_registry_is_refused_with_what_to_do() -> None:
    done = template({})
    assert done.returncode != 0
    assert "make images push REGISTRY=" in done.stderr
    assert "--set image.registry=" in done.stderr


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"registri": "registry.example"}}, "registri"),
        ({"watch": {"namespace": ["demo"]}}, "namespace"),
        ({"webhook": {"failurePolicy": "Ignore"}}, "failurePolicy"),
        ({"image": {"registry": "https://registry.example"}}, "registry"),
        ({"podLabels": {"rserpool.io/pool": "echo"}}, "podLabels"),
        ({"watch": {"namespaces": ["kube-system"]}}, "namespaces"),
        ({"watch": {"namespaces": [NAMESPACE]}}, "the operator's own namespace"),
    ],
)
def test_what_is_misspelt_or_impossible_is_refused_by_its_name(values: dict[str, Any], hint: str) -> None:
    done = template({**values, "image": {"allowLocal": True, **values.get("image", {})}})
    assert done.returncode != 0
    assert hint in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_container_is_restricted_and_has_its_resources(name: str) -> None:
    pods = list(pod_specs(rendered(name)))
    assert len(pods) == (1 if name == "least" else 2)
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == names.NODE_USER
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all(set(volume) <= {"name", "emptyDir"} for volume in pod["volumes"])
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert not re.search(r":latest$|:$", container["image"])


def test_the_image_is_put_together_from_registry_name_and_tag() -> None:
    (operator,) = deployment("registry")["spec"]["template"]["spec"]["containers"]
    assert operator["image"] == "registry.example:5000/team/rserpool-operator:1.2.3"
    assert environment("registry")["RSERPOOL_NODE_IMAGE"] == "registry.example:5000/team/rserpool-node"


@pytest.mark.parametrize("name", NAMES)
def test_the_operator_can_read_the_configuration_it_is_given(name: str) -> None:
    settings = load(OperatorSettings, None, environment(name))
    assert settings.installation.watch == tuple(VALUES[name].get("watch", {}).get("namespaces", []))
    if name == "everything":
        assert json.loads(settings.node.sidecar_resources) == VALUES[name]["node"]["sidecarResources"]
        assert settings.node.pull_secrets == ("one", "two")
        assert settings.node.pull_policy == "Always"
        assert (settings.installation.cluster_domain, settings.installation.trust_domain) == (
            "cluster.example",
            "example.org",
        )
        assert (settings.enrolment.check_source, settings.enrolment.per_second) == (False, 0.5)
        assert (settings.lease.duration, settings.lease.renew, settings.lease.retry) == (20.0, 15.0, 3.0)
        assert (settings.log.level, settings.log.format) == ("debug", "text")


def test_the_check_before_an_uninstallation_has_the_same_configuration_and_few_rights() -> None:
    (job,) = [m for m in rendered("namespaces") if m["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (operator,) = deployment("namespaces")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["rserpool-operator", "uninstall-check"]
    assert container["env"] == operator["env"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    for name, kind in (("local", "ClusterRole"), ("namespaces", "Role")):
        roles = [m for m in rendered(name) if m["metadata"]["name"] == account and m["kind"].endswith("Role")]
        assert {role["kind"] for role in roles} == {kind}
        for role in roles:
            rule = {"apiGroups": ["rserpool.io"], "resources": ["serverpools"], "verbs": ["get", "list"]}
            assert role["rules"] == [rule]


def test_with_force_nothing_is_checked_before_an_uninstallation() -> None:
    assert [m for m in rendered("least") if "helm.sh/hook" in m["metadata"].get("annotations", {})] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_role_lets_anybody_get_more_than_it_says(name: str) -> None:
    for role in roles(rendered(name)):
        for rule in role["rules"]:
            assert rule == SIGNS or set(rule["verbs"]) & FORBIDDEN_VERBS == set()
            assert "*" not in rule["resources"] + rule["apiGroups"]
            assert not any(re.search(r"/(exec|attach|portforward|proxy|token)$", r) for r in rule["resources"])
            assert not any(r in ("roles", "clusterroles", "rolebindings") for r in rule["resources"])
            if "secrets" in rule["resources"]:
                assert (role["kind"], role["metadata"]["namespace"]) == ("Role", NAMESPACE)


def test_with_a_list_of_namespaces_only_the_named_rights_are_cluster_wide() -> None:
    bound = bound_cluster_roles(rendered("namespaces"))
    assert [role["rules"] for role in bound] == [CLUSTER_WIDE]
    namespaces = Counter(
        role["metadata"]["namespace"] for role in roles(rendered("namespaces")) if role["kind"] == "Role"
    )
    # The rights on pools, and those of the check before an uninstallation.
    assert namespaces == {NAMESPACE: 1, "demo": 2, "other": 2}


def test_in_both_modes_the_operator_may_do_the_same_with_pools() -> None:
    def of_pools(name: str) -> list[Any]:
        return [role["rules"] for role in roles(rendered(name)) if role["metadata"]["name"].endswith("-pools")]

    assert of_pools("namespaces") == of_pools("local") * 2
    assert [role["rules"] for role in bound_cluster_roles(rendered("local")) if role["rules"] == CLUSTER_WIDE]


@pytest.mark.parametrize("name", NAMES)
def test_every_binding_leads_from_an_account_of_the_chart_to_a_role_of_it(name: str) -> None:
    manifests = rendered(name)
    there = {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests}
    for m in manifests:
        if m["kind"].endswith("RoleBinding"):
            place = m["metadata"].get("namespace") if m["roleRef"]["kind"] == "Role" else None
            assert (m["roleRef"]["kind"], place, m["roleRef"]["name"]) in there
            for subject in m["subjects"]:
                assert (subject["kind"], subject["namespace"], subject["name"]) in there
        elif m["kind"] == "ServiceAccount":
            assert m["automountServiceAccountToken"] is False


def test_users_roles_know_server_pools_and_nothing_else() -> None:
    aggregated = {
        label.rpartition("-")[2]: role["rules"]
        for role in roles(rendered("local"))
        for label in role["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }
    assert set(aggregated) == {"view", "edit", "admin"}
    for name, rules in aggregated.items():
        (rule,) = rules
        assert (rule["apiGroups"], rule["resources"]) == (["rserpool.io"], ["serverpools"])
        assert ("create" in rule["verbs"]) is (name != "view")


@pytest.mark.parametrize("name", NAMES)
def test_the_webhooks_see_labelled_pods_of_the_right_namespaces_only(name: str) -> None:
    (configuration,) = [m for m in rendered(name) if m["kind"] == "MutatingWebhookConfiguration"]
    labels = {"elements.rserpool.io": names.POOL_LABEL, "users.rserpool.io": names.USES_LABEL}
    listed = VALUES[name].get("watch", {}).get("namespaces")
    assert {hook["name"] for hook in configuration["webhooks"]} == set(labels)
    for hook in configuration["webhooks"]:
        assert hook["objectSelector"] == {"matchExpressions": [{"key": labels[hook["name"]], "operator": "Exists"}]}
        assert (hook["failurePolicy"], hook["sideEffects"], hook["reinvocationPolicy"]) == ("Fail", "None", "IfNeeded")
        assert "caBundle" not in hook["clientConfig"]
        expressions = hook["namespaceSelector"]["matchExpressions"]
        key = "kubernetes.io/metadata.name"
        assert {"key": key, "operator": "NotIn", "values": [NAMESPACE, "kube-system"]} in expressions
        assert ({"key": key, "operator": "In", "values": listed} in expressions) is bool(listed)
        assert (hook["namespaceSelector"].get("matchLabels") == {"team": "a"}) is (name == "everything")


def test_services_the_budget_and_the_deployment_select_the_operator_and_nothing_else() -> None:
    manifests = rendered("everything")
    template_labels = deployment("everything")["spec"]["template"]["metadata"]["labels"]
    (job,) = [m for m in manifests if m["kind"] == "Job"]
    selectors = {m["metadata"]["name"]: m["spec"]["selector"] for m in manifests if m["kind"] == "Service"}
    settings = load(OperatorSettings, None, environment("everything"))
    assert set(selectors) == {settings.installation.service, settings.installation.leader_service}
    leader = selectors[settings.installation.leader_service]
    assert leader.pop(names.LEADER_LABEL) == "true"
    budget = next(m for m in manifests if m["kind"] == "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    policy = next(m for m in manifests if m["kind"] == "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for selector in (leader, selectors[settings.installation.service], budget, policy):
        assert selector.items() <= template_labels.items()
        assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert names.POOL_LABEL not in template_labels


def test_the_definition_is_kept_when_the_chart_goes() -> None:
    definitions = [m for m in rendered("local") if m["kind"] == "CustomResourceDefinition"]
    assert [d["metadata"]["name"] for d in definitions] == ["serverpools.rserpool.io"]
    assert definitions[0]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert [m for m in rendered("least") if m["kind"] == "CustomResourceDefinition"] == []


def test_the_notes_name_the_next_step() -> None:
    given = flags(VALUES["namespaces"])
    done = helm("install", "rserpool", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", *given)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.rpartition("NOTES:")[2]
    assert "kubectl apply -f -" in notes
    assert "serves the pools of demo, other" in notes
    (block,) = re.findall(r"<<END\n(.*?)\nEND\n", notes, re.DOTALL)
    pool = yaml.safe_load(block)
    (definition,) = [m for m in rendered("local") if m["kind"] == "CustomResourceDefinition"]
    assert custom_faults(pool, definition) == []


def test_cert_manager_knows_every_field_of_a_pools_authority() -> None:
    definitions = cert_manager_definitions()
    for manifest in authority_manifests():
        assert custom_faults(manifest, definitions[manifest["kind"]]) == []
    wrong = yaml.safe_load(json.dumps(authority_manifests()[1]))
    wrong["spec"]["privateKey"]["rotation"] = "Never"
    (fault,) = custom_faults(wrong, definitions["Certificate"])
    assert fault.startswith("spec.privateKey: ")


def authority_manifests() -> list[Manifest]:
    """A pool's authority by cert-manager, and a request to it."""

    def manifest(kind: str, name: str, spec: dict[str, Any]) -> Manifest:
        metadata = {"name": name, "namespace": NAMESPACE}
        return {"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec}

    name = names.authority("demo", "echo", "0f8fad5b-d9cb-469f-a165-70867728950e", 1)
    return [
        manifest("Issuer", f"{name}-self", {"selfSigned": {}}),
        manifest(
            "Certificate",
            name,
            {
                "isCA": True,
                "commonName": "rserpool demo/echo",
                "duration": "8760h0m0s",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
                "usages": ["cert sign", "crl sign"],
                "secretName": name,
                "issuerRef": {"name": f"{name}-self", "kind": "Issuer"},
            },
        ),
        manifest("Issuer", name, {"ca": {"secretName": name}}),
        manifest(
            "CertificateRequest",
            f"{name}-leaf",
            {
                "request": "LS0t",
                "duration": "24h0m0s",
                "usages": ["digital signature", "client auth", "server auth"],
                "issuerRef": {"name": name, "kind": "Issuer", "group": "cert-manager.io"},
            },
        ),
    ]


@cache
def cert_manager_definitions() -> dict[str, Manifest]:
    """The CustomResourceDefinitions of cert-manager, by kind, from its Go module."""
    go = program("go", "https://go.dev/dl")
    done = run(go, "mod", "download", "-json", CERT_MANAGER)
    assert done.returncode == 0, done.stdout + done.stderr
    templates = Path(json.loads(done.stdout)["Dir"]) / "deploy" / "charts" / "cert-manager" / "templates"
    found = [definition_in(path) for path in sorted(templates.glob("crd-cert-manager.io_*.yaml"))]
    return {definition["spec"]["names"]["kind"]: definition for definition in found}
