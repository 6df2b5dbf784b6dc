# SPDX-License-Identifier: Apache-2.0
"""A pool moves to another signer's CA: nobody refuses anybody, and who changes his mind on the way gets what he wants."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rserpool_operator import names
from rserpool_operator.kube import Object
from rserpool_operator.kube.kinds import POD
from rserpool_operator.plan.certificates import key_hash
from rserpool_operator.plan.replacement import LONG, SETTLED, TOLD
from support.rig_cluster import member
from support.rig_moves import CERT_MANAGER, EMBEDDED, ISSUERS, A, B, C, arrived_at, pool_of, signs, theirs, until
from support.rig_rotation import Rotating, ca_of, message

MOVES: Final = {
    "Embedded to IssuerRef": (EMBEDDED, theirs("a", A)),
    "CertManager to IssuerRef": (CERT_MANAGER, theirs("a", A)),
    "CertManager to Embedded": (CERT_MANAGER, EMBEDDED),
    "Embedded to CertManager": (EMBEDDED, CERT_MANAGER),
    "IssuerRef to Embedded": (theirs("a", A), EMBEDDED),
    "IssuerRef to CertManager": (theirs("a", A), CERT_MANAGER),
    "one IssuerRef to another": (theirs("a", A), theirs("b", B)),
    "to a bundle with one CA more": (theirs("a", A), theirs("b", A, B)),
    "to a bundle with one CA less": (theirs("b", A, B), theirs("b", B)),
}


@pytest.mark.rfc("PROTOCOL 13.3: keys are replaced without a restart")
@pytest.mark.parametrize("move", MOVES)
def test_a_pool_moves_between_signers_and_nobody_ever_refuses_anybody(move: str) -> None:
    before, after = MOVES[move]
    cluster = pool_of(before)
    pods = {p["metadata"]["uid"] for p in cluster.world.of(POD)}
    cluster.move_to(after)
    began, phases = cluster.now, list[str]()
    for _ in range(40):
        cluster.go_by(15)
        if cluster.authority["phase"] not in phases[-1:]:
            phases.append(cluster.authority["phase"])
            if phases[-1] == "Preparing":
                assert signs(cluster) == before
            elif phases[-1] == "Activating":
                assert cluster.now - began >= TOLD
                assert signs(cluster) == after
        assert cluster.ready(cluster.key)
        assert cluster.condition(cluster.key, "Stalled")[0] == "False"
        if phases[-1] == "Active":
            break
    assert phases == ["Preparing", "Activating", "Active"]
    assert cluster.now - began >= TOLD + SETTLED
    arrived_at(cluster, after)
    assert cluster.authority["generation"] == 2
    assert {p["metadata"]["uid"] for p in cluster.world.of(POD)} == pods


def test_another_issuer_of_the_same_ca_is_used_at_once() -> None:
    cluster = pool_of(theirs("a", A))
    cluster.issuers["twin"] = ISSUERS["a"]
    cluster.move_to(theirs("twin", A))
    cluster.go_by(1)
    arrived_at(cluster, theirs("twin", A), within=0)
    assert cluster.authority["generation"] == 1


def test_a_pool_that_waits_for_a_pod_names_it_and_is_told_to_go_on_by_the_generation() -> None:
    cluster = pool_of(EMBEDDED)
    cluster.move_to(theirs("a", A))
    until(cluster, "Preparing")
    quiet = next(p for p in cluster.processes.values() if p.name == "app-1")
    quiet.silent = True
    cluster.restart()
    began = cluster.now
    while cluster.now < began + 2 * LONG:
        cluster.go_by(30)
    assert (cluster.authority["phase"], cluster.authority["missing"]) == ("Preparing", ["app-1"])
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "CAReplacementWaits")
    assert f"{names.GO_ON}=2" in message(cluster)
    assert cluster.faults == []
    cluster.annotate(names.GO_ON, "2")
    del cluster.processes[quiet.uid]
    cluster.world.remove(next(r for r, o in cluster.world.objects.items() if o["metadata"]["name"] == "app-1"))
    arrived_at(cluster, theirs("a", A))


@pytest.mark.parametrize("phase", ["Preparing", "Activating"])
def test_a_pod_that_comes_in_the_middle_of_a_move_takes_part(phase: str) -> None:
    cluster = pool_of(CERT_MANAGER)
    former = ca_of(cluster, 1)
    cluster.move_to(theirs("a", A))
    until(cluster, phase)
    cluster.go_by(15)
    cluster.world.put(member("late", "echo"))
    cluster.go_by(1)
    late = next(p for p in cluster.processes.values() if p.name == "late")
    assert late.bundle == {former, key_hash(A)}
    assert late.issuer == (former if phase == "Preparing" else key_hash(A))
    arrived_at(cluster, theirs("a", A))


@pytest.mark.parametrize("before", [EMBEDDED, CERT_MANAGER, theirs("b", B)], ids=lambda s: str(s["type"]))
def test_who_changes_his_mind_while_it_prepares_keeps_what_he_has_at_once(before: Object) -> None:
    cluster = pool_of(before)
    wanted = CERT_MANAGER if before["type"] == "IssuerRef" else theirs("a", A)
    cluster.move_to(wanted)
    until(cluster, "Preparing")
    cluster.go_by(60)
    issued = {p.uid: p.issuer for p in cluster.processes.values()}
    cluster.move_to(before)
    cluster.go_by(1)
    arrived_at(cluster, before, within=1)
    assert cluster.authority["generation"] == 1
    assert {p.uid: p.issuer for p in cluster.processes.values()} == issued
    cluster.annotate(names.GO_ON, "2")  # a word on the move that was given up says nothing of the next one
    cluster.move_to(wanted)
    cluster.go_by(1)
    assert cluster.authority["next"] == 3
    arrived_at(cluster, wanted)
    assert "latest" not in cluster.authority


def test_who_changes_his_mind_while_it_activates_goes_back_by_way_of_both() -> None:
    cluster = pool_of(EMBEDDED)
    former = ca_of(cluster, 1)
    cluster.move_to(theirs("a", A))
    until(cluster, "Activating")
    cluster.go_by(20)
    assert {p.issuer for p in cluster.processes.values()} == {key_hash(A)}
    cluster.move_to(EMBEDDED)
    cluster.go_by(1)
    assert (cluster.authority["phase"], cluster.authority["generation"]) == ("Activating", 1)
    assert {p.bundle for p in cluster.processes.values()} == {frozenset((former, key_hash(A)))}
    arrived_at(cluster, EMBEDDED)
    assert ca_of(cluster, 1) == former


def test_who_wants_a_third_signer_in_the_middle_gets_it_after_the_second_was_given_up() -> None:
    for phase in ("Preparing", "Activating"):
        cluster = pool_of(EMBEDDED)
        cluster.move_to(theirs("a", A))
        until(cluster, phase)
        cluster.go_by(15)
        cluster.move_to(theirs("b", B))
        arrived_at(cluster, theirs("b", B))
        assert cluster.authority["generation"] == 3


WANTED = (EMBEDDED, CERT_MANAGER, theirs("a", A), theirs("b", B), theirs("b", A, B), theirs("wrong", C))
acts: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("time"), st.sampled_from((1, 20, 70, 150, 200))),
    st.tuples(st.just("move"), st.sampled_from(WANTED)),
    st.tuples(st.just("dies"), st.integers(0, 8)),
    st.tuples(st.just("born"), st.none()),
    st.tuples(st.just("silent"), st.integers(0, 9)),
    st.tuples(st.just("speaks"), st.integers(0, 9)),
    st.tuples(st.just("raised"), st.none()),
)


def _act(cluster: Rotating, what: str, how: Any, number: int) -> None:
    processes = sorted(cluster.processes.values(), key=lambda p: p.name)
    match what:
        case "time":
            cluster.go_by(how)
        case "move":
            cluster.move_to(how)
            cluster.go_by(1)
        case "dies":
            cluster.go_by(10, crash_after=how)
            cluster.restart()
        case "born":
            cluster.world.put(member(f"born-{number}", "echo"))
        case "silent" | "speaks":
            processes[how % len(processes)].silent = what == "silent"
        case "raised":
            cluster.ask_for(max(cluster.authority["generation"], cluster.authority.get("next") or 0) + 1)


@pytest.mark.rfc("PROTOCOL 13.3: keys are replaced without a restart")
@given(st.sampled_from(WANTED[:5]), st.lists(acts, max_size=16), st.sampled_from(WANTED[:5]))
@settings(max_examples=12, deadline=None)
def test_whatever_is_wanted_on_the_way_nobody_refuses_anybody_and_what_is_wanted_last_comes(
    before: Object, happened: list[tuple[str, Any]], after: Object
) -> None:
    cluster = pool_of(before)
    for number, (what, how) in enumerate(happened):
        _act(cluster, what, how, number)
        assert cluster.faults == []
    cluster.move_to(after)
    for process in cluster.processes.values():
        process.silent = False
    arrived_at(cluster, after, within=200)
