# SPDX-License-Identifier: Apache-2.0
"""A pool's registrars and elements: what the registrars hold beside what the pods are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from rserpool_cli.cluster.holdings import Dump, Holdings, merge
from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest
from rserpool_cli.cluster.pools import Pool
from rserpool_operator import names

REGISTRAR: Final = "registrar"
ASKED: Final = ("rserpool", "dump")
AT_ONCE: Final = 8
MOST_ASKED: Final = 10
"""Sidecars that are asked why they are not in the pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """One registrar's pod.

    Attributes:
        address: of the pod; empty: none yet.
        trouble: why it does not run, in Kubernetes' words.
        dump: what it holds; ``None``: it could not be asked, `trouble` says why.
    """

    pod: str
    ready: bool
    phase: str
    node: str
    address: str
    restarts: int
    trouble: str
    dump: Dump | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A pod that is labelled as a member, and is not in the pool."""

    pod: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """All of them.

    Attributes:
        pods: name of the pod of each element, by its identifier; elements of no pod are not in it.
    """

    registrars: tuple[Registrar, ...]
    holdings: Holdings
    pods: Mapping[str, str]
    absent: tuple[Absent, ...]


def registrars_of(kubectl: Kubectl, pool: Pool) -> list[Registrar]:
    """The registrars' pods, by name.

    Raises:
        KubectlError: they cannot be read.
    """
    selector = f"{names.OWNER_LABEL}={pool.name},app.kubernetes.io/component=registrar"
    pods = kubectl.get("pods", "-l", selector, namespace=pool.namespace)
    return sorted((_registrar(pod) for pod in pods), key=_ordinal)


def _ordinal(registrar: Registrar) -> tuple[int, str]:
    number = registrar.pod.rpartition("-")[2]
    return (int(number) if number.isdecimal() else 0, registrar.pod)


def _registrar(pod: Manifest) -> Registrar:
    metadata, status = pod["metadata"], pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    return Registrar(
        pod=metadata["name"],
        ready=is_ready(pod),
        phase="Terminating" if "deletionTimestamp" in metadata else status.get("phase", "Unknown"),
        node=(pod.get("spec") or {}).get("nodeName", ""),
        address=status.get("podIP", ""),
        restarts=sum(int(c.get("restartCount", 0)) for c in containers),
        trouble=trouble(pod),
    )


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is ready, and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def trouble(pod: Manifest) -> str:
    """Why a pod does not run, in Kubernetes' words; empty: it runs, or is just starting."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _one_line(f"{container['name']}: {waiting['reason']}: {waiting.get('message', '')}")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _one_line(f"{condition.get('reason')}: {condition.get('message', '')}")
    return _one_line(f"{status.get('reason', '')}: {status.get('message', '')}") if status.get("reason") else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(": ")


def ask_registrars(kubectl: Kubectl, namespace: str, registrars: Sequence[Registrar]) -> list[Registrar]:
    """The same, with what they hold; those that do not run are not asked."""

    def ask(registrar: Registrar) -> Registrar:
        if registrar.phase not in ("Running", "Terminating") or registrar.trouble:
            return registrar
        dump, reason = _dump(kubectl, namespace, registrar.pod, REGISTRAR)
        return replace(registrar, dump=dump, trouble=reason)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(ask, registrars))


def _dump(kubectl: Kubectl, namespace: str, pod: str, container: str) -> tuple[dict[str, Any] | None, str]:
    """What a daemon tells through its control socket, or why it tells nothing."""
    try:
        told = json.loads(kubectl.exec(namespace, pod, container, *ASKED))
        (dump,) = told.values()
    except KubectlError as e:
        return None, f"it could not be asked: {e}"
    except (ValueError, AttributeError):
        return None, "it gave an answer that cannot be read"
    if not isinstance(dump, dict) or "error" in dump:
        return None, f"it gave no answer: {dump.get('error') if isinstance(dump, dict) else dump}"
    return dump, ""


def look(kubectl: Kubectl, pool: Pool) -> Members:
    """Ask everybody.

    Raises:
        KubectlError: pods cannot be read.
    """
    registrars = ask_registrars(kubectl, pool.namespace, registrars_of(kubectl, pool))
    holdings = merge(_dumps(registrars))
    if holdings.differences:  # they were not asked at the same moment: a change may have been on its way
        registrars = ask_registrars(kubectl, pool.namespace, registrars)
        holdings = merge(_dumps(registrars))
    pods = kubectl.get("pods", "-l", f"{names.POOL_LABEL}={pool.name}", namespace=pool.namespace)
    by_address = {ip["ip"]: pod["metadata"]["name"] for pod in pods for ip in _addresses(pod)}
    owners = {e.identifier: by_address[a] for e in holdings.elements for a in e.addresses if a in by_address}
    return Members(
        registrars=tuple(registrars),
        holdings=holdings,
        pods=owners,
        absent=tuple(_absent(kubectl, pool, pods, set(owners.values()))) if holdings.serving else (),
    )


def _dumps(registrars: Iterable[Registrar]) -> dict[str, Dump]:
    return {r.pod: r.dump for r in registrars if r.dump is not None}


def _addresses(pod: Manifest) -> list[dict[str, str]]:
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return []
    return status.get("podIPs") or ([{"ip": status["podIP"]}] if status.get("podIP") else [])


def _absent(kubectl: Kubectl, pool: Pool, pods: Sequence[Manifest], present: set[str]) -> list[Absent]:
    """Members that are not in the pool, each with its reason."""
    missing = [
        pod
        for pod in sorted(pods, key=lambda p: str(p["metadata"]["name"]))
        if pod["metadata"]["name"] not in present
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]
    seen = [(pod["metadata"]["name"], reason_of(pod)) for pod in missing]
    asked = [pod for pod, reason in seen if not reason][:MOST_ASKED]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        told = dict(zip(asked, threads.map(lambda pod: _sidecars_word(kubectl, pool, pod), asked), strict=True))
    return [Absent(pod=pod, reason=reason or told.get(pod, "its sidecar was not asked")) for pod, reason in seen]


def is_injected(pod: Manifest) -> bool:
    """Whether a pod has a sidecar."""
    containers = (pod.get("spec") or {}).get("initContainers") or []
    return any(c.get("name") == names.SIDECAR for c in containers)


def reason_of(pod: Manifest) -> str:
    """Why a pod cannot be in the pool, as far as its manifest says; empty: its sidecar has to be asked."""
    if "deletionTimestamp" in pod["metadata"]:
        return "it is ending"
    if not is_injected(pod):
        return "it has no sidecar: recreate the pod"
    found = trouble(pod)
    sidecar = [c for c in (pod.get("status") or {}).get("initContainerStatuses") or [] if c["name"] == names.SIDECAR]
    if sidecar and "running" in (sidecar[0].get("state") or {}):
        return f"{found}" if found and not found.startswith(names.SIDECAR) else ""
    return found or "it is starting: its sidecar does not run yet"


def _sidecars_word(kubectl: Kubectl, pool: Pool, pod: str) -> str:
    told, reason = _dump(kubectl, pool.namespace, pod, names.SIDECAR)
    return reason.replace("it ", "its sidecar ", 1) if told is None else explain(told)


def explain(told: Mapping[str, Any]) -> str:
    """A sidecar's state in one sentence."""
    if told.get("waiting"):
        return f"its sidecar is {told['waiting']}"
    if told.get("draining"):
        return "it was drained: it leaves the pool and stays out"
    if told.get("healthy") is False:
        return f"the application is not healthy: {told.get('health_reason') or 'no reason is known'}"
    if told.get("healthy") is None:
        return "the application's health is not known yet"
    if told.get("registered"):
        return f"its sidecar says that registrar {told.get('home')} has registered it, and no registrar holds it"
    return f"its sidecar says: {told.get('state', 'nothing')}"
