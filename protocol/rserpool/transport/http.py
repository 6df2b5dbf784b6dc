# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 by h11 over our own streams: health, metrics, the control socket, enrolment, and probes of applications.

Small requests and answers only: everything is bounded, and a connection that is slow is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import h11
from OpenSSL import SSL

from rserpool.transport.names import literal
from rserpool.transport.stream import ByteStream, Ending, describe
from rserpool.transport.tls import TlsEngine
from rserpool.wire import Address

_log: Final = logging.getLogger(__name__)
MOST_BODY: Final = 256 * 1024
MOST_CONNECTIONS: Final = 64
IDLE: Final = 10.0


class HttpError(Exception):
    """A request that got no answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that has come in whole.

    Attributes:
        path: without the query.
        certificate: the client's verified leaf, DER, where TLS asked for one.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    certificate: bytes | None
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]


class HttpServer:
    """Serves routes on a port or on a Unix socket.

    Args:
        routes: (method, path) -> handler.
        most: connections at a time; further ones are ended.
    """

    def __init__(self, routes: Routes, *, most: int = MOST_CONNECTIONS) -> None:
        self._routes = routes
        self._most = most
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Served] = set()

    async def listen(self, address: Address | None, port: int, context: Callable[[], SSL.Context] | None = None) -> int:
        """Listen on TCP, with TLS if there is a context; returns the port.

        Raises:
            OSError: the port cannot be had.
        """
        host = str(address) if address is not None else None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: self._accept(context), host, port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket that only its owner can use; what a dead process left there is replaced.

        Raises:
            OSError: the socket cannot be made there.
        """
        loop = asyncio.get_running_loop()
        try:
            if path.exists():
                await _only_if_left(path)
            path.unlink(missing_ok=True)
            server = await loop.create_unix_server(lambda: self._accept(None), sock=_private_socket(path))
        except OSError as e:
            raise OSError(f"{path}: {describe(e)}") from None
        self._servers.append(server)

    def _accept(self, context: Callable[[], SSL.Context] | None) -> ByteStream:
        stream = ByteStream(TlsEngine(context(), server=True) if context else None, handshake=5.0, idle=IDLE)
        served = _Served(stream, self._routes, self._connections.discard)
        if len(self._connections) >= self._most:
            stream.on_connected = stream.abort
        else:
            self._connections.add(served)
        return stream

    async def close(self) -> None:
        """Stop listening, end all connections."""
        for server in self._servers:
            server.close()
        for served in list(self._connections):
            served.end()


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that never, not even for a moment, is everybody's."""
    made = socket.socket(socket.AF_UNIX)
    others = os.umask(0o177)
    try:
        made.bind(str(path))
    except OSError:
        made.close()
        raise
    finally:
        os.umask(others)
    return made


async def _only_if_left(path: Path) -> None:
    """Refuse to replace what is no socket, or what somebody listens on."""
    if not path.is_socket():
        raise FileExistsError("is there already, and is no socket")
    try:
        transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, str(path))
    except OSError:
        return
    transport.abort()
    raise FileExistsError("another process listens on it")


class _Served:
    """One connection of a server."""

    def __init__(self, stream: ByteStream, routes: Routes, gone: Callable[[_Served], None]) -> None:
        self._stream = stream
        self._routes = routes
        self._gone = gone
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = b""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._early = 0
        stream.on_ready = self._expect
        stream.on_bytes = self._received
        stream.on_end = self._ended

    def _expect(self) -> None:
        """A request must be there whole in time, however busily it is sent."""
        self._early = 0
        self._timer = asyncio.get_running_loop().call_later(IDLE, self.end)

    def _expect_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        self._expect_no_more()
        if self._task is not None:
            self._task.cancel()
        self._stream.abort()
        self._gone(self)

    def _ended(self, _: Ending) -> None:
        self._expect_no_more()
        if self._task is not None:
            self._task.cancel()
        self._gone(self)

    def _received(self, data: bytes) -> None:
        if self._task is not None:  # nobody reads it until the answer is there
            self._early += len(data)
            if self._early > MOST_BODY:
                self.end()
                return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError:
            self.end()

    def _read(self) -> None:
        while self._task is None:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            match event:
                case h11.Request():
                    self._request, self._body = event, b""
                case h11.Data():
                    self._body += bytes(event.data)
                    if len(self._body) > MOST_BODY:
                        self.end()
                        return
                case h11.EndOfMessage():
                    self._expect_no_more()
                    self._task = asyncio.get_running_loop().create_task(self._serve())
                case h11.ConnectionClosed():
                    self.end()
                    return

    async def _serve(self) -> None:
        assert self._request is not None
        path, _, query = self._request.target.decode("ascii", "replace").partition("?")
        engine = self._stream.engine
        request = Request(
            method=self._request.method.decode("ascii", "replace"),
            path=path,
            query=query,
            headers={k.decode("ascii"): v.decode("latin-1") for k, v in self._request.headers},
            body=self._body,
            certificate=engine.peer_certificate if engine is not None else None,
            peer=self._stream.peer[0],
        )
        handler = self._routes.get((request.method, request.path))
        if handler is not None:
            try:
                response = await handler(request)
            except Exception:  # noqa: BLE001 - whatever a handler does, its client gets an answer
                _log.exception("%s %s", request.method, request.path)
                response = Response(status=500, body=b"internal error\n")
        else:
            known = any(path == request.path for _, path in self._routes)
            response = Response(status=405 if known else 404, body=b"no such thing\n")
        self._answer(response)

    def _answer(self, response: Response) -> None:
        headers = {
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            **response.headers,
        }
        head = h11.Response(status_code=response.status, headers=list(headers.items()))
        assert self._request is not None
        body = b"" if self._request.method == b"HEAD" else response.body
        octets = b"".join(self._http.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage()))
        self._stream.write(octets)
        self._task = None
        if self._http.our_state is h11.MUST_CLOSE:
            self._stream.close()
            self._gone(self)
            return
        self._http.start_next_cycle()
        self._expect()
        try:
            self._read()
        except h11.RemoteProtocolError:
            self.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask.

    Attributes:
        host, port: where; or ``unix``, a socket's path.
        context: TLS, if the server speaks it.
        local: address to ask from.
    """

    host: str = "localhost"
    port: int = 80
    unix: Path | None = None
    context: SSL.Context | None = None
    local: Address | None = None


async def ask(
    target: Target,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,  # noqa: ASYNC109 - one deadline for connecting, handshake and answer
    most: int = 16 * MOST_BODY,
) -> Response:
    """Make one request on a connection of its own; its answer's body may be of ``most`` octets.

    Raises:
        HttpError: no answer within ``timeout`` seconds, or no good one.
    """
    name = target.host if literal(target.host) is None else None  # an address is no server name (RFC 6066 3)
    engine = TlsEngine(target.context, server=False, host=name) if target.context is not None else None
    stream = ByteStream(engine, handshake=timeout + 1)
    try:
        asked = _Asked(stream, method, path, target.host, body, headers or {}, most)
    except (h11.LocalProtocolError, UnicodeEncodeError):  # its text may hold a token
        raise HttpError("the request cannot be sent: its path or a header is not HTTP") from None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if target.unix is not None:
                await loop.create_unix_connection(lambda: stream, str(target.unix))
            else:
                local = (str(target.local), 0) if target.local is not None else None
                await loop.create_connection(lambda: stream, target.host, target.port, local_addr=local)
            return await asked.done
    except TimeoutError:
        raise HttpError(f"no answer within {timeout:g} s") from None
    except OSError as e:
        raise HttpError(describe(e)) from None
    finally:
        stream.abort()


class _Asked:
    """One request of a client."""

    def __init__(
        self, stream: ByteStream, method: str, path: str, host: str, body: bytes, headers: Mapping[str, str], most: int
    ) -> None:
        self._stream = stream
        self._most = most
        self._http = h11.Connection(h11.CLIENT)
        self._events = (
            h11.Request(
                method=method,
                target=path,
                headers=list(
                    {
                        "host": f"[{host}]" if ":" in host else host,
                        **{name.lower(): value for name, value in headers.items()},
                        "content-length": str(len(body)),
                        "connection": "close",
                    }.items()
                ),
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        self._head: h11.Response | None = None
        self._body = b""
        self.done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        stream.on_ready = self._ready
        stream.on_bytes = self._received
        stream.on_end = self._ended

    def _ready(self) -> None:
        self._stream.write(b"".join(self._http.send(event) or b"" for event in self._events))

    def _received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as e:
            self._fail(f"the answer is not HTTP: {e}")

    def _ended(self, ending: Ending) -> None:
        if self._head is not None:
            with contextlib.suppress(h11.RemoteProtocolError):
                self._http.receive_data(b"")
                self._read()
        self._fail(ending.reason)

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            match event:
                case h11.Response():
                    self._head = event
                case h11.Data():
                    self._body += bytes(event.data)
                    if len(self._body) > self._most:
                        self._fail("the answer is too long")
                        return
                case h11.EndOfMessage():
                    self._finish()
                    return
                case h11.InformationalResponse():
                    pass
                case _:
                    return

    def _finish(self) -> None:
        assert self._head is not None
        headers = {k.decode("ascii"): v.decode("latin-1") for k, v in self._head.headers}
        if not self.done.done():
            self.done.set_result(
                Response(
                    status=self._head.status_code,
                    body=self._body,
                    content_type=headers.get("content-type", ""),
                    headers=headers,
                )
            )

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(HttpError(reason))
