# SPDX-License-Identifier: Apache-2.0
"""kubectl as a subprocess: what it is asked, and what becomes of its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.cluster_samples import server_pool
from cli.fake_kubectl import FORBIDDEN, NO_RESOURCE, NOT_FOUND, REFUSED, FakeCluster
from rserpool_cli.cluster import kubectl as module
from rserpool_cli.cluster.kubectl import Kubectl, KubectlError
from rserpool_cli.main import main

Capture = pytest.CaptureFixture[str]


def test_the_users_way_to_the_cluster_is_passed_on(cluster: FakeCluster, capsys: Capture) -> None:
    cluster.says("get serverpools", [server_pool()])
    assert main(["pools", "--context", "prod", "--kubeconfig", "/c", "-n", "demo"]) == 0
    (words,) = cluster.calls()
    assert words == [
        "-n", "demo", "--context=prod", "--kubeconfig=/c", "get", "serverpools.rserpool.io", "-o", "json",
    ]  # fmt: skip
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "shown", "reason"),
    [
        (
            REFUSED,
            "kubectl: The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
            "",
        ),
        (NOT_FOUND.format("x"), f"kubectl: {NOT_FOUND.format('x')}", "NotFound"),
        (FORBIDDEN.format("pods"), f"kubectl: {FORBIDDEN.format('pods')}", "Forbidden"),
        ("rserpool resolve: no\ncommand terminated with exit code 4", "kubectl: rserpool resolve: no", ""),
        ("Warning: soon gone\nerror: no", "kubectl: no", ""),
        (NO_RESOURCE, 'kubectl: the server doesn\'t have a resource type "serverpools"', ""),
    ],
)
def test_what_kubectl_says_becomes_one_line(cluster: FakeCluster, said: str, shown: str, reason: str) -> None:
    cluster.says("get", error=said)
    with pytest.raises(KubectlError) as caught:
        Kubectl(program=str(cluster.program)).get("x")
    assert str(caught.value) == shown
    assert caught.value.reason == reason


def test_an_end_without_a_word_and_an_answer_that_is_none_are_said(cluster: FakeCluster) -> None:
    kubectl = Kubectl(program=str(cluster.program))
    cluster.says("get", status=3)
    with pytest.raises(KubectlError, match="it ended with status 3 and said nothing") as caught:
        kubectl.get("x")
    assert caught.value.ended == 3
    for answer in ("", "nonsense", "[1]"):
        cluster.says("get", answer)
        with pytest.raises(KubectlError, match="no JSON object"):
            kubectl.get("x")


@pytest.mark.parametrize("words", [["pools", "--cluster"], ["status", "demo/echo"], ["pools", "-n", "demo"]])
@pytest.mark.usefixtures("nothing_runs")
def test_a_missing_kubectl_is_named_with_how_to_get_it(
    words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"rserpool {words[0]}: kubectl is not on PATH: a cluster is asked through it;"
        " see https://kubernetes.io/docs/tasks/tools/\n"
    )


def script(path: Path, text: str) -> Kubectl:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Kubectl(program=str(path))


def test_a_login_is_shown_while_kubectl_waits_for_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.05)
    klog = "E1125 21:23:15.451514   29164 memcache.go:265] nonsense"
    slow = script(tmp_path / "slow", f"echo '{klog}' >&2; echo 'type ABCD' >&2; exec sleep 60")
    monkeypatch.setattr(module, "LOGIN", 0.3)
    with pytest.raises(KubectlError, match="did not end within"):
        slow.run("get", "x", longest=0.2)
    assert capsys.readouterr().err.splitlines()[-1:] == ["type ABCD"]


def test_a_kubectl_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.05)
    with pytest.raises(KubectlError, match=r"did not end within 0.2 s; is the cluster reachable\?"):
        script(tmp_path / "kubectl", "exec sleep 60").run("get", "x", longest=0.2)
