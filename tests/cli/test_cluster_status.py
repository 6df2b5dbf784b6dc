# SPDX-License-Identifier: Apache-2.0
"""`rserpool status`: why a pool is not ready, and what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cli.cluster_samples import condition, dump, element, event, pod, registrar, server_pool
from cli.fake_kubectl import FakeCluster
from rserpool_cli.main import main
from rserpool_operator.reasons import TABLE, Reason

Capture = pytest.CaptureFixture[str]
MEMBERS = "get pods -l rserpool.io/pool=echo"


@pytest.fixture
def echo(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A pool of two registrars and two elements, all as it should be."""
    cluster.answer_in_process(monkeypatch)
    cluster.says("get serverpools.rserpool.io echo", server_pool())
    cluster.says("component=registrar", [registrar(0), registrar(1)])
    cluster.says(MEMBERS, [pod("app-a", "10.0.1.1"), pod("app-b", "10.0.1.2")])
    cluster.says("get events", [])
    for name in ("echo-registrar-0", "echo-registrar-1"):
        cluster.says(f"exec {name}", dump(name, element(1), element(2)))
    return cluster


def told(cluster: FakeCluster, capsys: Capture, status: int, pool: dict[str, Any] | None = None) -> list[str]:
    if pool is not None:
        cluster.says("get serverpools.rserpool.io echo", pool)
    assert main(["status", "demo/echo"]) == status
    return capsys.readouterr().out.splitlines()


def test_of_a_ready_pool_the_figures_are_told_and_no_trouble(echo: FakeCluster, capsys: Capture) -> None:
    lines = told(echo, capsys, 0)
    assert lines[0].startswith("demo/echo: Ready for ")
    assert lines[0].endswith(": 2 of 2 registrars serve")
    assert lines[1:4] == [
        "  handle echo, policy RoundRobin, version 0.1.0",
        "",
        "Registrars: 2 of 2 ready, speaking TCP",
    ]
    assert lines[5].split() == ["echo-registrar-0", "ready", "Running", "0", "worker"]
    assert lines[-2:] == [
        (
            "Elements: 2 pod(s) labelled, 2 enrolled, 2 registered, 0 without a sidecar,"
            " 0 with a sidecar of another version"
        ),
        "Authority: generation 1, Active, its certificate ends 2027-11-25T20:00:00Z",
    ]
    assert not any("do:" in line for line in lines)


def test_each_condition_that_is_wrong_comes_with_its_message_its_meaning_and_what_to_do(
    echo: FakeCluster, capsys: Capture
) -> None:
    lines = told(
        echo,
        capsys,
        1,
        server_pool(
            condition("Accepted", "True", "Valid"),
            condition("AuthorityReady", "False", "CertManagerMissing", "the cluster has no cert-manager"),
            condition("TransportDegraded", "True", "SctpUnavailable", "registrars speak TCP"),
            condition("Ready", "False", "NotServing", "the cluster has no cert-manager"),
            condition("Reconciling", "False", "Settled"),
        ),
    )
    text = "\n".join(lines)
    assert lines[0].startswith("demo/echo: not Ready for ")
    for kind, reason in (
        ("AuthorityReady is False", "CertManagerMissing"),
        ("TransportDegraded is True", "SctpUnavailable"),
    ):
        at = next(i for i, line in enumerate(lines) if line.startswith(kind))
        assert lines[at].endswith(f": {reason}")
        meaning, remedy = TABLE[Reason(reason)]
        assert lines[at + 2 : at + 4] == [f"  {meaning}", f"  do: {remedy}"]
    assert "Accepted is" not in text
    assert "Settled" not in text
    assert "NotServing" not in text, "the headline says it, and the others why"


def test_a_reason_of_another_version_is_shown_without_advice(echo: FakeCluster, capsys: Capture) -> None:
    lines = told(echo, capsys, 1, server_pool(condition("Ready", "Unknown", "Moonshine", "so it is")))
    assert lines[0].startswith("demo/echo: not known to be Ready for ")
    at = next(i for i, line in enumerate(lines) if line.endswith("Moonshine"))
    assert lines[at + 1 : at + 3] == ["  so it is", ""]


def test_a_paused_pool_is_said_to_be_paused(echo: FakeCluster, capsys: Capture) -> None:
    paused = server_pool(condition("Ready", "True", "Serving"), condition("Reconciling", "False", "Paused", "paused"))
    assert f"  do: {TABLE[Reason.PAUSED][1]}" in told(echo, capsys, 0, paused)


def test_a_pool_that_the_operator_has_not_seen_is_told_as_that(echo: FakeCluster, capsys: Capture) -> None:
    fresh = server_pool()
    del fresh["status"]
    echo.says("get pods", [])
    assert told(echo, capsys, 1, fresh) == [
        "demo/echo: not Ready: the operator has not said anything of it yet",
        "  do: wait a moment; then see whether the operator runs: `rserpool check`",
        "  handle echo, policy RoundRobin",
        "",
        "Registrars: 0 of 2 ready",
        "",
        "Elements: nothing is told of them yet",
        "Authority: nothing is told of it yet",
    ]


def test_a_status_of_an_older_spec_is_said_to_be_one(echo: FakeCluster, capsys: Capture) -> None:
    changed = server_pool()
    changed["metadata"]["generation"] = 2
    assert "  this is about an older spec: the operator has not dealt with the last change yet" in told(
        echo, capsys, 0, changed
    )


def test_registrars_in_trouble_and_members_that_are_missing_are_named(echo: FakeCluster, capsys: Capture) -> None:
    crash = {"name": "registrar", "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    echo.says("component=registrar", [registrar(0), registrar(1, ready=False, containerStatuses=[crash])])
    echo.says(MEMBERS, [pod("app-a", "10.0.1.1"), pod("app-b", "10.0.1.2"), pod("app-c", "10.0.1.3", sidecar=False)])
    lines = told(echo, capsys, 0)
    assert "Registrars: 1 of 2 ready, speaking TCP" in lines
    (row,) = [line for line in lines if line.startswith("  echo-registrar-1")]
    assert row.split("   ")[-1].strip() == "registrar: CrashLoopBackOff"
    assert "   7   " in row
    assert "  not registered: app-c: it has no sidecar: recreate the pod" in lines
    assert "  registrar echo-registrar-1 is not counted: registrar: CrashLoopBackOff" in lines


def test_while_no_registrar_answers_pods_without_a_sidecar_are_named_all_the_same(
    echo: FakeCluster, capsys: Capture
) -> None:
    echo.says("exec", error="error: no")
    echo.says(MEMBERS, [pod("app-c", "10.0.1.3", sidecar=False)])
    lines = told(echo, capsys, 0)
    assert "  not injected: app-c: recreate the pod" in lines
    assert "  no registrar tells what it holds" in lines
    assert len([line for line in lines if "could not be asked: kubectl: no" in line]) == 2


def test_the_last_ten_events_of_the_pool_and_its_pods_are_shown_and_no_others(
    echo: FakeCluster, capsys: Capture
) -> None:
    old = event("Pod", "app-a", 1, "Scheduled", "assigned", eventTime=None, lastTimestamp="2026-11-25T20:59:30Z")
    again = event(
        "Pod", "app-b", 2, "Unhealthy", "probe\nfailed", series={"count": 3, "lastObservedTime": "2026-11-25T20:59:40Z"}
    )
    many = [event("ServerPool", "echo", 10 + i, "NotServing", f"number {i}") for i in range(12)]
    others = [event("Pod", "other", 50, "Killing", "not ours"), event("Node", "echo", 50, "Rebooted", "not ours")]
    echo.says("get events", [old, again, *many, *others])
    lines = told(echo, capsys, 0)
    rows = lines[lines.index("Last Events:") + 2 :]
    assert len(rows) == 10
    assert [row.split()[-1] for row in rows[:8]] == [str(i) for i in range(4, 12)]
    assert rows[8].split()[1:] == ["Warning", "Scheduled", "Pod/app-a", "assigned"]
    assert rows[9].split()[1:] == ["Warning", "Unhealthy", "Pod/app-b", "probe", "failed"]


def test_events_that_may_not_be_read_are_left_out(echo: FakeCluster, capsys: Capture) -> None:
    echo.says("get events", error="Error from server (Forbidden): events is forbidden")
    assert "Last Events:" not in told(echo, capsys, 0)


def test_processes_that_lack_the_bundle_are_named_and_an_insecure_pool_has_no_authority(
    echo: FakeCluster, capsys: Capture
) -> None:
    lagging = server_pool()
    lagging["status"]["authority"]["missing"] = ["app-a", "app-b"]
    assert "  not loaded yet by app-a, app-b" in told(echo, capsys, 0, lagging)
    lagging["status"]["authority"] |= {"phase": "Preparing", "next": 2}
    text = told(echo, capsys, 0, lagging)
    assert "Authority: generation 1, Preparing, generation 2 comes, its certificate ends 2027-11-25T20:00:00Z" in text
    assert "  it waits for app-a, app-b" in text
    lagging["status"]["authority"] = {"phase": "Activating", "generation": 2, "former": 1}
    assert "Authority: generation 2, Activating, generation 1 goes" in told(echo, capsys, 0, lagging)
    assert "Authority: none, the pool is Insecure" in told(echo, capsys, 0, server_pool(security={"mode": "Insecure"}))


def test_the_command_loads_nothing_that_the_node_image_does_not_have() -> None:
    """Nor do `dump` and its like load what asks a cluster: they run beside registrars."""
    names = "status", "check", "elements", "resolve", "renew", "rotate", "pools"
    modules = "; ".join(f"import rserpool_cli.cluster.{name}" for name in names)
    look = (
        "import sys, rserpool_cli.main, rserpool_operator.reasons\nrserpool_cli.main.build_parser()\n"
        "lean = 'rserpool_cli.cluster.pools' not in sys.modules and 'pydantic' not in sys.modules\n"
        f"{modules}\n"
        "print(lean, sorted({'kopf', 'kubernetes', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True []\n"
