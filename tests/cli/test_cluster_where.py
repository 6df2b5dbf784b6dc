# SPDX-License-Identifier: Apache-2.0
"""Which world a command means: this machine, or a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.cluster_samples import dump, element, registrar, server_pool
from cli.fake_kubectl import NOT_FOUND, REFUSED, FakeCluster
from rserpool_cli.cluster.where import names_a_pool
from rserpool_cli.main import main, program_name
from support.rig_model import RunningPool, in_background, runtime_folder
from support.rig_model import server_pool as local_pool

Capture = pytest.CaptureFixture[str]
NOWHERE = (
    "no pool runs on this machine; start one with `rserpool up`, or name a registrar's control socket with --socket"
)


@pytest.fixture
def both(cluster: FakeCluster) -> FakeCluster:
    """A cluster, for tests that also have a pool on this machine."""
    cluster.says("get serverpools.rserpool.io -", [server_pool(name="far")])
    cluster.says("get serverpools.rserpool.io (?!-)", error=NOT_FOUND.format("x"))
    cluster.says("get serverpools.rserpool.io far", server_pool(name="far"))
    cluster.says("get pods", [registrar(0)])
    cluster.says("exec echo-registrar-0 .* rserpool dump", dump("echo-registrar-0", element(1)))
    cluster.says("exec echo-registrar-0 .* rserpool resolve", "far: 1 element(s)\n")
    return cluster


def test_what_runs_here_is_found_without_asking_a_cluster(both: FakeCluster, capsys: Capture) -> None:
    with runtime_folder(), in_background(local_pool(), 1):
        for words in (["pools"], ["dump"], ["elements"], ["resolve", "echo"], ["elements", "demo/echo"]):
            assert main(words) == 0, words
        assert main(["dump", "demo/echo", "echo-registrar-0"]) == 0
        assert main(["resolve", "demo/echo"]) == 0
    assert both.calls() == []
    assert "echo: 1 element(s)" in capsys.readouterr().out


def test_a_pool_that_does_not_run_here_is_asked_of_the_cluster(both: FakeCluster, capsys: Capture) -> None:
    with runtime_folder(), in_background(local_pool(), 1):
        for words in (
            ["pools", "--pool", "demo/far"],
            ["elements", "demo/far"],
            ["dump", "demo/far"],
            ["resolve", "demo/far"],
        ):
            assert main(words) == 0, words
            assert both.calls("get serverpools.rserpool.io far"), words
        assert main(["resolve", "far", "--pool", "demo/far"]) == 0
    assert capsys.readouterr().out.endswith("far: 1 element(s)\n" * 2)


def test_with_nothing_running_here_the_cluster_is_asked(both: FakeCluster, capsys: Capture) -> None:
    assert main(["pools"]) == 0
    assert "demo        far" in capsys.readouterr().out
    assert main(["dump", "far"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["echo-registrar-0"]


def test_the_cluster_is_asked_although_a_pool_runs_here_if_it_is_asked_for(
    both: FakeCluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime_folder(), in_background(local_pool(), 1):
        for words in (["--cluster"], ["-n", "demo"], ["--context", "c"]):
            assert main(["pools", *words]) == 0
            assert "far" in capsys.readouterr().out
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-rserpool"])
        assert main(["pools"]) == 0
        assert "far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "missed", "status"),
    [
        (["pools"], NOWHERE, 1),
        (["dump", "--pool", "x"], "no pool x runs on this machine", 1),
        (["elements", "demo/x"], "no pool demo/x runs on this machine", 1),
        (["resolve", "demo/x"], "no pool was found: name its registrars and its bundle", 1),
    ],
)
def test_an_error_says_all_that_was_tried(
    words: list[str], missed: str, status: int, cluster: FakeCluster, capsys: Capture
) -> None:
    cluster.says("", error=REFUSED)
    assert main(words) == status
    said = capsys.readouterr().err
    assert said.startswith(f"rserpool {words[0]}: {missed}")
    assert said.endswith("; then the cluster was asked: kubectl: " + REFUSED.splitlines()[-1] + "\n")
    assert said.count("\n") == 1


def test_a_pool_that_is_nowhere_is_said_with_those_that_are(both: FakeCluster, capsys: Capture) -> None:
    assert main(["elements", "demo/x"]) == 4
    assert capsys.readouterr().err == (
        "rserpool elements: no pool demo/x runs on this machine; then the cluster was asked: there is no ServerPool"
        " demo/x; there are demo/far\n"
    )
    with runtime_folder(), in_background(local_pool(), 1):
        assert main(["resolve", "demo/x"]) == 4
        assert "no pool demo/x runs on this machine; then the cluster" in capsys.readouterr().err
    assert main(["status", "x"]) == 4
    assert (
        "there is no ServerPool x in the namespace of kubectl's context; there are demo/far" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("pool")
def test_without_a_cluster_a_pool_that_does_not_run_here_is_said_as_ever(capsys: Capture) -> None:
    assert main(["elements", "demo/x"]) == 1
    assert capsys.readouterr().err == "rserpool elements: no pool demo/x runs on this machine\n"


def test_elements_of_a_pool_that_runs_here_are_listed(pool: RunningPool, capsys: Capture) -> None:
    assert main(["elements", "echo"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["ELEMENT", "ADDRESS", "HOME", "POLICY"]
    assert {row.split()[1] for row in rows} == {f"tcp:{p.place.address}:7007" for p in pool.plan.applications}
    assert main(["elements", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["elements"]) == 3


def test_in_a_registrars_container_its_own_socket_is_asked(
    pool: RunningPool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = str(pool.scope.sockets["echo-registrar-0"])
    with runtime_folder():
        monkeypatch.setenv("RSERPOOL_CONTROL_SOCKET", socket)
        assert main(["dump"]) == 0
        assert list(json.loads(capsys.readouterr().out)) == [socket]
        assert main(["pools", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["elements"] == 3
        assert main(["elements", "-o", "json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["elements"]) == 3


def test_beside_a_daemon_a_dump_loads_sockets_and_little_more(pool: RunningPool) -> None:
    look = (
        "import sys; from rserpool_cli.main import main; status = main(['dump'])\n"
        "loaded = sorted({'asyncio', 'ssl', 'cryptography', 'pydantic'} & set(sys.modules))\n"
        "print(status, loaded, file=sys.stderr)"
    )
    socket = str(pool.scope.sockets["echo-registrar-0"])
    environment = {**os.environ, "RSERPOOL_CONTROL_SOCKET": socket}
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert list(json.loads(done.stdout)) == [socket]
    assert done.stderr == "0 []\n"


def test_a_socket_where_nobody_answers_is_said_as_ever(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RSERPOOL_CONTROL_SOCKET", str(tmp_path / "s"))
    assert main(["dump"]) == 1
    assert capsys.readouterr().err.endswith("/s: no such file or directory\n")


@pytest.mark.parametrize("word", ["demo/echo", "a/b"])
def test_a_word_of_two_names_is_a_pool(word: str) -> None:
    assert names_a_pool(word)


@pytest.mark.parametrize("word", ["echo", "/echo", "demo/", "a/b/c", "Demo/echo", "0x6563/", ""])
def test_any_other_word_is_none(word: str) -> None:
    assert not names_a_pool(word)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["status", "Demo/echo"], "'Demo/echo' is no pool's name: write NAMESPACE/POOL, such as demo/echo"),
        (["status", "--", "-n"], "'-n' is no pool's name"),
        (["status", "demo/echo", "-n", "other"], "demo/echo is not in namespace other: leave out --namespace"),
        (["elements", "a", "--pool", "b"], "the pool is named twice: leave out --pool"),
        (["dump", "a/b", "c", "d"], "write a pool and a registrar at most"),
        (["dump", "a/b", "--pool", "c"], "write a pool and a registrar at most"),
        (["resolve", "x", "--registrar", "a:1", "--insecure", "--cluster"], "write either --registrar or --cluster"),
        (["elements", "--cluster"], "name a pool, NAMESPACE/POOL; there are: demo/far"),
        (["dump", "--cluster"], "name a pool, NAMESPACE/POOL; there are: demo/far"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_contradicts_itself_is_status_2(words: list[str], reason: str, both: FakeCluster, capsys: Capture) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err


def test_the_plugin_is_called_as_its_user_calls_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, cluster: FakeCluster
) -> None:
    assert program_name("/usr/bin/rserpool") == program_name("pytest") == "rserpool"
    assert program_name("/usr/bin/kubectl-rserpool") == program_name("kubectl-rserpool.exe") == "kubectl rserpool"
    monkeypatch.setattr(sys, "argv", ["kubectl-rserpool"])
    with pytest.raises(SystemExit):
        main(["status", "--help"])
    assert "usage: kubectl rserpool status" in capsys.readouterr().out
    cluster.says("", error=REFUSED)
    assert main(["pools"]) == 1
    assert capsys.readouterr().err.startswith("kubectl rserpool pools: kubectl: The connection")
