# SPDX-License-Identifier: Apache-2.0
"""A pool's CA: recorded once, never silently another one; and pools that may not be changed at all."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from rserpool_operator import names
from rserpool_operator.kube import Object
from rserpool_operator.kube.kinds import EVENT, SECRET, STATEFUL_SET
from rserpool_operator.work_queue import Key
from support.rig_cluster import SYSTEM, Cluster, ca_ref, ca_secret, pool_ref, raw_pool
from support.rig_pools import ISSUER_REF, shape

OWN = ["Embedded", "CertManager"]
"""Signers with a CA made for the pool."""
DAMAGES: dict[str, Any] = {
    "gone": lambda cluster, ref: cluster.world.remove(ref),
    "another key": lambda cluster, ref: _replace(cluster, ref, ca_secret(ref.name, ref.namespace, {})["data"]),
    "empty": lambda cluster, ref: _replace(cluster, ref, {}),
    "no base64": lambda cluster, ref: _replace(cluster, ref, {"tls.crt": "?", "tls.key": "?"}),
    "no certificate": lambda cluster, ref: _replace(cluster, ref, {"tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8="}),
    "half a certificate": lambda cluster, ref: _replace(
        cluster, ref, {"tls.crt": base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAA==\n").decode()}
    ),
}


def _replace(cluster: Cluster, ref: Any, data: Object) -> None:
    cluster.world.change(ref, lambda live: live.update(data=data))


def settled(signer: str) -> tuple[Cluster, Key]:
    cluster = Cluster()
    key = cluster.create(raw_pool(security={"signer": {"type": signer}}))
    assert cluster.settle(key)
    assert cluster.ready(key)
    return cluster, key


def made(cluster: Cluster, since: int) -> list[str]:
    """What was made or deleted since a write, besides Events and the pool's own status."""
    return [
        f"{w.verb} {w.ref}" for w in cluster.world.writes[since:] if w.verb != "apply status" and w.ref.kind != EVENT
    ]


def message(cluster: Cluster, key: Key, kind: str) -> str:
    return str(next(c["message"] for c in cluster.status(key)["conditions"] if c["type"] == kind))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("signer", OWN)
def test_a_lost_ca_is_said_and_nothing_is_made_until_the_user_gives_his_word(signer: str, damage: str) -> None:
    cluster, key = settled(signer)
    ref, recorded = ca_ref(cluster, key), cluster.status(key)["authority"]["keys"]["1"]
    since = len(cluster.world.writes)
    DAMAGES[damage](cluster, ref)
    assert cluster.settle(key)
    assert cluster.condition(key, "AuthorityReady") == ("False", "CALost")
    assert cluster.condition(key, "Stalled") == ("True", "CALost")
    assert not cluster.ready(key)
    assert cluster.status(key)["authority"]["keys"] == {"1": recorded}
    assert f"{names.ACCEPT_CA}={recorded}" in message(cluster, key, "AuthorityReady")
    assert made(cluster, since) == []
    assert any(e["reason"] == "CALost" and e["type"] == "Warning" for e in cluster.world.events)
    for wrong in ("", "sha256:00", "yes"):
        cluster.change(key, lambda raw, w=wrong: raw["metadata"].update(annotations={names.ACCEPT_CA: w}))  # type: ignore[misc] # mypy infers no lambda with a default
        assert cluster.settle(key)
        assert cluster.condition(key, "AuthorityReady") == ("False", "CALost")
        assert made(cluster, since) == []


@pytest.mark.parametrize("damage", ["gone", "another key"])
@pytest.mark.parametrize("signer", OWN)
def test_with_the_users_word_a_pool_goes_on_with_another_key_and_the_word_counts_once(signer: str, damage: str) -> None:
    cluster, key = settled(signer)
    ref, recorded = ca_ref(cluster, key), cluster.status(key)["authority"]["keys"]["1"]
    DAMAGES[damage](cluster, ref)
    assert cluster.settle(key)
    cluster.change(key, lambda raw: raw["metadata"].update(annotations={names.ACCEPT_CA: recorded}))
    assert cluster.settle(key)
    assert cluster.ready(key)
    fresh = cluster.status(key)["authority"]["keys"]["1"]
    assert fresh != recorded
    assert cluster.condition(key, "Stalled")[0] == "False"
    assert cluster.writes_of_another_pass(key) == []
    DAMAGES["another key"](cluster, ca_ref(cluster, key))
    assert cluster.settle(key)
    assert cluster.condition(key, "AuthorityReady") == ("False", "CALost")
    assert cluster.status(key)["authority"]["keys"]["1"] == fresh


@pytest.mark.parametrize("signer", OWN)
def test_a_ca_that_is_restored_from_a_backup_is_good_again(signer: str) -> None:
    cluster, key = settled(signer)
    wanted = shape(cluster)
    ref = ca_ref(cluster, key)
    backup = copy.deepcopy(cluster.world.objects[ref])
    _replace(cluster, ref, ca_secret(ref.name, SYSTEM, {})["data"])
    assert cluster.settle(key)
    cluster.world.put(backup)
    assert cluster.settle(key)
    assert cluster.ready(key)
    assert shape(cluster) == wanted


@pytest.mark.parametrize("signer", OWN)
def test_a_lost_ca_takes_nothing_from_pods_that_run(signer: str) -> None:
    cluster, key = settled(signer)
    before = {r: o for r, o in shape(cluster).items() if r.startswith(("Pod ", "StatefulSet ", "ConfigMap "))}
    cluster.world.remove(ca_ref(cluster, key))
    assert cluster.settle(key)
    assert {r: o for r, o in shape(cluster).items() if r in before} == before


@pytest.mark.parametrize("crash", range(12))
def test_a_ca_is_made_once_however_often_the_operator_dies(crash: int) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(security={"signer": {"type": "Embedded"}}))
    found = set()
    for _ in range(4):
        cluster.settle(key, crash_after=crash)
        cluster.restart()
        found |= {o["data"]["tls.key"] for o in cluster.world.of(SECRET)}
    assert cluster.settle(key)
    found |= {o["data"]["tls.key"] for o in cluster.world.of(SECRET)}
    assert len(found) == 1


@pytest.mark.parametrize("bundle", ["aGVsbG8=", "?", "LS0tLS1CRUdJTg=="])
def test_a_bundle_without_a_certificate_is_named(bundle: str) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(security={"signer": ISSUER_REF | {"caBundle": bundle}}))
    assert cluster.settle(key)
    assert cluster.condition(key, "AuthorityReady") == ("False", "BundleUnreadable")
    assert "caBundle" in message(cluster, key, "Stalled")


@pytest.mark.parametrize("signer", OWN)
def test_a_paused_pool_is_left_as_it_is(signer: str) -> None:
    cluster, key = settled(signer)
    since = len(cluster.world.writes)
    cluster.change(key, lambda raw: raw["spec"].update(paused=True, registrars={"replicas": 5}, version="9"))
    cluster.world.remove(next(r for r in cluster.world.objects if r.kind == STATEFUL_SET))
    assert cluster.settle(key)
    assert made(cluster, since) == []
    assert cluster.condition(key, "Reconciling") == ("False", "Paused")
    assert cluster.writes_of_another_pass(key) == []
    cluster.change(key, lambda raw: raw["spec"].update(paused=False, version=""))
    assert cluster.settle(key)
    assert cluster.status(key)["registrars"]["ready"] == 5
    assert cluster.writes_of_another_pass(key) == []


def test_a_pool_that_is_created_paused_stays_unmade() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(paused=True))
    assert cluster.settle(key)
    assert made(cluster, 0) == []
    assert cluster.condition(key, "Ready")[0] == "False"
    assert cluster.writes_of_another_pass(key) == []


@pytest.mark.parametrize(
    ("change", "names_it"),
    [
        ({"policy": {"type": "Nonsense"}}, "policy"),
        ({"elements": {"port": 0}}, "port"),
        ({"elements": {"port": 7007, "protocol": "UDP"}}, "health"),
        ({"unknown": 1}, "unknown"),
        ({"security": {"leafDuration": "1s"}}, "leafDuration"),
    ],
)
def test_a_wrong_spec_is_named_and_changes_nothing_that_runs(change: Object, names_it: str) -> None:
    cluster, key = settled("CertManager")
    since, good = len(cluster.world.writes), copy.deepcopy(cluster.raw(key)["spec"])
    wanted = {r: o for r, o in shape(cluster).items() if not r.startswith("ServerPool")}
    cluster.change(key, lambda raw: raw["spec"].update(change | {"registrars": {"replicas": 1}}))
    assert cluster.settle(key)
    assert made(cluster, since) == []
    assert cluster.condition(key, "Accepted") == ("False", "Invalid")
    assert cluster.condition(key, "Stalled") == ("True", "Invalid")
    assert cluster.ready(key)
    assert names_it in message(cluster, key, "Accepted")
    assert {r: o for r, o in shape(cluster).items() if not r.startswith(("ServerPool", "Event"))} == wanted
    assert cluster.writes_of_another_pass(key) == []
    cluster.change(key, lambda raw: raw.update(spec=good))
    assert cluster.settle(key)
    assert cluster.condition(key, "Accepted") == ("True", "Valid")
    assert cluster.condition(key, "Stalled")[0] == "False"


def test_a_pool_that_is_wrong_from_the_start_is_not_made() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(policy={"type": "Nonsense"}))
    assert cluster.settle(key)
    assert made(cluster, 0) == []
    assert cluster.condition(key, "Accepted") == ("False", "Invalid")
    assert not cluster.ready(key)
    cluster.world.remove(pool_ref(key))
    assert pool_ref(key) not in cluster.world.objects
