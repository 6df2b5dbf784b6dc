# SPDX-License-Identifier: Apache-2.0
"""A sidecar as on a cluster, beside an application and with an operator over real TLS, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rserpool.asap.authorisation import Role
from rserpool.daemon.control import control
from rserpool.daemon.identity import keeper_of, operator_of
from rserpool.daemon.settings import load
from rserpool.pool.settings import sidecar_tables
from rserpool.transport.http import Response, Target, ask
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.daemon import SidecarDaemon
from support.rig_health import HERE, Application
from support.rig_identity import UID, authority, quickly
from support.rig_operator import OperatorServer, environment, server_pool

HTTP, ASAP = 8081, 3865
CA = authority()


def tables(application: int, *registrars: str, **changes: Any) -> dict[str, dict[str, object]]:
    """What the operator says to a sidecar."""
    pool = sidecar_tables(server_pool(port=application), "cluster.local")
    made: dict[str, dict[str, object]] = {**pool, "registrars": {"addresses": list(registrars or (f"{HERE}:1",))}}
    return {name: {**made.get(name, {}), **changes.get(name, {})} for name in {*made, *changes}}


class Beside:
    """A sidecar that is started and ended beside an application.

    Args:
        more: further variables of the pod's environment.
    """

    def __init__(self, server: OperatorServer, application: Application, directory: Path, more: dict[str, Any]) -> None:
        self.server = server
        self.more = more
        self.application = application
        self.directory = directory
        self.stop = asyncio.Event()
        self.life: asyncio.Task[int] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "identity" / "control.sock"

    async def start(self) -> SidecarDaemon:
        variables = environment(
            self.server, self.directory, HERE, UID, network_asap_port=ASAP, network_http_port=HTTP, **self.more
        )
        settings = load(SidecarSettings, None, variables)
        operator = operator_of(settings.operator, settings.security, HERE)
        assert operator is not None
        keeper = keeper_of(settings.pool, settings.security, Role.ELEMENT, HERE, operated=True)
        self.stop = asyncio.Event()
        self.daemon = SidecarDaemon(settings, keeper, operator)
        self.life = asyncio.ensure_future(self.daemon.run(self.stop))
        await asyncio.sleep(0.05)
        return self.daemon

    async def end(self) -> int:
        self.stop.set()
        assert self.life is not None
        return await self.life

    async def ready(self) -> Response:
        return await ask(Target(host=str(HERE), port=HTTP), "GET", "/readyz")

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = await control(self.socket, "GET", "/status")
        return status

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a status of that kind."""
        while not wanted(status := await self.status()):  # noqa: ASYNC110 - as somebody outside would look
            await asyncio.sleep(0.1)
        return status


Test = Callable[[Beside], Coroutine[Any, Any, None]]


def beside(directory: Path, test: Test, **more: Any) -> None:
    """Run a test beside a sidecar that has not been started yet."""

    async def run() -> None:
        async with OperatorServer(CA).running() as server, Application().running() as application:
            rig = Beside(server, application, directory, more)
            try:
                await test(rig)
            finally:
                if rig.life is not None and not rig.life.done():
                    await rig.end()

    quickly(asyncio.wait_for(run(), 10_000))
