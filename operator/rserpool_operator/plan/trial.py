# SPDX-License-Identifier: Apache-2.0
"""An issuer of the user's is asked for one certificate before a pool moves to it: does it sign with a CA of its bundle?

Were it not asked, a wrong bundle would show only when nobody is given leaves by another signer any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.identity import LeafIdentity
from rserpool.identity.parsing import certificates_from_pem
from rserpool.pool import ServerPool
from rserpool.pool.model import Signer
from rserpool_operator.generations import Generations, Phase
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import CERTIFICATE_REQUEST, Object, Ref
from rserpool_operator.manifests.authority import TRIAL, trial_labels
from rserpool_operator.observed import Observed
from rserpool_operator.plan.certificates import issued_by
from rserpool_operator.plan.effects import Delete, Effect, TryIssuer
from rserpool_operator.plan.signers import bundle_of_signer
from rserpool_operator.reasons import Reason

AGAIN: Final = timedelta(seconds=30)
"""After that an issuer that failed, or did not answer, is asked again."""
LOOK_AGAIN: Final = 2.0
"""Seconds, while it is asked."""
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""UID of the pod that the certificate is for: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How it went.

    Attributes:
        good: it has signed with a CA of the bundle.
        failed: it has not, or not within :data:`AGAIN`; and that stands until it is good.
        says: what there is to say while it is not good.
    """

    effects: tuple[Effect, ...] = ()
    good: bool = False
    failed: bool = False
    says: str = ""


def trial_of(observed: Observed, pool: ServerPool, installation: Installation, signer: Signer, authority: str) -> Trial:
    """Whether an issuer may sign for a generation whose objects have that name, or what finds that out."""
    issuer = signer.model_dump(mode="json", by_alias=True, exclude={"type"})
    digest = hashlib.sha256(json.dumps(issuer, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{authority}-{digest}"
    ref = Ref(CERTIFICATE_REQUEST, installation.namespace, name)
    ask = TryIssuer(
        name=name,
        namespace=installation.namespace,
        labels=trial_labels(pool, observed.uid),
        issuer_ref=issuer["issuerRef"],
        identity=LeafIdentity(
            trust_domain=installation.trust_domain,
            namespace=pool.metadata.namespace,
            pool=pool.metadata.name,
            role=Role.ELEMENT,
            pod_uid=NOBODY,
        ),
        life=pool.spec.security.leaf_duration,
    )
    live = observed.foreign.get(ref)
    failing = any(c.get("reason") == Reason.ISSUER_FAILS for c in observed.status.get("conditions", []))
    if live is None:
        return Trial(effects=(ask,), failed=failing, says="its issuer is being asked")
    says = _fault(live, bundle_of_signer(signer))
    if not says:
        return Trial(good=True)
    old = _age(live, observed.now) >= AGAIN
    effects: tuple[Effect, ...] = (Delete(ref, live["metadata"]["uid"]), ask) if old else ()
    return Trial(effects=effects, failed=failing or old or _answered(live), says=says)


def trials_left(observed: Observed, record: Generations) -> Iterator[Effect]:
    """Requests for trials that are over."""
    if record.phase is Phase.PREPARING:
        return
    for ref, live in observed.foreign.items():
        if ref.kind == CERTIFICATE_REQUEST and live["metadata"]["labels"].get("app.kubernetes.io/component") == TRIAL:
            yield Delete(ref, live["metadata"]["uid"])


def _fault(live: Object, bundle: bytes) -> str:
    """What is wrong with an issuer's answer; empty: nothing."""
    status = live.get("status") or {}
    if not status.get("certificate"):
        said = [str(c.get("message", "")) for c in status.get("conditions") or [] if c.get("type") != "Approved"]
        return f"the issuer gives no certificate: {(said or ['no answer yet'])[-1][:200]}"
    try:
        leaf = certificates_from_pem(base64.b64decode(status["certificate"], validate=True))[0]
    except (ValueError, binascii.Error):
        return "the issuer gives something that is no certificate"
    if not any(issued_by(leaf, authority) for authority in certificates_from_pem(bundle)):
        return "the issuer signs with a CA that is not in spec.security.signer.caBundle"
    return ""


def _answered(live: Object) -> bool:
    status = live.get("status") or {}
    conditions = status.get("conditions") or []
    final = any("Denied" in (c.get("type"), c.get("reason")) or c.get("reason") == "Failed" for c in conditions)
    return bool(status.get("certificate")) or final


def _age(live: Object, now: datetime) -> timedelta:
    made = live["metadata"].get("creationTimestamp")
    return now - datetime.fromisoformat(made) if made else timedelta(0)
