# SPDX-License-Identifier: Apache-2.0
"""What nodes can do, and whether their clocks are right."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import median
from typing import Final

from rserpool_cli.cluster.check_webhook import PROBE, Dry, pod
from rserpool_cli.cluster.findings import Finding, ok, warn
from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest
from rserpool_cli.cluster.pools import Pool, moment

AHEAD, BEHIND = 2.0, 60.0
"""Seconds: a kubelet renews its Lease every ten; so much more is a clock that is wrong, or a node that is gone."""
WAIT: Final = 60
"""Seconds for a pod on each node to say its word."""
LABEL: Final = "rserpool.io/check"
_ASK: Final = """\
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    said = "yes"
except OSError as e:
    said = e.strerror
open("/dev/termination-log", "w").write(said)
"""
_LOAD: Final = "load the kernel's module sctp on it, or leave it: such pools speak TCP there"


def sctp_in_use(pools: Sequence[Pool]) -> Finding:
    """What the pools' registrars speak."""
    what = "SCTP"
    told = {p.full: set((p.status.get("registrars") or {}).get("transports") or []) for p in pools}
    speaking = {name: transports for name, transports in told.items() if transports}
    if not speaking:
        return ok(what, "no pool has told which transports it uses; --nodes looks at each node")
    lacking = [name for name, transports in speaking.items() if "SCTP" not in transports]
    if not lacking:
        return ok(what, f"in use by {', '.join(sorted(speaking)[:5])}")
    wanting = [name for name in lacking if _degraded(next(p for p in pools if p.full == name))]
    if not wanting:
        return ok(what, "not in use, and no pool asks for it")
    return warn(
        what,
        f"asked for and not to be had by {', '.join(wanting[:5])}",
        "they work over TCP; --nodes tells which nodes lack it",
    )


def _degraded(pool: Pool) -> bool:
    return pool.conditions.get("TransportDegraded", {}).get("status") == "True"


def sctp_on_nodes(kubectl: Kubectl, dry: Dry) -> Iterator[Finding]:
    """Ask each node that takes pods, by a pod that is deleted afterwards."""
    what, run = "SCTP", secrets.token_hex(3)
    try:
        nodes = [n["metadata"]["name"] for n in kubectl.get("nodes") if _takes_pods(n)]
    except KubectlError as e:
        yield warn(what, "nodes were not looked at", str(e))
        return
    chosen = f"{LABEL}={run}"
    try:
        said = _ask_nodes(kubectl, dry, nodes, run)
    except KubectlError as e:
        yield warn(what, "nodes were not looked at", str(e))
        return
    finally:
        _clean_up(kubectl, chosen, dry.namespace)
    for node in nodes:
        told = said.get(node, "")
        if told == "yes":
            yield ok(what, f"node {node} has it")
        elif told:
            yield warn(what, f"node {node} has none ({told})", _LOAD)
        else:
            yield warn(what, f"node {node} did not say within {WAIT} s", f"kubectl describe node {node}")


def _takes_pods(node: Manifest) -> bool:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])
    barred = any(t.get("effect") in ("NoSchedule", "NoExecute") for t in spec.get("taints") or [])
    linux = (node["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux") == "linux"
    return ready and linux and not barred and not spec.get("unschedulable")


def _ask_nodes(kubectl: Kubectl, dry: Dry, nodes: Sequence[str], run: str) -> dict[str, str]:
    """What each node's pod said."""
    pods = []
    for index, node in enumerate(nodes):
        manifest = pod(f"{PROBE}-{run}-{index}", dry.image, ["python3", "-c", _ASK], nodeName=node)
        manifest["metadata"]["labels"][LABEL] = run
        manifest["spec"]["containers"][0]["imagePullPolicy"] = dry.pull_policy
        pods.append(manifest)
    if not pods:
        return {}
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    kubectl.run("create", "-f", "-", "-o", "name", namespace=dry.namespace, given=everything)
    done = ("wait", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={WAIT}s", "pods", "-l", f"{LABEL}={run}")
    try:
        kubectl.run(*done, namespace=dry.namespace, longest=WAIT + 30.0)
    except KubectlError as e:
        if e.reason:
            raise
    return {
        p["spec"]["nodeName"]: _said(p) for p in kubectl.get("pods", "-l", f"{LABEL}={run}", namespace=dry.namespace)
    }


def _said(made: Manifest) -> str:
    for container in (made.get("status") or {}).get("containerStatuses") or []:
        message = ((container.get("state") or {}).get("terminated") or {}).get("message")
        if message:
            return str(message).strip()
    return ""


def _clean_up(kubectl: Kubectl, chosen: str, namespace: str | None) -> None:
    try:
        kubectl.run("delete", "pods", "-l", chosen, "--ignore-not-found", "--wait=false", "--now", namespace=namespace)
    except KubectlError as e:
        print(f"pods of this check may be left: kubectl delete pods -l {chosen} ({e})")


def clocks(kubectl: Kubectl, now: datetime) -> Iterator[Finding]:
    """Compare what nodes wrote into their Leases with our clock."""
    what = "clocks"
    try:
        leases = kubectl.get("leases.coordination.k8s.io", namespace="kube-node-lease")
    except KubectlError as e:
        reason = "you may not read the nodes' Leases" if e.reason == "Forbidden" else str(e)
        yield warn(what, "not looked at", reason)
        return
    ages = {}
    for lease in leases:
        try:
            ages[lease["metadata"]["name"]] = (now - moment(lease["spec"]["renewTime"])).total_seconds()
        except (KeyError, ValueError, TypeError):
            continue
    wrong = {node: age for node, age in sorted(ages.items()) if not -AHEAD <= age <= BEHIND}
    if ages and len(wrong) > len(ages) / 2 and len(ages) > 1:
        yield warn(
            what, f"this machine's differs from most nodes' by {abs(median(ages.values())):.0f} s", "set it right"
        )
        return
    if not ages:
        yield warn(what, "no node has a Lease", "see `kubectl get nodes`")
    for node, age in wrong.items():
        seen = f"node {node} is {-age:.0f} s ahead" if age < 0 else f"node {node} wrote its Lease {age:.0f} s ago"
        yield warn(what, seen, "it is down, or its clock is wrong: certificates are not valid before their time")
    if ages and not wrong:
        yield ok(what, f"{len(ages)} nodes agree with this machine's")
