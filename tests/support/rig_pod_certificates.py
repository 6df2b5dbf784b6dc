# SPDX-License-Identifier: Apache-2.0
"""A kubelet that asks for pods' certificates, and what the API server (1.37) demands of who answers."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from rserpool_operator import names
from rserpool_operator.kube import Object
from support.rig_identity import pem_key

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_NUMBERS: Final = itertools.count(1)
_WHOLE: Final = "%Y-%m-%dT%H:%M:%SZ"
CLAIM: Final = {names.CLAIMED_POOL: "echo", names.CLAIMED_ROLE: "element"}


def stub(key: Key) -> str:
    """A PKCS #10 as a kubelet sends it: it names nobody."""
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def request(pod: Object, key: Key, claim: dict[str, str] | None = None, **spec: Any) -> Object:
    """What the kubelet of a pod's node makes for it."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {
            "name": f"req-{metadata['name']}-{next(_NUMBERS)}",
            "namespace": metadata["namespace"],
            "uid": f"{next(_NUMBERS):08x}-1111-4000-8000-000000000000",
            "creationTimestamp": datetime.now(UTC).strftime(_WHOLE),
        },
        "spec": {
            "signerName": names.SIGNER,
            "podName": metadata["name"],
            "podUID": metadata["uid"],
            "serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
            "serviceAccountUID": "sa-uid",
            "nodeName": pod["spec"].get("nodeName", "node-1"),
            "nodeUID": "node-uid",
            "maxExpirationSeconds": 91 * 86_400,
            "stubPKCS10Request": stub(key),
            "unverifiedUserAnnotations": dict(CLAIM if claim is None else claim),
            **spec,
        },
    }


def file_of(chain: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """What the kubelet puts into the volume."""
    return pem_key(key) + chain.encode()


def faults(of: Object, status: Object, now: datetime) -> list[str]:
    """What the API server would say of an answer (pkg/apis/certificates/validation)."""
    conditions = status["conditions"]
    (condition,) = conditions
    wrong = [f"{key} is missing" for key in ("reason", "lastTransitionTime") if not condition.get(key)]
    if condition["status"] != "True" or condition["type"] not in ("Issued", "Denied", "Failed"):
        wrong.append("no known condition")
    if condition["type"] != "Issued":
        return wrong + (["other fields beside a refusal"] if set(status) != {"conditions"} else [])
    leaf = x509.load_pem_x509_certificates(status["certificateChain"].encode())[0]
    asked = x509.load_der_x509_csr(base64.b64decode(of["spec"]["stubPKCS10Request"]))
    begin, refresh, end = (_time(status[key]) for key in ("notBefore", "beginRefreshAt", "notAfter"))
    longest, least = timedelta(seconds=of["spec"]["maxExpirationSeconds"]), timedelta(minutes=10)
    rules = {
        "another key": leaf.public_key() == asked.public_key(),
        "notBefore is not the leaf's": leaf.not_valid_before_utc == begin,
        "notAfter is not the leaf's": leaf.not_valid_after_utc == end,
        "notBefore is not near now": abs(now - begin) <= timedelta(minutes=5),
        "shorter than an hour": end - begin >= timedelta(hours=1),
        "longer than asked for": end - begin <= longest,
        "refreshed too soon": refresh >= begin + least,
        "refreshed too late": refresh <= end - least,
    }
    return wrong + [text for text, holds in rules.items() if not holds]


def _time(text: str) -> datetime:
    return datetime.strptime(text, _WHOLE).replace(tzinfo=UTC)
