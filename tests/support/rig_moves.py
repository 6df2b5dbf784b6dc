# SPDX-License-Identifier: Apache-2.0
"""A pool of :mod:`support.rig_rotation` that moves between signers: issuers of a user's, and what is so when it is done."""

from __future__ import annotations

import base64
import copy
from datetime import UTC, datetime, timedelta
from typing import Final

from rserpool.authority import EmbeddedAuthority
from rserpool_operator.kube import Object
from rserpool_operator.kube.kinds import CERTIFICATE, CERTIFICATE_REQUEST, ISSUER, SECRET
from rserpool_operator.plan.certificates import key_hash
from support.rig_rotation import Rotating, ca_of


def ca(name: str) -> EmbeddedAuthority:
    """A CA of a user's."""
    return EmbeddedAuthority.create(name, datetime.now(UTC), life=timedelta(days=300), leaf_life=timedelta(hours=1))


ISSUERS: Final = {name: ca(f"a user's CA {name}") for name in ("a", "b", "c", "wrong")}
A, B, C = (ISSUERS[name].bundle for name in "abc")


def own(signer_type: str) -> Object:
    return {"type": signer_type}


def theirs(issuer: str, *authorities: bytes) -> Object:
    """An issuer of the user's, and the CAs that are trusted with it."""
    bundle = base64.b64encode(b"".join(authorities)).decode()
    return {"type": "IssuerRef", "issuerRef": {"name": issuer}, "caBundle": bundle}


EMBEDDED, CERT_MANAGER = own("Embedded"), own("CertManager")


def pool_of(signer: Object, **issuers: EmbeddedAuthority) -> Rotating:
    """A pool with that signer, and more issuers."""
    return Rotating(signer, issuers=ISSUERS | issuers, returns=True)


def keys_of(cluster: Rotating, signer: Object) -> set[str]:
    """Hashes of the keys that a signer stands for; of ours, those in the Secret of the generation that signs."""
    if signer["type"] != "IssuerRef":
        return {ca_of(cluster, cluster.authority["generation"])}
    return set(key_hash(base64.b64decode(signer["caBundle"])).split())


def arrived_at(cluster: Rotating, signer: Object, *, within: int = 80) -> None:
    """That the pool comes to that signer, all its processes have its CA and no other, and nothing is left of another."""
    for _ in range(within):
        asked = cluster.raw(cluster.key)["spec"]["security"].get("ca", {}).get("generation", 1)
        enough = signer["type"] == "IssuerRef" or cluster.authority["generation"] >= asked
        if cluster.authority["phase"] == "Active" and signs(cluster) == signer and enough:
            break
        cluster.go_by(15)
    for _ in range(3):
        cluster.go_by(5)
    authority, keys = cluster.authority, keys_of(cluster, signer)
    assert authority["phase"] == "Active", authority
    assert signs(cluster) == signer
    assert set(authority["signers"]) == set(authority["keys"]) == {str(authority["generation"])}
    assert set(authority["keys"][str(authority["generation"])].split()) == keys
    assert not {"next", "former", "since", "missing"} & set(authority), authority
    assert {p.bundle for p in cluster.processes.values()} == {frozenset(keys)}
    assert {p.issuer for p in cluster.processes.values()} <= keys
    left = {o["metadata"]["name"] for kind in (SECRET, CERTIFICATE, ISSUER) for o in cluster.world.of(kind)}
    ours = {cluster.secret(authority["generation"]).name} if signer["type"] != "IssuerRef" else set()
    assert {name.removesuffix("-root") for name in left} == ours
    assert cluster.world.of(CERTIFICATE_REQUEST) == []
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "AuthorityIssued")
    assert cluster.condition(cluster.key, "Stalled")[0] == "False"
    assert cluster.writes_of_another_pass(cluster.key) == []
    assert cluster.faults == []


def signs(cluster: Rotating) -> Object:
    """Who signs, as the status has it and as a manifest would be written."""
    found: Object = copy.deepcopy(cluster.authority["signers"][str(cluster.authority["generation"])])
    if "issuerRef" in found:
        found["issuerRef"] = {"name": found["issuerRef"]["name"]}
    return found


def until(cluster: Rotating, phase: str) -> None:
    """One look first, so that what was just ordered is begun."""
    cluster.go_by(1)
    cluster.until(phase)
