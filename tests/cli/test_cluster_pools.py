# SPDX-License-Identifier: Apache-2.0
"""`rserpool pools`, `rserpool renew` and `rserpool rotate-ca` on a cluster."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

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
    assert "Every connection is replaced by a newer one first." in said


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


def replacing(**authority: object) -> dict[str, Any]:
    """A pool whose CA is as its status says."""
    found = server_pool()
    found["status"]["authority"] = {"generation": 1, "phase": "Active", "keys": {"1": "sha256:0"}, **authority}
    return found


@pytest.mark.parametrize(("asked", "signs", "number"), [(1, 1, 2), (1, 3, 4), (5, 3, 6)])
def test_another_ca_key_is_asked_for_by_the_number_after_all_others(
    asked: int, signs: int, number: int, cluster: FakeCluster, capsys: Capture
) -> None:
    pool = replacing(generation=signs)
    pool["spec"]["security"] = {"ca": {"generation": asked}}
    cluster.says("get serverpools.rserpool.io echo", pool)
    cluster.says("patch", "serverpool.rserpool.io/echo patched\n")
    assert main(["rotate-ca", "demo/echo"]) == 0
    (words,) = cluster.calls("patch")
    assert words[:-1] == ["-n", "demo", "patch", "serverpools.rserpool.io", "echo", "--type=merge", "-p"]
    assert json.loads(words[-1]) == {"spec": {"security": {"ca": {"generation": number}}}}
    assert capsys.readouterr().out.startswith(f"demo/echo: generation {number} of its CA is asked for\n")


@pytest.mark.parametrize(
    ("authority", "words", "says"),
    [
        ({"next": 2, "missing": ["a", "b"]}, [], "generation 2 of its CA is just being introduced; it waits for a, b"),
        ({"generation": 2, "former": 1}, [], "generation 2 of its CA is just being introduced"),
        ({"generation": None}, [], "has no CA yet that could be replaced"),
        ({}, ["--go-on"], "its CA is not being replaced just now"),
    ],
)
def test_what_cannot_be_asked_of_a_ca_is_said_and_changes_nothing(
    authority: dict[str, object], words: list[str], says: str, cluster: FakeCluster, capsys: Capture
) -> None:
    cluster.says("get serverpools.rserpool.io echo", replacing(**authority))
    assert main(["rotate-ca", "demo/echo", *words]) == 1
    assert says in capsys.readouterr().err
    assert cluster.calls("patch") + cluster.calls("annotate") == []


def test_a_users_own_issuer_is_not_ours_to_replace(cluster: FakeCluster, capsys: Capture) -> None:
    pool = replacing()
    pool["spec"]["security"] = {"signer": {"type": "IssuerRef"}}
    cluster.says("get serverpools.rserpool.io echo", pool)
    assert main(["rotate-ca", "demo/echo"]) == 1
    assert "write another one into spec.security.signer; docs/authority.md" in capsys.readouterr().err
    assert cluster.calls("patch") == []


def test_a_move_to_a_users_own_issuer_is_told_to_go_on(cluster: FakeCluster, capsys: Capture) -> None:
    pool = replacing(next=2, missing=["a"])
    pool["spec"]["security"] = {"signer": {"type": "IssuerRef"}}
    cluster.says("get serverpools.rserpool.io echo", pool)
    cluster.says("annotate", "serverpool.rserpool.io/echo annotated\n")
    assert main(["rotate-ca", "--go-on", "demo/echo"]) == 0
    (words,) = cluster.calls("annotate")
    assert words[-1] == "rserpool.io/go-on=2"
    assert "introduced without a" in capsys.readouterr().out


@pytest.mark.parametrize("authority", [{"next": 2, "missing": ["a"]}, {"generation": 2, "former": 1}])
def test_a_replacement_is_told_to_go_on_without_those_that_do_not_answer(
    authority: dict[str, object], cluster: FakeCluster, capsys: Capture
) -> None:
    cluster.says("get serverpools.rserpool.io echo", replacing(**authority))
    cluster.says("annotate", "serverpool.rserpool.io/echo annotated\n")
    assert main(["rotate-ca", "--go-on", "demo/echo"]) == 0
    (words,) = cluster.calls("annotate")
    assert words[-2:] == ["--overwrite", "rserpool.io/go-on=2"]
    assert "cut off until they enrol again" in capsys.readouterr().out
