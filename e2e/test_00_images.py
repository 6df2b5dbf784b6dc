# SPDX-License-Identifier: Apache-2.0
"""The images themselves: they run where nothing is allowed, and hold nothing that they do not need."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from harness.cluster import Cluster
from harness.kubectl import apply, conditions, get, kubectl
from harness.manifests import job
from harness.nodes import workers
from harness.waiting import NotYet, wait_for

LOOK: Final = """
import importlib.util, json, os, shutil, subprocess, sys
commands = ["rserpool", "rserpool-registrar", "rserpool-sidecar", "rserpool-operator", "pip", "pip3", "uv", "gcc"]
modules = ["rserpool", "rserpool_registrar", "rserpool_sidecar", "rserpool_operator", "kopf", "kubernetes", "aiohttp",
           "pip", "setuptools", "wheel", "ensurepip"]
try:
    open("/written", "w")
    read_only = False
except OSError:
    read_only = True
print(json.dumps({
    "version": subprocess.run(["rserpool", "version"], capture_output=True, text=True).stdout.strip(),
    "commands": [c for c in commands if shutil.which(c)],
    "modules": [m for m in modules if importlib.util.find_spec(m)],
    "user": [os.getuid(), os.getgid()],
    "read_only": read_only,
    "optimize": sys.flags.optimize,
    "compiled": importlib.util.find_spec("rserpool").cached.endswith(".opt-2.pyc")
        and os.path.exists(importlib.util.find_spec("rserpool").cached)
        and os.path.exists(importlib.util.find_spec("asyncio").cached),
}))
"""


def _run(name: str, image: str, node: str, namespace: str) -> dict[str, Any]:
    """What a Job of that image sees on that node."""
    apply(job(name, image, ["python", "-c", LOOK], node=node), namespace=namespace)

    def over() -> bool:
        done = conditions(get("job", name, "-n", namespace))
        if "Failed" in done:
            pytest.fail(f"{name}: {kubectl('-n', namespace, 'logs', f'job/{name}')}")
        if "Complete" not in done:
            raise NotYet(get("pods", "-n", namespace, "-l", f"job-name={name}"))
        return True

    wait_for(over, 60, f"Job {name} is complete")
    told: dict[str, Any] = json.loads(kubectl("-n", namespace, "logs", f"job/{name}"))
    return told


def test_the_node_image_runs_on_every_worker_under_restricted_pod_security(cluster: Cluster, namespace: str) -> None:
    nodes = workers()
    assert len(nodes) == 2
    for node in nodes:
        told = _run(f"node-on-{node}", cluster.image("node"), node, namespace)
        assert told["version"] == f"rserpool {cluster.version}"
        assert told["commands"] == ["rserpool", "rserpool-registrar", "rserpool-sidecar"]
        assert told["user"] == [65532, 65532]
        assert told["read_only"]


def test_the_node_image_holds_no_operator_libraries_and_nothing_to_install_with(
    cluster: Cluster, namespace: str
) -> None:
    told = _run("node-holds", cluster.image("node"), workers()[0], namespace)
    assert told["modules"] == ["rserpool", "rserpool_registrar", "rserpool_sidecar", "rserpool_operator"]
    assert (told["optimize"], told["compiled"]) == (2, True)


def test_the_operator_image_runs_and_has_nothing_to_install_with(cluster: Cluster, namespace: str) -> None:
    told = _run("operator-holds", cluster.image("operator"), workers()[0], namespace)
    assert told["version"] == f"rserpool {cluster.version}"
    assert told["commands"] == ["rserpool", "rserpool-operator"]
    assert {"kopf", "kubernetes", "aiohttp", "rserpool_operator"} <= set(told["modules"])
    assert not {"pip", "setuptools", "wheel", "ensurepip"} & set(told["modules"])
    assert (told["optimize"], told["compiled"], told["read_only"]) == (2, True, True)


def test_the_kubelet_refuses_neither_image_for_a_name_instead_of_a_user_number(cluster: Cluster) -> None:
    def loaded() -> bool:  # kubelets tell of images after a while
        names = {name for node in get("nodes") for image in node["status"]["images"] for name in image.get("names", [])}
        for tag in (cluster.version, cluster.next_version):
            for name in ("node", "operator"):
                assert any(known.endswith(f"/rserpool-{name}:{tag}") for known in names), f"rserpool-{name}:{tag}"
        return True

    wait_for(loaded, 60, "both images are in the nodes under both tags")
