# SPDX-License-Identifier: Apache-2.0
"""Pools whose applications count what a session has said, in cookies where there are any; and what can happen to them."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from rserpool.asap.authorisation import Role
from rserpool.client import PoolUser, Session
from rserpool.identity import LeafIdentity
from rserpool.pool import ServerPool
from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.stream import ByteStream
from rserpool.transport.tls import Credentials, TlsEngine, make_context
from rserpool_cli.up.plan import ProcessPlan
from support.loops import let_go
from support.rig_model import RunningPool, credentials, insecure, running, server_pool
from support.rig_model import authority as other_authority

FRAMED, FRAMED_INSECURE, PLAIN = (
    server_pool(controlChannel=True),
    insecure(controlChannel=True),
    insecure(),
)


class CountingApplication:
    """Answers each line with its name, the number of lines so far in the whole session, and the line.

    Attributes:
        cookies: what each of its users came with: a count, or ``None``; or why the cookie was refused.
        order: PE identifiers of the business card it sends, if any.
    """

    def __init__(self, plan: ProcessPlan) -> None:
        self.plan = plan
        self.name = plan.name
        self.cookies: list[int | str | None] = []
        self.order: list[int] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def all_told(self) -> None:
        """Wait until it has told its sidecar all it had to tell."""
        await self._idle.wait()

    @property
    def _local(self) -> Target | None:
        port = self.plan.place.ports.get("local")
        return None if port is None else Target(host=str(self.plan.place.address), port=port)

    async def open(self) -> None:
        place = self.plan.place
        self._server = await asyncio.start_server(self._serve, str(place.address), place.ports["application"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, HttpError):
            pass  # the sidecar has ended
        finally:
            self._idle.set()
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count, asked = 0, False
        name = writer.get_extra_info("peername")[1]
        while line := await reader.readline():
            self._idle.clear()
            if not asked:
                asked, count = True, await self._begin(name)
            count += 1
            writer.write(f"{self.name} {count} ".encode() + line)
            await writer.drain()
            await self._post(f"/v1/connections/{name}/cookie", str(count).encode())
            self._idle.set()

    async def _begin(self, name: int) -> int:
        """Who comes with how much; a health probe says nothing and is nobody."""
        if self._local is None:
            self.cookies.append(None)
            return 0
        shown = json.loads((await ask(self._local, "GET", f"/v1/connections/{name}")).body)
        found = base64.b64decode(shown["cookie"]) if "cookie" in shown else None
        self.cookies.append(shown.get("cookie_refused", None if found is None else int(found)))
        if self.order:
            await self._post(f"/v1/connections/{name}/business-card", json.dumps(self.order).encode())
        return int(found or 0)

    async def _post(self, path: str, body: bytes) -> None:
        if self._local is not None:
            await ask(self._local, "POST", path, body=body)

    def die(self) -> None:
        """Go as a killed process does: nobody listens any more, and connections are reset."""
        self.close()
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class Counting:
    """A pool of such applications."""

    def __init__(self, found: RunningPool) -> None:
        self.pool = found
        self.applications = [CountingApplication(plan) for plan in found.plan.applications]

    def application_of(self, session: Session) -> CountingApplication:
        """Whom a session speaks with."""
        return self.applications[self.index_of(session)]

    def index_of(self, session: Session) -> int:
        [address] = session.element.transport.addresses
        return next(i for i, a in enumerate(self.applications) if a.plan.place.address == address)


@asynccontextmanager
async def counting(pool: ServerPool, elements: int = 3) -> AsyncIterator[Counting]:
    """A pool that runs, with counting applications in place of its own."""
    async with running(pool, elements) as found:
        counted = Counting(found)
        for before, application in zip(found.applications, counted.applications, strict=True):
            before.close()
            await application.open()
        try:
            yield counted
        finally:
            for application in counted.applications:
                application.die()
            await let_go(*(a.plan.place.ports["application"] for a in counted.applications))


def with_counting(
    body: Callable[[Counting, PoolUser], Coroutine[Any, Any, None]],
    pool: ServerPool,
    elements: int = 3,
    **options: Any,
) -> None:
    """Run a pool, and somebody who uses it."""

    async def main() -> None:
        async with (
            asyncio.timeout(30),
            counting(pool, elements) as found,
            PoolUser(found.pool.scope, **{"patience": 5.0, **options}) as users,
        ):
            await body(found, users)

    asyncio.run(main())


async def said(session: Session, line: str) -> str:
    """Say a line; what is answered, on one line."""
    await session.send(line.encode() + b"\n")
    heard = b""
    while not heard.endswith(b"\n"):
        octets = await session.receive()
        assert octets, "the session has ended"
        heard += octets
    return heard.decode().strip()


class Caught:
    """What an impostor has been told.

    Attributes:
        said: in plain text, after a handshake; or without any that was no handshake.
        connections: how often somebody came.
    """

    def __init__(self) -> None:
        self.said = b""
        self.connections = 0


@asynccontextmanager
async def impostor(found: Counting, index: int, kind: str) -> AsyncIterator[Caught]:
    """Somebody who listens where an element's sidecar has been."""
    plan, caught = found.applications[index].plan, Caught()
    authority = found.pool._enroller._authority
    shown = {
        "without TLS": None,
        "another authority": credentials(other_authority(), plan_identity(found, index)),
        "another element": credentials(authority, replace(plan_identity(found, index), pod_uid=str(uuid.uuid4()))),
        "a registrar": credentials(authority, replace(plan_identity(found, index), role=Role.REGISTRAR)),
    }[kind]

    def accept() -> ByteStream:
        context = make_context(shown, require_certificate=False) if shown is not None else None
        stream = ByteStream(TlsEngine(context, server=True) if context is not None else None, handshake=5)

        def came(octets: bytes) -> None:
            if shown is not None or octets[:1] != b"\x16":  # the user's side of a handshake is no secret
                caught.said += octets
            if shown is None:
                stream.abort()

        def connected() -> None:
            caught.connections += 1

        stream.on_connected, stream.on_bytes = connected, came
        return stream

    loop = asyncio.get_running_loop()
    server = await loop.create_server(accept, str(plan.place.address), plan.place.ports["channel"])
    try:
        yield caught
    finally:
        server.close()


def plan_identity(found: Counting, index: int) -> LeafIdentity:
    """Who the sidecar beside that application is."""
    whose = found.pool.plan.sidecars[index].identity
    assert whose is not None
    return whose


def leaf_of(found: Counting, role: Role) -> Credentials:
    """A leaf of the pool for somebody who uses it."""
    whose = replace(plan_identity(found, 0), role=role, pod_uid=str(uuid.uuid4()))
    return credentials(found.pool._enroller._authority, whose)
