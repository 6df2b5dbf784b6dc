# SPDX-License-Identifier: Apache-2.0
"""`rserpool pools` and `rserpool renew` on a cluster."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from cli.cluster_samples import SINCE, condition, server_pool
from cli.fake_kubectl import FORBIDDEN, NO_RESOURCE, FakeCluster
from rserpool_cli.cluster.pools import ago
from rserpool_cli.main import main

Capture = pytest.CaptureFixture[str]


def test_pools_of_all_namespaces_are_listed_for_people_and_for_programs(cluster: FakeCluster, capsys: Capture) -> None:
    fresh = server_pool(namespace="prod", poolHandle="greet", policy={"type": "LeastUsed"})
    del fresh["status"]
    cluster.says("get serverpools.rserpool.io -A", [server_pool(), fresh])
    assert main(["pools", "--cluster"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["NAMESPACE", "NAME", "HANDLE", "POLICY", "REGISTRARS", "ELEMENTS", "READY", "AGE"]
    assert [row[:-1] for row in rows] == [
        ["demo", "echo", "echo", "RoundRobin", "2/2", "2/2", "True"],
        ["prod", "echo", "greet", "LeastUsed", "-/2", "-/-", "-"],
    ]
    assert main(["pools", "--cluster", "-o", "json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "namespace": "demo",
        "name": "echo",
        "handle": "echo",
        "policy": "RoundRobin",
        "registrars": {"ready": 2, "wanted": 2},
        "elements": {"registered": 2, "matched": 2},
        "ready": "True",
        "reason": "Serving",
        "created": SINCE,
    }
    assert (second["ready"], second["registrars"]["ready"]) == ("Unknown", None)


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["--cluster"], NO_RESOURCE, "this cluster knows no ServerPools: install the chart, charts/rserpool"),
        (["--cluster"], FORBIDDEN.format("serverpools.rserpool.io"), "at the cluster scope; name a namespace with -n"),
        (["-n", "demo"], "", "there is no ServerPool in namespace demo; make one with `kubectl apply`"),
        (["--cluster"], "", "there is no ServerPool on the cluster; make one with `kubectl apply`"),
        (["--cluster", "--pool", "demo/echo"], NO_RESOURCE, "this cluster knows no ServerPools"),
    ],
)
def test_without_pools_it_is_said_why(
    words: list[str], error: str, reason: str, cluster: FakeCluster, capsys: Capture
) -> None:
    cluster.says("get serverpools", [], error=error)
    assert main(["pools", *words]) == (1)
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_800, "2d"),
        (8_640_000, "100d"),
    ],
)
def test_ages_are_told_in_one_unit(seconds: int, shown: str) -> None:
    now = datetime(2026, 11, 25, 20, tzinfo=UTC)
    assert ago((now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"), now) == shown


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert ago("soon", datetime.now(UTC)) == "soon"


def test_renewal_is_asked_for_by_an_annotation_and_it_is_said_what_will_happen(
    cluster: FakeCluster, capsys: Capture
) -> None:
    cluster.says("get serverpools.rserpool.io echo", server_pool())
    cluster.says("annotate", "serverpool.rserpool.io/echo annotated\n")
    assert main(["renew", "demo/echo"]) == 0
    (words,) = cluster.calls("annotate")
    assert words[:-1] == ["-n", "demo", "annotate", "serverpools.rserpool.io", "echo", "--overwrite"]
    assert re.fullmatch(r"rserpool.io/renew=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", words[-1])
    said = capsys.readouterr().out
    assert said.startswith("demo/echo: renewal asked for at 2")
    assert "sidecars within 40 s" in said
    assert "No connection is closed." in said


def test_a_pool_without_security_has_nothing_to_renew(cluster: FakeCluster, capsys: Capture) -> None:
    cluster.says("get serverpools", server_pool(condition("Ready", "True", "Serving"), security={"mode": "Insecure"}))
    assert main(["renew", "echo"]) == 1
    assert capsys.readouterr().err == "rserpool renew: demo/echo is Insecure: it has no certificates to renew\n"
    assert cluster.calls("annotate") == []


def test_who_may_not_change_a_pool_is_told_so(cluster: FakeCluster, capsys: Capture) -> None:
    cluster.says("get serverpools", server_pool())
    cluster.says("annotate", error='Error from server (Forbidden): serverpools.rserpool.io "echo" is forbidden')
    assert main(["renew", "demo/echo"]) == 1
    assert capsys.readouterr().err.startswith("rserpool renew: kubectl: Error from server (Forbidden)")
