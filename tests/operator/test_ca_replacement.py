# SPDX-License-Identifier: Apache-2.0
"""A pool's CA key is replaced: nobody refuses anybody, whatever is lost on the way, and it waits for whom it must."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rserpool_operator import names
from rserpool_operator.kube.kinds import ISSUER, POD
from rserpool_operator.plan.replacement import LONG, SETTLED, TOLD
from support.rig_cluster import member
from support.rig_rotation import DAMAGES, Rotating, ca_of, message, settled_on

OWN = ["Embedded", "CertManager"]


@pytest.mark.rfc("PROTOCOL 13.3: keys are replaced without a restart")
@pytest.mark.parametrize("signer", OWN)
def test_a_higher_generation_replaces_the_key_and_nobody_ever_refuses_anybody(signer: str) -> None:
    cluster = Rotating(signer)
    pods = {p["metadata"]["uid"] for p in cluster.world.of(POD)}
    former, phases = ca_of(cluster, 1), list[str]()
    cluster.ask_for(2)
    for _ in range(40):
        cluster.go_by(15)
        if cluster.authority["phase"] not in phases[-1:]:
            phases.append(cluster.authority["phase"])
        assert cluster.ready(cluster.key)
        assert cluster.condition(cluster.key, "Stalled")[0] == "False"
    assert phases == ["Preparing", "Activating", "Active"]
    settled_on(cluster, 2)
    assert ca_of(cluster, 2) != former
    assert {p["metadata"]["uid"] for p in cluster.world.of(POD)} == pods
    assert cluster.faults == []


def test_the_new_ca_signs_only_when_it_has_been_published_for_long_enough() -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until("Preparing")
    began = cluster.now
    cluster.until("Activating")
    assert cluster.now - began >= TOLD
    began = cluster.now
    cluster.until("Active")
    assert cluster.now - began >= SETTLED
    assert cluster.faults == []


@pytest.mark.parametrize("phase", ["Preparing", "Activating"])
@pytest.mark.parametrize("who", ["app-1", "echo-registrar-2"])
def test_a_process_that_never_answers_is_waited_for_and_named_until_one_is_told_to_go_on(phase: str, who: str) -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until(phase)
    quiet = next(p for p in cluster.processes.values() if p.name == who)
    quiet.silent = True
    if phase == "Preparing":
        cluster.restart()  # what it said before is forgotten: so it must not be believed any more
    began = cluster.now
    while cluster.now < began + 2 * LONG:
        cluster.go_by(30)
    authority = cluster.authority
    assert (authority["phase"], authority["missing"]) == (phase, [who])
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "CAReplacementWaits")
    assert who in message(cluster)
    assert f"{names.GO_ON}=2" in message(cluster)
    assert [e for e in cluster.world.events if (e["reason"], e["type"]) == ("CAReplacementWaits", "Warning")]
    assert cluster.writes_of_another_pass(cluster.key) == []
    assert cluster.faults == []
    for wrong in ("1", "3", "", "true"):
        cluster.annotate(names.GO_ON, wrong)
        cluster.go_by(30)
        assert cluster.authority["phase"] == phase
    cluster.annotate(names.GO_ON, "2")
    del cluster.processes[quiet.uid]  # what it holds is given up
    cluster.world.remove(next(r for r, o in cluster.world.objects.items() if o["metadata"]["name"] == who))
    cluster.until("Active")
    settled_on(cluster, 2)


def test_going_on_does_not_hurry_those_that_answer() -> None:
    cluster = Rotating()
    cluster.annotate(names.GO_ON, "2")
    cluster.ask_for(2)
    cluster.until("Active", most=1)
    began = cluster.now
    cluster.go_by(15)
    cluster.until("Active")
    assert cluster.now - began >= TOLD + SETTLED
    settled_on(cluster, 2)
    assert cluster.faults == []


@pytest.mark.parametrize("phase", ["Preparing", "Activating"])
def test_a_pod_that_comes_in_the_middle_gets_what_the_phase_has_and_takes_part(phase: str) -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until(phase)
    cluster.world.put(member("late", "echo"))
    cluster.go_by(1)
    late = next(p for p in cluster.processes.values() if p.name == "late")
    assert late.bundle == {ca_of(cluster, 1), ca_of(cluster, 2)}
    assert late.issuer == ca_of(cluster, 1 if phase == "Preparing" else 2)
    cluster.until("Active")
    settled_on(cluster, 2)
    assert cluster.faults == []


def test_a_pod_whose_sidecar_never_ran_holds_up_nothing_and_one_that_did_holds() -> None:
    cluster = Rotating()
    pending = member("pending", "echo")
    waiting = {"name": names.SIDECAR, "restartCount": 0, "lastState": {}, "state": {"waiting": {"reason": "Pulling"}}}
    pending["status"] = {"phase": "Pending", "initContainerStatuses": [waiting]}
    cluster.world.put(pending)
    ran = member("ran", "echo")
    state = {"name": names.SIDECAR, "restartCount": 1, "lastState": {}, "state": {"waiting": {"reason": "BackOff"}}}
    ran["status"] = {"phase": "Pending", "initContainerStatuses": [state]}
    cluster.world.put(ran)
    cluster.ask_for(2)
    for _ in range(40):
        cluster.go_by(15)
    assert (cluster.authority["phase"], cluster.authority["missing"]) == ("Preparing", ["ran"])
    cluster.world.remove(next(r for r, o in cluster.world.objects.items() if o["metadata"]["name"] == "ran"))
    cluster.until("Active")
    settled_on(cluster, 2)


def test_a_process_that_enrolled_with_the_former_ca_at_the_last_moment_is_told_to_renew_all_the_same() -> None:
    """It has obeyed no order yet, and takes the present one for done; the leaf it shows says otherwise."""
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until("Activating")
    process = next(iter(cluster.processes.values()))
    process.issuer, process.loaded = ca_of(cluster, 1), {"bundle": process.loaded["bundle"]}
    cluster.until("Active")
    settled_on(cluster, 2)
    assert cluster.faults == []


@pytest.mark.parametrize("signer", OWN)
def test_at_two_thirds_of_its_life_the_ca_is_replaced_by_itself(signer: str) -> None:
    cluster = Rotating(signer, signs=False, ca={"duration": "8760h"})
    before = cluster.now
    cluster.now = before + timedelta(days=365) * 0.65
    cluster.go_by(1)
    assert cluster.authority["phase"] == "Active"
    cluster.now = before + timedelta(days=365) * 0.68
    for process in cluster.processes.values():
        cluster.asks(process)
    cluster.go_by(1)
    assert cluster.authority["phase"] == "Preparing"
    assert cluster.raw(cluster.key)["spec"]["security"]["ca"].get("generation", 1) == 1
    cluster.until("Activating")
    cluster.until("Active")
    assert cluster.authority["generation"] == 2
    assert cluster.faults == []


def test_a_ca_that_lives_too_long_is_warned_of_long_before_it_expires() -> None:
    cluster = Rotating(signs=False, ca={"duration": "8760h"})
    begin = cluster.now
    cluster.processes[next(iter(cluster.processes))].silent = True
    cluster.now = begin + timedelta(days=365) * 0.7
    cluster.go_by(1)
    cluster.now = begin + timedelta(days=365) * 0.84
    cluster.go_by(1)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "CAExpiresSoon")
    assert [e for e in cluster.world.events if (e["reason"], e["type"]) == ("CAExpiresSoon", "Warning")]
    assert cluster.authority["missing"]


def test_an_expired_ca_is_replaced_without_waiting_for_leaves_that_are_over_too() -> None:
    cluster = Rotating(signs=False, ca={"duration": "8760h"})
    for process in cluster.processes.values():
        process.silent = True
    cluster.now += timedelta(days=366)
    for _ in range(8):
        cluster.settle(cluster.key)
        cluster.now += timedelta(seconds=15)
    assert cluster.authority["generation"] == 2
    assert cluster.condition(cluster.key, "AuthorityReady")[0] == "True"


def test_another_generation_that_is_asked_for_in_the_middle_is_begun_after_the_first() -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until("Activating")
    cluster.ask_for(7)
    seen = []
    for _ in range(40):
        cluster.go_by(15)
        seen.append((cluster.authority["generation"], cluster.authority.get("next")))
    assert [pair for i, pair in enumerate(seen) if pair not in seen[:i]] == [(2, None), (2, 7), (7, None)]
    settled_on(cluster, 7)
    cluster.ask_for(1)  # a number that is over is no order
    for _ in range(5):
        cluster.go_by(15)
    settled_on(cluster, 7)
    assert cluster.faults == []


def test_an_object_of_somebody_else_in_the_way_stops_the_replacement_and_not_the_pool() -> None:
    cluster = Rotating("CertManager")
    name = cluster.secret(2).name
    cluster.world.put(
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Issuer",
            "metadata": {"name": name, "namespace": cluster.secret(2).namespace},
            "spec": {"selfSigned": {}},
        }
    )
    cluster.ask_for(2)
    for _ in range(5):
        cluster.go_by(60)
    assert cluster.condition(cluster.key, "Stalled") == ("True", "NameTaken")
    assert cluster.ready(cluster.key)
    assert cluster.authority["generation"] == 1
    cluster.world.remove(next(r for r in cluster.world.objects if r.kind == ISSUER and r.name == name))
    cluster.until("Activating")
    cluster.until("Active")
    settled_on(cluster, 2)


def test_metrics_show_expiry_phase_and_who_is_missing_and_forget_a_pool_that_is_gone() -> None:
    cluster = Rotating()
    registry, labels = cluster.metrics.registry, {"namespace": "demo", "pool": "echo"}
    began, ends = (
        registry.get_sample_value(f"rserpool_operator_ca_not_{word}_timestamp_seconds", labels)
        for word in ("before", "after")
    )
    assert began is not None
    assert ends is not None
    assert began <= cluster.now.timestamp()
    assert ends > cluster.now.timestamp() + 364 * 86400
    cluster.processes[next(iter(cluster.processes))].silent = True
    cluster.restart()
    registry = cluster.metrics.registry
    cluster.ask_for(2)
    for _ in range(3):
        cluster.go_by(15)
    shown = {
        p: registry.get_sample_value("rserpool_operator_ca_phase", labels | {"phase": p})
        for p in ("Active", "Preparing")
    }
    assert shown == {"Active": None, "Preparing": 1}
    assert registry.get_sample_value("rserpool_operator_ca_missing", labels) == 1
    cluster.change(cluster.key, lambda raw: raw["metadata"].update(finalizers=[]))
    cluster.world.remove(next(r for r in cluster.world.objects if r.kind.kind == "ServerPool"))
    cluster.settle(cluster.key)
    assert registry.get_sample_value("rserpool_operator_ca_missing", labels) is None
    assert registry.get_sample_value("rserpool_operator_ca_phase", labels | {"phase": "Preparing"}) is None


acts: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("time"), st.sampled_from((1, 20, 70, 150))),
    st.tuples(st.just("dies"), st.integers(0, 8)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("born"), st.none()),
    st.tuples(st.just("gone"), st.integers(0, 9)),
    st.tuples(st.just("silent"), st.integers(0, 9)),
    st.tuples(st.just("speaks"), st.integers(0, 9)),
    st.tuples(st.just("restored"), st.integers(0, 9)),
    st.tuples(st.just("raised"), st.none()),
    st.tuples(st.just("spoilt"), st.sampled_from(DAMAGES)),
)


def _act(cluster: Rotating, what: str, how: Any, number: int) -> None:
    processes = sorted(cluster.processes.values(), key=lambda p: p.name)
    match what:
        case "time":
            cluster.go_by(how)
        case "dies":
            cluster.go_by(10, crash_after=how)
            cluster.restart()
        case "restart":
            cluster.restart()
        case "born":
            cluster.world.put(member(f"born-{number}", "echo"))
        case "gone":
            name = processes[how % len(processes)].name
            for ref in [r for r in cluster.world.objects if r.kind == POD and r.name == name]:
                cluster.world.remove(ref)
        case "silent" | "speaks":
            processes[how % len(processes)].silent = what == "silent"
        case "restored":  # its container was started again: key, leaf and bundle are there, versions are not
            process = processes[how % len(processes)]
            process.restored, process.loaded = True, {k: v for k, v in process.loaded.items() if k == "renew"}
        case "raised":
            cluster.ask_for(max(cluster.authority["generation"], cluster.authority.get("next") or 0) + 1)
        case "spoilt":
            coming = cluster.authority.get("next")
            if coming is not None and cluster.secret(coming) in cluster.world.objects:
                how(cluster, coming)


@pytest.mark.rfc("PROTOCOL 13.3: keys are replaced without a restart")
@given(st.lists(acts, max_size=20))
@settings(max_examples=20, deadline=None)
def test_whatever_happens_on_the_way_nobody_refuses_anybody_and_it_comes_to_an_end(
    happened: list[tuple[str, Any]],
) -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    for number, (what, how) in enumerate(happened):
        _act(cluster, what, how, number)
        assert cluster.faults == []
    for process in cluster.processes.values():
        process.silent = False
    for _ in range(80):
        cluster.go_by(20)
        if (
            cluster.authority["phase"] == "Active"
            and cluster.authority["generation"] >= cluster.raw(cluster.key)["spec"]["security"]["ca"]["generation"]
        ):
            break
    cluster.go_by(20)
    settled_on(cluster, cluster.raw(cluster.key)["spec"]["security"]["ca"]["generation"])
    assert cluster.faults == []


@pytest.mark.parametrize("signer", OWN)
def test_another_signer_and_a_higher_generation_that_are_written_together_are_one_replacement(signer: str) -> None:
    cluster = Rotating(signer)
    before, other = ca_of(cluster, 1), next(s for s in OWN if s != signer)
    cluster.move_to({"type": other})
    cluster.ask_for(5)
    cluster.until("Activating")
    cluster.until("Active")
    settled_on(cluster, 5)
    assert cluster.authority["signers"]["5"]["type"] == other
    assert ca_of(cluster, 5) != before
    assert {p.issuer for p in cluster.processes.values()} == {ca_of(cluster, 5)}
    assert cluster.faults == []
