# SPDX-License-Identifier: Apache-2.0
"""The HTTP client: one request, one deadline, a bounded answer, and a reason for every failure."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport.http import MOST_BODY, HttpError, Target, ask
from rserpool.transport.tls import make_context
from support.rig_transport import NOBODYS, OTHER_CA, aside, credentials, deaf, peer_context, plays

pytestmark = pytest.mark.usefixtures("either_loop")
Serve = Callable[[socket.socket], object]


def heard(peer: socket.socket) -> bytes:
    """A request's head, and what has come of its body with it."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        piece = peer.recv(65536)
        if not piece:
            break
        octets += piece
    return octets


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[int, asyncio.Future[object]]]:
    """A server for one connection; the future is what ``serve`` returns."""

    def work() -> object:
        peer, _ = server.accept()
        peer.settimeout(10)
        with peer, contextlib.suppress(ConnectionError, ssl.SSLError):
            return serve(peer)
        return None

    with deaf() as (port, server):
        done: asyncio.Future[object] = asyncio.ensure_future(aside(work))
        try:
            yield port, done
        finally:
            await done


def says(*pieces: bytes) -> Serve:
    def serve(peer: socket.socket) -> bytes:
        request = heard(peer)
        for piece in pieces:
            peer.sendall(piece)
        return request

    return serve


OK = b"HTTP/1.1 200 OK\r\n"


@plays
async def test_a_request_is_complete_and_its_answer_is_given_whole() -> None:
    answer = b"HTTP/1.1 418 Teapot\r\nContent-Type: a/b\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nshort"
    async with served(says(*(answer[k : k + 1] for k in range(len(answer))))) as (port, done):
        target = Target(host="127.0.0.1", port=port, local=IPv4Address("127.0.5.5"))
        got = await ask(target, "POST", "/a?b=c", body=b"body", headers={"X-Token": "t"})
        assert (got.status, got.body, got.content_type, got.headers["x-y"]) == (418, b"short", "a/b", "z")
        request = await done
    assert isinstance(request, bytes)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert b"x-token: t" in head.lower()
    assert body in (b"body", b"")  # the rest may come in another segment


ANSWERS: list[tuple[bytes, bytes]] = [
    (b"Content-Length: 0\r\n\r\n", b""),
    (b"\r\nuntil the end", b"until the end"),
    (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
]


@plays
@pytest.mark.parametrize(("rest", "body"), ANSWERS)
async def test_every_way_to_end_an_answer_is_understood(rest: bytes, body: bytes) -> None:
    async with served(says(OK + rest)) as (port, _):
        assert (await ask(Target(host="127.0.0.1", port=port), "GET", "/")).body == body


@plays
async def test_an_interim_answer_before_the_answer_is_passed_over() -> None:
    """An application may say 103 first (RFC 9110 15.2); a client must be able to take it."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    def serve(peer: socket.socket) -> None:
        heard(peer)
        peer.sendall(hints + OK + b"Content-Length: 2\r\n\r\nok")
        peer.recv(1)

    async with served(serve) as (port, _):
        got = await ask(Target(host="127.0.0.1", port=port), "GET", "/", timeout=2)
        assert (got.status, got.body) == (200, b"ok")


BAD: list[tuple[bytes, str]] = [
    (b"", "closed by the peer"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", "the answer is not HTTP: "),
    (OK + b"Content-Length: x\r\n\r\n", "the answer is not HTTP: "),
    (OK + b"Content-Length: 10\r\n\r\nshort", "closed by the peer"),
    (OK + b"Content-", "closed by the peer"),
    (OK + b"X: y\r\n" * 20000, "the answer is not HTTP: "),
    (OK + b"\r\n" + b"x" * (16 * MOST_BODY + 1), "the answer is too long"),
]


@plays
@pytest.mark.parametrize(("octets", "why"), BAD)
async def test_what_is_no_good_answer_is_a_reason(octets: bytes, why: str) -> None:
    async with served(says(octets)) as (port, _):
        with pytest.raises(HttpError, match=f"^{why}"):
            await ask(Target(host="127.0.0.1", port=port), "GET", "/")


def waits(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def drips(peer: socket.socket) -> None:
    heard(peer)
    peer.sendall(OK + b"Content-Length: 100000\r\n\r\n")
    peer.settimeout(0.01)
    for _ in range(1000):
        peer.sendall(b"x")
        with contextlib.suppress(TimeoutError):
            if not peer.recv(1):
                return


@plays
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("serve", [waits, drips], ids=["never", "drop by drop"])
async def test_one_deadline_holds_for_everything(serve: Serve, tls: bool) -> None:
    began = time.monotonic()
    context = make_context(NOBODYS, require_certificate=True) if tls else None
    async with served(serve if not tls else waits) as (port, _):
        with pytest.raises(HttpError, match=r"^no answer within 0\.2 s$"):
            await ask(Target(host="127.0.0.1", port=port, context=context), "GET", "/", timeout=0.2)
    assert 0.18 <= time.monotonic() - began < 3


@plays
async def test_nobody_there_is_a_reason_on_every_kind_of_socket(tmp_path: Path) -> None:
    with deaf() as (port, _):
        pass
    with pytest.raises(HttpError, match=r"^connection refused$"):
        await ask(Target(host="127.0.0.1", port=port), "GET", "/")
    with pytest.raises(HttpError, match=r"^no such file or directory$"):
        await ask(Target(unix=tmp_path / "none"), "GET", "/")


@plays
@pytest.mark.parametrize("value", ["secret\r\nX: y", "secr\u20act"])
async def test_a_header_that_cannot_be_sent_is_a_reason_that_does_not_show_it(value: str) -> None:
    with pytest.raises(HttpError, match="cannot be sent") as raised:
        await ask(Target(), "GET", "/", headers={"authorization": value})
    assert "secr" not in str(raised.value)
    assert raised.value.__cause__ is None


@plays
async def test_a_server_of_another_authority_is_told_nothing() -> None:
    theirs = peer_context(credentials(signer=OTHER_CA), server=True)
    theirs.verify_mode = ssl.CERT_NONE

    def serve(peer: socket.socket) -> bytes:
        try:
            with theirs.wrap_socket(peer, server_side=True) as tls:
                return tls.recv(65536)
        except (ssl.SSLError, ConnectionError):
            return b"nothing"

    async with served(serve) as (port, done):
        context = make_context(NOBODYS, require_certificate=True)
        with pytest.raises(HttpError, match="authority of this pool"):
            await ask(Target(host="127.0.0.1", port=port, context=context), "POST", "/", body=b"token")
        assert await done == b"nothing"


@plays
@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", None), ("localhost", "localhost")])
async def test_a_server_is_asked_for_by_name_and_never_by_address(host: str, asked: str | None) -> None:
    """Literal addresses are no server names (RFC 6066 3); some servers hang up on them."""
    theirs, names = peer_context(credentials(), server=True), list[str | None]()
    theirs.verify_mode = ssl.CERT_NONE
    theirs.sni_callback = lambda _, name, __: names.append(name)

    def serve(peer: socket.socket) -> None:
        with theirs.wrap_socket(peer, server_side=True) as tls:
            heard(tls)
            tls.sendall(OK + b"Content-Length: 0\r\n\r\n")

    async with served(serve) as (port, _):
        context = make_context(credentials(Role.ELEMENT), require_certificate=True)
        assert (await ask(Target(host=host, port=port, context=context), "GET", "/")).status == 200
    assert names == [asked]


@plays
async def test_an_ipv6_address_is_in_brackets_in_its_host_header() -> None:
    requests: list[bytes] = []

    def work() -> None:
        peer, _ = server.accept()
        with peer:
            requests.append(heard(peer))
            peer.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        serving = asyncio.ensure_future(aside(work))
        await ask(Target(host="::1", port=server.getsockname()[1]), "GET", "/")
        await serving
    (host,) = [line for line in requests[0].lower().split(b"\r\n") if line.startswith(b"host:")]
    assert host.startswith(b"host: [::1]")
