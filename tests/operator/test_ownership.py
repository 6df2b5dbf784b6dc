# SPDX-License-Identifier: Apache-2.0
"""Each pool's objects are its own: never another pool's, never a stranger's, and none is left when it goes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rserpool_operator import names
from rserpool_operator.kube import Kind, Object, Ref
from rserpool_operator.kube.kinds import (
    CERTIFICATE,
    CONFIG_MAP,
    ISSUER,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
)
from support.rig_cluster import SYSTEM, Cluster, ca_ref, member, pool_ref, raw_pool
from support.rig_pools import FRIENDS, ISSUER_REF, left_of, of_others, owner_uid, specs

PLACES = [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x-a"), ("a-registrar", "x"), ("a-x", "x"), ("x", "a")]
"""Pools whose objects' names look alike."""
SIGNERS: list[dict[str, Any]] = [{"type": "CertManager"}, {"type": "Embedded"}, ISSUER_REF]


_SPECS: dict[Kind, Object] = {
    SERVICE: {"selector": {"app": "their"}, "ports": []},
    STATEFUL_SET: {
        "replicas": 0,
        "template": {"metadata": {}, "spec": {"serviceAccountName": "their", "containers": [], "volumes": []}},
    },
    CERTIFICATE: {"secretName": "their", "secretTemplate": {"labels": {}}, "commonName": "their"},
}


def strangers(kind: Kind, namespace: str, name: str, **metadata: Any) -> Object:
    """An object that is not ours."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": {"theirs": "1"},
        "spec": _SPECS.get(kind, {}),
    }


@given(st.lists(st.tuples(st.sampled_from(PLACES), specs), min_size=2, max_size=4, unique_by=lambda p: p[0]))
@settings(max_examples=15)
def test_pools_with_names_that_look_alike_leave_each_other_alone(pools: list[tuple[tuple[str, str], Any]]) -> None:
    cluster = Cluster()
    cluster.world.namespace("friend", team="a")
    keys = [cluster.create(raw_pool(name, namespace, **spec)) for (name, namespace), spec in pools]
    assert cluster.settle(*keys)
    assert all(cluster.ready(key) for key in keys)
    assert of_others(cluster) == []
    uids = {key: cluster.raw(key)["metadata"]["uid"] for key in keys}
    gone, *stay = keys
    kept = {ref for key in stay for ref in left_of(cluster, uids[key])}
    cluster.world.remove(pool_ref(gone))
    assert cluster.settle(*keys)
    assert left_of(cluster, uids[gone]) == []
    assert {ref for key in stay for ref in left_of(cluster, uids[key])} == kept
    assert of_others(cluster) == []
    assert cluster.writes_of_another_pass(*stay) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SERVICE, "echo"),
        (SERVICE, "echo-peers"),
        (STATEFUL_SET, "echo-registrar"),
        (SERVICE_ACCOUNT, "echo-registrar"),
        (POD_DISRUPTION_BUDGET, "echo-registrar"),
        (NETWORK_POLICY, "echo-registrar"),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_an_object_of_somebody_else_with_a_name_of_ours_is_left_alone_and_named(kind: Kind, name: str) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(networkPolicy=True))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "their", "uid": "their-uid", "controller": True}
    cluster.world.put(strangers(CONFIG_MAP, "demo", "their", uid="their-uid"))
    cluster.world.put(strangers(kind, "demo", name, ownerReferences=[owner]))
    assert cluster.settle(key)
    assert cluster.condition(key, "Stalled") == ("True", "NameTaken")
    assert not cluster.ready(key)
    (stalled,) = [c for c in cluster.status(key)["conditions"] if c["type"] == "Stalled"]
    assert f"{kind.kind} demo/{name}" in stalled["message"]
    assert of_others(cluster) == []
    assert cluster.writes_of_another_pass(key) == []
    cluster.world.remove(Ref(kind, "demo", name))
    assert cluster.settle(key)
    assert cluster.ready(key)
    assert cluster.condition(key, "Stalled")[0] == "False"


def test_of_two_pools_that_need_the_same_service_the_later_one_is_told() -> None:
    cluster = Cluster()
    first = cluster.create(raw_pool("echo"))
    assert cluster.settle(first)
    second = cluster.create(raw_pool("echo-peers"))
    assert cluster.settle(first, second)
    assert cluster.ready(first)
    assert cluster.condition(second, "Stalled") == ("True", "NameTaken")
    assert of_others(cluster) == []
    cluster.world.remove(pool_ref(first))
    assert cluster.settle(first, second)
    assert cluster.ready(second)


@pytest.mark.parametrize("namespace", ["demo", "friend"])
def test_a_users_config_map_of_somebody_else_is_neither_overwritten_nor_deleted(namespace: str) -> None:
    cluster = Cluster()
    cluster.world.namespace("friend", team="a")
    theirs = Ref(CONFIG_MAP, namespace, names.users_config_map("echo", "demo"))
    cluster.world.put(strangers(CONFIG_MAP, namespace, theirs.name))
    key = cluster.create(raw_pool(users={"namespaces": FRIENDS}))
    cluster.settle(key)
    assert cluster.world.objects[theirs]["data"] == {"theirs": "1"}
    assert of_others(cluster) == []
    assert cluster.writes_of_another_pass(key) == []
    cluster.world.remove(pool_ref(key))
    assert cluster.settle(key)
    assert theirs in cluster.world.objects


@pytest.mark.parametrize("kind", [CERTIFICATE, ISSUER, SECRET], ids=lambda kind: str(kind.kind))
def test_an_authority_of_somebody_else_is_not_taken_over(kind: Kind) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    uid = cluster.raw(key)["metadata"]["uid"]
    theirs = strangers(kind, SYSTEM, names.authority("demo", "echo", uid, 1))
    cluster.world.put(theirs)
    cluster.settle(key)
    assert cluster.world.objects[Ref(kind, SYSTEM, theirs["metadata"]["name"])]["data"] == {"theirs": "1"}
    assert of_others(cluster) == []
    assert not cluster.ready(key)


@given(specs, st.lists(st.integers(0, 6), max_size=4))
@settings(max_examples=20)
def test_a_pool_that_is_deleted_leaves_nothing_and_goes_last(spec: dict[str, Any], deaths: list[int]) -> None:
    cluster = Cluster()
    cluster.world.namespace("friend", team="a")
    key = cluster.create(raw_pool(**spec))
    cluster.world.put(member("app", "echo"))
    assert cluster.settle(key)
    uid = cluster.raw(key)["metadata"]["uid"]
    assert left_of(cluster, uid)
    cluster.world.remove(pool_ref(key))
    for writes in deaths:
        cluster.settle(key, crash_after=writes)
        cluster.restart()
        if pool_ref(key) not in cluster.world.objects:
            assert [r for r in left_of(cluster, uid) if r.namespace == SYSTEM] == []
    assert cluster.settle(key)
    assert pool_ref(key) not in cluster.world.objects
    assert left_of(cluster, uid) == []
    assert [r for r in cluster.world.objects if r.namespace == SYSTEM] == []
    assert any(r.name == "app" for r in cluster.world.objects)
    assert [w for w in cluster.world.writes if w.ref.name == "app" and w.ref.kind.kind == "Pod"] == []


def test_nothing_of_a_pool_is_made_while_it_is_being_deleted() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    cluster.world.remove(pool_ref(key))
    before = len(cluster.world.writes)
    assert cluster.settle(key)
    verbs = {(w.verb, w.ref.kind) for w in cluster.world.writes[before:] if w.ref.kind.kind != "Event"}
    assert {verb for verb, _ in verbs} <= {"apply", "delete"}
    assert {kind.kind for verb, kind in verbs if verb == "apply"} == {"ServerPool"}


def test_a_pool_whose_spec_is_wrong_or_that_is_paused_can_be_deleted() -> None:
    for field, value in (("paused", True), ("policy", {"type": "Nonsense"})):
        cluster = Cluster()
        key = cluster.create(raw_pool())
        assert cluster.settle(key)
        cluster.change(key, lambda raw, f=field, v=value: raw["spec"].update({f: v}))  # type: ignore[misc] # mypy infers no lambda with a default
        assert cluster.settle(key)
        uid = cluster.raw(key)["metadata"]["uid"]
        cluster.world.remove(pool_ref(key))
        assert cluster.settle(key)
        assert left_of(cluster, uid) == []


def test_a_namespace_that_is_going_takes_its_pool_with_it() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    uid = cluster.raw(key)["metadata"]["uid"]
    for ref in list(cluster.world.objects):
        if ref.kind.kind == "Namespace" and ref.name == "demo":
            cluster.world.objects[ref]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for ref in [r for r in cluster.world.objects if r.namespace == "demo"]:
        if ref in cluster.world.objects:
            cluster.world.remove(ref)
    assert cluster.settle(key)
    assert left_of(cluster, uid) == []


@pytest.mark.parametrize("signer", SIGNERS[:2], ids=lambda s: str(s["type"]))
def test_a_pool_that_is_made_anew_has_a_ca_of_its_own(signer: dict[str, Any]) -> None:
    cluster = Cluster()
    spec: dict[str, Any] = {"security": {"signer": signer}}
    key = cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    old, recorded = ca_ref(cluster, key), cluster.status(key)["authority"]["keys"]
    secret = cluster.world.objects[old]
    cluster.world.remove(pool_ref(key))
    assert cluster.settle(key)
    assert old not in cluster.world.objects
    cluster.world.put(secret)  # somebody brings it back from a backup
    cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    assert cluster.ready(key)
    assert ca_ref(cluster, key) != old
    assert cluster.status(key)["authority"]["keys"].keys() == recorded.keys()
    assert cluster.status(key)["authority"]["keys"] != recorded
    assert of_others(cluster) == []


@pytest.mark.parametrize("signer", SIGNERS[:2], ids=lambda s: str(s["type"]))
def test_a_pool_made_anew_before_the_old_one_was_cleared_away_waits_for_that(signer: dict[str, Any]) -> None:
    """The finalizer was taken away by hand: objects of the former pool are still there."""
    cluster = Cluster()
    spec: dict[str, Any] = {"security": {"signer": signer}}
    key = cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    recorded = cluster.status(key)["authority"]["keys"]
    former = cluster.raw(key)["metadata"]["uid"]
    cluster.change(key, lambda raw: raw["metadata"].update(finalizers=[]))
    cluster.world.remove(pool_ref(key))
    cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    assert cluster.ready(key)
    assert cluster.status(key)["authority"]["keys"] != recorded
    assert cluster.condition(key, "Stalled")[0] == "False"
    assert of_others(cluster) == []
    assert [r for r in left_of(cluster, former) if r.namespace == key.namespace] == []


def test_user_namespaces_get_and_lose_the_pool_with_their_labels() -> None:
    cluster = Cluster()
    cluster.world.namespace("friend", team="a")
    cluster.world.namespace("other")
    key = cluster.create(raw_pool(users={"namespaces": FRIENDS}))

    def maps() -> set[str]:
        assert cluster.settle(key)
        assert cluster.writes_of_another_pass(key) == []
        return {o["metadata"]["namespace"] for o in cluster.world.of(CONFIG_MAP)}

    assert maps() == {"demo", "friend"}
    cluster.world.namespace("other", team="a")
    assert maps() == {"demo", "friend", "other"}
    cluster.world.namespace("friend", team="b")
    assert maps() == {"demo", "other"}
    cluster.change(key, lambda raw: raw["spec"].pop("users"))
    assert maps() == {"demo"}
    assert {owner_uid(o) for o in cluster.world.of(CONFIG_MAP)} == {cluster.raw(key)["metadata"]["uid"]}


def test_no_private_key_is_in_what_is_observed_or_planned(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio
    import base64

    from rserpool_operator.observe import observe
    from rserpool_operator.plan import plan

    cluster = Cluster()
    key = cluster.create(raw_pool(security={"signer": {"type": "Embedded"}}))
    assert cluster.settle(key)
    secret = base64.b64decode(cluster.world.objects[ca_ref(cluster, key)]["data"]["tls.key"]).decode()
    body = secret.splitlines()[1]
    encoded = cluster.world.objects[ca_ref(cluster, key)]["data"]["tls.key"][:40]
    observed = asyncio.run(observe(cluster.world.kube, cluster.raw(key), cluster.operator, {}))
    for text in (repr(observed), repr(plan(observed, cluster.operator)), caplog.text, str(cluster.status(key))):
        assert body not in text
        assert encoded not in text


def test_a_stateful_set_that_was_deleted_is_made_anew_when_its_pods_are_gone() -> None:
    """Kubernetes' controller finds the names of its pods taken, and tries again ever more rarely."""
    cluster = Cluster()
    key = cluster.create(raw_pool(registrars={"replicas": 2}))
    assert cluster.settle(key)
    registrars = Ref(STATEFUL_SET, key.namespace, names.registrar_set(key.name))
    pods = [Ref(POD, key.namespace, f"{registrars.name}-{ordinal}") for ordinal in range(2)]
    before = {ref: cluster.world.objects[ref]["metadata"]["uid"] for ref in (registrars, *pods)}
    for pod in pods:  # they end within their grace period only
        cluster.world.change(pod, lambda live: live["metadata"].update(finalizers=["kubelet"]))
    cluster.world.remove(registrars)
    assert cluster.settle(key)
    assert registrars not in cluster.world.objects
    assert cluster.condition(key, "RegistrarsReady") == ("False", "RegistrarsStarting")
    (said,) = [c["message"] for c in cluster.status(key)["conditions"] if c["type"] == "RegistrarsReady"]
    assert said.endswith(f"deleted are gone: {pods[0].name}, {pods[1].name}")
    assert cluster.condition(key, "Stalled")[0] == "False"
    for pod in pods:
        cluster.world.change(pod, lambda live: live["metadata"].update(finalizers=[]))
        cluster.world.remove(pod)
    assert cluster.settle(key)
    assert cluster.ready(key)
    assert {ref: cluster.world.objects[ref]["metadata"]["uid"] for ref in before}.items().isdisjoint(before.items())


def test_pods_that_a_deleted_stateful_set_left_as_orphans_are_the_new_ones_at_once() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool(registrars={"replicas": 1}))
    assert cluster.settle(key)
    registrars = Ref(STATEFUL_SET, key.namespace, names.registrar_set(key.name))
    pod = Ref(POD, key.namespace, f"{registrars.name}-0")
    cluster.world.change(pod, lambda live: live["metadata"].update(ownerReferences=[]))
    cluster.world.remove(registrars)
    cluster.settle(key)
    assert registrars in cluster.world.objects
