# SPDX-License-Identifier: Apache-2.0
"""ServerPools as the API server has them, and `rserpool pools` on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest
from rserpool_cli.cluster.where import NoPoolError, split_name
from rserpool_cli.output import show, table
from rserpool_cli.scope import UNKNOWN_POOL

KIND: Final = "serverpools.rserpool.io"
NOT_INSTALLED: Final = "this cluster knows no ServerPools: install the chart, charts/rserpool"
_UNKNOWN_KIND: Final = "the server doesn't have a resource type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One ServerPool, read leniently: it may be of another version, or without any status.

    Attributes:
        wanted: registrars.
        asked_generation: of the CA, as the spec has it.
        conditions: by type.
    """

    namespace: str
    name: str
    handle: str
    policy: str
    secure: bool
    signer: str
    wanted: int
    annotations: Mapping[str, str]
    generation: int
    created: str
    status: Mapping[str, Any]
    conditions: Mapping[str, Manifest]
    asked_generation: int = 1

    @property
    def full(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"

    def count(self, part: str, field: str) -> int | None:
        """A number of the status; ``None``: it has not been told."""
        value = (self.status.get(part) or {}).get(field)
        return value if isinstance(value, int) else None


def read_pool(raw: Manifest) -> Pool:
    """From its manifest."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    return Pool(
        namespace=metadata["namespace"],
        name=metadata["name"],
        handle=spec.get("poolHandle") or metadata["name"],
        policy=(spec.get("policy") or {}).get("type") or "RoundRobin",
        secure=(spec.get("security") or {}).get("mode", "Secure") != "Insecure",
        signer=((spec.get("security") or {}).get("signer") or {}).get("type", "CertManager"),
        wanted=int((spec.get("registrars") or {}).get("replicas", (status.get("registrars") or {}).get("replicas", 0))),
        annotations=metadata.get("annotations") or {},
        generation=int(metadata.get("generation", 1)),
        created=metadata.get("creationTimestamp") or "",
        status=status,
        conditions={c["type"]: c for c in status.get("conditions") or []},
        asked_generation=int(((spec.get("security") or {}).get("ca") or {}).get("generation", 1)),
    )


def find_pool(kubectl: Kubectl, text: str) -> Pool:
    """The ServerPool of a name.

    Raises:
        CommandError: there is none (the text says which there are), or the cluster does not answer.
    """
    namespace, name = split_name(text, kubectl)
    try:
        return read_pool(kubectl.get(KIND, name, namespace=namespace))
    except KubectlError as e:
        if _UNKNOWN_KIND in str(e):
            raise NoPoolError(NOT_INSTALLED) from None
        if e.reason != "NotFound":
            raise
    there: list[Pool] = []
    with contextlib.suppress(KubectlError):  # who may read one pool may be forbidden to list all
        there = all_pools(kubectl, everywhere=True)
    known = f"; there are {', '.join(p.full for p in there[:10])}" if there else ""
    full = f"{namespace}/{name}" if namespace else f"{name} in the namespace of kubectl's context"
    raise NoPoolError(f"there is no ServerPool {full}{known}", UNKNOWN_POOL)


def all_pools(kubectl: Kubectl, *, everywhere: bool = False) -> list[Pool]:
    """Those of one namespace if one is said, else all.

    Raises:
        CommandError: they cannot be listed.
    """
    scope = () if kubectl.namespace and not everywhere else ("-A",)
    try:
        return [read_pool(raw) for raw in kubectl.get(KIND, *scope)]
    except KubectlError as e:
        if _UNKNOWN_KIND in str(e):
            raise NoPoolError(NOT_INSTALLED) from None
        if e.reason == "Forbidden" and scope:
            raise KubectlError(f"{e}; name a namespace with -n", reason=e.reason) from None
        raise


def run_pools(kubectl: Kubectl, name: str | None, output: str) -> int:
    """List pools.

    Raises:
        CommandError: there is none, or the cluster does not answer.
    """
    pools = [find_pool(kubectl, name)] if name else all_pools(kubectl)
    if output == "json":
        show([_plain(pool) for pool in pools])
        return 0
    if not pools:
        where = f"in namespace {kubectl.namespace}" if kubectl.namespace else "on the cluster"
        raise NoPoolError(f"there is no ServerPool {where}; make one with `kubectl apply`")
    now = datetime.now(UTC)
    headings = ("NAMESPACE", "NAME", "HANDLE", "POLICY", "REGISTRARS", "ELEMENTS", "READY", "AGE")
    print(table(headings, [_row(pool, now) for pool in pools]))
    return 0


def _row(pool: Pool, now: datetime) -> tuple[str, ...]:
    registrars = f"{_shown(pool.count('registrars', 'ready'))}/{pool.wanted}"
    elements = f"{_shown(pool.count('elements', 'registered'))}/{_shown(pool.count('elements', 'matched'))}"
    ready = pool.conditions.get("Ready", {}).get("status", "-")
    age = ago(pool.created, now) if pool.created else "-"
    return (pool.namespace, pool.name, pool.handle, pool.policy, registrars, elements, ready, age)


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)


def _plain(pool: Pool) -> dict[str, Any]:
    ready = pool.conditions.get("Ready", {})
    return {
        "namespace": pool.namespace,
        "name": pool.name,
        "handle": pool.handle,
        "policy": pool.policy,
        "registrars": {"ready": pool.count("registrars", "ready"), "wanted": pool.wanted},
        "elements": {name: pool.count("elements", name) for name in ("registered", "matched")},
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "created": pool.created,
    }


def moment(text: str) -> datetime:
    """A time as Kubernetes writes it.

    Raises:
        ValueError: it is none.
    """
    return datetime.fromisoformat(text)


def ago(text: str, now: datetime) -> str:
    """How long ago that was, in one unit, as kubectl has it; text that is no time is shown as it is."""
    try:
        seconds = int((now - moment(text)).total_seconds())
    except (ValueError, TypeError):
        return text
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"
