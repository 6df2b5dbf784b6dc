# SPDX-License-Identifier: Apache-2.0
"""From any ServerPool to a pool that serves, whatever is lost on the way; and then not one write more."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rserpool_operator import names
from rserpool_operator.kube import KubeError, Ref
from rserpool_operator.kube.kinds import NETWORK_POLICY, POD, SERVICE, STATEFUL_SET
from support.rig_cluster import Cluster, installation, is_ready, member, pool_ref, raw_pool
from support.rig_pools import FRIENDS, ISSUER_REF, of_others, shape, specs

SIGNERS: list[dict[str, Any]] = [{"type": "CertManager"}, {"type": "Embedded"}, ISSUER_REF]


def populated() -> Cluster:
    """A cluster in which two namespaces' pods may use pools, and one's may not."""
    cluster = Cluster()
    cluster.world.namespace("friend", team="a")
    cluster.world.namespace("stranger", team="b")
    return cluster


@given(specs)
@settings(max_examples=40)
def test_every_pool_becomes_ready_and_then_nothing_is_written_any_more(spec: dict[str, Any]) -> None:
    cluster = populated()
    key = cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    assert cluster.ready(key), cluster.status(key)
    assert cluster.condition(key, "Stalled")[0] == "False"
    assert cluster.condition(key, "Reconciling")[0] == "False"
    assert cluster.writes_of_another_pass(key) == []
    cluster.restart()
    assert cluster.writes_of_another_pass(key) == []
    assert of_others(cluster) == []
    assert (cluster.status(key)["registrars"]["ready"]) == spec["registrars"]["replicas"]


@given(specs, st.lists(st.integers(0, 14), max_size=6), st.booleans())
@settings(max_examples=40)
def test_a_pool_whose_operator_dies_at_any_moment_again_and_again_comes_out_the_same(
    spec: dict[str, Any], deaths: list[int], away: bool
) -> None:
    undisturbed, disturbed = populated(), populated()
    key = undisturbed.create(raw_pool(**spec))
    disturbed.create(raw_pool(**spec))
    for writes in deaths:
        disturbed.settle(key, crash_after=writes)
        disturbed.restart()
        if not away:
            disturbed.step()
    assert undisturbed.settle(key)
    assert disturbed.settle(key)
    assert shape(disturbed) == shape(undisturbed)
    assert disturbed.writes_of_another_pass(key) == []


@given(specs, st.sets(st.integers(0, 30), max_size=8))
@settings(max_examples=20)
def test_writes_whose_answer_is_lost_are_not_done_twice_over(spec: dict[str, Any], lost: set[int]) -> None:
    undisturbed, disturbed = populated(), populated()
    key = undisturbed.create(raw_pool(**spec))
    disturbed.create(raw_pool(**spec))
    count = 0

    def answer() -> KubeError | None:
        nonlocal count
        count += 1
        return KubeError(0, "NoAnswer", "no answer") if count in lost else None

    disturbed.world.lost = answer
    for _ in range(len(lost) + 1):
        try:
            if disturbed.settle(key):
                break
        except KubeError as e:
            assert e.status == 0
    assert undisturbed.settle(key)
    assert shape(disturbed) == shape(undisturbed)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda s: str(s["type"]))
def test_an_object_that_somebody_deletes_or_spoils_is_made_good(signer: dict[str, Any]) -> None:
    cluster = populated()
    key = cluster.create(raw_pool(security={"signer": signer}, networkPolicy=True, users={"namespaces": FRIENDS}))
    assert cluster.settle(key)
    wanted = shape(cluster)
    ours = [r for r in cluster.world.objects if r.kind != POD and str(r) in wanted and r != pool_ref(key)]
    for ref in ours:
        if ref.kind.kind in ("Namespace", "Secret"):  # a CA that is lost is not made anew
            continue
        cluster.world.remove(ref)
        assert cluster.settle(key)
        assert shape(cluster) == wanted, ref
    for ref in ours:
        if ref.kind.kind not in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
            continue
        field = {"Service": "selector", "NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}
        cluster.world.change(ref, lambda live, f=field[ref.kind.kind]: live["spec"].update({f: {"a": "b"}}))  # type: ignore[misc] # mypy infers no lambda with a default
        assert cluster.settle(key)
        live = cluster.world.objects[ref]["spec"][field[ref.kind.kind]]
        assert names.OWNER_LABEL in str(live)


def test_what_others_write_into_our_objects_is_left_alone() -> None:
    cluster = populated()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    service = Ref(SERVICE, "demo", "echo")
    cluster.world.change(service, lambda o: o["metadata"].setdefault("annotations", {}).update(theirs="1"))
    cluster.world.change(service, lambda o: o["metadata"]["labels"].update(theirs="2"))
    assert cluster.writes_of_another_pass(key) == []
    cluster.change(key, lambda raw: raw["spec"].update(security={"mode": "Insecure"}))  # its port changes
    assert cluster.settle(key)
    metadata = cluster.world.objects[service]["metadata"]
    assert (metadata["annotations"]["theirs"], metadata["labels"]["theirs"]) == ("1", "2")


def test_registrars_are_scaled_up_and_down() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    for replicas in (3, 5, 1, 2):
        cluster.change(key, lambda raw, n=replicas: raw["spec"].update(registrars={"replicas": n}))  # type: ignore[misc] # mypy infers no lambda with a default
        assert cluster.settle(key)
        assert len(cluster.world.of(POD)) == replicas
        assert cluster.status(key)["registrars"] == {"replicas": replicas, "ready": replicas, "transports": []}
        assert cluster.ready(key)
        assert cluster.writes_of_another_pass(key) == []


def test_every_write_to_what_is_there_says_which_one_it_means() -> None:
    """So that what was deleted meanwhile is neither brought back by mistake nor deleted in place of another."""
    cluster = populated()
    key = cluster.create(raw_pool(users={"namespaces": FRIENDS}, networkPolicy=True))
    assert cluster.settle(key)
    for ref in [r for r in cluster.world.objects if r.kind.kind in {"Service", "NetworkPolicy", "StatefulSet"}]:
        cluster.world.change(ref, lambda live: live["metadata"].update(labels={}))
    cluster.change(key, lambda raw: raw["spec"].update(registrars={"replicas": 5}, networkPolicy=False))
    assert cluster.settle(key)
    cluster.world.remove(pool_ref(key))
    assert cluster.settle(key)
    written = [w for w in cluster.world.writes if w.before is not None]
    assert {w.ref.kind.kind for w in written} >= {"Service", "NetworkPolicy", "StatefulSet", "ServerPool", "ConfigMap"}
    assert [w for w in written if w.before is not None and w.uid != w.before["metadata"]["uid"]] == []


def test_what_the_user_says_of_registrars_reaches_them_and_goes_again() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    plain = shape(cluster)
    asked: dict[str, Any] = {
        "replicas": 3,
        "resources": {"limits": {"cpu": "0.5"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
    }
    cluster.change(key, lambda raw: raw["spec"].update(registrars=asked))
    assert cluster.settle(key)
    for pod in cluster.world.of(POD):
        assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
        assert pod["spec"]["tolerations"] == asked["tolerations"]
        assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}
    cluster.change(key, lambda raw: raw["spec"].pop("registrars"))
    assert cluster.settle(key)
    found = shape(cluster)
    assert {r: o for r, o in found.items() if r.startswith("Pod ")} == {
        r: o for r, o in plain.items() if r.startswith("Pod ")
    }
    assert cluster.writes_of_another_pass(key) == []


def test_a_network_policy_comes_and_goes_with_its_field() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    for wanted in (True, False, True):
        cluster.change(key, lambda raw, on=wanted: raw["spec"].update(networkPolicy=on))  # type: ignore[misc] # mypy infers no lambda with a default
        assert cluster.settle(key)
        assert len(cluster.world.of(NETWORK_POLICY)) == wanted
        assert cluster.writes_of_another_pass(key) == []


def test_another_version_changes_the_image_and_nothing_else() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    ref = Ref(STATEFUL_SET, "demo", "echo-registrar")
    before = copy.deepcopy(cluster.world.objects[ref]["spec"])
    others = {r: o["metadata"]["resourceVersion"] for r, o in cluster.world.objects.items() if r.kind == SERVICE}
    cluster.change(key, lambda raw: raw["spec"].update(version="2.0"))
    assert cluster.settle(key)
    after = cluster.world.objects[ref]["spec"]
    assert after["template"]["spec"]["containers"][0].pop("image") == "registry.example/rserpool-node:2.0"
    assert before["template"]["spec"]["containers"][0].pop("image") == "registry.example/rserpool-node:1.0.0"
    assert after == before
    assert all(cluster.world.objects[r]["metadata"]["resourceVersion"] == v for r, v in others.items())
    assert {p["spec"]["containers"][0]["image"] for p in cluster.world.of(POD)} == {
        "registry.example/rserpool-node:2.0"
    }
    assert cluster.status(key)["version"] == "2.0"


def test_a_version_that_does_not_start_stops_at_the_first_registrar_and_a_good_one_goes_on() -> None:
    cluster = Cluster()
    cluster.bad_images.add("registry.example/rserpool-node:broken")
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    cluster.change(key, lambda raw: raw["spec"].update(version="broken"))
    assert cluster.settle(key)
    assert cluster.condition(key, "Stalled") == ("True", "RolloutStuck")
    assert cluster.ready(key)
    assert sorted(is_ready(p) for p in cluster.world.of(POD)) == [False, True, True]
    assert cluster.writes_of_another_pass(key) == []


@given(specs)
@settings(max_examples=15)
def test_another_version_of_the_operator_changes_nothing_that_is_there(spec: dict[str, Any]) -> None:
    spec.pop("version", None)
    cluster = populated()
    key = cluster.create(raw_pool(**spec))
    assert cluster.settle(key)
    cluster.restart(installation(version="1.1.0"))
    assert cluster.writes_of_another_pass(key) == []


@pytest.mark.parametrize(
    "values",
    [
        {"log_format": "json"},
        {"pull_policy": "Always"},
        {"pull_secrets": ("registry",)},
        {"registrar_resources": {"requests": {"cpu": "1"}}},
        {"sidecar_resources": {"requests": {"cpu": "1"}}},
        {"image": "mirror.example/rserpool-node"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_other_values_of_the_installation_restart_no_registrar(values: dict[str, Any]) -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    pods = {p["metadata"]["uid"] for p in cluster.world.of(POD)}
    cluster.restart(installation(version="1.1.0", **values))
    assert cluster.settle(key)
    assert {p["metadata"]["uid"] for p in cluster.world.of(POD)} == pods
    assert cluster.writes_of_another_pass(key) == []


def test_a_pool_made_by_an_operator_gets_that_operators_version_and_keeps_it() -> None:
    cluster = Cluster(installation(version="1.1.0"))
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    cluster.restart(installation(version="1.2.0"))
    cluster.change(key, lambda raw: raw["spec"].update(registrars={"replicas": 2}))
    assert cluster.settle(key)
    assert {p["spec"]["containers"][0]["image"] for p in cluster.world.of(POD)} == {
        "registry.example/rserpool-node:1.1.0"
    }


def test_members_are_counted_as_they_come_go_and_are_out_of_date() -> None:
    cluster = Cluster()
    key = cluster.create(raw_pool())
    for name, version in (("a", "1.0.0"), ("b", "0.9"), ("c", "")):
        cluster.world.put(member(name, "echo", version=version))
    cluster.world.put(member("other", "another"))
    ended = member("ended", "echo")
    ended["status"]["phase"] = "Succeeded"
    cluster.world.put(ended)
    assert cluster.settle(key)
    counts = cluster.status(key)["elements"]
    assert counts == {"matched": 3, "enrolled": 0, "registered": 0, "notInjected": 1, "outdated": 1}
    (event,) = [e for e in cluster.world.events if e["reason"] == "NotInjected"]
    assert event["regarding"]["name"] == "c"


def test_a_cluster_without_cert_manager_is_named_and_the_registrars_come_when_it_does() -> None:
    cluster = Cluster(cert_manager=False)
    key = cluster.create(raw_pool())
    assert cluster.settle(key)
    assert cluster.condition(key, "AuthorityReady") == ("False", "CertManagerMissing")
    assert cluster.condition(key, "Stalled") == ("True", "CertManagerMissing")
    assert not cluster.ready(key)
    assert cluster.writes_of_another_pass(key) == []
    cluster.world.cert_manager = True
    assert cluster.settle(key)
    assert cluster.ready(key)


def test_the_embedded_signer_needs_no_cert_manager() -> None:
    cluster = Cluster(cert_manager=False)
    key = cluster.create(raw_pool(security={"signer": {"type": "Embedded"}}))
    assert cluster.settle(key)
    assert cluster.ready(key)
