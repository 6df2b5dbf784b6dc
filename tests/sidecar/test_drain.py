# SPDX-License-Identifier: Apache-2.0
"""`rserpool-sidecar drain`, a pod's preStop hook: quick to start, bounded, and never a reason to kill anything."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rserpool.transport.http import HttpServer, Request, Response
from rserpool_sidecar.drain import main

PROGRAM = [sys.executable, "-m", "rserpool_sidecar", "drain"]


def drain(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RSERPOOL_CONTROL_SOCKET": str(path)}
    return subprocess.run(
        [*PROGRAM, *options], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def against(path: Path, answer: Response, delay: float, *options: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Drain a sidecar that takes so long; returns how that ended and how often it was asked."""
    asked: list[Request] = []

    async def drained(request: Request) -> Response:
        asked.append(request)
        await asyncio.sleep(delay)
        return answer

    async def run() -> subprocess.CompletedProcess[str]:
        server = HttpServer({("POST", "/drain"): drained})
        await server.listen_unix(path)
        try:
            return await asyncio.to_thread(drain, path, *options)
        finally:
            await server.close()

    return asyncio.run(run()), len(asked)


def test_it_returns_when_the_sidecar_has_left(tmp_path: Path) -> None:
    began = time.monotonic()
    ended, asked = against(tmp_path / "s", Response(body=b"{}"), 0.5)
    assert (ended.returncode, ended.stdout, ended.stderr, asked) == (0, "", "", 1)
    assert time.monotonic() - began > 0.5


def test_a_sidecar_that_is_slow_is_not_waited_for_longer_than_that(tmp_path: Path) -> None:
    ended, _ = against(tmp_path / "s", Response(), 5.0, "--timeout", "0.2")
    assert ended.returncode == 0
    assert ended.stderr == "rserpool-sidecar drain: the sidecar has not left the pool within 0.2 s\n"


def test_a_sidecar_that_fails_is_told_and_no_failure(tmp_path: Path) -> None:
    ended, _ = against(tmp_path / "s", Response(status=500), 0.0)
    assert ended.returncode == 0
    assert "has ended while it was asked" in ended.stderr


def test_a_sidecar_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    ended = drain(tmp_path / "s")
    assert ended.returncode == 0
    assert "no sidecar answers at" in ended.stderr
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    assert drain(tmp_path / "s").returncode == 0


@pytest.mark.parametrize(
    "arguments", [["--timeout"], ["--timeout", "soon"], ["--timeout", "0"], ["--timeout=nan"], ["-x"], ["now"], []]
)
def test_a_wrong_command_line_is_told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RSERPOOL_CONTROL_SOCKET", raising=False)
    assert main(arguments) == 2
    assert "rserpool-sidecar drain" in capsys.readouterr().err


def test_its_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Leave the pool" in capsys.readouterr().out


def test_it_loads_sockets_and_next_to_nothing_else(tmp_path: Path) -> None:
    """What it loads beyond what Python has loaded by itself decides how soon it starts."""
    bare = "import sys; before = set(sys.modules); "
    ask = f"from rserpool_sidecar.__main__ import main; main(['drain', '--socket', {str(tmp_path / 's')!r}]); "
    show = "print(len(set(sys.modules) - before), 'asyncio' in sys.modules, 'argparse' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", bare + ask + show], capture_output=True, text=True, check=True)
    modules, *large = told.stdout.split()
    assert large == ["False", "False"]
    assert int(modules) < 40
