# SPDX-License-Identifier: Apache-2.0
"""The pool's CA: made once, recorded by its key's hash, and never silently another one."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rserpool.pool import ServerPool
from rserpool.pool.model import SignerType
from rserpool_operator import names
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import Object, ref_of
from rserpool_operator.manifests import authority as manifests
from rserpool_operator.observed import Observed
from rserpool_operator.plan.effects import CreateAuthority, Effect
from rserpool_operator.plan.objects import apply_if_needed, owned_by
from rserpool_operator.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPlan:
    """What to do about the CA, and how it stands.

    Attributes:
        ready: leaves may be signed.
        stalled: it will not get better by itself.
        bundle: what is to be trusted, PEM; empty: nothing yet.
        keys: hash of the public key by generation, to be recorded.
    """

    effects: tuple[Effect, ...] = ()
    ready: bool = False
    stalled: bool = False
    reason: Reason
    message: str
    bundle: str = ""
    not_after: datetime | None = None
    generation: int = 1
    keys: Object


def plan_authority(observed: Observed, pool: ServerPool, installation: Installation) -> AuthorityPlan:
    """Decide about the CA."""
    recorded = dict(observed.status.get("authority", {}).get("keys", {}))
    generation = pool.spec.security.ca.generation
    if recorded and str(generation) not in recorded:
        return _kept(observed, recorded, pool, installation)
    if pool.spec.security.signer.type is SignerType.ISSUER_REF:
        return _users_own(observed, pool, recorded)
    return _our_own(observed, pool, installation, generation, recorded)


def _kept(observed: Observed, recorded: Object, pool: ServerPool, installation: Installation) -> AuthorityPlan:
    """Another generation is asked for, which this version cannot give: the former one goes on."""
    former = max(recorded, key=int)
    del pool, installation
    return AuthorityPlan(
        ready=_is_recorded(observed.authority.certificate, recorded.get(former, "")),
        stalled=True,
        reason=Reason.GENERATION_NOT_SUPPORTED,
        message=f"replacing a CA's key is not in this version: write spec.security.ca.generation: {former}",
        bundle=observed.authority.certificate.decode("ascii", "replace"),
        not_after=expiry(observed.authority.certificate),
        generation=int(former),
        keys=recorded,
    )


def _users_own(observed: Observed, pool: ServerPool, recorded: Object) -> AuthorityPlan:
    try:
        pem = base64.b64decode(pool.spec.security.signer.ca_bundle or "", validate=True)
        authorities = x509.load_pem_x509_certificates(pem)
    except (ValueError, binascii.Error):
        authorities, pem = [], b""
    if not authorities:
        return AuthorityPlan(
            stalled=True,
            reason=Reason.BUNDLE_UNREADABLE,
            message="spec.security.signer.caBundle holds no certificate: write the issuer's PEM in base64",
            keys=recorded,
        )
    if not observed.authority.available:
        return _no_cert_manager(recorded)
    not_after = min(a.not_valid_after_utc for a in authorities)
    expired = not_after <= observed.now
    return AuthorityPlan(
        ready=not expired,
        stalled=expired,
        reason=Reason.CA_EXPIRED if expired else Reason.AUTHORITY_ISSUED,
        message=f"the bundle's first authority expires at {not_after.isoformat()}",
        bundle=pem.decode(),
        not_after=not_after,
        keys=recorded,
    )


def _no_cert_manager(recorded: Object) -> AuthorityPlan:
    return AuthorityPlan(
        stalled=True,
        reason=Reason.CERT_MANAGER_MISSING,
        message="the cluster has no cert-manager: install it, or create the pool with security.signer.type: Embedded",
        keys=recorded,
    )


def _our_own(
    observed: Observed, pool: ServerPool, installation: Installation, generation: int, recorded: Object
) -> AuthorityPlan:
    state = observed.authority
    name = names.authority(pool.metadata.namespace, pool.metadata.name, observed.uid, generation)
    known = recorded.get(str(generation), "")
    accepted = bool(known) and observed.annotations.get(names.ACCEPT_CA) == known
    if known and not accepted and not _is_recorded(state.certificate, known):
        return _lost(observed, pool, name, known, recorded)
    if not state.available:
        return _no_cert_manager(recorded)
    wanted = _certificate_and_issuers(observed, pool, installation, name, generation)
    taken = [ref_of(m) for m in wanted if not _free(observed, m)]
    if taken:
        return AuthorityPlan(
            stalled=True,
            reason=Reason.NAME_TAKEN,
            message=f"{', '.join(str(ref) for ref in taken)} exists and is not this pool's: rename or delete it",
            keys=recorded,
            generation=generation,
        )
    effects = _make(observed, pool, installation, name, generation, wanted)
    if not is_certificate(state.certificate):
        return AuthorityPlan(
            effects=effects,
            reason=Reason.WAITING_FOR_AUTHORITY,
            message=f"Certificate {installation.namespace}/{name}: {state.says or 'asked for'}",
            keys=recorded,
            generation=generation,
        )
    not_after = expiry(state.certificate)
    expired = not_after is not None and not_after <= observed.now
    return AuthorityPlan(
        effects=effects,
        ready=not expired,
        stalled=expired,
        reason=Reason.CA_EXPIRED if expired else Reason.AUTHORITY_ISSUED,
        message=f"generation {generation} is valid until {not_after.isoformat() if not_after else 'an unknown time'}",
        bundle=state.certificate.decode(),
        not_after=not_after,
        generation=generation,
        keys=recorded | {str(generation): key_hash(state.certificate)},
    )


def _lost(observed: Observed, pool: ServerPool, name: str, known: str, recorded: Object) -> AuthorityPlan:
    what = "has another key than the one recorded" if observed.authority.certificate else "is gone"
    command = (
        f"kubectl -n {pool.metadata.namespace} annotate --overwrite serverpool {pool.metadata.name}"
        f" {names.ACCEPT_CA}={known}"
    )
    return AuthorityPlan(
        stalled=True,
        reason=Reason.CA_LOST,
        message=f"the CA in Secret {name} {what}: restore it, or accept a new one: {command}",
        keys=recorded,
    )


def _certificate_and_issuers(
    observed: Observed, pool: ServerPool, installation: Installation, name: str, generation: int
) -> tuple[Object, ...]:
    """What cert-manager is asked for; nothing where we sign ourselves."""
    if pool.spec.security.signer.type is SignerType.EMBEDDED:
        return ()
    namespace, uid = installation.namespace, observed.uid
    return (
        manifests.root_issuer(pool, uid, name, namespace),
        manifests.certificate(pool, uid, name, namespace, generation),
        manifests.issuer(pool, uid, name, namespace),
    )


def _free(observed: Observed, manifest: Object) -> bool:
    live = observed.objects.get(ref_of(manifest))
    return live is None or owned_by(live, observed.uid)


def _make(
    observed: Observed,
    pool: ServerPool,
    installation: Installation,
    name: str,
    generation: int,
    wanted: tuple[Object, ...],
) -> tuple[Effect, ...]:
    if wanted:
        return tuple(effect for m in wanted if (effect := apply_if_needed(m, observed.objects)) is not None)
    if observed.authority.exists:
        return ()
    return (
        CreateAuthority(
            name=name,
            namespace=installation.namespace,
            labels=manifests.authority_labels(pool, observed.uid),
            common_name=manifests.common_name(pool.metadata.namespace, pool.metadata.name, observed.uid, generation),
            life=pool.spec.security.ca.duration,
        ),
    )


def key_hash(pem: bytes) -> str:
    """SHA-256 of a CA's SubjectPublicKeyInfo, by which its key is recorded; empty of what is no certificate."""
    if not is_certificate(pem):
        return ""
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def is_certificate(pem: bytes) -> bool:
    """Whether that is a certificate that can be read, with a key of a kind we know."""
    try:
        x509.load_pem_x509_certificate(pem).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_recorded(pem: bytes, known: str) -> bool:
    return bool(known) and key_hash(pem) == known


def expiry(pem: bytes) -> datetime | None:
    """When a CA expires."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc if is_certificate(pem) else None
