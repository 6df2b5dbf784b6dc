# SPDX-License-Identifier: Apache-2.0
"""Nodes, and what can happen to them.

Two faults: a *frozen* node's processes stand still while its kernel goes on acknowledging TCP; a node that is *cut off*
sends and receives nothing, as a host that vanishes. (Taking its link down would lose its routes.)
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from harness.cluster import cluster
from harness.kubectl import get

_RULES: Final = (
    ("-t", "raw", "PREROUTING", "-i", "eth0", "-j", "DROP"),
    ("-t", "mangle", "POSTROUTING", "-o", "eth0", "-j", "DROP"),
)
_hurt: dict[str, set[str]] = {}
"""Faults in force, by node."""


def _docker(*arguments: str) -> bool:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0


def _iptables(node: str, action: str, rule: tuple[str, ...]) -> bool:
    table, chain = rule[:2], rule[2:]
    return _docker("exec", node, "iptables", "-w", *table, action, *chain)


def workers() -> list[str]:
    """Names of the worker nodes; kind's containers are called the same."""
    nodes = get("nodes", "-l", "!node-role.kubernetes.io/control-plane")
    return sorted(node["metadata"]["name"] for node in nodes)


def node_of(pod: str, *, namespace: str) -> str:
    """The node a pod is on."""
    return str(get("pod", pod, "-n", namespace)["spec"]["nodeName"])


def kill_container(pod: str, container: str, *, namespace: str) -> None:
    """Kill all processes of a container, as the kernel does when memory is short; its kubelet is not told."""
    found = get("pod", pod, "-n", namespace)
    statuses = [*found["status"].get("initContainerStatuses", []), *found["status"]["containerStatuses"]]
    (number,) = [s["containerID"].partition("://")[2] for s in statuses if s["name"] == container]
    # Its processes are found by their control group, which is called after the container.
    script = f"grep -l {number} /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | xargs -r kill -KILL"
    _must(_docker("exec", found["spec"]["nodeName"], "sh", "-c", script), f"{pod}/{container} cannot be killed")


def _must(good: bool, what: str) -> None:
    if not good:
        raise RuntimeError(what)


def freeze(node: str) -> None:
    """Stop every process of the node."""
    _must(_docker("pause", node), f"{node} cannot be frozen")
    _hurt.setdefault(node, set()).add("frozen")


def thaw(node: str) -> None:
    """Let them go on."""
    _must(_docker("unpause", node), f"{node} cannot be thawed")
    _hurt.get(node, set()).discard("frozen")


def cut(node: str) -> None:
    """Drop every packet from and to the node."""
    _hurt.setdefault(node, set()).add("cut")
    for rule in _RULES:
        _must(_iptables(node, "-C", rule) or _iptables(node, "-I", rule), f"{node} cannot be cut off")


def heal(node: str) -> None:
    """Let packets through again."""
    for rule in _RULES:
        while _iptables(node, "-C", rule):
            _must(_iptables(node, "-D", rule), f"{node} cannot be joined again")
    _hurt.get(node, set()).discard("cut")


@contextmanager
def frozen(node: str) -> Iterator[None]:
    """Frozen for as long as the block runs."""
    freeze(node)
    try:
        yield
    finally:
        thaw(node)


@contextmanager
def cut_off(node: str) -> Iterator[None]:
    """Cut off for as long as the block runs."""
    try:
        cut(node)
        yield
    finally:
        heal(node)


def repair_all() -> list[str]:
    """End all faults that are still in force, whoever forgot them; returns the nodes."""
    repaired = [node for node, faults in _hurt.items() if faults]
    for node in repaired:
        if "frozen" in _hurt[node]:
            thaw(node)
        if "cut" in _hurt[node]:
            heal(node)
    return repaired


def kubelet_log(node: str, lines: int = 300) -> str:
    """The end of what the node's kubelet has written."""
    done = subprocess.run(
        ["docker", "exec", node, "journalctl", "--no-pager", "-u", "kubelet", "-n", str(lines)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def containers() -> list[str]:
    """Names of all nodes, asked of Docker: the API server may be the one that is gone."""
    done = subprocess.run(
        ["docker", "ps", "--filter", f"label=io.x-k8s.kind.cluster={cluster().name}", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return sorted(done.stdout.split())
