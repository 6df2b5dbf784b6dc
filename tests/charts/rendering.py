# SPDX-License-Identifier: Apache-2.0
"""The chart as Helm renders it, for several sets of values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

CHART: Final = Path(__file__).parents[2] / "charts" / "rserpool"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rserpool-e2e" / "bin"
NAMESPACE: Final = "rserpool-system"

VALUES: Final[dict[str, dict[str, Any]]] = {
    "local": {"image": {"allowLocal": True}},
    "registry": {"image": {"registry": "registry.example:5000/team/", "tag": "1.2.3", "pullSecrets": ["pull"]}},
    "namespaces": {"image": {"allowLocal": True}, "watch": {"namespaces": ["demo", "other"]}},
    "everything": {
        "image": {"registry": "registry.example", "pullPolicy": "Always", "pullSecrets": ["one", "two"]},
        "replicas": 3,
        "node": {"sidecarResources": {"requests": {"cpu": "5m", "memory": "40Mi"}, "limits": {"memory": "80Mi"}}},
        "watch": {"namespaces": ["demo"]},
        "clusterDomain": "cluster.example",
        "trustDomain": "example.org",
        "enrolment": {"checkSource": False, "perSecond": 0.5},
        "lease": {"duration": "20s", "renew": "15s", "retry": "3s"},
        "log": {"level": "debug", "format": "text"},
        "webhook": {
            "timeoutSeconds": 9,
            "namespaceSelector": {
                "matchLabels": {"team": "a"},
                "matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["test"]}],
            },
        },
        "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
        "validatingAdmissionPolicies": {"enabled": True, "exemptGroups": ["admins"]},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
    },
    "least": {
        "image": {"allowLocal": True},
        "replicas": 1,
        "crds": {"install": False},
        "podDisruptionBudget": {"enabled": False},
        "uninstall": {"force": True},
    },
}


def program(name: str, hint: str) -> str:
    """Where a program is; without it the test is skipped, with CI set it fails."""
    found = shutil.which(name, path=f"{CACHE}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        reason = f"{name} is not installed: {hint}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason} (with CI set, a missing tool is a failure)", pytrace=False)
        pytest.skip(reason)
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(program("helm", "https://helm.sh/docs/intro/install"), *arguments)


def flags(values: dict[str, Any]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]


def template(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return helm("template", "rserpool", str(CHART), "--namespace", NAMESPACE, *flags(values))


@cache
def rendered_text(name: str) -> str:
    done = template(VALUES[name])
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(name: str) -> list[dict[str, Any]]:
    """What the chart makes of a set of values; the caller's own copy."""
    return [m for m in yaml.load_all(rendered_text(name), yaml.CSafeLoader) if m is not None]


def deployment(name: str) -> dict[str, Any]:
    (found,) = [m for m in rendered(name) if m["kind"] == "Deployment"]
    return found


def environment(name: str) -> dict[str, str]:
    """The operator's environment; what only a cluster knows is made up."""
    (container,) = deployment(name)["spec"]["template"]["spec"]["containers"]
    return {e["name"]: e.get("value", "from-the-pod") for e in container["env"]}


def pod_specs(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for m in manifests:
        if m["kind"] in ("Deployment", "Job"):
            yield m["spec"]["template"]["spec"]


def roles(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [m for m in manifests if m["kind"] in ("Role", "ClusterRole")]


def bound_cluster_roles(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """ClusterRoles that somebody has everywhere."""
    bound = {m["roleRef"]["name"] for m in manifests if m["kind"] == "ClusterRoleBinding"}
    return [m for m in roles(manifests) if m["kind"] == "ClusterRole" and m["metadata"]["name"] in bound]
