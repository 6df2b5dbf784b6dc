# SPDX-License-Identifier: Apache-2.0
"""`rserpool pools` and `rserpool dump`: what the registrars of this machine hold."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from rserpool.client.scope import runtime_directory
from rserpool.daemon.control import shows
from rserpool.transport.http import HttpServer
from rserpool_cli.main import main
from rserpool_cli.output import table
from support.rig_model import Background, RunningPool, in_background, insecure, runtime_folder

Capture = pytest.CaptureFixture[str]
NAMES = ["echo-registrar-0", "echo-registrar-1"]


def failed(words: list[str], capsys: Capture) -> str:
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix(f"rserpool {words[0]}: ").rstrip("\n")


@pytest.mark.usefixtures("pool")
def test_pools_are_listed_for_people_and_for_programs(capsys: Capture) -> None:
    assert main(["pools"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["POOL", "HANDLE", "POLICY", "ELEMENTS", "REGISTRARS", "AGREE"]
    assert row.split() == ["demo/echo", "echo", "ROUND_ROBIN", "3", "2/2", "yes"]
    assert main(["pools", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "pool": "demo/echo",
            "handle": "echo",
            "policy": "ROUND_ROBIN",
            "elements": 3,
            "registrars": "2/2",
            "agree": True,
        }
    ]


@pytest.mark.usefixtures("pool")
def test_a_dump_shows_every_registrar_and_that_they_hold_the_same(capsys: Capture) -> None:
    assert main(["dump"]) == 0
    dumps = json.loads(capsys.readouterr().out)
    assert list(dumps) == NAMES
    assert dumps[NAMES[0]]["handlespace"] == dumps[NAMES[1]]["handlespace"]
    assert len(dumps[NAMES[0]]["handlespace"]["pools"][0]["elements"]) == 3
    assert {d["phase"] for d in dumps.values()} == {"serving"}


def test_one_registrar_may_be_chosen_by_name_or_by_socket(pool: RunningPool, capsys: Capture) -> None:
    assert main(["dump", NAMES[1], "--pool", "demo/echo"]) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert list(by_name) == [NAMES[1]]
    socket = str(pool.scope.sockets[NAMES[1]])
    assert main(["dump", "--socket", socket]) == 0
    by_socket = json.loads(capsys.readouterr().out)
    assert by_socket[socket]["server_id"] == by_name[NAMES[1]]["server_id"]


@pytest.mark.usefixtures("pool")
def test_what_is_not_there_is_said_with_what_is(capsys: Capture) -> None:
    assert failed(["dump", "r7"], capsys) == f"there is no registrar r7; there are {', '.join(NAMES)}"
    assert failed(["pools", "--pool", "x"], capsys) == "no pool x runs on this machine"


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("command", ["pools", "dump"])
def test_without_a_pool_the_user_is_told_how_to_get_one(command: str, tmp_path: Path, capsys: Capture) -> None:
    assert failed([command], capsys) == (
        "no pool runs on this machine; start one with `rserpool up`, or name a registrar's control socket with --socket"
    )
    line = failed([command, "--socket", str(tmp_path / "r.sock")], capsys)
    assert line.endswith("r.sock: no such file or directory")


def test_a_registrar_that_is_dead_is_not_counted_and_shown_with_the_reason(capsys: Capture) -> None:
    with runtime_folder(), in_background(insecure(registrars={"replicas": 2})) as (found, background):
        background.do(found.end_registrar(1))
        assert main(["pools"]) == 0
        row = capsys.readouterr().out.splitlines()[1]
        assert row.split("  ")[0] == "demo/echo"
        assert row.split()[-5:] == ["registered)", "-", "0", "1/2", "yes"]
        assert main(["dump"]) == 0
        dumps = json.loads(capsys.readouterr().out)
        assert dumps[NAMES[0]]["phase"] == "serving"
        assert dumps[NAMES[1]]["error"].endswith("r1.sock: no such file or directory")
        background.do(found.end_registrar(0))
        assert failed(["pools"], capsys).startswith("demo/echo: no registrar answers: ")


def test_a_table_is_as_wide_as_it_must_be() -> None:
    assert table(("A", "LONG"), [("xyz", 1), ("", "é")]) == "A     LONG\nxyz   1\n      é"
    assert table(("A", "B"), []) == "A   B"


@pytest.mark.usefixtures("nothing_runs")
def test_registrars_that_hold_different_things_are_said_not_to_agree(capsys: Capture) -> None:
    folder = runtime_directory() / f"{os.getpid()}.echo"
    folder.mkdir(parents=True)
    background = Background()
    servers = []
    for index in range(2):
        elements = [{"identifier": f"{i}"} for i in range(index)]
        held = {"pools": [{"handle": "echo", "policy": "ROUND_ROBIN", "elements": elements}]}
        servers.append(HttpServer({("GET", "/dump"): shows(partial(dict, phase="serving", handlespace=held))}))
        background.do(servers[index].listen_unix(folder / f"{index}"))
    registrars = [{"name": f"r{i}", "address": "::1", "asap_port": 1, "socket": str(folder / f"{i}")} for i in range(2)]
    state = {
        "pid": os.getpid(), "directory": str(folder), "namespace": "demo", "pool": "echo", "trust_domain": "td",
        "bundle": None, "client": None, "registrars": registrars,
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state))
    try:
        assert main(["pools"]) == 0
    finally:
        for server in servers:
            background.do(server.close())
        background.close()
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["2/2", "no"]
