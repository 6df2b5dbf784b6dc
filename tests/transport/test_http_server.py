# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: routes, bad requests, bounds, and the Unix socket that only its owner can use."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Role
from rserpool.transport import http as transport_http
from rserpool.transport.http import MOST_BODY, MOST_CONNECTIONS, HttpServer, Request, Response, Target, ask
from rserpool.transport.tls import make_context
from support.rig_transport import (
    HERE,
    NOBODYS,
    PATIENCE,
    aside,
    closing,
    credentials,
    dialled,
    drained,
    peer_context,
    plays,
    shaken,
)

pytestmark = pytest.mark.usefixtures("either_loop")


class Application:
    """Routes that remember their requests; ``/slow`` waits for the test."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.go = asyncio.Event()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def _echo(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(body=request.body, headers={"x-served-by": "us"})

    async def _slow(self, _: Request) -> Response:
        self.began.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return Response(body=b"at last")

    async def _broken(self, _: Request) -> Response:
        raise RuntimeError("a secret of ours")

    def server(self) -> HttpServer:
        echo, slow = self._echo, self._slow
        routes = {("GET", "/"): echo, ("POST", "/"): echo, ("GET", "/broken"): self._broken}
        return closing(HttpServer({**routes, ("GET", "/slow"): slow, ("POST", "/slow"): slow}))


async def serving() -> tuple[Application, int]:
    application = Application()
    return application, await application.server().listen(HERE, 0)


def raw(port: int, octets: bytes) -> bytes:
    """What a server says to these octets until it ends the connection."""
    peer = dialled(port)
    with contextlib.suppress(ConnectionError):
        peer.sendall(octets)
    return drained(peer)


CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


@plays
async def test_a_request_reaches_its_handler_whole() -> None:
    application, port = await serving()

    def talk() -> list[tuple[int, bytes, str | None]]:
        client, answers = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE), []
        for body in (b"one", b"x" * MOST_BODY):  # twice on one connection
            client.request("POST", "/?a=1&b=/?", body, {"X-Token": "abc"})
            answer = client.getresponse()
            answers.append((answer.status, answer.read(), answer.getheader("x-served-by")))
        client.close()
        return answers

    assert await aside(talk) == [(200, b"one", "us"), (200, b"x" * MOST_BODY, "us")]
    first = application.requests[0]
    assert (first.method, first.path, first.query, first.body) == ("POST", "/", "a=1&b=/?", b"one")
    assert (first.headers["x-token"], first.certificate, first.peer) == ("abc", None, "127.0.0.1")


@plays
@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.1", b"200"),
        (b"GET /nothing HTTP/1.1", b"404"),
        (b"GET /../etc/passwd HTTP/1.1", b"404"),
        (b"DELETE / HTTP/1.1", b"405"),
        (b"GET /broken HTTP/1.1", b"500"),
        (b"GET / HTTP/1.0", b"200"),
        (b"CONNECT / HTTP/1.1", b"405"),
    ],
)
async def test_every_request_gets_its_status(line: bytes, status: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    _, port = await serving()
    answer = await aside(raw, port, line + b"\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"secret" not in answer


@plays
@pytest.mark.parametrize("path", [b"/", b"/nothing"])
async def test_a_head_request_is_answered_without_a_body(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_http, "IDLE", 0.5)
    _, port = await serving()
    answer = await aside(raw, port, b"HEAD " + path + b" HTTP/1.1\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 40")
    assert answer.endswith(b"\r\n\r\n")


BAD: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a space in a header's name": b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "no number as length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an unknown encoding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    "endless headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10000,
    "an endless line": b"GET /" + b"a" * 100_000,
    "a body that is too long": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1)
    + b"x" * (MOST_BODY + 1),
    "a chunked body that is too long": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"8000\r\n%s\r\n" % (b"x" * 0x8000) * 9
    + b"0\r\n\r\n",
}


@plays
@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
async def test_a_bad_request_ends_the_connection_and_no_handler_hears_of_it(octets: bytes) -> None:
    application, port = await serving()
    answer = await aside(raw, port, octets)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert application.requests == []
    assert (await ask(Target(host="127.0.0.1", port=port), "GET", "/")).status == 200


@plays
async def test_pipelined_requests_are_answered_in_order() -> None:
    application, port = await serving()
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
    answer = await aside(raw, port, b"".join(one % n for n in range(3)) + b"GET /nothing HTTP/1.1\r\n" + CLOSE)
    assert [r.body for r in application.requests] == [b"0", b"1", b"2"]
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 3 + [b"404"]


@plays
async def test_what_a_client_sends_while_it_waits_is_bounded() -> None:
    """A handler may take long (a long poll does); until then nobody looks at what comes behind the request."""
    _, port = await serving()

    def push() -> bool:
        with dialled(port) as peer:
            peer.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            peer.settimeout(0.5)
            try:
                peer.sendall(bytes(48 << 20))
            except OSError:
                return True  # cut off, or not read any more
            return False

    assert await aside(push)


@plays
async def test_a_handler_is_cancelled_when_its_client_has_gone() -> None:
    application, port = await serving()
    peer = await aside(dialled, port)
    peer.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await application.began.wait()
    peer.close()
    await application.ended.wait()
    assert not application.go.is_set()


@plays
async def test_who_is_silent_or_slow_with_a_request_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """An octet from time to time is not a request: 64 such clients would keep all others away."""
    monkeypatch.setattr(transport_http, "IDLE", 0.15)
    _, port = await serving()
    assert await aside(raw, port, b"GET / HT") == b""

    def drip() -> bool:
        began = time.monotonic()
        with dialled(port) as peer:
            peer.settimeout(0.05)
            peer.sendall(b"GET / HTTP/1.1\r\nX: ")
            while time.monotonic() - began < 3:
                try:
                    peer.sendall(b"y")
                    if not peer.recv(100):
                        return True
                except TimeoutError:
                    pass
                except ConnectionError:
                    return True
        return False

    assert await aside(drip)


@plays
async def test_64_connections_are_served_and_those_beyond_are_closed_until_one_leaves() -> None:
    application, port = await serving()
    peers = [await aside(dialled, port) for _ in range(MOST_CONNECTIONS)]
    assert MOST_CONNECTIONS == 64
    for peer in peers:  # each of them is known to the server
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await aside(peer.recv, 12) == b"HTTP/1.1 200"
    assert await aside(raw, port, b"GET / HTTP/1.1\r\n" + CLOSE) == b""
    for peer in peers:
        peer.close()
    answer = b""
    while not answer:
        answer = await aside(raw, port, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(application.requests) == MOST_CONNECTIONS + 1


@plays
async def test_tls_is_by_the_context_of_the_moment_and_the_handler_sees_the_certificate() -> None:
    application = Application()
    contexts = [make_context(credentials(Role.REGISTRAR, n), require_certificate=False) for n in (1, 2)]
    port = await application.server().listen(HERE, 0, lambda: contexts[0])
    der, seen = serialization.Encoding.DER, []

    def talk(own: ssl.SSLContext) -> bytes:
        with shaken(port, own) as peer:
            seen.append(peer.getpeercert(binary_form=True))
            peer.sendall(b"GET / HTTP/1.1\r\n" + CLOSE)
            return peer.recv(12)

    element = credentials(Role.ELEMENT)
    assert await aside(talk, peer_context(element)) == b"HTTP/1.1 200"
    contexts.reverse()
    assert await aside(talk, peer_context(NOBODYS)) == b"HTTP/1.1 200"
    assert [r.certificate for r in application.requests] == [element.chain[0].public_bytes(der), None]
    assert seen == [credentials(Role.REGISTRAR, n).chain[0].public_bytes(der) for n in (1, 2)]
    assert await aside(raw, port, b"GET / HTTP/1.1\r\n" + CLOSE) == b""


@plays
@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_the_unix_socket_is_its_owners_alone_and_replaces_a_dead_one(tmp_path: Path, umask: int) -> None:
    path, application = tmp_path / "control", Application()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    before = os.umask(umask)
    try:
        await application.server().listen_unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = await ask(Target(unix=path), "GET", "/")
    assert (answer.status, application.requests[0].peer) == (200, "")


@plays
async def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    """A slip in the configuration must not cost a file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=f"^{path}: "):
        await Application().server().listen_unix(path)
    assert path.read_text() == "data"


@plays
async def test_a_socket_somebody_listens_on_is_not_taken_away(tmp_path: Path) -> None:
    path, living = tmp_path / "control", Application()
    await living.server().listen_unix(path)
    with pytest.raises(OSError, match="another process listens on it"):
        await Application().server().listen_unix(path)
    assert (await ask(Target(unix=path), "GET", "/")).status == 200
    assert len(living.requests) == 1


@plays
@pytest.mark.parametrize(
    "make", [lambda p: p / "none" / "control", lambda p: p / ("x" * 200)], ids=["no folder", "long"]
)
async def test_a_unix_socket_that_cannot_be_made_is_an_error(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(OSError, match=f"^{tmp_path}/.*: "):
        await Application().server().listen_unix(make(tmp_path))


@plays
async def test_closing_ends_what_is_being_served_and_frees_the_port() -> None:
    application = Application()
    server = application.server()
    port = await server.listen(HERE, 0)
    asking = asyncio.ensure_future(aside(raw, port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await application.began.wait()
    await server.close()
    assert await asking == b""
    await application.ended.wait()
    assert await Application().server().listen(HERE, port) == port
