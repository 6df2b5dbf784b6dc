# SPDX-License-Identifier: Apache-2.0
"""`rserpool elements`, `rserpool dump` and `rserpool resolve` on a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.cluster_samples import dump, element, pod, registrar, server_pool
from cli.fake_kubectl import FakeCluster
from rserpool_cli.cluster.holdings import MOST, merge
from rserpool_cli.cluster.members import explain
from rserpool_cli.main import main

Capture = pytest.CaptureFixture[str]
MEMBERS = "get pods -l rserpool.io/pool=echo"


@pytest.fixture
def echo(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A pool of two registrars and two elements, all as it should be."""
    cluster.answer_in_process(monkeypatch)
    cluster.says("get serverpools.rserpool.io echo", server_pool())
    cluster.says(
        "get pods -l rserpool.io/server-pool=echo,app.kubernetes.io/component=registrar", [registrar(1), registrar(0)]
    )
    cluster.says(MEMBERS, [pod("app-a", "10.0.1.1"), pod("app-b", "10.0.1.2")])
    for name in ("echo-registrar-0", "echo-registrar-1"):
        cluster.says(f"exec {name} -c registrar -- rserpool dump", dump(name, element(1), element(2, "0x0000000b")))
    return cluster


def test_each_element_is_shown_with_its_pod_and_the_name_of_its_home(echo: FakeCluster, capsys: Capture) -> None:
    assert main(["elements", "demo/echo"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["ELEMENT", "POD", "ADDRESS", "HOME", "POLICY"]
    assert rows == [
        ["0x00000001", "app-a", "tcp:10.0.1.1:7007", "echo-registrar-0", "RoundRobin()"],
        ["0x00000002", "app-b", "tcp:10.0.1.2:7007", "echo-registrar-1", "RoundRobin()"],
    ]
    assert {words[1] for words in echo.calls()} == {"demo"}


def test_programs_get_elements_absentees_and_differences(echo: FakeCluster, capsys: Capture) -> None:
    echo.says(MEMBERS, [pod("app-a", "10.0.1.1"), pod("app-c", "10.0.1.3", sidecar=False)])
    assert main(["elements", "demo/echo", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(e["identifier"], e["pod"], e["heldBy"]) for e in told["elements"]] == [
        ("0x00000001", "app-a", ["echo-registrar-0", "echo-registrar-1"]),
        ("0x00000002", None, ["echo-registrar-0", "echo-registrar-1"]),
    ]
    assert told["notRegistered"] == [{"pod": "app-c", "reason": "it has no sidecar: recreate the pod"}]
    assert told["differences"] == []
    assert [r["phase"] for r in told["registrars"]] == ["serving", "serving"]


def test_registrars_that_do_not_hold_the_same_are_said_to_disagree(echo: FakeCluster, capsys: Capture) -> None:
    moved = {**element(1, "0x0000000b"), "policy": "RoundRobin(weight=2)"}
    echo.says("exec echo-registrar-1", dump("echo-registrar-1", moved))
    assert main(["elements", "demo/echo"]) == 0
    head, first, second, *remarks = capsys.readouterr().out.splitlines()
    assert head.endswith("HELD BY")
    assert (first.split()[-1], second.split()[-1]) == ("2/2", "1/2")
    assert remarks == [
        (
            "registrars disagree: 0x00000001 has different values of its home: echo-registrar-0 to echo-registrar-0,"
            " echo-registrar-1 to echo-registrar-1"
        ),
        (
            "registrars disagree: 0x00000001 has different values of its policy: RoundRobin() to echo-registrar-0,"
            " RoundRobin(weight=2) to echo-registrar-1"
        ),
        "registrars disagree: 0x00000002 is not known to echo-registrar-1",
    ]
    assert len(echo.calls("exec echo-registrar-0")) == 2, "a difference is believed only when it is seen twice"


def test_differences_without_a_name_are_said_too_and_many_are_cut_short() -> None:
    one, two = (next(iter(dump(f"echo-registrar-{i}", element(1)).values())) for i in range(2))
    two["handlespace"]["checksums"] = {"0x0000000a": "0x1"}
    assert merge({"a": one, "b": two}).differences == ("their handlespaces are not equal: compare what `dump` shows",)
    many = next(iter(dump("echo-registrar-0", *(element(i) for i in range(MOST + 5))).values()))
    two["handlespace"]["pools"] = []
    assert merge({"a": many, "b": two}).differences[-1] == "and 5 more"


def test_a_registrar_that_does_not_serve_or_answer_is_not_counted(echo: FakeCluster, capsys: Capture) -> None:
    starting = dump("echo-registrar-1", phase="asking")
    echo.says("exec echo-registrar-1", starting)
    assert main(["elements", "demo/echo"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "registrar echo-registrar-1 is not counted: asking"
    echo.says("exec echo-registrar-1", error="error: Internal error occurred: container not running")
    assert main(["elements", "demo/echo"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "registrar echo-registrar-1 is not counted: it could not be asked:"
        " kubectl: Internal error occurred: container not running"
    )


def test_without_a_registrar_that_answers_nothing_is_made_up(echo: FakeCluster, capsys: Capture) -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no\nimage"}}, "name": "registrar"}
    echo.says("component=registrar", [registrar(0, ready=False, phase="Pending", containerStatuses=[waiting])])
    assert main(["elements", "demo/echo"]) == 1
    assert capsys.readouterr().err == (
        "rserpool elements: no registrar of demo/echo tells what it holds (echo-registrar-0: registrar:"
        " ImagePullBackOff: no image); see `rserpool status demo/echo`\n"
    )


def absentee(echo: FakeCluster, found: dict[str, Any], capsys: Capture) -> str:
    echo.says(MEMBERS, [pod("app-a", "10.0.1.1"), pod("app-b", "10.0.1.2"), found])
    assert main(["elements", "demo/echo"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    return last.removeprefix(f"not registered: {found['metadata']['name']}: ")


def test_a_member_that_is_not_registered_is_named_with_the_reason_its_pod_shows(
    echo: FakeCluster, capsys: Capture
) -> None:
    assert absentee(echo, pod("app-c", "10.0.1.3", sidecar=False), capsys) == "it has no sidecar: recreate the pod"
    ending = pod("app-c", "10.0.1.3")
    ending["metadata"]["deletionTimestamp"] = "2026-11-25T20:00:00Z"
    assert absentee(echo, ending, capsys) == "it is ending"
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pending = pod("app-c", "", phase="Pending", conditions=[unschedulable], initContainerStatuses=[], podIPs=[])
    assert absentee(echo, pending, capsys) == "Unschedulable: 0/3 nodes"
    crash = {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
    assert absentee(echo, pod("app-c", "10.0.1.3", containerStatuses=[crash]), capsys) == (
        "main: CrashLoopBackOff: back-off 10s"
    )
    starting = {"name": "rserpool-sidecar", "state": {"waiting": {"reason": "PodInitializing"}}}
    assert absentee(echo, pod("app-c", "10.0.1.3", initContainerStatuses=[starting]), capsys) == (
        "it is starting: its sidecar does not run yet"
    )
    evicted = pod("app-c", "10.0.1.3", phase="Failed", reason="Evicted")
    assert absentee(echo, evicted, capsys).startswith("0x00000002"), "what has ended is no member"


def test_where_the_pod_shows_none_its_sidecar_is_asked(echo: FakeCluster, capsys: Capture) -> None:
    told = {"healthy": False, "health_reason": "connection refused", "state": "stopped", "registered": False}
    echo.says("exec app-c -c rserpool-sidecar -- rserpool dump", {"/s": told})
    assert absentee(echo, pod("app-c", "10.0.1.3", ready=False), capsys) == (
        "the application is not healthy: connection refused"
    )
    echo.says("exec app-c", error="error: unable to upgrade connection")
    assert absentee(echo, pod("app-c", "10.0.1.3"), capsys) == (
        "its sidecar could not be asked: kubectl: unable to upgrade connection"
    )
    echo.says("exec app-c", "nonsense")
    assert absentee(echo, pod("app-c", "10.0.1.3"), capsys) == "its sidecar gave an answer that cannot be read"
    echo.says("exec app-c", {"/s": {"error": "refused"}})
    assert absentee(echo, pod("app-c", "10.0.1.3"), capsys) == "its sidecar gave no answer: refused"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"waiting": "waiting for an identity: no answer"}, "its sidecar is waiting for an identity: no answer"),
        ({"draining": True, "healthy": True}, "it was drained: it leaves the pool and stays out"),
        ({"healthy": None}, "the application's health is not known yet"),
        ({"healthy": True, "state": "rejected"}, "its sidecar says: rejected"),
        (
            {"healthy": True, "registered": True, "home": "0x0000000a"},
            "its sidecar says that registrar 0x0000000a has registered it, and no registrar holds it",
        ),
    ],
)
def test_a_sidecars_state_is_told_in_one_sentence(told: dict[str, Any], sentence: str) -> None:
    assert explain(told) == sentence


def test_addresses_of_both_families_and_of_several_find_their_pod(echo: FakeCluster, capsys: Capture) -> None:
    several = {**element(1), "transport": "sctp:10.9.9.9+[fd00::7]:7007/control"}
    for name in ("echo-registrar-0", "echo-registrar-1"):
        echo.says(f"exec {name}", dump(name, several))
    found = pod("app-six", "fd00::7")
    echo.says(MEMBERS, [found])
    assert main(["elements", "demo/echo"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "app-six"


def test_a_dump_shows_every_registrar_or_the_one_that_is_named(echo: FakeCluster, capsys: Capture) -> None:
    assert main(["dump", "demo/echo"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["echo-registrar-0", "echo-registrar-1"]
    assert main(["dump", "demo/echo", "echo-registrar-1"]) == 0
    assert json.loads(capsys.readouterr().out)["echo-registrar-1"]["server_id"] == "0x0000000b"
    assert main(["dump", "demo/echo", "r7"]) == 1
    assert capsys.readouterr().err == (
        "rserpool dump: there is no registrar r7; there are echo-registrar-0, echo-registrar-1\n"
    )
    echo.says("exec echo-registrar-0", error="error: no")
    assert main(["dump", "demo/echo"]) == 0
    assert json.loads(capsys.readouterr().out)["echo-registrar-0"] == {"error": "it could not be asked: kubectl: no"}
    assert main(["dump", "demo/echo", "echo-registrar-0"]) == 1
    assert capsys.readouterr().err == "rserpool dump: echo-registrar-0: it could not be asked: kubectl: no\n"
    echo.says("component=registrar", [])
    assert main(["dump", "demo/echo"]) == 1
    assert "demo/echo has no registrar; see `rserpool status demo/echo`" in capsys.readouterr().err


def test_a_pool_is_resolved_by_a_registrar_that_asks_itself(echo: FakeCluster, capsys: Capture) -> None:
    echo.says("component=registrar", [registrar(0, ready=False), registrar(1)])
    echo.says("exec echo-registrar-1", "echo: 2 element(s)\n")
    assert main(["resolve", "demo/echo", "--items", "2"]) == 0
    assert capsys.readouterr().out == "echo: 2 element(s)\n"
    (words,) = echo.calls("exec")
    assert words[words.index("--") + 1 :] == [
        "rserpool", "resolve", "--registrar", "10.0.0.2:3864", "--bundle", "/run/rserpool/identity/bundle.pem",
        "--items", "2", "-o", "table", "--", "echo",
    ]  # fmt: skip


def test_pools_without_security_strange_handles_and_six_are_resolved_too(echo: FakeCluster, capsys: Capture) -> None:
    echo.says("get serverpools", server_pool(security={"mode": "Insecure"}, poolHandle="0xff"))
    six = registrar(0)
    six["status"]["podIP"] = "fd00::1"
    echo.says("component=registrar", [six])
    echo.says("exec", "{}")
    assert main(["resolve", "demo/echo", "-o", "json"]) == 0
    (words,) = echo.calls("exec")
    assert words[words.index("--") + 1 :] == [
        "rserpool", "resolve", "--registrar", "[fd00::1]:3863", "--insecure", "-o", "json", "--", "0x30786666",
    ]  # fmt: skip


@pytest.mark.parametrize(("ended", "status"), [(3, 3), (4, 4), (5, 5), (6, 6), (1, 1), (137, 1)])
def test_a_resolution_that_fails_ends_as_it_does_on_a_machine(
    ended: int, status: int, echo: FakeCluster, capsys: Capture
) -> None:
    error = f"rserpool resolve: SECURITY_REJECTION\ncommand terminated with exit code {ended}"
    echo.says("exec", error=error, status=ended)
    assert main(["resolve", "demo/echo"]) == status
    assert capsys.readouterr().err == "rserpool resolve: echo-registrar-0: SECURITY_REJECTION\n"


def test_without_a_ready_registrar_nobody_is_asked(echo: FakeCluster, capsys: Capture) -> None:
    echo.says("component=registrar", [registrar(0, ready=False)])
    assert main(["resolve", "demo/echo"]) == 3
    assert capsys.readouterr().err == (
        "rserpool resolve: no registrar of demo/echo is ready; see `rserpool status demo/echo`\n"
    )
