# SPDX-License-Identifier: Apache-2.0
"""The CA replaced while the pool runs: prepare, activate, retire; each step waits for what processes *reported*.

Its key is replaced by another of ours, or the pool moves to a signer with another CA, or back: it is the same walk.

A plan acts on what the status records, and records the next step; so whatever of a plan is lost, signers, processes
and the next plan agree on where the replacement is (:mod:`rserpool_operator.generations`). No step is made while
somebody may still hold what the step makes worthless:

* **prepare** ends when every running process has loaded a bundle with both CAs, and pool users, who mount theirs, have
  had the time to;
* **activate**: the new CA signs, and every process is told to renew. It ends when each has been seen with a leaf of it;
* **retire**: the former CA is trusted no more, and its objects are deleted.

Who wants another signer than the one that is on its way gets it by way of the former one: what prepares is dropped, for
it has signed nothing; what activates is left again, for both are trusted. What retires comes to its end first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from rserpool.pool import ServerPool
from rserpool.pool.model import Signer, SignerType
from rserpool_operator import names
from rserpool_operator.generations import Generations, Phase, generations_of
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import CERTIFICATE, ISSUER, SECRET, Ref
from rserpool_operator.observed import AuthorityState, Observed, Report
from rserpool_operator.plan.authority import (
    NO_CERT_MANAGER,
    UNREADABLE,
    AuthorityPlan,
    authority_name,
    make_authority,
    plan_signing,
)
from rserpool_operator.plan.certificates import (
    LATE_AT,
    REPLACED_AT,
    has_lived,
    is_certificate,
    is_of,
    is_recorded,
    joined,
    key_hash,
)
from rserpool_operator.plan.effects import Delete, Effect
from rserpool_operator.plan.signers import adopted, bundle_of_signer, is_ours, objection, same_authority
from rserpool_operator.plan.trial import LOOK_AGAIN, Trial, trial_of
from rserpool_operator.plan.versions import version_of
from rserpool_operator.reasons import Reason

TOLD: Final = timedelta(minutes=2)
"""For which both CAs are published before the new one signs: a kubelet brings a ConfigMap to its mounts within 90 s,
and a pool user reads it again every 10 s."""
SETTLED: Final = timedelta(seconds=60)
"""For which the former CA is trusted at least after it signs no more: what was being signed is out by then, and a pod
that began with it is seen."""
LONG: Final = timedelta(minutes=10)
"""A step that waits for longer needs somebody to look."""


def plan_authority(observed: Observed, pool: ServerPool, installation: Installation) -> AuthorityPlan:
    """Decide about the CA that signs, and go on with its replacement, or begin one."""
    record, wanted = generations_of(observed.raw, pool), pool.spec.security.signer
    fresh = record.generation not in record.keys
    unreadable = not is_ours(wanted) and not bundle_of_signer(wanted)
    if unreadable and not fresh:  # what there is goes on as if nothing had been written
        found = _plan(observed, pool, installation, record, record.signers[record.next or record.generation])
        return replace(found, stalled=True, reason=Reason.BUNDLE_UNREADABLE, message=UNREADABLE)
    return _plan(observed, pool, installation, adopted(record, wanted), wanted)


def _plan(
    observed: Observed, pool: ServerPool, installation: Installation, record: Generations, wanted: Signer
) -> AuthorityPlan:
    signing = plan_signing(observed, pool, installation, record)
    back = _called_back(observed, record, signing, wanted)
    if back is not None:
        return back
    lacks = not signing.ready and not signing.bundle
    if lacks or record.generation not in record.keys:
        return signing  # nobody can be given another leaf, it says why; or it has just been made
    found = _step(observed, pool, installation, signing.generations, signing, wanted)
    under_way = found.reason in (Reason.CA_REPLACING, Reason.CA_REPLACEMENT_WAITS)
    if under_way and has_lived(observed.authority.certificate, LATE_AT, observed.now):
        return replace(found, reason=Reason.CA_EXPIRES_SOON)
    return found


def _step(
    observed: Observed,
    pool: ServerPool,
    installation: Installation,
    record: Generations,
    signing: AuthorityPlan,
    wanted: Signer,
) -> AuthorityPlan:
    match record.phase:
        case Phase.ACTIVE:
            return _begun(observed, pool, record, signing, wanted)
        case Phase.PREPARING:
            return _prepared(observed, pool, installation, record, signing)
        case Phase.ACTIVATING:
            return _activated(observed, pool, record, signing)
        case Phase.RETIRING:
            return _retired(observed, pool, installation, record, signing)


def _called_back(
    observed: Observed, record: Generations, signing: AuthorityPlan, wanted: Signer
) -> AuthorityPlan | None:
    """The signer was changed in the middle, to one with another CA than the one that is on its way."""
    if record.next is not None and not same_authority(record.signers[record.next], wanted):
        keys = {n: key for n, key in signing.generations.keys.items() if n == record.generation}
        step = replace(signing.generations, next=None, former=record.next, keys=keys, since=observed.now)
        return _on_the_way(signing, step, f"generation {record.next} is wanted no more, and dropped before it signs")
    if record.phase is Phase.ACTIVATING:
        assert record.former is not None
        number, former = record.generation, record.former
        # one that goes back already, to the lower number, turns round only for the one that it comes from
        goes_back = number < former and not same_authority(record.signers[former], wanted)
        if goes_back or same_authority(record.signers[number], wanted):
            return None
        state = observed.others.get(former, AuthorityState())
        signs = state.available and state.sound and is_recorded(state.certificate, record.keys[former])
        if not signs or has_lived(state.certificate, 1.0, observed.now):
            return None  # nobody could renew
        bundle = signing.bundle and _bundle({former: state.certificate, number: signing.bundle.encode()})
        step = replace(record, generation=former, former=number, since=observed.now)
        text = f"generation {number} is wanted no more: {former} signs again"
        return _on_the_way(replace(signing, bundle=bundle), step, text)
    return None


def _begun(
    observed: Observed, pool: ServerPool, record: Generations, signing: AuthorityPlan, wanted: Signer
) -> AuthorityPlan:
    """Whether it is time, or another signer is wanted."""
    asked, certificate = pool.spec.security.ca.generation, observed.authority.certificate
    moves, ours = not same_authority(record.signers[record.generation], wanted), is_ours(wanted)
    due = ours and (asked > record.generation or has_lived(certificate, REPLACED_AT, observed.now))
    if not moves and not due:
        return replace(signing, generations=replace(record, since=None))
    objects = objection(wanted, signing.bundle)
    if objects:
        return replace(signing, stalled=True, reason=Reason.BUNDLE_REFUSED, message=objects)
    coming = max(asked, record.unused) if ours else record.unused
    step = replace(record, next=coming, since=observed.now, signers={**record.signers, coming: wanted}, latest=coming)
    return replace(
        signing,
        stalled=False,
        reason=signing.reason if not signing.ready else Reason.CA_REPLACING,
        message=f"generation {coming} is to replace {record.generation}",
        generations=step,
    )


def _prepared(
    observed: Observed, pool: ServerPool, installation: Installation, record: Generations, signing: AuthorityPlan
) -> AuthorityPlan:
    """The new CA is made, recorded and trusted; it signs nothing yet, so that it may still be lost and made anew."""
    assert record.next is not None
    number, now = record.next, observed.now
    state, known = observed.others.get(number, AuthorityState()), record.keys.get(number, "")
    if not state.available:
        return replace(signing, stalled=True, reason=Reason.CERT_MANAGER_MISSING, message=NO_CERT_MANAGER)
    name = authority_name(observed, pool, number)
    making = make_authority(observed, pool, installation, record, number, state)
    if isinstance(making, str):
        return replace(signing, stalled=True, reason=Reason.NAME_TAKEN, message=making)
    effects = (*signing.effects, *making, *_spoilt(observed, installation, record.signers[number], name, state))
    good = state.sound and is_certificate(state.certificate)
    if known and not (good and is_recorded(state.certificate, known)):
        keys = {n: key for n, key in record.keys.items() if n != number}
        text = f"the CA of generation {number} was lost before it was used: it is made anew"
        return _on_the_way(signing, replace(record, keys=keys, since=now), text, effects)
    if not good:
        text = f"generation {number} is being made: {state.says or 'asked for'}"
        return _on_the_way(signing, record, text, effects)
    if not known:
        keys = {**record.keys, number: key_hash(state.certificate)}
        text = f"generation {number} is made, and about to be trusted"
        return _on_the_way(signing, replace(record, keys=keys, since=now), text, effects)
    bundle = _bundle({record.generation: signing.bundle.encode(), number: state.certificate})
    missing = _without(observed, lambda report: report.loaded.get("bundle") == version_of(bundle))
    trial = Trial(good=True)
    if not is_ours(record.signers[number]):
        trial = trial_of(observed, pool, installation, record.signers[number], name)
    both = replace(signing, bundle=bundle, effects=(*effects, *trial.effects))
    over = signing.reason is Reason.CA_EXPIRED or _over(observed, record, TOLD, missing, number)
    if over and trial.good:
        # with an expired CA there is no leaf in use that anybody could lose
        step = replace(record, generation=number, next=None, former=record.generation, since=now)
        text = f"generation {number} is trusted by all, and signs from now on"
        return _on_the_way(both, step, text, effects)
    text = f"generation {number} is being trusted beside {record.generation}"
    waiting = _waiting(observed, pool, both, record, TOLD, missing, text, number)
    if trial.failed:
        text = f"generation {number} is not made use of: {trial.says}"
        return replace(waiting, stalled=True, reason=Reason.ISSUER_FAILS, message=text, look_again=LOOK_AGAIN)
    return waiting if trial.good else replace(waiting, look_again=LOOK_AGAIN)


def _spoilt(
    observed: Observed, installation: Installation, signer: Signer, name: str, state: AuthorityState
) -> Iterable[Effect]:
    """A Secret of ours in which there is no CA that could sign, and which nobody else would put right.

    One that cert-manager has not filled yet is left to it.
    """
    ref = Ref(SECRET, installation.namespace, name)
    filled = signer.type is SignerType.EMBEDDED or is_certificate(state.certificate)
    if state.exists and filled and not state.sound:
        live = observed.foreign.get(ref)
        if live is not None:
            yield Delete(ref, live["metadata"]["uid"])


def _activated(observed: Observed, pool: ServerPool, record: Generations, signing: AuthorityPlan) -> AuthorityPlan:
    """The new CA signs; both are trusted until nobody is seen with a leaf of the former one."""
    assert record.former is not None
    number, former = record.generation, record.former
    certificate = observed.others.get(former, AuthorityState()).certificate
    missing = _without(observed, lambda report: is_of(report.issuer, record.keys[number]))
    step = replace(record, keys={number: record.keys[number]}, since=observed.now)
    over = _over(observed, record, SETTLED, missing, number)
    if not is_recorded(certificate, record.keys[former]):
        if over:
            return _on_the_way(signing, step, f"all have a leaf of generation {number}")
        name = authority_name(observed, pool, former)
        text = f"the CA in Secret {name}, which pods still need, is gone or another one: restore it"
        return replace(
            _waiting(observed, pool, signing, record, SETTLED, missing, text, number),
            ready=False,
            stalled=True,
            reason=Reason.FORMER_CA_LOST,
            bundle="",
        )
    bundle = _bundle({former: certificate, number: signing.bundle.encode()})
    both = replace(signing, bundle=bundle)
    if over:
        return _on_the_way(both, step, f"all have a leaf of generation {number}; {former} is about to be retired")
    text = f"generation {number} signs, and every process renews"
    return _waiting(observed, pool, both, record, SETTLED, missing, text, number)


def _retired(
    observed: Observed, pool: ServerPool, installation: Installation, record: Generations, signing: AuthorityPlan
) -> AuthorityPlan:
    """Nobody trusts the former CA any more; what makes its Secret goes before the Secret does."""
    assert record.former is not None
    name = authority_name(observed, pool, record.former)
    refs = (
        Ref(CERTIFICATE, installation.namespace, name),
        Ref(ISSUER, installation.namespace, name),
        Ref(ISSUER, installation.namespace, f"{name}-root"),
        Ref(SECRET, installation.namespace, name),
    )
    left = [(ref, observed.foreign[ref]) for ref in refs if ref in observed.foreign]
    deletes = tuple(Delete(ref, live["metadata"]["uid"]) for ref, live in left)
    text = f"generation {record.former} is being removed"
    if deletes:
        return _on_the_way(signing, record, text, (*signing.effects, *deletes))
    return _on_the_way(signing, replace(record, former=None, since=None), text)


def _on_the_way(
    plan: AuthorityPlan, step: Generations, text: str, effects: tuple[Effect, ...] | None = None
) -> AuthorityPlan:
    return replace(
        plan,
        stalled=False,
        reason=Reason.CA_REPLACING if plan.ready else plan.reason,
        message=text,
        generations=step,
        effects=plan.effects if effects is None else effects,
    )


def _waiting(
    observed: Observed,
    pool: ServerPool,
    plan: AuthorityPlan,
    record: Generations,
    least: timedelta,
    missing: tuple[str, ...],
    text: str,
    number: int,
) -> AuthorityPlan:
    """The step is not over: until when at least, or for whom it waits."""
    waited = _waited(observed, record)
    since = record.since if record.since is not None and record.since <= observed.now else observed.now
    left = max(0.0, (least - waited).total_seconds())
    reason, more = Reason.CA_REPLACING, ""
    if missing:
        others = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        more = f"; it waits for {', '.join(missing[:3])}{others}"
        if waited > LONG:
            reason = Reason.CA_REPLACEMENT_WAITS
            more += (
                f". If they never answer, go on without them: kubectl -n {pool.metadata.namespace} annotate"
                f" --overwrite serverpool {pool.metadata.name} {names.GO_ON}={number}"
            )
    return replace(
        plan,
        stalled=False,
        reason=reason,
        message=text + more,
        generations=replace(record, since=since),
        missing=missing,
        look_again=left + 1.0 if left else None,
    )


def _waited(observed: Observed, record: Generations) -> timedelta:
    """For how long the present step has been under way; a time that lies ahead is a clock's that was wrong."""
    if record.since is None or record.since > observed.now:
        return timedelta(0)
    return observed.now - record.since


def _over(observed: Observed, record: Generations, least: timedelta, missing: tuple[str, ...], number: int) -> bool:
    """Whether a step has taken its time, and nobody is missing whom the user has not given up."""
    go_on = observed.annotations.get(names.GO_ON) == str(number)
    return _waited(observed, record) >= least and (not missing or go_on)


def _without(observed: Observed, has: Callable[[Report], bool]) -> tuple[str, ...]:
    """Pods whose process may run, and has not reported that.

    One of which nothing was ever heard may hold a leaf all the same; only a container that never ran holds none.
    """
    running = {p.uid: p.name for p in observed.registrars if p.started}
    running |= {m.uid: m.name for m in observed.members if m.version and m.started}
    reports = observed.reports
    return tuple(sorted(name for uid, name in running.items() if uid not in reports or not has(reports[uid])))


def _bundle(certificates: dict[int, bytes]) -> str:
    """CAs in the order of their generations."""
    return joined(pem for _, pem in sorted(certificates.items())).decode()
