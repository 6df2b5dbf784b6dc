# SPDX-License-Identifier: Apache-2.0
"""Nodes that are not there: kwok says of them and of their pods that they run, so that there can be thousands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harness.cluster import CACHE, REPOSITORY, cluster
from harness.kubectl import Manifest, apply, conditions, get, kubectl
from harness.waiting import NotYet, wait_for

LAB: Final = REPOSITORY / "e2e" / "lab"
BINARY: Final = CACHE / "bin" / "kwok"
MARK: Final = {"e2e.rserpool.io/kwok": "true"}
"""Label of these nodes."""
TAINT: Final = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
PLACE: Final[dict[str, Any]] = {
    "nodeSelector": dict(MARK),
    "tolerations": [{"key": TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}],
}
"""Fields of what is to be put there."""


def build() -> None:
    """Have a kwok, from Go's modules; the first time that takes minutes."""
    subprocess.run([LAB / "kwok.sh"], check=True)


@contextmanager
def nodes(count: int, log: Path) -> Iterator[list[str]]:
    """So many nodes with kwok behind them, which writes to a file; they, and what is on them, are gone afterwards."""
    names = [f"kwok-{number}" for number in range(count)]
    apply([_node(name) for name in names])
    command = [
        str(BINARY), "--config", str(LAB / "kwok.yaml"), "--kubeconfig", str(cluster().kubeconfig),
        "--manage-nodes-with-label-selector", ",".join(f"{key}={value}" for key, value in MARK.items()),
        "--node-lease-duration-seconds", "40", "--cidr", "10.250.0.0/16",
    ]  # fmt: skip
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as kwok:
        try:
            wait_for(lambda: _are_ready(kwok, names), 60, "kwok's nodes are Ready")
            yield names
        finally:
            kwok.terminate()  # first: whatever else fails, it is not waited for
            kubectl("delete", "nodes", *names, "--ignore-not-found", "--wait=false")


def _node(name: str) -> Manifest:
    labels = {**MARK, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    spec = {"taints": [TAINT]}
    metadata = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def _are_ready(kwok: subprocess.Popen[bytes], names: list[str]) -> bool:
    if kwok.poll() is not None:
        raise RuntimeError("kwok has ended; see its log")
    found = {node["metadata"]["name"]: conditions(node) for node in get("nodes")}
    ready = {name: found.get(name, {}).get("Ready", {}).get("status") == "True" for name in names}
    if not all(ready.values()):
        raise NotYet(ready)
    return True
