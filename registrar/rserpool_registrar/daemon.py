# SPDX-License-Identifier: Apache-2.0
"""The registrar as a process: identity first, then its peers, then those it serves."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.events import PeerState
from rserpool.asap.server.desk import RegistrarConfig
from rserpool.daemon.control import shows
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.frame import showing, with_identity
from rserpool.daemon.identity import scope_of
from rserpool.daemon.process import first_of, until
from rserpool.enrp import Registrar
from rserpool.transport.driver import Driver
from rserpool.transport.http import Request, Response, Routes
from rserpool.transport.names import Resolver
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpNetwork
from rserpool.wire import RSPLIB, Ppid
from rserpool_registrar.config import RegistrarSettings
from rserpool_registrar.observe import Observer

_log: Final = logging.getLogger("rserpool.registrar")


async def main(settings: RegistrarSettings, stop: asyncio.Event) -> int:
    """Run until told to stop; returns the exit status."""
    return await with_identity(
        Role.REGISTRAR,
        settings.network.address,
        settings.pool,
        settings.security,
        settings.log,
        lambda keeper: RegistrarDaemon(settings, keeper).run(stop),
    )


class RegistrarDaemon:
    """One registrar process."""

    def __init__(self, settings: RegistrarSettings, keeper: Keeper | None) -> None:
        self._settings = settings
        self._keeper = keeper
        self._machine: Registrar | None = None
        self._network: TcpNetwork | None = None
        self._observer = Observer(self._gauges, asyncio.get_running_loop().time)
        self._pages: Routes = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._observer.metrics.serve,
        }
        self._control: Routes = {
            ("GET", "/dump"): shows(self._dump),
            ("GET", "/pools"): shows(self._pools),
            ("GET", "/elements"): shows(self._elements),
            ("GET", "/peers"): shows(lambda: self._dump().get("peers", [])),
            ("GET", "/status"): shows(self._status),
        }

    async def run(self, stop: asyncio.Event) -> int:
        """Run until told to stop."""
        network, socket = self._settings.network, self._settings.control.socket
        try:
            async with showing(network.address, network.http_port, socket, self._pages, self._control):
                return await self._serve(stop)
        except OSError as e:
            _log.error("cannot listen: %s", e)
            return 1

    async def _serve(self, stop: asyncio.Event) -> int:
        security: Security | None = None
        background = []
        if self._keeper is not None:
            security = await first_of(self._keeper.first(), stop)
            if security is None:
                return 0
            background.append(self._keeper.run())
        timers = self._settings.timers.timers()
        limits = self._settings.limits.tcp(timers.keep_alive_timeout * timers.keep_alive_tries)
        self._network = TcpNetwork(self._settings.network.address, security, limits)
        resolver = Resolver(self._settings.peers.addresses)
        machine = self._machine = self._make(await resolver.resolve(), complete=resolver.complete)
        driver = Driver(machine, self._network, self._observer.event)
        resolver.on_changed = lambda found: driver.call(
            lambda now: machine.look_for(found, now, complete=resolver.complete)
        )
        background.append(resolver.run())
        serving = asyncio.Event()
        self._observer.on_serving = serving.set
        await self._network.listen(Ppid.ENRP, self._settings.network.enrp_port, driver)
        _log.info("registrar %#010x starts", machine.server_id)
        driver.call(machine.start)
        background.append(self._listen_when(serving, driver))
        try:
            return await until(stop, background)
        finally:
            _log.info("registrar %#010x ends", machine.server_id)
            await driver.close()
            await asyncio.sleep(0.05)  # what says goodbye is on its way before the process is gone

    def _make(self, peers: tuple[Endpoint, ...], *, complete: bool) -> Registrar:
        settings = self._settings
        config = RegistrarConfig(
            server_id=secrets.randbelow(0xFFFFFFFF) + 1,
            enrp=(Endpoint(TransportKind.TCP, (settings.network.address,), settings.network.enrp_port),),
            peers=peers,
            all_peers_known=complete,
            timers=settings.timers.timers(),
            limits=settings.limits.limits(),
            dialect=settings.pool.dialect,
            secure=settings.security.secure,
            loopback=settings.network.loopback,
            takeover_by_lowest=settings.pool.dialect is RSPLIB,
        )
        scope = scope_of(settings.pool, settings.security, anonymous=settings.users.anonymous, registrar_threat="2.5")
        return Registrar(config, scope, Random(secrets.randbits(128)))  # noqa: S311 - chances, not secrets

    async def _listen_when(self, serving: asyncio.Event, driver: Driver) -> None:
        """Elements and users are let in when there is something to tell them."""
        await serving.wait()
        assert self._network is not None
        await self._network.listen(Ppid.ASAP, self._settings.network.asap_port, driver)
        await asyncio.Event().wait()

    # -- what is looked at

    def _gauges(self) -> Mapping[str, tuple[str, float]]:
        machine = self._machine
        counts = machine.counts() if machine is not None else {}
        gauges: dict[str, tuple[str, float]] = {
            "rserpool_serving": ("1 if elements and users are let in.", float(machine is not None and machine.serving)),
            "rserpool_pools": ("Pools in the handlespace.", counts.get("pools", 0)),
        }
        for name in ("elements", "own", "attached"):
            label = {"elements": "known"}.get(name, name)
            gauges[f"rserpool_elements|state={label}"] = (
                "Elements: known, own (this registrar is their home), attached (their association is up).",
                counts.get(name, 0),
            )
        for state in PeerState:
            gauges[f"rserpool_peers|state={state.value.replace(' ', '_')}"] = (
                "Other registrars, by how they are regarded.",
                counts.get(f"peers {state.value}", 0),
            )
        if self._network is not None:
            gauges["rserpool_associations"] = ("Associations that are up.", self._network.associations)
            gauges["rserpool_half_open"] = ("Connections that have not authenticated.", self._network.half_open)
        if self._keeper is not None:
            gauges |= self._keeper.gauges()
        return gauges

    async def _healthz(self, _: Request) -> Response:
        return Response(body=b"ok\n")

    async def _readyz(self, _: Request) -> Response:
        if self._machine is not None and self._machine.serving:
            return Response(body=b"serving\n")
        phase = "no identity yet" if self._machine is None else str(self._status()["phase"])
        return Response(status=503, body=f"{phase}\n".encode())

    def _dump(self) -> dict[str, Any]:
        return self._machine.dump() if self._machine is not None else {"phase": "no identity yet"}

    def _held(self) -> list[dict[str, Any]]:
        pools: list[dict[str, Any]] = self._dump().get("handlespace", {}).get("pools", [])
        return pools

    def _pools(self) -> list[dict[str, Any]]:
        return [{**pool, "elements": len(pool["elements"])} for pool in self._held()]

    def _elements(self) -> list[dict[str, Any]]:
        return [{"pool": pool["handle"], **element} for pool in self._held() for element in pool["elements"]]

    def _status(self) -> dict[str, Any]:
        dump = self._dump()
        dump.pop("handlespace", None)
        return dump | {"counts": self._machine.counts() if self._machine is not None else {}}
