# SPDX-License-Identifier: Apache-2.0
"""The pool's CA: made once, recorded by its key's hash, and never silently another one.

This is about the CA that signs; ``replacement`` leads from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from rserpool.pool import ServerPool
from rserpool.pool.model import Signer, SignerType
from rserpool_operator import names
from rserpool_operator.generations import Generations
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import Object, ref_of
from rserpool_operator.manifests import authority as manifests
from rserpool_operator.observed import AuthorityState, Observed
from rserpool_operator.plan.certificates import LATE_AT, Life, is_certificate, is_recorded, key_hash, life_of
from rserpool_operator.plan.effects import CreateAuthority, Effect
from rserpool_operator.plan.objects import apply_if_needed, owned_by
from rserpool_operator.plan.signers import bundle_of_signer, is_ours
from rserpool_operator.reasons import Reason

UNREADABLE: Final = "spec.security.signer.caBundle holds no certificate: write the issuer's PEM in base64"
NO_CERT_MANAGER: Final = "the cluster has no cert-manager: install it, or write security.signer.type: Embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPlan:
    """What to do about the CA, and how it stands.

    Attributes:
        ready: leaves may be signed.
        stalled: it will not get better by itself.
        bundle: what is to be trusted, PEM; empty: nothing yet, or what was told last stands.
        generations: to be recorded.
        missing: pods that a replacement waits for.
        life: of the CA; ``None``: there is none yet.
        issuer: hash of the key whose leaves are wanted, or of each; empty: any the bundle vouches for.
        look_again: seconds after which a replacement can go on; ``None``: when something happens.
    """

    effects: tuple[Effect, ...] = ()
    ready: bool = False
    stalled: bool = False
    reason: Reason
    message: str
    bundle: str = ""
    life: Life | None = None
    generations: Generations
    missing: tuple[str, ...] = ()
    issuer: str = ""
    look_again: float | None = None


def plan_signing(
    observed: Observed, pool: ServerPool, installation: Installation, record: Generations
) -> AuthorityPlan:
    """Decide about the CA that signs."""
    signer = record.signers[record.generation]
    if is_ours(signer):
        return _plan_our_own(observed, pool, installation, record)
    return _plan_users_own(observed, signer, record)


def _plan_users_own(observed: Observed, signer: Signer, record: Generations) -> AuthorityPlan:
    """Decide about a CA that the user brings: its bundle is told, and its key is the user's to replace."""
    pem = bundle_of_signer(signer)
    life = life_of(pem)
    if life is None:
        return AuthorityPlan(
            stalled=True,
            reason=Reason.BUNDLE_UNREADABLE,
            message=UNREADABLE,
            generations=record,
        )
    known = key_hash(pem)
    found = AuthorityPlan(
        ready=True,
        reason=Reason.CA_EXPIRES_SOON if life.is_over(LATE_AT, observed.now) else Reason.AUTHORITY_ISSUED,
        message=f"the bundle's first authority expires at {life.end.isoformat()}",
        bundle=pem.decode(),
        life=life,
        generations=replace(record, keys={**record.keys, record.generation: known}),
        issuer=known,
    )
    if life.is_over(1.0, observed.now):
        return replace(found, ready=False, stalled=True, reason=Reason.CA_EXPIRED)
    if not observed.authority.available:  # who is trusted is known all the same
        return replace(found, ready=False, stalled=True, reason=Reason.CERT_MANAGER_MISSING, message=NO_CERT_MANAGER)
    return found


def _plan_our_own(
    observed: Observed, pool: ServerPool, installation: Installation, record: Generations
) -> AuthorityPlan:
    """Decide about the CA that signs."""
    state, generation = observed.authority, record.generation
    known = record.keys.get(generation, "")
    accepted = bool(known) and observed.annotations.get(names.ACCEPT_CA) == known
    recorded = bool(known) and is_recorded(state.certificate, known)
    if known and not accepted and not recorded:
        return _lost(observed, pool, known, record)
    if not state.available:
        missing = AuthorityPlan(
            stalled=True, reason=Reason.CERT_MANAGER_MISSING, message=NO_CERT_MANAGER, generations=record
        )
        if not recorded:
            return missing
        # who is trusted is known all the same, and the pool may move to another signer
        certificate = state.certificate
        return replace(missing, bundle=certificate.decode(), life=life_of(certificate), issuer=known)
    making = make_authority(observed, pool, installation, record, generation, state)
    if isinstance(making, str):
        return AuthorityPlan(stalled=True, reason=Reason.NAME_TAKEN, message=making, generations=record)
    if not is_certificate(state.certificate):
        name = authority_name(observed, pool, generation)
        return AuthorityPlan(
            effects=making,
            reason=Reason.WAITING_FOR_AUTHORITY,
            message=f"Certificate {installation.namespace}/{name}: {state.says or 'asked for'}",
            generations=record,
        )
    life = life_of(state.certificate)
    expired = life is not None and life.is_over(1.0, observed.now)
    return AuthorityPlan(
        effects=making,
        ready=not expired,
        stalled=expired,
        reason=Reason.CA_EXPIRED if expired else Reason.AUTHORITY_ISSUED,
        message=f"generation {generation} is valid until {life.end.isoformat() if life else 'an unknown time'}",
        bundle=state.certificate.decode(),
        life=life,
        generations=replace(record, keys={**record.keys, generation: key_hash(state.certificate)}),
        issuer=known,
    )


def _lost(observed: Observed, pool: ServerPool, known: str, record: Generations) -> AuthorityPlan:
    what = "has another key than the one recorded" if observed.authority.certificate else "is gone"
    name = authority_name(observed, pool, record.generation)
    command = (
        f"kubectl -n {pool.metadata.namespace} annotate --overwrite serverpool {pool.metadata.name}"
        f" {names.ACCEPT_CA}={known}"
    )
    return AuthorityPlan(
        stalled=True,
        reason=Reason.CA_LOST,
        message=f"the CA in Secret {name} {what}: restore it, or accept a new one: {command}",
        generations=record,
    )


def authority_name(observed: Observed, pool: ServerPool, generation: int) -> str:
    """Of a generation's Certificate, Issuer and Secret."""
    return names.authority(pool.metadata.namespace, pool.metadata.name, observed.uid, generation)


def make_authority(
    observed: Observed,
    pool: ServerPool,
    installation: Installation,
    record: Generations,
    generation: int,
    state: AuthorityState,
) -> tuple[Effect, ...] | str:
    """What makes a generation's CA, or keeps its objects as they should be; a text: why that cannot be."""
    signer = record.signers[generation]
    if not is_ours(signer):
        return ()
    name = authority_name(observed, pool, generation)
    embedded = signer.type is SignerType.EMBEDDED
    wanted = () if embedded else _certificate_and_issuers(observed, pool, installation, name, generation)
    taken = [ref_of(m) for m in wanted if not _free(observed, m)]
    if taken:
        return f"{', '.join(str(ref) for ref in taken)} exists and is not this pool's: rename or delete it"
    if wanted:
        return tuple(effect for m in wanted if (effect := apply_if_needed(m, observed.objects)) is not None)
    if state.exists:
        return ()
    return (
        CreateAuthority(
            name=name,
            namespace=installation.namespace,
            labels=manifests.authority_labels(pool, observed.uid),
            common_name=manifests.common_name(pool.metadata.namespace, pool.metadata.name, observed.uid, generation),
            life=pool.spec.security.ca.duration,
            at=observed.now,
        ),
    )


def _certificate_and_issuers(
    observed: Observed, pool: ServerPool, installation: Installation, name: str, generation: int
) -> tuple[Object, ...]:
    """What cert-manager is asked for."""
    namespace, uid = installation.namespace, observed.uid
    return (
        manifests.root_issuer(pool, uid, name, namespace),
        manifests.certificate(pool, uid, name, namespace, generation),
        manifests.issuer(pool, uid, name, namespace),
    )


def _free(observed: Observed, manifest: Object) -> bool:
    live = observed.objects.get(ref_of(manifest))
    return live is None or owned_by(live, observed.uid)
