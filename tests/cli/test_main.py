# SPDX-License-Identifier: Apache-2.0
"""The entry point: which command, which exit status, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rserpool import __version__
from rserpool_cli.main import main


def test_the_version_is_told_by_command_and_by_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"rserpool {__version__}\n" * 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in ("up", "resolve", "watch", "pools", "dump", "decode", "version"))


@pytest.mark.parametrize("command", ["resolve", "watch"])
def test_help_names_the_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 no registrar, 4 no such pool, 5 refused, 6 no answer" in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["resolve"], "HANDLE"),
        (["resolve", "echo", "-o", "xml"], "invalid choice: 'xml'"),
        (["resolve", "echo", "--items", "x"], "--items"),
        (["resolve", "echo", "--items", "-1"], "--items"),
        (["resolve", "echo", "--items", "4294967296"], "--items"),
        (["up", "file", "--"], "there is no command after --"),
        (["up", "file", "--elements", "0"], "'0': write a number from 1 to 1000"),
        (["up", "file", "--elements", "1001"], "'1001': write a number from 1 to 1000"),
        (["up", "file", "--elements", "few"], "'few': write a number from 1 to 1000"),
        (["up", "file", "--weights", "5,,1"], "write numbers separated by commas, such as 5,1,1"),
        (["up", "file", "--weights", "4294967296"], "write numbers separated by commas"),
        (["up", "file", "--restart", "soon"], "--restart"),
        (["up", "file", "--restart", "-1"], "--restart"),
        (["up", "file", "--restart", "nan"], "--restart"),
        (["scale", "0"], "'0': write a number from 1 to 1000"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
@pytest.mark.usefixtures("nothing_runs")
def test_a_wrong_command_line_is_status_2_and_says_what_is_wrong(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["version"], ["--help"], ["decode", "0500000d00090009506f6f6c31000000"]], ids=" ".join
)
def test_who_stops_reading_gets_no_traceback(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rserpool_cli", *words]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(write)
    assert done.stderr == b""
