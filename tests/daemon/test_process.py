# SPDX-License-Identifier: Apache-2.0
"""The life of a daemon: what its command line says, what ends it, and with which status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from rserpool import __version__
from rserpool.daemon.process import MOST_LOOKUPS, _Impatient, first_of, run_daemon, until
from rserpool_sidecar.config import SidecarSettings


async def forever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise RuntimeError("half of its work is gone")


async def done() -> None:
    return


def run(argv: list[str], main: Any = None) -> int:
    """The program, in this process."""

    async def not_reached(_: object, __: asyncio.Event) -> int:
        pytest.fail("it runs")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return run_daemon("rserpool-test", SidecarSettings, main or not_reached, argv, uvloop=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- the command line


def test_the_example_is_printed_and_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--example"]) == 0
    file = tmp_path / "pool.toml"
    file.write_text(capsys.readouterr().out)

    async def main(settings: SidecarSettings, _: asyncio.Event) -> int:
        assert settings.pool.name == "echo"
        return 7

    assert run(["--config", str(file)], main) == 7


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"rserpool-test {__version__}\n"


def test_a_configuration_that_cannot_be_used_is_told_line_by_line_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[pool]\nnamespace = 'demo'\nnam = 'echo'\n")
    assert run(["--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"rserpool-test: {file}:3: [pool] unknown key 'nam'; did you mean name?"
    assert lines[1] == f'rserpool-test: {file}:1: [pool] name is required: write name = "echo"'
    assert all(line.startswith(f"rserpool-test: {file}") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_stop_and_it_ends_in_its_own_time(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    for section, key, value in (
        ("POOL", "NAMESPACE", "demo"),
        ("POOL", "NAME", "echo"),
        ("NETWORK", "ADDRESS", "127.0.0.1"),
        ("REGISTRARS", "ADDRESSES", "a:1"),
        ("APPLICATION", "PORT", "7007"),
    ):
        monkeypatch.setenv(f"RSERPOOL_{section}_{key}", value)
    order = []

    async def main(settings: SidecarSettings, stop: asyncio.Event) -> int:
        assert settings.application.port == 7007
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        status = await until(stop, [forever()])
        order.append("deregistered")
        return status

    assert run([], main) == 0
    assert order == ["deregistered"]


@pytest.mark.parametrize("module", ["rserpool_registrar", "rserpool_sidecar"])
def test_both_programs_tell_a_contradiction_of_timers_as_a_fault_and_not_as_a_crash(
    tmp_path: Path, module: str
) -> None:
    file = tmp_path / "pool.toml"
    rest = {
        "rserpool_registrar": "[timers]\nheartbeat = '10s'\nlast_heard = '15s'\n",
        "rserpool_sidecar": (
            "[registrars]\naddresses = ['127.0.0.1:1']\n[application]\nport = 7007\n[timers]\nregistration_life = 1.5\n"
        ),
    }[module]
    head = "[pool]\nnamespace = 'demo'\nname = 'echo'\n[network]\naddress = '127.0.0.1'\nhttp_port = 0\n"
    file.write_text(head + "[security]\nmode = 'Insecure'\n" + rest)
    ended = subprocess.run(
        [sys.executable, "-m", module, "--config", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "[timers] " in ended.stderr
    assert str(file) in ended.stderr


# -- what runs in the background


def go(background: list[Coroutine[Any, Any, None]], *, stop: bool = False) -> int:
    async def main() -> int:
        told = asyncio.Event()
        if stop:
            asyncio.get_running_loop().call_soon(told.set)
        status = await until(told, background)
        assert len(asyncio.all_tasks()) == 1, "something still runs"
        return status

    return asyncio.run(main())


def test_being_told_to_stop_ends_everything_with_status_0() -> None:
    assert go([forever(), forever()], stop=True) == 0
    assert go([], stop=True) == 0


def test_work_that_fails_ends_the_process_with_status_1_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that does only half of its work must not look healthy."""
    assert go([forever(), broken(), forever()]) == 1
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.getMessage() == "RuntimeError: half of its work is gone"
    assert record.exc_info is not None


def test_work_that_is_done_ends_nothing() -> None:
    assert go([done(), forever(), done()], stop=True) == 0


def test_work_is_given_the_time_to_clean_up() -> None:
    order = []

    async def careful() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("clean")

    assert go([careful()], stop=True) == 0
    assert order == ["clean"]


def test_what_is_waited_for_is_had_or_the_stop_is() -> None:
    async def value() -> int:
        await asyncio.sleep(0)
        return 7

    async def never() -> int:
        await forever()
        return 8

    async def main() -> None:
        stop = asyncio.Event()
        assert await first_of(value(), stop) == 7
        with pytest.raises(RuntimeError, match="half"):
            await first_of(broken(), stop)
        asyncio.get_running_loop().call_soon(stop.set)
        assert await first_of(never(), stop) is None
        assert await first_of(never(), stop) is None, "told before it was asked"

    asyncio.run(main())


# -- names that are looked up


@pytest.mark.parametrize("uvloop", [False, True])
def test_a_resolver_that_is_silent_does_not_hold_up_the_end(uvloop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, over = 0, threading.Event()

    def silent(*_: object, **__: object) -> list[Any]:
        nonlocal asked
        asked += 1
        over.wait(30)
        return []

    async def main(_: object, __: asyncio.Event) -> int:
        loop = asyncio.get_running_loop()
        tasks = [
            asyncio.ensure_future(loop.getaddrinfo("a.name", 1)),
            asyncio.ensure_future(loop.create_connection(asyncio.Protocol, "a.name", 1)),
        ]
        while asked < len(tasks):  # noqa: ASYNC110 - threads set it
            await asyncio.sleep(0.01)
        return 7

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    for section, key, value in (("POOL", "NAMESPACE", "demo"), ("POOL", "NAME", "echo"), ("NETWORK", "ADDRESS", "::1")):
        monkeypatch.setenv(f"RSERPOOL_{section}_{key}", value)
    monkeypatch.setenv("RSERPOOL_OPERATOR_URL", "https://a.name")
    began = time.monotonic()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert run_daemon("rserpool-test", SidecarSettings, main, [], uvloop=uvloop) == 7
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert time.monotonic() - began < 5


def test_no_more_names_are_looked_up_at_once_than_a_process_can_bear() -> None:
    over = threading.Event()
    threads = _Impatient()
    waiting = [threads.submit(over.wait, 30) for _ in range(MOST_LOOKUPS)]
    with pytest.raises(OSError, match="too many names"):
        threads.submit(over.wait).result()
    over.set()
    assert all(future.result() for future in waiting)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result()
    assert threads.submit(divmod, 7, 2).result() == (3, 1)
    threads.shutdown()


def test_what_runs_beside_and_fails_ends_the_waiting() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        beside = [asyncio.ensure_future(done()), asyncio.ensure_future(broken())]
        with pytest.raises(RuntimeError, match="half"):
            await first_of(forever(), stop, beside)

    asyncio.run(main())
