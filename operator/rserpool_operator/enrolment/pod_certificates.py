# SPDX-License-Identifier: Apache-2.0
"""What a PodCertificateRequest (certificates.k8s.io/v1, KEP-4317) asks for, and what is answered.

A kubelet makes one for each ``podCertificate`` volume that names our signer, and only for pods of its own node; the API
server sees to that and verifies that the sender has the key. What pool and role are wanted is in the annotations that
the volume gives along: a claim, as an enrolment's body is one, judged by the same decision (threats 2.1 to 2.5).

A request that is denied is denied for ever, and its pod never starts. So only that is denied which nobody can make
right: what follows from the request itself, or from what of a pod cannot change. All else waits.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.asap.authorisation import Role
from rserpool.authority.embedded import CURVES
from rserpool.identity.parsing import certificates_from_pem
from rserpool.pool.model import Enrolment
from rserpool.pool.values import LABEL_PATTERN
from rserpool_operator import names
from rserpool_operator.enrolment.decision import Bearer, Claim, Denied, Granted, PodFacts, PoolFacts, may
from rserpool_operator.kube.kinds import POD_CERTIFICATE_REQUEST, Object

REFRESH_AT: Final = 2 / 3
"""Of a leaf's life: then the kubelet begins to ask for the next one."""
_DEFAULT_LONGEST: Final = 86_400
_CLAIMS: Final = frozenset({names.CLAIMED_POOL, names.CLAIMED_ROLE})
_LABEL: Final = re.compile(LABEL_PATTERN)
_MOST_TEXT: Final = 1000
"""Characters of a message."""


class Condition(StrEnum):
    """How a request ends; afterwards nothing of it can change."""

    ISSUED = "Issued"
    DENIED = "Denied"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that can be read.

    Attributes:
        bearer: the pod it is for, as the API server has it from the pod's kubelet.
        longest: for how long a leaf may be valid.
    """

    claim: Claim
    bearer: Bearer
    key: ec.EllipticCurvePublicKey
    longest: timedelta


def is_ours(request: Object) -> bool:
    """Whether it is for our signer."""
    return bool((request.get("spec") or {}).get("signerName") == names.SIGNER)


def is_over(request: Object) -> bool:
    """Whether it was answered."""
    conditions = (request.get("status") or {}).get("conditions") or []
    return any(c.get("type") in tuple(Condition) for c in conditions)


def read(request: Object) -> Asked | Denied:
    """What is asked for; or why that will never be given."""
    metadata, spec = request["metadata"], request["spec"]
    claim = _claim(metadata["namespace"], spec.get("unverifiedUserAnnotations") or {})
    if isinstance(claim, Denied):
        return claim
    key = _key(str(spec.get("stubPKCS10Request") or ""))
    if isinstance(key, Denied):
        return key
    bearer = Bearer(
        way=Enrolment.POD_CERTIFICATE,
        namespace=metadata["namespace"],
        pod_uid=str(spec["podUID"]),
        pod_name=str(spec["podName"]),
        service_account=f"{metadata['namespace']}/{spec['serviceAccountName']}",
    )
    longest = timedelta(seconds=int(spec.get("maxExpirationSeconds") or _DEFAULT_LONGEST))
    return Asked(claim=claim, bearer=bearer, key=key, longest=longest)


def _claim(namespace: str, annotations: Mapping[str, str]) -> Claim | Denied:
    unknown = sorted(set(annotations) - _CLAIMS)
    if unknown:
        return _never("UnknownAnnotation", f"userAnnotations {', '.join(unknown)[:200]}: they mean nothing here")
    pool, role = annotations.get(names.CLAIMED_POOL, ""), annotations.get(names.CLAIMED_ROLE, "")
    if not _LABEL.fullmatch(pool):
        return _never("BadRequest", f"userAnnotations {names.CLAIMED_POOL} names no pool")
    try:
        return Claim(namespace=namespace, pool=pool, role=Role(role))
    except ValueError:
        return _never("BadRequest", f"userAnnotations {names.CLAIMED_ROLE} names no role")


def _key(stub: str) -> ec.EllipticCurvePublicKey | Denied:
    try:
        parsed = x509.load_der_x509_csr(base64.b64decode(stub, validate=True))
        sound, key = parsed.is_signature_valid, parsed.public_key()
    except Exception:  # noqa: BLE001 - whatever a parser has to say to octets of a stranger
        sound, key = False, None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        if key is None:
            return _never("BadRequest", "stubPKCS10Request cannot be read")
        return _never("UnsupportedKeyType", names.KEY_TYPE)  # the word and the message that the API prescribes
    return key if sound else _never("BadRequest", "stubPKCS10Request is not signed by its own key")


def _never(word: str, message: str) -> Denied:
    return Denied(word=word, message=message, never=True)


def judge(
    asked: Asked, pod: PodFacts | None, facts: PoolFacts | None, *, trust_domain: str, cluster_domain: str
) -> Granted | Denied:
    """Decide, as about everybody; it is not looked at from where it comes, since it comes through the API server."""
    return may(
        asked.claim,
        asked.bearer,
        pod,
        facts,
        trust_domain=trust_domain,
        cluster_domain=cluster_domain,
        source=None,
    )


def issued(request: Object, chain: bytes, now: datetime) -> Object:
    """The status that gives a leaf (PEM, leaf first), to be applied."""
    leaf = certificates_from_pem(chain)[0]
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    status = {
        "certificateChain": chain.decode(),
        "notBefore": _time(begin),
        "beginRefreshAt": _time(begin + (end - begin) * REFRESH_AT),
        "notAfter": _time(end),
    }
    return _answer(request, Condition.ISSUED, "Issued", "the pool's authority has signed", now, status)


def denied(request: Object, why: Denied, now: datetime) -> Object:
    """The status that refuses for ever, to be applied."""
    return _answer(request, Condition.DENIED, why.word, why.message, now, {})


def _answer(request: Object, kind: Condition, word: str, message: str, now: datetime, status: Object) -> Object:
    metadata = request["metadata"]
    condition = {
        "type": kind.value,
        "status": "True",
        "reason": word,
        "message": message[:_MOST_TEXT],
        "lastTransitionTime": _time(now),
    }
    return {
        "apiVersion": POD_CERTIFICATE_REQUEST.api_version,
        "kind": POD_CERTIFICATE_REQUEST.kind,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "status": {**status, "conditions": [condition]},
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
