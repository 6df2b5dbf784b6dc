# SPDX-License-Identifier: Apache-2.0
"""ServerPools of all kinds, as users write them, and a cluster's objects in a form that two of them can be compared in."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from rserpool.authority import EmbeddedAuthority
from rserpool_operator import names
from rserpool_operator.kube import Object, Ref
from rserpool_operator.kube.kinds import NAMESPACE
from support.rig_cluster import Cluster

BUNDLE: Final = base64.b64encode(
    EmbeddedAuthority.create(
        "a user's own", datetime.now(UTC), life=timedelta(days=30), leaf_life=timedelta(hours=1)
    ).bundle
).decode()
ISSUER_REF: Final = {"type": "IssuerRef", "issuerRef": {"name": "ours"}, "caBundle": BUNDLE}
POLICIES: Final = ("RoundRobin", "WeightedRandom", "Priority", "LeastUsed", "RandomizedLeastUsed")
FRIENDS: Final = {"matchLabels": {"team": "a"}}
"""Selects namespaces of users."""

signers = st.sampled_from(({"type": "CertManager"}, {"type": "Embedded"}, ISSUER_REF))
quantities = st.sampled_from(("0.5", "1000m", "1", "1Gi", "1024Mi", "0.25", "100M", "1e3", 1, 2, "1500m", "0", "64Ki"))
resources = st.fixed_dictionaries(
    {},
    optional={
        "requests": st.dictionaries(st.sampled_from(("cpu", "memory", "ephemeral-storage")), quantities),
        "limits": st.dictionaries(st.sampled_from(("cpu", "memory")), quantities),
    },
)
tolerations = st.lists(
    st.fixed_dictionaries(
        {"key": st.sampled_from(("", "a", "b"))},
        optional={
            "operator": st.sampled_from(("Exists", "Equal")),
            "value": st.sampled_from(("", "x")),
            "effect": st.sampled_from(("", "NoExecute")),
            "tolerationSeconds": st.sampled_from((0, 30)),
        },
    ),
    max_size=2,
)
spreads = st.lists(
    st.fixed_dictionaries(
        {
            "maxSkew": st.just(1),
            "topologyKey": st.just("zone"),
            "whenUnsatisfiable": st.just("DoNotSchedule"),
            "labelSelector": st.sampled_from(({}, {"matchLabels": {"a": "b"}})),
        },
        optional={"minDomains": st.just(2), "matchLabelKeys": st.sampled_from(([], ["a"]))},
    ),
    max_size=1,
)
registrars = st.fixed_dictionaries(
    {"replicas": st.integers(1, 4)},
    optional={
        "resources": resources,
        "nodeSelector": st.sampled_from(({}, {"disk": "ssd"}, {"a": ""})),
        "tolerations": tolerations,
        "topologySpreadConstraints": spreads,
        "podDisruptionBudget": st.sampled_from(({"maxUnavailable": 0}, {"maxUnavailable": 2})),
    },
)
specs = st.fixed_dictionaries(
    {"registrars": registrars, "security": st.fixed_dictionaries({"signer": signers})},
    optional={
        "policy": st.sampled_from(POLICIES).map(lambda name: {"type": name}),
        "networkPolicy": st.booleans(),
        "controlChannel": st.booleans(),
        "users": st.sampled_from(({"namespaces": FRIENDS}, {"anonymous": False})),
        "timers": st.just({"profile": "RFC"}),
        "transport": st.just({"order": ["TCP"]}),
        "poolHandle": st.just("Größe"),
        "version": st.just("0.9"),
    },
)


_CHANGES: Final = frozenset(
    (
        *(
            "resourceVersion",
            "generation",
            "lastTransitionTime",
            "notBefore",
            "notAfter",
            "message",
            "keys",
            "commonName",
        ),
        *("tls.crt", "tls.key", "bundle.pem", "observedGeneration", names.APPLIED),
        *("updateRevision", "currentRevision", "revision"),
        *(names.COOKIE_KEYS_CHANGED, "1", "2"),  # a key of cookies, by its number
    )
)
"""Fields that differ between two runs of the same."""


def shape(cluster: Cluster) -> dict[str, Any]:
    """All objects; uids by whose they are, without what differs from one run to the next."""
    whose = {
        o["metadata"]["uid"]: f"uid of {r.kind.kind} {r.namespace}/{r.name}"
        for r, o in cluster.world.objects.items()
        if r.kind != NAMESPACE
    }
    text = json.dumps({str(ref): _lasting(manifest) for ref, manifest in cluster.world.objects.items()})
    named = re.sub(r"[0-9a-f]{8}-0000-4000-8000-0{12}", lambda m: whose.get(m[0], m[0]), text)
    found: dict[str, Any] = json.loads(named)
    return found


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in _CHANGES}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


def owner_uid(manifest: Object) -> str:
    """Of which pool an object is; empty: of none. Written anew, so as not to believe the operator's own word."""
    metadata = manifest["metadata"]
    if manifest["kind"] == "ServerPool":
        return str(metadata["uid"])
    for owner in metadata.get("ownerReferences", []):
        if owner["kind"] == "ServerPool" and owner.get("controller"):
            return str(owner["uid"])
    return str(metadata.get("labels", {}).get(names.OWNER_UID_LABEL, ""))


def of_others(cluster: Cluster) -> list[str]:
    """Writes to objects of another pool, or of nobody's, than the pool on whose behalf they were."""
    return [
        f"{w.verb} {w.ref}" for w in cluster.world.writes if w.before is not None and owner_uid(w.before) != w.actor
    ]


def left_of(cluster: Cluster, uid: str) -> list[Ref]:
    """Objects that are still a pool's."""
    return [ref for ref, o in cluster.world.objects.items() if ref.kind != NAMESPACE and owner_uid(o) == uid]
