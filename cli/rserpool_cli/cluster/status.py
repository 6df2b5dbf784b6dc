# SPDX-License-Identifier: Apache-2.0
"""`rserpool status`: is a pool ready, if not, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rserpool_cli.cluster.elements import remarks
from rserpool_cli.cluster.events import Happening, events_of
from rserpool_cli.cluster.kubectl import Kubectl, Manifest
from rserpool_cli.cluster.members import Members, Registrar, is_injected, look
from rserpool_cli.cluster.pools import Pool, ago, find_pool
from rserpool_cli.output import table
from rserpool_operator import names

WANTED: Final = {
    "Accepted": "True",
    "AuthorityReady": "True",
    "RegistrarsReady": "True",
    "TrustCurrent": "True",
    "TransportDegraded": "False",
    "Ready": "True",
    "Reconciling": "False",
    "Stalled": "False",
}
"""How conditions should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that is known of a pool.

    Attributes:
        pods: labelled as members, that have not ended.
    """

    pool: Pool
    now: datetime
    members: Members
    pods: tuple[Manifest, ...]
    events: tuple[Happening, ...]

    @property
    def registrars(self) -> tuple[Registrar, ...]:
        """The registrars' pods."""
        return self.members.registrars


def run_status(kubectl: Kubectl, name: str) -> int:
    """Tell it; the exit status is 0 if the pool is ready, else 1.

    Raises:
        CommandError: there is no such pool, or the cluster does not answer.
    """
    seen = _see(kubectl, find_pool(kubectl, name))
    for line in report(seen):
        print(line)
    return 0 if seen.pool.conditions.get("Ready", {}).get("status") == "True" else 1


def _see(kubectl: Kubectl, pool: Pool) -> Seen:
    pods = kubectl.get("pods", "-l", f"{names.POOL_LABEL}={pool.name}", namespace=pool.namespace)
    pods = [p for p in pods if (p.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    members = look(kubectl, pool)
    about = {("ServerPool", pool.name)}
    about |= {("Pod", r.pod) for r in members.registrars} | {("Pod", p["metadata"]["name"]) for p in pods}
    return Seen(
        pool=pool,
        now=datetime.now(UTC),
        members=members,
        pods=tuple(pods),
        events=events_of(kubectl, pool.namespace, about),
    )


def report(seen: Seen) -> Iterator[str]:
    """The lines of it."""
    yield from _headline(seen)
    yield from _conditions(seen)
    yield from _registrars(seen)
    yield from _elements(seen)
    yield from _authority(seen.pool)
    yield from _events(seen)


def _headline(seen: Seen) -> Iterator[str]:
    pool, ready = seen.pool, seen.pool.conditions.get("Ready")
    if ready is None:
        yield f"{pool.full}: not Ready: the operator has not said anything of it yet"
        yield "  do: wait a moment; then see whether the operator runs: `rserpool check`"
    else:
        word = {"True": "Ready", "False": "not Ready"}.get(ready["status"], "not known to be Ready")
        since = f" for {ago(ready['lastTransitionTime'], seen.now)}" if ready.get("lastTransitionTime") else ""
        yield f"{pool.full}: {word}{since}: {ready.get('message') or ready.get('reason') or 'no reason is told'}"
    version = f", version {pool.status['version']}" if pool.status.get("version") else ""
    yield f"  handle {pool.handle}, policy {pool.policy}{version}"
    observed = pool.status.get("observedGeneration")
    if isinstance(observed, int) and observed < pool.generation:
        yield "  this is about an older spec: the operator has not dealt with the last change yet"


def _conditions(seen: Seen) -> Iterator[str]:
    """Those that are not as they should be."""
    known = seen.pool.conditions
    wrong = [kind for kind, wanted in WANTED.items() if kind in known and _is_wrong(known[kind], wanted)]
    if len(wrong) > 1 and "Ready" in wrong:
        wrong.remove("Ready")  # the headline says it, and the others why
    for kind in wrong:
        condition = known[kind]
        reason = condition.get("reason", "")
        since = f" for {ago(condition['lastTransitionTime'], seen.now)}" if condition.get("lastTransitionTime") else ""
        yield ""
        yield f"{kind} is {condition['status']}{since}: {reason}"
        meaning, remedy = _advice(reason)
        if condition.get("message"):
            yield f"  {condition['message']}"
        if meaning:
            yield f"  {meaning}"
            yield f"  do: {remedy}"


def _is_wrong(condition: Manifest, wanted: str) -> bool:
    # a paused pool is left as it is: nothing is wrong then, but who asks will want to know
    return bool(condition["status"] != wanted or condition.get("reason") == "Paused")


def _advice(reason: str) -> tuple[str, str]:
    """Meaning and what to do; nothing for a word of another version."""
    from rserpool_operator.reasons import TABLE, Reason  # noqa: PLC0415 - only who is told something bad needs it

    return TABLE[Reason(reason)] if reason in set(Reason) else ("", "")


def _registrars(seen: Seen) -> Iterator[str]:
    pool = seen.pool
    transports = ", ".join((pool.status.get("registrars") or {}).get("transports") or [])
    yield ""
    speak = f", speaking {transports}" if transports else ""
    yield f"Registrars: {sum(r.ready for r in seen.registrars)} of {pool.wanted} ready{speak}"
    rows = [
        (
            f"  {r.pod}",
            "ready" if r.ready else "not ready",
            r.phase,
            str(r.restarts),
            r.node or "-",
            r.trouble,
        )
        for r in seen.registrars
    ]
    if rows:
        yield from table(("  POD", "READY", "PHASE", "RESTARTS", "NODE", "TROUBLE"), rows).splitlines()


def _elements(seen: Seen) -> Iterator[str]:
    counts = seen.pool.status.get("elements") or {}
    told = ", ".join(f"{counts[k]} {w}" for k, w in _COUNTS.items() if isinstance(counts.get(k), int))
    yield ""
    yield f"Elements: {told or 'nothing is told of them yet'}"
    if seen.members.holdings.serving:
        for line in remarks(seen.members):
            yield f"  {line}"
        return
    for pod in seen.pods:
        if not is_injected(pod):
            yield f"  not injected: {pod['metadata']['name']}: recreate the pod"
    if seen.registrars:
        yield "  no registrar tells what it holds"


_COUNTS: Final = {
    "matched": "pod(s) labelled",
    "enrolled": "enrolled",
    "registered": "registered",
    "notInjected": "without a sidecar",
    "outdated": "with a sidecar of another version",
}


def _authority(pool: Pool) -> Iterator[str]:
    if not pool.secure:
        yield "Authority: none, the pool is Insecure"
        return
    told = pool.status.get("authority") or {}
    if not told:
        yield "Authority: nothing is told of it yet"
        return
    expiry = f", its certificate ends {told['notAfter']}" if told.get("notAfter") else ""
    other = f", generation {told['next']} comes" if told.get("next") else ""
    other = f", generation {told['former']} goes" if told.get("former") else other
    yield f"Authority: generation {told.get('generation', '?')}, {told.get('phase', '?')}{other}{expiry}"
    if told.get("missing"):
        yield f"  {'it waits for' if other else 'not loaded yet by'} {', '.join(told['missing'])}"


def _events(seen: Seen) -> Iterator[str]:
    if seen.events:
        yield ""
        yield "Last Events:"
        rows = [(f"  {ago(e.when, seen.now)}", e.kind, e.reason, e.about, e.message) for e in seen.events]
        yield from table(("  AGE", "TYPE", "REASON", "ABOUT", "MESSAGE"), rows).splitlines()
