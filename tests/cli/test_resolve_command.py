# SPDX-License-Identifier: Apache-2.0
"""`rserpool resolve` and `rserpool watch`, as their user calls them, at a pool that really runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rserpool_cli.main import main
from support.rig_model import (
    Background,
    RunningPool,
    authority,
    in_background,
    insecure,
    runtime_folder,
    server_pool,
    silent,
)

Capture = pytest.CaptureFixture[str]


def refusal(words: list[str], capsys: Capture) -> tuple[int, str]:
    """Status and one line of a command that fails and prints nothing else."""
    status = main(words)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"rserpool {words[0]}: ")
    assert captured.err.count("\n") == 1
    return status, captured.err.removeprefix(f"rserpool {words[0]}: ").rstrip("\n")


def test_elements_are_shown_as_a_table_in_the_order_to_try_them(pool: RunningPool, capsys: Capture) -> None:
    assert main(["resolve", "echo"]) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head == "echo: 3 element(s), policy RoundRobin, in the order to try them"
    assert columns.split() == ["ELEMENT", "TRANSPORT", "POLICY", "HOME"]
    assert {row.split()[1] for row in rows} == {f"tcp:{p.place.address}:7007" for p in pool.plan.applications}
    assert all(re.fullmatch(r"0x[0-9a-f]{8}   tcp:\S+ +RoundRobin\(\) +0x[0-9a-f]{8}", row) for row in rows)


def test_programs_get_the_same_as_json(pool: RunningPool, capsys: Capture) -> None:
    assert main(["resolve", "echo", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["handle"], shown["policy"]) == ("echo", "RoundRobin()")
    assert {e["transport"] for e in shown["elements"]} == {
        f"tcp:{p.place.address}:7007" for p in pool.plan.applications
    }
    assert set(shown["elements"][0]) == {"identifier", "transport", "policy", "home"}


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("handle", ["echo", "0x6563686f"])
def test_a_handle_may_be_written_in_hex_and_items_limit_the_answer(handle: str, capsys: Capture) -> None:
    assert main(["resolve", handle, "--items", "2", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["elements"]) == 2


@pytest.mark.parametrize("name", ["echo", "demo/echo"])
def test_one_of_the_pools_that_run_here_may_be_chosen(name: str, pool: RunningPool, capsys: Capture) -> None:
    assert main(["resolve", "echo", "--pool", name]) == 0
    assert str(pool.plan.applications[0].place.address) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["other", "prod/echo"])
def test_a_pool_that_does_not_run_here_is_said_with_those_that_do(
    name: str, pool: RunningPool, capsys: Capture
) -> None:
    status, line = refusal(["resolve", "echo", "--pool", name], capsys)
    assert (status, line) == (3, f"no pool {name} runs on this machine; there are: demo/echo")


def test_registrars_may_be_named_with_the_certificates_to_trust(
    pool: RunningPool, tmp_path: Path, capsys: Capture
) -> None:
    [(host, port), _] = pool.scope.registrars
    (tmp_path / "bundle.pem").write_bytes(pool.scope.bundle or b"")
    words = ["resolve", "echo", "--registrar", "127.0.0.1:1", "--registrar", f"{host}:{port}"]
    assert main([*words, "--bundle", str(tmp_path / "bundle.pem")]) == 0
    assert "3 element(s)" in capsys.readouterr().out


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("handle", ["nobody", "0x6e6f", "0xzz"])
def test_no_such_pool_is_status_4(handle: str, capsys: Capture) -> None:
    shown = {"nobody": "nobody", "0x6e6f": "no", "0xzz": "0x30787a7a"}[handle]
    assert refusal(["resolve", handle], capsys) == (4, f"there is no pool {shown!r}")


@pytest.mark.timeout(10)
@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("command", ["resolve", "watch"])
@pytest.mark.parametrize("handle", ["", "x" * 70_000], ids=["none", "endless"])
def test_a_handle_that_cannot_be_is_refused_at_once(command: str, handle: str, capsys: Capture) -> None:
    _, line = refusal([command, handle], capsys)
    assert "handle" in line
    assert len(line) < 200


def test_no_registrar_is_status_3_and_says_where_it_looked(capsys: Capture) -> None:
    words = ["resolve", "echo", "--insecure", "--registrar", "127.0.0.1:1"]
    assert refusal(words, capsys) == (3, "tcp:127.0.0.1:1: connection refused")


@pytest.mark.usefixtures("pool")
def test_registrars_of_another_authority_are_status_3_and_not_believed(
    pool: RunningPool, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "bundle.pem").write_bytes(authority().bundle)
    [(host, port), _] = pool.scope.registrars
    words = ["resolve", "echo", "--registrar", f"{host}:{port}", "--bundle", str(tmp_path / "bundle.pem")]
    status, line = refusal(words, capsys)
    assert status == 3
    assert line.startswith(f"the registrar at {host}:{port} was not believed: certificate")


def test_a_refusal_is_status_5(capsys: Capture) -> None:
    with runtime_folder(), in_background(server_pool(users={"anonymous": False})):
        assert refusal(["resolve", "echo"], capsys) == (5, "SECURITY_REJECTION")


def test_no_answer_is_status_6(capsys: Capture) -> None:
    background = Background()
    listener = silent()
    try:
        [(host, port)] = background.do(listener.__aenter__()).registrars
        status, line = refusal(["resolve", "echo", "--insecure", "--registrar", f"{host}:{port}"], capsys)
        background.do(listener.__aexit__(None, None, None))
    finally:
        background.close()
    assert status == 6
    assert "none answered in 1 s" in line


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no pool was found: name its registrars and its bundle"),
        (["--pool", "echo"], "no pool runs on this machine; start one with `rserpool up`"),
        (["--registrar", "a:1"], "name the certificates to trust with --bundle (or --insecure"),
        (["--bundle", "f"], "name a registrar with --registrar HOST:PORT"),
        (["--insecure"], "name a registrar with --registrar HOST:PORT"),
        (["--registrar", "a", "--insecure"], "'a' is no place; write host:port"),
        (["--registrar", "a:1", "--bundle", "/nowhere.pem"], "/nowhere.pem cannot be read: No such file or directory"),
        (["--registrar", "127.0.0.1:1", "--bundle", "/dev/null"], "/dev/null"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
@pytest.mark.parametrize("command", ["resolve", "watch"])
def test_who_does_not_say_where_is_told_what_to_write(
    command: str, words: list[str], reason: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RSERPOOL_REGISTRARS", raising=False)
    status, line = refusal([command, "echo", *words], capsys)
    assert status == 3
    assert reason in line


def watching(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rserpool_cli", "watch", "echo", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("form", ["table", "json"])
def test_changes_are_shown_as_they_come_until_interrupted(form: str) -> None:
    with runtime_folder(), in_background(insecure(), 1) as (found, background):
        place = f"tcp:{found.plan.applications[0].place.address}:7007"
        with watching("-o", form) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2 if form == "table" else 1)]
            background.do(found.end_sidecar(0))
            lines += [process.stdout.readline() for _ in range(2 if form == "table" else 1)]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "", "")
    if form == "json":
        assert [[e["transport"] for e in json.loads(line)["elements"]] for line in lines] == [[place], []]
        return
    assert [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}  |0x[0-9a-f]{8}  ", "", re.sub(r"0x\w{8}  ", "", line)).strip() for line in lines] == [
        f"+ {place}", "1 element(s)", f"- {place}", "0 element(s)",
    ]  # fmt: skip
