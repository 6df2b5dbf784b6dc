# SPDX-License-Identifier: Apache-2.0
"""A pool as `rserpool up` plans and configures it, with real daemons, sockets and certificates, inside this process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Association
from rserpool.asap.user import User, UserConfig
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.client import Scope
from rserpool.client.scope import running_pools
from rserpool.daemon.control import control
from rserpool.daemon.identity import keeper_of
from rserpool.daemon.settings import load
from rserpool.identity import InsecureScope, LeafIdentity
from rserpool.pool import ServerPool
from rserpool.pool.manifest import read_text
from rserpool.pool.model import Mode
from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.tls import Credentials
from rserpool.wire import Framer, Message, PoolElement, Ppid, TcpTransport, decode, encode, policies
from rserpool_cli.up.enrolment import Enroller
from rserpool_cli.up.loopback import OTHERS, Addresses, claim
from rserpool_cli.up.plan import ProcessPlan, UpOptions, make_plan
from rserpool_cli.up.state import pool_directory, write_private, write_process, write_state
from rserpool_registrar.config import RegistrarSettings
from rserpool_registrar.daemon import RegistrarDaemon
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.daemon import SidecarDaemon

T = TypeVar("T")
LONGEST = 20.0
"""Seconds after which what a test waits for does not come any more."""
COOKIE_KEY = base64.b64encode(bytes(range(32))).decode()
ONCE = {"tcpSocket": {}, "periodSeconds": 600}
"""Health that is looked at once: an application that ends later stays registered."""


def server_pool(name: str = "echo", **spec: Any) -> ServerPool:
    """A ServerPool as read from a manifest; these fields of its spec differ from the least there is."""
    spec = {"elements": {"port": 7007, "health": ONCE}, "registrars": {"replicas": 1}, **spec}
    metadata = {"name": name, "namespace": "demo"}
    document = {"apiVersion": "rserpool.io/v1alpha1", "kind": "ServerPool", "metadata": metadata, "spec": spec}
    [manifest] = read_text(json.dumps(document), "here")
    return manifest.pool


def insecure(name: str = "echo", **spec: Any) -> ServerPool:
    """Likewise, without security."""
    return server_pool(name, **{"security": {"mode": "Insecure"}, **spec})


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(LONGEST):
        while not await condition():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.01)
    assert what


@dataclass
class Daemon:
    """One that runs, until it is ended."""

    stop: asyncio.Event
    task: asyncio.Task[int]

    @classmethod
    def run(cls, main: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> Daemon:
        stop = asyncio.Event()
        return cls(stop, asyncio.create_task(main(stop)))

    async def end(self) -> None:
        self.stop.set()
        assert await asyncio.wait_for(self.task, LONGEST) == 0


@dataclass
class Application:
    """Greets whoever connects with its place, until it is closed."""

    plan: ProcessPlan
    servers: list[asyncio.Server] = field(default_factory=list)

    async def open(self) -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{self.plan.name}\n".encode())
            writer.close()

        place = self.plan.place
        self.servers.append(await asyncio.start_server(greet, str(place.address), place.ports["application"]))

    def close(self) -> None:
        while self.servers:
            self.servers.pop().close()


class RunningPool:
    """Registrars, applications and sidecars of a pool."""

    def __init__(self, pool: ServerPool, elements: int, addresses: Addresses, directory: Path) -> None:
        self._addresses = addresses
        self._directory = directory
        self._secure = pool.spec.security.mode is Mode.SECURE
        self._enroller = Enroller(pool)
        self._server = addresses.place(OTHERS, 0, https=8443)
        url = f"https://{self._server.address}:{self._server.ports['https']}"
        options = UpOptions(elements=elements, command=("in-process",))
        key = COOKIE_KEY if pool.spec.control_channel else ""
        self.plan = make_plan(pool, options, addresses, directory, directory, url, key)
        self.registrars: dict[int, Daemon] = {}
        self.sidecars: dict[int, Daemon] = {}
        self.applications = [Application(plan) for plan in self.plan.applications]

    @property
    def scope(self) -> Scope:
        """The pool as its users find it."""
        return next(s for s in running_pools() if s.origin == str(self._directory))

    @property
    def handle(self) -> bytes:
        return self.plan.pool.handle

    async def start(self) -> None:
        write_private(self._directory / "authority.pem", self._enroller.installation)
        for process in self.plan.processes:
            write_process(process, self._enroller.token_for(process.identity) if process.identity else None)
        if self._secure:
            await self._enroller.listen(self._server)
        for index in range(len(self.plan.registrars)):
            self.start_registrar(index)
        for index in range(len(self.plan.registrars)):
            await self.serving(index)
        bundle = self._enroller.bundle if self._secure else None
        write_state(self._directory, self.plan, [], bundle, self._addresses)
        for index, application in enumerate(self.applications):
            await application.open()
            self.start_sidecar(index)
        await self.has(len(self.applications))

    def start_registrar(self, index: int) -> None:
        settings = load(RegistrarSettings, Path(self.plan.registrars[index].command[-1]), {})
        keeper = keeper_of(settings.pool, settings.security, Role.REGISTRAR, settings.network.address)
        self.registrars[index] = Daemon.run(RegistrarDaemon(settings, keeper).run)

    def start_sidecar(self, index: int) -> None:
        settings = load(SidecarSettings, Path(self.plan.sidecars[index].command[-1]), {})
        keeper = keeper_of(settings.pool, settings.security, Role.ELEMENT, settings.network.address)
        self.sidecars[index] = Daemon.run(SidecarDaemon(settings, keeper).run)

    async def end_registrar(self, index: int) -> None:
        await self.registrars.pop(index).end()

    async def end_sidecar(self, index: int) -> None:
        await self.sidecars.pop(index).end()

    async def serving(self, index: int) -> None:
        place = self.plan.registrars[index].place
        target = Target(host=str(place.address), port=place.ports["http"])

        async def ready() -> bool:
            try:
                return (await ask(target, "GET", "/readyz")).status == 200
            except HttpError:
                return False

        await eventually(ready, "the registrar serves")

    async def dumps(self) -> list[dict[str, Any]]:
        """What each registrar that runs holds."""
        sockets = [Path(self.plan.registrars[i].command[-1]).with_suffix(".sock") for i in self.registrars]
        return [await control(socket, "GET", "/dump") for socket in sockets]

    async def has(self, elements: int) -> None:
        """Wait until every registrar has so many elements."""

        async def there() -> bool:
            return all(len(elements_of(d)) == elements for d in await self.dumps())

        await eventually(there, "every registrar has them")

    async def settled_homes(self) -> None:
        """Wait until every element's home is a registrar that runs."""

        async def settled() -> bool:
            dumps = await self.dumps()
            return {e["home"] for d in dumps for e in elements_of(d)} <= {d["server_id"] for d in dumps}

        await eventually(settled, "every home runs")

    async def stop(self) -> None:
        await asyncio.gather(*(daemon.end() for daemon in self.sidecars.values()))
        for application in self.applications:
            application.close()
        await asyncio.gather(*(daemon.end() for daemon in self.registrars.values()))
        await self._enroller.close()


def elements_of(dump: dict[str, Any]) -> list[dict[str, Any]]:
    return [element for pool in dump["handlespace"]["pools"] for element in pool["elements"]]


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """Where pools of this test leave their state: nobody else's, and short enough for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="rsp"))
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running(pool: ServerPool, elements: int = 0) -> AsyncIterator[RunningPool]:
    """A pool that runs, in the running loop."""
    with claim() as addresses, pool_directory(pool) as directory:
        found = RunningPool(pool, elements, addresses, directory)
        try:
            await found.start()
            yield found
        finally:
            await found.stop()


class Background:
    """An event loop in a thread of its own, for commands that run one themselves."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * LONGEST)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def in_background(pool: ServerPool, elements: int = 0) -> Iterator[tuple[RunningPool, Background]]:
    """A pool that runs in another thread's loop, found by whoever looks for pools of this machine."""
    background = Background()
    stack = contextlib.AsyncExitStack()
    try:
        yield background.do(stack.enter_async_context(running(pool, elements))), background
    finally:
        try:
            background.do(stack.aclose())
        finally:
            background.close()


@asynccontextmanager
async def silent() -> AsyncIterator[Scope]:
    """Where a registrar should be, somebody who accepts connections and never says a word."""
    async with scripted(lambda _: [], understands=False) as (scope, _):
        yield scope


def authority() -> EmbeddedAuthority:
    """A pool's CA."""
    return EmbeddedAuthority.create("a pool", datetime.now(UTC), life=timedelta(days=1), leaf_life=timedelta(hours=1))


def leaf_identity(role: Role, pool: str = "echo") -> LeafIdentity:
    return LeafIdentity(trust_domain="td", namespace="demo", pool=pool, role=role, pod_uid=str(uuid.uuid4()))


def credentials(signer: EmbeddedAuthority, identity: LeafIdentity) -> Credentials:
    """A leaf of that authority."""
    made = make_request(identity)
    return Credentials.from_pem(signer.sign(identity, made.request, datetime.now(UTC)), signer.bundle, made.key)


class Mute(User):
    """Accepts associations, keeps them, and never says anything."""

    def _accepted(self, association: Association) -> None:
        del association


def mute_machine() -> User:
    return Mute(UserConfig(), InsecureScope(), Random(1))


LOCAL = "127.0.0.1"


def element(identifier: int, port: int, weight: int | None = None) -> PoolElement:
    """An element on this machine, as a registrar tells of it."""
    policy = policies.RoundRobin() if weight is None else policies.WeightedRoundRobin(weight)
    place = TcpTransport(port=port, address=IPv4Address(LOCAL))
    return PoolElement(identifier=identifier, home=0xCAFE, life=30, transport=place, policy=policy)


@asynccontextmanager
async def scripted(
    answer: Callable[[Message], list[Message]], *, understands: bool = True
) -> AsyncIterator[tuple[Scope, list[Message]]]:
    """A registrar without security that answers what a test says; and all that it hears."""
    heard: list[Message] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        try:
            while data := await reader.read(4096):
                for octets in framer.feed(data) if understands else ():
                    heard.append(decode(octets, Ppid.ASAP))
                    writer.write(b"".join(encode(reply) for reply in answer(heard[-1])))
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOCAL, 0)
    try:
        yield Scope(registrars=((LOCAL, int(server.sockets[0].getsockname()[1])),), bundle=None), heard
    finally:
        server.close()
