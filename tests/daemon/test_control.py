# SPDX-License-Identifier: Apache-2.0
"""The control socket: its owner's only, gone with the daemon, and errors that name it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rserpool.daemon.control import ControlError, control, json_response, shows
from rserpool.transport.http import HttpServer, Request, Response


async def _broken(_: Request) -> Response:
    raise RuntimeError("with a secret in it")


async def _echo(request: Request) -> Response:
    return json_response({"method": request.method, "body": request.body.decode()})


ROUTES = {
    ("GET", "/status"): shows(lambda: {"state": "registered", "pool": "gr\u00fc\u00df"}),
    ("POST", "/drain"): _echo,
    ("GET", "/broken"): _broken,
    ("GET", "/refused"): shows(dict),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def serving(path: Path, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        server = HttpServer(ROUTES)
        try:
            await server.listen_unix(path)
            await test()
        finally:
            await server.close()
            await asyncio.sleep(0)

    asyncio.run(run())


async def refused(path: Path, method: str, target: str) -> str:
    with pytest.raises(ControlError) as raised:
        await control(path, method, target)
    return str(raised.value)


def test_a_view_is_answered_in_json_for_people_too(path: Path) -> None:
    async def test() -> None:
        assert await control(path, "GET", "/status") == {"state": "registered", "pool": "gr\u00fc\u00df"}
        assert await control(path, "POST", "/drain") == {"method": "POST", "body": ""}
        assert await control(path, "POST", "/drain", {"load": 0.5}) == {"method": "POST", "body": '{"load": 0.5}'}

    serving(path, test)
    body = json_response({"a": "gr\u00fc\u00df"}).body.decode()
    assert body == '{\n  "a": "gr\u00fc\u00df"\n}\n'
    assert json_response([], status=503).status == 503


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_socket_is_its_owners_only_whatever_the_umask(path: Path, umask: int) -> None:
    async def test() -> None:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    before = os.umask(umask)
    try:
        serving(path, test)
    finally:
        os.umask(before)


def test_a_socket_that_a_dead_process_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def test() -> None:
        assert (await control(path, "GET", "/status"))["state"] == "registered"

    serving(path, test)


def test_a_file_that_is_no_socket_is_not_replaced(path: Path) -> None:
    """A path mistyped in the configuration must not cost its owner a file."""
    path.write_text("precious")

    async def test() -> None:
        pytest.fail("it listens")

    with pytest.raises(OSError, match=str(path)):
        serving(path, test)
    assert path.read_text() == "precious"


def test_a_socket_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        pytest.fail("it listens")

    for path in (tmp_path / "none" / "s", tmp_path / ("s" * 200)):
        with pytest.raises(OSError, match=str(path)):
            serving(path, test)


def test_nobody_there_is_an_error_that_names_the_socket(path: Path) -> None:
    assert asyncio.run(refused(path, "GET", "/status")).startswith(f"{path}: ")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        assert asyncio.run(refused(path, "GET", "/status")).startswith(f"{path}: ")


def test_a_daemon_that_hangs_is_not_waited_for_without_end(path: Path) -> None:
    async def run() -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            deaf.listen()
            with pytest.raises(ControlError, match=r"no answer within 0\.05 s"):
                await control(path, "GET", "/status", timeout=0.05)

    asyncio.run(run())


def test_a_refusal_tells_its_status_and_a_fault_tells_no_more(path: Path) -> None:
    async def test() -> None:
        assert await refused(path, "GET", "/none") == f"{path}: 404 no such thing"
        assert await refused(path, "GET", "/drain") == f"{path}: 405 no such thing"
        assert await refused(path, "GET", "/broken") == f"{path}: 500 internal error"
        assert json.dumps(await control(path, "GET", "/status"))

    serving(path, test)


def test_an_answer_that_is_not_json_is_a_control_error(path: Path) -> None:
    """Somebody else's socket."""

    async def run() -> None:
        async def other(_: Request) -> Response:
            return Response(body=b"<html>")

        server = HttpServer({("GET", "/status"): other})
        await server.listen_unix(path)
        try:
            assert str(path) in await refused(path, "GET", "/status")
        finally:
            await server.close()

    asyncio.run(run())
