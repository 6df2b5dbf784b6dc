# SPDX-License-Identifier: Apache-2.0
"""Readers of HTTP and of the bodies it carries: our server, our client, and the operator's three questions."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from fuzz.trial import Read, Target, always
from rserpool.asap.authorisation import Role
from rserpool.daemon.control_channel import ChannelError, Loaded, question, read_answer
from rserpool.daemon.enrolment import EnrolmentRequest
from rserpool.transport.http import HttpError, HttpServer, Request, Response, ask
from rserpool.transport.http import Target as Place
from rserpool_operator.answers import json_of
from rserpool_operator.control.desk import _read as read_question
from rserpool_sidecar.channel.cards import CardError, order_of

REQUEST: Final = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED: Final = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"
PATIENCE: Final = 5.0


class _Loop:
    """An event loop on which nothing may fail that nobody catches."""

    def __init__(self) -> None:
        self.failures: list[BaseException | str] = []
        self._runner = asyncio.Runner()
        loop = self._runner.get_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(context.get("exception") or str(context)))

    def run(self, work: Callable[[], Any]) -> Any:
        found = self._runner.run(work())
        failures, self.failures = self.failures, []
        if failures:
            raise AssertionError(f"nobody caught {failures[0]!r}") from (
                failures[0] if isinstance(failures[0], BaseException) else None
            )
        return found

    def close(self) -> None:
        self._runner.close()


@contextmanager
def _looping() -> Iterator[_Loop]:
    loop = _Loop()
    try:
        yield loop
    finally:
        loop.close()


async def _echo(request: Request) -> Response:
    return Response(body=request.body)


@contextmanager
def _server() -> Iterator[Read]:
    """Our server, and a client that says this and nothing more. All it hears is HTTP."""
    with _looping() as loop, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        server = HttpServer({("POST", "/echo"): _echo, ("GET", "/echo"): _echo})
        loop.run(lambda: server.listen_unix(path))

        async def exchange(octets: bytes) -> bytes:
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(octets)
                writer.write_eof()
                async with asyncio.timeout(PATIENCE):
                    return await reader.read()
            except (ConnectionError, BrokenPipeError):  # it had heard enough
                return b""
            finally:
                writer.close()

        def read(octets: bytes) -> None:
            heard = loop.run(lambda: exchange(octets))
            assert not heard or heard.startswith(b"HTTP/1.1 "), "the answer is no HTTP"

        try:
            yield read
        finally:
            loop.run(server.close)


@contextmanager
def _client() -> Iterator[Read]:
    """Our client, and a server that answers this and hangs up."""
    with _looping() as loop, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        answer = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        server = loop.run(lambda: asyncio.start_unix_server(serve, sock=listener))

        def read(octets: bytes) -> None:
            nonlocal answer
            answer = octets
            response = loop.run(lambda: ask(Place(unix=path), "GET", "/", timeout=PATIENCE, most=4096))
            assert len(response.body) <= 4096

        async def close() -> None:
            server.close()
            await server.wait_closed()

        try:
            yield read
        finally:
            loop.run(close)


def _answer(octets: bytes) -> None:
    """What an operator answers; the first octet stands for the status."""
    read_answer(200 if octets[:1] != b"!" else 403, octets.removeprefix(b"!"))


def _answers() -> list[bytes]:
    uid = "0000000a-0000-4000-8000-00000000000a"
    parts = {
        "settings": {"version": "1", "tables": {"pool": {"handle": "echo"}}},
        "bundle": {"version": "1", "pem": "-----BEGIN"},
        "ended": {"version": "1", "pod_uids": [uid]},
        "renew": {"version": "1"},
    }
    return [json.dumps(parts).encode(), b"{}"]


class _Arrived:
    """An HTTP request of which aiohttp has read this body."""

    def __init__(self, octets: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.content = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        self.content.feed_data(octets)
        self.content.feed_eof()


@contextmanager
def _question() -> Iterator[Read]:
    """What a pod may say to the operator over the control channel."""
    with _looping() as loop:

        async def arrived(octets: bytes) -> dict[str, Any]:
            return await json_of(_Arrived(octets))  # type: ignore[arg-type] # all of a request that is read here

        def read(octets: bytes) -> None:
            _, wait, report = read_question(loop.run(lambda: arrived(octets)))
            assert 0 <= wait <= 25
            assert len(report.state) <= 16
            json.dumps(report.state)

        yield read


def _enrolment(octets: bytes) -> None:
    EnrolmentRequest.from_json(octets)


def _order(octets: bytes) -> None:
    assert order_of(octets)


TARGETS: Final = (
    Target(
        name="http-server",
        open=_server,
        seeds=lambda: [
            REQUEST,
            CHUNKED,
            REQUEST * 3,
            b"GET / HTTP/1.0\r\n\r\n",
            b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
    ),
    Target(
        name="http-client",
        open=_client,
        refuses=(HttpError,),
        seeds=lambda: [ANSWER, b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER, b"HTTP/1.0 200 OK\r\n\r\nhello"],
    ),
    Target(
        name="answer",
        open=always(_answer),
        refuses=(ChannelError,),
        seeds=_answers,
    ),
    Target(
        name="question",
        open=_question,
        refuses=(ValueError,),
        seeds=lambda: [question(Role.REGISTRAR, 2, Loaded(settings="1"), {"elements": 3, "text": "x"})],
    ),
    Target(
        name="enrolment",
        open=always(_enrolment),
        refuses=(ValueError,),
        seeds=lambda: [
            EnrolmentRequest(namespace="demo", pool="echo", role=Role.ELEMENT, request=b"-----BEGIN").to_json()
        ],
    ),
    Target(
        name="order",
        open=always(_order),
        refuses=(CardError,),
        seeds=lambda: [b'[1, 2, "0x0123abcd"]'],
        longest=512,
    ),
)
