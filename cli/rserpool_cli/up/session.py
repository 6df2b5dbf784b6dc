# SPDX-License-Identifier: Apache-2.0
"""One run of `rserpool up`, from the first process to the last."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from rserpool.client import PoolUser, Scope
from rserpool.client.scope import running_pools
from rserpool.daemon.control import json_response
from rserpool.pool import ServerPool
from rserpool.pool.model import Mode
from rserpool.session.cookies import SHORTEST_KEY
from rserpool.transport.http import HttpError, HttpServer, Request, Response, Target, ask
from rserpool.wire import PoolElement, TcpTransport, UdpTransport
from rserpool_cli.errors import CommandError
from rserpool_cli.up.enrolment import Enroller
from rserpool_cli.up.loopback import OTHERS, Addresses
from rserpool_cli.up.plan import ProcessPlan, UpOptions, UpPlan, make_plan, resize, served_port
from rserpool_cli.up.scale import MOST_ELEMENTS
from rserpool_cli.up.state import SOCKET, remove_process, write_private, write_process, write_state
from rserpool_cli.up.supervisor import Supervised, end_all

START: Final = 20.0
"""Seconds in which the registrars must serve."""

Say = Callable[[str], None]


class Session:
    """A pool while it runs.

    Args:
        pool, options, manifest: what to run, see :func:`~rserpool_cli.up.plan.make_plan`.
        addresses, directory: claimed for it.
        restart: seconds after which a process that died is started again; 0: never.
        say: prints a line.
    """

    def __init__(
        self,
        pool: ServerPool,
        options: UpOptions,
        manifest: Path,
        addresses: Addresses,
        directory: Path,
        *,
        restart: float,
        say: Say,
    ) -> None:
        self._pool = pool
        self._options = options
        self._manifest = manifest
        self._restart = restart
        self._addresses = addresses
        self._directory = directory
        self._say = say
        self._secure = pool.spec.security.mode is Mode.SECURE
        self._enroller = Enroller(pool)
        self._cookie_key = base64.b64encode(secrets.token_bytes(SHORTEST_KEY)).decode()
        self._server = addresses.place(OTHERS, 0, https=8443)
        self.plan: UpPlan = self._plan(options.elements)
        self._registrars = [self._supervised(p) for p in self.plan.registrars]
        self._sidecars = [self._supervised(p) for p in self.plan.sidecars]
        self._applications = [self._supervised(p) for p in self.plan.applications]
        self._control = HttpServer({("POST", "/scale"): self._asked_to_scale})
        self._scaling = asyncio.Lock()
        self._ending = False

    @property
    def processes(self) -> list[Supervised]:
        """All processes."""
        return [*self._registrars, *self._applications, *self._sidecars]

    def _plan(self, elements: int) -> UpPlan:
        url, *others = (f"https://{place}" for place in self._server.everywhere("https"))
        options = replace(self._options, elements=elements)
        return make_plan(
            self._pool,
            options,
            self._addresses,
            self._directory,
            self._manifest,
            url,
            self._cookie_key,
            "".join(others),
        )

    def _supervised(self, plan: ProcessPlan) -> Supervised:
        log = self._directory / f"{plan.name.replace('/', '-')}.log" if plan.kind != "application" else None
        process = Supervised(plan, log, self._restart)
        process.on_start = self._started
        process.on_exit = self._exited
        process.on_line = lambda p, line: self._say(f"[{p.plan.name}] {line}")
        return process

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, show the pool's changes until told to stop, end everything.

        Raises:
            CommandError: the registrars do not come up.
        """
        for remark in self.plan.remarks:
            self._say(f"note: {remark}")
        watching: asyncio.Task[None] | None = None
        try:
            await self._start(stop)
            if not stop.is_set():
                watching = asyncio.create_task(self._watch())
                await stop.wait()
        finally:
            self._ending = True
            self._say("ending")
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await self._control.close()
            await end_all(self._sidecars)  # they deregister first
            await end_all(self._applications)
            await end_all(self._registrars)
            await self._enroller.close()

    async def _start(self, stop: asyncio.Event) -> None:
        write_private(self._directory / "authority.pem", self._enroller.installation)
        self._write(self.plan.processes)
        if self._secure:
            await self._enroller.listen(self._server)
        for process in (*self._registrars, *self._applications):
            process.start()
        await self._registrars_serve(stop)
        for process in self._sidecars:
            process.start()
        await self._control.listen_unix(self._directory / SOCKET)
        self._tell()

    def _write(self, processes: Iterable[ProcessPlan]) -> None:
        for process in processes:
            write_process(process, self._enroller.token_for(process.identity) if process.identity else None)

    async def scale(self, count: int) -> None:
        """Have that many elements: new ones are started, the last ones leave the pool and end."""
        async with self._scaling:
            before, self.plan = len(self._sidecars), resize(self.plan, self._plan(count))
            self._say(f"from {before} elements to {count}")
            self._write(self.plan.sidecars[before:])
            applications = [self._supervised(p) for p in self.plan.applications[before:]]
            sidecars = [self._supervised(p) for p in self.plan.sidecars[before:]]
            leaving = self._sidecars[count:], self._applications[count:]
            self._sidecars = [*self._sidecars[:count], *sidecars]
            self._applications = [*self._applications[:count], *applications]
            for process in (*applications, *sidecars):
                process.start()
            for group in leaving:  # sidecars first: they deregister
                await end_all(group)
            for process in leaving[0]:
                remove_process(process.plan)
                if process.plan.identity is not None:
                    self._enroller.forget(process.plan.identity)
            self._tell()

    async def _asked_to_scale(self, request: Request) -> Response:
        try:
            count = json.loads(request.body)["elements"]
        except (ValueError, KeyError, TypeError):
            count = None
        if not isinstance(count, int) or not 1 <= count <= MOST_ELEMENTS:
            return Response(status=400, body=f"elements is a number from 1 to {MOST_ELEMENTS}\n".encode())
        before = len(self._sidecars)
        await self.scale(count)
        return json_response({"before": before, "elements": count})

    async def _registrars_serve(self, stop: asyncio.Event) -> None:
        """Wait until the registrars serve, and say why if they do not."""
        deadline = time.monotonic() + START
        for process in self._registrars:
            place = process.plan.place
            target = Target(host=str(place.address), port=place.ports["http"])
            while not stop.is_set() and not await self._is_ready(target):
                died = process.lives > 0 and process.pid is None
                if died or time.monotonic() > deadline:
                    raise CommandError(f"{process.plan.name} does not serve: {self._last_words(process)}")
                await asyncio.sleep(0.02)

    async def _is_ready(self, target: Target) -> bool:
        try:
            return (await ask(target, "GET", "/readyz", timeout=1.0)).status == 200
        except HttpError:
            return False

    def _last_words(self, process: Supervised) -> str:
        log = self._directory / f"{process.plan.name.replace('/', '-')}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else "it wrote nothing"

    # -- what is shown

    def _started(self, process: Supervised) -> None:
        if process.lives > 1:
            self._say(f"{process.plan.name} is started again")
        self._tell()

    def _exited(self, process: Supervised, status: int) -> None:
        if not self._ending:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            words = f": {self._last_words(process)}" if process.plan.kind != "application" and status > 0 else ""
            self._say(f"{process.plan.name} {how}{words}")

    def _tell(self) -> None:
        bundle = self._enroller.bundle if self._secure else None
        write_state(self._directory, self.plan, self.processes, bundle, self._addresses)

    def scope(self) -> Scope:
        """The pool as its users find it."""
        return next(scope for scope in running_pools() if scope.origin == str(self._directory))

    async def _watch(self) -> None:
        """Print who joins and leaves, as a pool user sees it."""
        names: dict[tuple[str, int], str] = {}  # also of those that have just ended: they still have to leave
        known: dict[int, str] = {}
        async with PoolUser(self.scope()) as users:
            async for pool in users.watch(self.plan.pool.handle):
                for p in self.plan.applications:
                    names[(str(p.place.address), served_port(p.place))] = p.name
                now = {e.identifier: _describe(e, names) for e in pool.elements}
                for identifier, text in sorted(now.items(), key=lambda item: item[1]):
                    if known.get(identifier) != text:
                        self._say(f"{'~' if identifier in known else '+'} {text}")
                for identifier in sorted(known.keys() - now.keys()):
                    self._say(f"- {known[identifier]}")
                if known or now:
                    self._say(f"  {len(now)} of {len(self.plan.applications)} elements in the pool")
                known = now


def _describe(element: PoolElement, names: dict[tuple[str, int], str]) -> str:
    transport = element.transport
    if isinstance(transport, TcpTransport | UdpTransport):
        where = (str(transport.address), transport.port)
        return f"{names.get(where, 'somebody')}  {where[0]}:{where[1]}  {element.identifier:#010x}"
    return f"{element.identifier:#010x}"
