# SPDX-License-Identifier: Apache-2.0
"""The plan for one pool: the authority first, then the registrars, then what follows from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from rserpool.identity.revoked import Revoked
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.generations import Generations, generations_of
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import (
    CERTIFICATE_REQUEST,
    CONFIG_MAP,
    NETWORK_POLICY,
    STATEFUL_SET,
    Object,
    Ref,
    ref_of,
)
from rserpool_operator.manifests import registrars, services, users
from rserpool_operator.manifests.authority import LEAF
from rserpool_operator.observed import Observed
from rserpool_operator.plan import status as say
from rserpool_operator.plan.authority import AuthorityPlan
from rserpool_operator.plan.channel import channel_of
from rserpool_operator.plan.cookies import CookiePlan, plan_cookies
from rserpool_operator.plan.effects import Apply, Delete, Effect, Finalize, Note, Plan, about_pod
from rserpool_operator.plan.objects import apply_if_needed, apply_keeping_template, former_pools, owned_by
from rserpool_operator.plan.replacement import plan_authority
from rserpool_operator.plan.status import Condition
from rserpool_operator.plan.support import unsupported
from rserpool_operator.plan.trial import trials_left
from rserpool_operator.plan.versions import version_of
from rserpool_operator.reasons import Reason

SOON: Final = 2.0
"""Seconds: while something is on its way."""
LATER: Final = 30.0
"""Seconds: while somebody else has to act."""
OLD: Final = timedelta(minutes=5)
"""After that a request to cert-manager is nobody's any more."""
_WARN: Final = frozenset(
    {
        Reason.INVALID,
        Reason.NOT_SUPPORTED,
        Reason.NAME_TAKEN,
        Reason.CERT_MANAGER_MISSING,
        Reason.POD_CERTIFICATES_MISSING,
        Reason.BUNDLE_UNREADABLE,
        Reason.BUNDLE_REFUSED,
        Reason.ISSUER_FAILS,
        Reason.CA_LOST,
        Reason.CA_EXPIRED,
        Reason.CA_EXPIRES_SOON,
        Reason.CA_REPLACEMENT_WAITS,
        Reason.FORMER_CA_LOST,
        Reason.REGISTRARS_UNAVAILABLE,
        Reason.ROLLOUT_STUCK,
        Reason.NOT_SERVING,
        Reason.NOT_INJECTED,
    }
)


def plan(observed: Observed, installation: Installation) -> Plan:
    """Decide what to do about one pool."""
    if observed.deleting:
        return _farewell(observed)
    if observed.pool is None:
        return _refused(observed, Reason.INVALID, "; ".join(observed.problems[:5]))
    lacking = unsupported(observed.pool)
    if lacking:
        return _refused(observed, Reason.NOT_SUPPORTED, lacking)
    if not observed.pod_certificates:
        message = "spec.security.enrolment: PodCertificate needs Kubernetes 1.37: re-create the pool with Token"
        return _refused(observed, Reason.POD_CERTIFICATES_MISSING, message)
    if observed.pool.spec.paused:
        return _only(observed, (), Condition(type="Reconciling", status=False, reason=Reason.PAUSED, message="paused"))
    return _plan(observed, observed.pool, installation)


def _farewell(observed: Observed) -> Plan:
    """Delete what the garbage collector will not; then let the ServerPool go. Application pods are not touched."""
    if names.FINALIZER not in observed.raw["metadata"].get("finalizers", []):
        return Plan()
    deletes = tuple(Delete(ref, live["metadata"]["uid"]) for ref, live in sorted(observed.foreign.items(), key=str))
    if deletes:
        return Plan(effects=deletes, look_again=SOON)
    return Plan(effects=(Finalize(False),))


def _refused(observed: Observed, reason: Reason, message: str) -> Plan:
    """A spec that cannot be followed changes nothing that runs."""
    bad = Condition(type="Accepted", status=False, reason=reason, message=message)
    return _only(
        observed,
        (bad,),
        Condition(type="Stalled", status=True, reason=reason, message=message),
    )


def _only(observed: Observed, first: tuple[Condition, ...], last: Condition) -> Plan:
    """A status with some conditions changed, and all else as it was."""
    changed = say.conditions_of((*first, last), observed)
    types = {c["type"] for c in changed}
    kept = [c for c in observed.status.get("conditions", []) if c["type"] not in types]
    if not any(c["type"] == "Ready" for c in (*kept, *changed)):
        kept += say.conditions_of(
            (Condition(type="Ready", status=False, reason=Reason.NOT_SERVING, message=last.message),), observed
        )
    return _finish(observed, (), {**observed.status, "conditions": sorted([*changed, *kept], key=_by_type)}, (), None)


def _by_type(condition: Object) -> str:
    return str(condition["type"])


def _plan(observed: Observed, pool: ServerPool, installation: Installation) -> Plan:
    version = pool.spec.version or str(observed.status.get("version", "")) or installation.version
    effects: list[Effect] = []
    if names.FINALIZER not in observed.raw["metadata"].get("finalizers", []):
        effects.append(Finalize(True))
    wanted = list(_wanted(observed, pool, installation, version))
    taken = [m for m in wanted if _taken(observed, m)]
    authority = plan_authority(observed, pool, installation)
    cookies = plan_cookies(observed, pool, installation) if pool.spec.control_channel else CookiePlan()
    if taken:
        problem = _name_problem(observed, taken)
    else:
        effects += authority.effects
        effects += [e for m in wanted if not _too_early(m, observed) and (e := _apply(m, observed)) is not None]
        effects += _superfluous(observed, pool, wanted)
        effects += cookies.effects
        problem = (authority.reason, authority.message) if authority.stalled else cookies.problem
    effects += _user_maps(observed, pool, installation, authority)
    effects += _left_over(observed)
    effects += trials_left(observed, generations_of(observed.raw, pool))
    renew = observed.annotations.get(names.RENEW, "") + order_of(generations_of(observed.raw, pool))
    revoked = revoked_pods(observed, pool)
    channel = channel_of(pool, installation, authority, renew, revoked, cookies.keys)
    bundle_version = version_of(authority.bundle)
    conditions = _conditions(observed, pool, authority, bundle_version, problem)
    status = {
        "observedGeneration": observed.raw["metadata"].get("generation", 1),
        "version": version,
        "handle": pool.handle.decode(),
        "conditions": say.conditions_of(conditions, observed),
        "registrars": say.registrars_of(observed, pool),
        "elements": say.elements_of(observed, version),
        "authority": say.authority_of(observed, authority, bundle_version if authority.bundle else None),
    }
    done = _finish(observed, tuple(effects), status, tuple(_pod_notes(observed)), None)
    settled = next(c for c in conditions if c.type == "Reconciling").status is False
    waits = [seconds for seconds in (cookies.look_again, authority.look_again) if seconds is not None]
    look_again = SOON if effects or not settled else LATER if problem else min(waits, default=None)
    complete = authority.bundle and (cookies.keys or not pool.spec.control_channel)
    told = channel if complete else None  # without an authority, or keys, what was told last stands
    return Plan(effects=done.effects, status=done.status, notes=done.notes, channel=told, look_again=look_again)


def order_of(record: Generations) -> str:
    """What the CA's generation adds to the word on which leaves are renewed; of the first one nothing."""
    return f"#{record.generation}" if record.generation > 1 else ""


def revoked_pods(observed: Observed, pool: ServerPool) -> tuple[str, ...]:
    """UIDs of pods whose identity ``spec.security.revoked`` takes back."""
    revoked = Revoked.of(pool.spec.security.revoked)
    by_account = {m.uid for m in observed.members if revoked.pod(m.uid, m.service_account)}
    return tuple(sorted(by_account | revoked.pod_uids))


def _left_over(observed: Observed) -> Iterator[Effect]:
    """Requests to cert-manager whose asker is gone."""
    for ref, live in observed.foreign.items():
        if ref.kind == CERTIFICATE_REQUEST and live["metadata"]["labels"].get("app.kubernetes.io/component") == LEAF:
            made = datetime.fromisoformat(live["metadata"]["creationTimestamp"])
            if observed.now - made > OLD:
                yield Delete(ref, live["metadata"]["uid"])


def _wanted(observed: Observed, pool: ServerPool, installation: Installation, version: str) -> Iterator[Object]:
    uid = observed.uid
    yield registrars.service_account(pool, uid)
    yield services.peers(pool, uid)
    yield services.asap(pool, uid)
    yield registrars.pod_disruption_budget(pool, uid)
    if pool.spec.network_policy:
        yield services.network_policy(pool, uid)
    yield registrars.stateful_set(pool, uid, version, installation)


def _too_early(manifest: Object, observed: Observed) -> bool:
    """Whether a new StatefulSet would find its pods' names taken: its controller tries again ever more rarely."""
    return manifest["kind"] == "StatefulSet" and bool(observed.leaving) and ref_of(manifest) not in observed.objects


def _apply(manifest: Object, observed: Observed) -> Apply | None:
    """Registrars keep the template they run with unless their image or the ServerPool says otherwise."""
    if manifest["kind"] != "StatefulSet":
        return apply_if_needed(manifest, observed.objects)
    return apply_keeping_template(manifest, observed.objects, names.SHAPE)


def _taken(observed: Observed, manifest: Object) -> bool:
    live = observed.objects.get(ref_of(manifest))
    return live is not None and not owned_by(live, observed.uid)


def _name_problem(observed: Observed, taken: list[Object]) -> tuple[Reason, str] | None:
    """Somebody else's object is in the way; one of a former pool of this name is about to go."""
    name = observed.raw["metadata"]["name"]
    others = [ref_of(m) for m in taken if not former_pools(observed.objects[ref_of(m)], name)]
    if not others:
        return None
    text = ", ".join(str(ref) for ref in others)
    return Reason.NAME_TAKEN, f"{text} exists and is not this pool's: rename or delete it, or name the pool otherwise"


def _superfluous(observed: Observed, pool: ServerPool, wanted: list[Object]) -> Iterator[Effect]:
    """What was ours and is not wanted any more."""
    keep = {ref_of(m) for m in wanted}
    ref = Ref(NETWORK_POLICY, pool.metadata.namespace, names.registrar_set(pool.metadata.name))
    live = observed.objects.get(ref)
    if ref not in keep and live is not None and owned_by(live, observed.uid):
        yield Delete(ref, live["metadata"]["uid"])


def _user_maps(
    observed: Observed, pool: ServerPool, installation: Installation, authority: AuthorityPlan
) -> Iterator[Effect]:
    """ConfigMaps of pool users: where they may use the pool, and nowhere else."""
    if not authority.bundle:
        return
    objects = {**observed.objects, **observed.foreign}
    keep = set()
    for namespace in observed.user_namespaces:
        manifest = users.config_map(pool, observed.uid, namespace, authority.bundle, installation.cluster_domain)
        keep.add(ref_of(manifest))
        live = objects.get(ref_of(manifest))
        if live is not None and not owned_by(live, observed.uid):
            continue
        effect = apply_if_needed(manifest, objects)
        if effect is not None:
            yield effect
    for ref, live in observed.foreign.items():
        if ref.kind == CONFIG_MAP and ref not in keep:
            yield Delete(ref, live["metadata"]["uid"])


def _conditions(
    observed: Observed,
    pool: ServerPool,
    authority: AuthorityPlan,
    bundle_version: str,
    problem: tuple[Reason, str] | None,
) -> list[Condition]:
    name = names.registrar_set(pool.metadata.name)
    live = observed.objects.get(Ref(STATEFUL_SET, pool.metadata.namespace, name), {})
    issued = Condition(
        type="AuthorityReady", status=authority.ready, reason=authority.reason, message=authority.message
    )
    serve = say.registrars_condition(observed, pool, _rollout(live))
    transports = say.transports_of(observed)
    return [
        Condition(type="Accepted", status=True, reason=Reason.VALID, message=""),
        issued,
        serve,
        say.trust_condition(observed, bundle_version) if authority.bundle else replace(issued, type="TrustCurrent"),
        say.transport_condition(pool, transports),
        *say.summary(observed, pool, issued, serve, problem),
    ]


def _rollout(live: Object) -> Object:
    """What of a rollout is not done yet; empty: there is none."""
    status = live.get("status") or {}
    if status.get("updateRevision") != status.get("currentRevision") and status.get("currentRevision"):
        return {"from": status.get("currentRevision"), "to": status.get("updateRevision")}
    return {}


def _pod_notes(observed: Observed) -> Iterator[Note]:
    namespace = observed.raw["metadata"]["namespace"]
    for member in observed.members:
        if not member.version:
            about = about_pod(namespace, member.name, member.uid)
            message = "labelled as a member of the pool, but it has no sidecar: recreate the pod"
            yield Note(about=about, reason=Reason.NOT_INJECTED, message=message, warning=True)


def _finish(
    observed: Observed, effects: tuple[Effect, ...], status: Object, notes: tuple[Note, ...], look_again: float | None
) -> Plan:
    """Leave out a status that is as it was, and say what has changed in it."""
    before = {c["type"]: c for c in observed.status.get("conditions", [])}
    metadata = observed.raw["metadata"]
    about = {
        "apiVersion": observed.raw["apiVersion"],
        "kind": "ServerPool",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    changed = []
    for condition in status["conditions"]:
        old = before.get(condition["type"], {})
        if (old.get("status"), old.get("reason")) == (condition["status"], condition["reason"]):
            continue
        if condition["type"] in ("Reconciling", "Stalled", "TrustCurrent") or (
            not old and condition["type"] == "TransportDegraded" and condition["status"] == "False"
        ):
            continue
        reason = Reason(condition["reason"])
        message = condition["message"] or f"{condition['type']} is {condition['status']}"
        changed.append(Note(about=about, reason=reason, message=message, warning=reason in _WARN))
    return Plan(
        effects=effects,
        status=None if status == observed.status else status,
        notes=(*changed, *notes),
        look_again=look_again,
    )


__all__ = ["Apply", "plan", "version_of"]
