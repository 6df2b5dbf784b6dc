# SPDX-License-Identifier: Apache-2.0
"""What a pool says of itself: counts, conditions, and nothing that was not observed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rserpool.pool import ServerPool
from rserpool.pool.model import TransportName
from rserpool_operator.kube.kinds import Object
from rserpool_operator.observed import Observed, Report
from rserpool_operator.plan.authority import AuthorityPlan
from rserpool_operator.reasons import Reason

EVERYBODY: Final = timedelta(seconds=45)
"""After that a leader has heard of every process: they speak at least every 36 seconds."""
RECENT: Final = timedelta(seconds=90)
"""A process that has said nothing for longer is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition, without its times."""

    type: str
    status: bool
    reason: Reason
    message: str


def conditions_of(wanted: Iterable[Condition], observed: Observed) -> list[Object]:
    """As the API has them; a condition keeps its time until its status changes."""
    before = {c.get("type"): c for c in observed.status.get("conditions", [])}
    found = []
    for condition in wanted:
        old = before.get(condition.type, {})
        status = str(condition.status)
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        found.append(
            {
                "type": condition.type,
                "status": status,
                "reason": str(condition.reason),
                "message": condition.message,
                "lastTransitionTime": since or timestamp(observed.now),
                "observedGeneration": observed.raw["metadata"].get("generation", 1),
            }
        )
    return found


def timestamp(when: datetime) -> str:
    """As Kubernetes writes times."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def recent(observed: Observed) -> dict[str, Report]:
    """Reports of processes that spoke lately."""
    return {uid: r for uid, r in observed.reports.items() if observed.now - r.at <= RECENT}


def authority_of(observed: Observed, authority: AuthorityPlan, bundle_version: str | None) -> Object:
    """``status.authority``."""
    record = authority.generations
    phase = str(record.phase) if authority.ready else "Pending" if not authority.stalled else "Stopped"
    found: Object = {"generation": record.generation, "phase": phase, "keys": record.recorded()}
    found |= {key: n for key, n in (("next", record.next), ("former", record.former)) if n is not None}
    if record.keys:
        found["signers"] = record.recorded_signers()
    if record.latest > max(record.involved):
        found["latest"] = record.latest
    if record.since is not None:
        found["since"] = record.since.isoformat()
    missing = list(authority.missing)
    if not missing and bundle_version is not None:
        missing = behind(observed, bundle_version)
    if missing:
        found["missing"] = missing[:20]
    if authority.life is not None:
        found |= {"notBefore": timestamp(authority.life.begin), "notAfter": timestamp(authority.life.end)}
    return found


def behind(observed: Observed, bundle_version: str) -> list[str]:
    """Pods whose process speaks to us and has not loaded the trust bundle yet."""
    names = {p.uid: p.name for p in observed.registrars} | {m.uid: m.name for m in observed.members}
    reports = recent(observed)
    return sorted(names[uid] for uid, r in reports.items() if uid in names and r.loaded.get("bundle") != bundle_version)


def elements_of(observed: Observed, version: str) -> Object:
    """``status.elements``."""
    reports = recent(observed)
    known = [_count(r.state.get("elements")) for r in reports.values() if r.role == "registrar"]
    if not known:  # an operator that has just begun has not heard of them yet
        known = [_count((observed.status.get("elements") or {}).get("registered"))]
    uids = {m.uid for m in observed.members}
    enrolled = sum(uid in uids and r.role == "element" for uid, r in reports.items())
    if observed.listening < EVERYBODY:
        former = _count((observed.status.get("elements") or {}).get("enrolled"))
        enrolled = max(enrolled, min(former, len(observed.members)))
    return {
        "matched": len(observed.members),
        "enrolled": enrolled,
        "registered": max(known, default=0),
        "notInjected": sum(not m.version for m in observed.members),
        "outdated": sum(bool(m.version) and m.version != version for m in observed.members),
    }


def _count(value: object) -> int:
    """A number that a process said, or none that makes sense."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def registrars_of(observed: Observed, pool: ServerPool) -> Object:
    """``status.registrars``."""
    return {
        "replicas": pool.spec.registrars.replicas,
        "ready": sum(p.ready for p in observed.registrars),
        "transports": transports_of(observed),
    }


def transports_of(observed: Observed) -> list[str]:
    """What the registrars speak; as long as none has said so to this operator, what they spoke last."""
    uids = {p.uid for p in observed.registrars}
    told = {t for uid, r in recent(observed).items() if uid in uids for t in r.transports}
    return sorted(told or (observed.status.get("registrars") or {}).get("transports") or ())


def registrars_condition(observed: Observed, pool: ServerPool, rollout: Mapping[str, object]) -> Condition:
    """Whether the registrars serve, and if not, which, and why."""
    wanted = pool.spec.registrars.replicas
    ready = [p for p in observed.registrars if p.ready]
    if len(ready) >= wanted and len(observed.registrars) == wanted and not rollout:
        return Condition(
            type="RegistrarsReady",
            status=True,
            reason=Reason.REGISTRARS_READY,
            message=f"{len(ready)} of {wanted} registrars serve",
        )
    troubles = [f"{p.name}: {p.trouble}" for p in observed.registrars if p.trouble and not p.ready]
    unready = [p.name for p in observed.registrars if not p.ready]
    detail = "; ".join(troubles[:3]) or (f"waiting for {', '.join(unready)}" if unready else "pods are being made")
    if observed.leaving and not observed.registrars:
        detail = f"waiting until pods of a StatefulSet that was deleted are gone: {', '.join(observed.leaving[:3])}"
    reason = Reason.REGISTRARS_STARTING
    if troubles:
        reason = Reason.ROLLOUT_STUCK if rollout else Reason.REGISTRARS_UNAVAILABLE
    return Condition(
        type="RegistrarsReady",
        status=False,
        reason=reason,
        message=f"{len(ready)} of {wanted} registrars serve; {detail}",
    )


def trust_condition(observed: Observed, bundle_version: str) -> Condition:
    """Whether every process that speaks to us has loaded the bundle."""
    missing = behind(observed, bundle_version)
    if not missing:
        return Condition(
            type="TrustCurrent",
            status=True,
            reason=Reason.TRUST_LOADED,
            message="every process that reports has loaded the trust bundle",
        )
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return Condition(
        type="TrustCurrent",
        status=False,
        reason=Reason.TRUST_PENDING,
        message=f"not loaded yet by {', '.join(missing[:3])}{more}",
    )


def transport_condition(pool: ServerPool, transports: list[str]) -> Condition:
    """Whether the pool works with less than it asks for."""
    first = pool.spec.transport.order[0]
    degraded = first is TransportName.SCTP and bool(transports) and "SCTP" not in transports
    return Condition(
        type="TransportDegraded",
        status=degraded,
        reason=Reason.SCTP_UNAVAILABLE if degraded else Reason.AS_ORDERED,
        message=f"registrars speak {', '.join(transports)}" if transports else "no registrar has reported yet",
    )


def summary(
    observed: Observed,
    pool: ServerPool,
    authority: Condition,
    registrars: Condition,
    problem: tuple[Reason, str] | None,
) -> list[Condition]:
    """Ready, Reconciling and Stalled, which tools for all kinds of objects read."""
    ready = sum(p.ready for p in observed.registrars)
    enough = ready >= max(1, pool.spec.registrars.replicas - 1)
    lacking = [c.message for c, good in ((authority, authority.status), (registrars, enough)) if not good]
    serves = enough and authority.status
    settled = serves and registrars.status and problem is None
    found = [
        Condition(
            type="Ready",
            status=serves,
            reason=Reason.SERVING if serves else Reason.NOT_SERVING,
            message=registrars.message if serves else "; ".join(lacking),
        ),
    ]
    stuck = problem if problem is not None else (Reason.NOTHING_WRONG, "")
    if problem is None and registrars.reason is Reason.ROLLOUT_STUCK:
        stuck = (registrars.reason, registrars.message)
    stalled = stuck[0] is not Reason.NOTHING_WRONG
    working = not settled and not stalled
    return [
        *found,
        Condition(
            type="Reconciling",
            status=working,
            reason=Reason.PROGRESSING if working else Reason.SETTLED,
            message=("; ".join(lacking) or registrars.message) if working else "",
        ),
        Condition(type="Stalled", status=stalled, reason=stuck[0], message=stuck[1]),
    ]
