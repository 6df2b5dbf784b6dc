# SPDX-License-Identifier: Apache-2.0
"""The sidecar as a process: an identity, an ear for registrars, and an eye on the application."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from random import Random
from typing import Any, Final
from uuid import uuid4

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.events import ElementState
from rserpool.daemon.control import json_response, shows
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.frame import showing, with_identity
from rserpool.daemon.identity import scope_of
from rserpool.daemon.process import first_of, until
from rserpool.identity import pe_identifiers
from rserpool.transport.driver import Driver
from rserpool.transport.http import Request, Response, Routes
from rserpool.transport.names import Resolver
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import Ppid
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.health import Prober, http_get, tcp_socket
from rserpool_sidecar.observe import Observer

_log: Final = logging.getLogger("rserpool.sidecar")


async def main(settings: SidecarSettings, stop: asyncio.Event) -> int:
    """Run until told to stop; returns the exit status."""
    return await with_identity(
        Role.ELEMENT,
        settings.network.address,
        settings.pool,
        settings.security,
        settings.log,
        lambda keeper: SidecarDaemon(settings, keeper).run(stop),
    )


class SidecarDaemon:
    """One sidecar process."""

    def __init__(self, settings: SidecarSettings, keeper: Keeper | None) -> None:
        self._settings = settings
        self._keeper = keeper
        self._load = 0.0
        self._draining = False
        self._machine: Element | None = None
        self._driver: Driver | None = None
        self._network: TcpNetwork | None = None
        self._prober = self._make_prober()
        self._prober.on_change = self._health_changed
        self._observer = Observer(self._gauges, asyncio.get_running_loop().time)
        self._pages: Routes = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._observer.metrics.serve,
        }
        self._control: Routes = {
            ("GET", "/dump"): shows(self._status),
            ("GET", "/status"): shows(self._status),
            ("POST", "/drain"): self._drain,
            ("POST", "/load"): self._set_load,
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
        security = None
        background = [self._prober.run()]
        if self._keeper is not None:
            security = await first_of(self._keeper.first(), stop)
            if security is None:
                return 0
            background.append(self._keeper.run())
        timers = self._settings.timers.timers()
        limits = TcpLimits(handshake=timers.connect, idle=0.0)
        self._network = TcpNetwork(self._settings.network.address, security, limits)
        resolver = Resolver(self._settings.registrars.addresses)
        machine = self._machine = self._make(await resolver.resolve())
        driver = self._driver = Driver(machine, self._network, self._observer.event)
        resolver.on_changed = lambda found: driver.call(lambda now: machine.set_registrars(found, now))
        if self._keeper is not None:
            self._keeper.on_renewed = lambda: driver.call(machine.changed)
        background.append(resolver.run())
        await self._network.listen(Ppid.ASAP, self._settings.network.asap_port, driver)
        if self._prober.healthy:
            driver.call(machine.serve)
        try:
            return await until(stop, background)
        finally:
            await self._leave("the sidecar ends")
            await driver.close()
            await asyncio.sleep(0.05)  # what was sent last is on its way before the process is gone

    def _make(self, registrars: tuple[Endpoint, ...]) -> Element:
        settings = self._settings
        address = settings.network.address
        leaf = self._keeper.leaf if self._keeper is not None else None
        uid = leaf.identity.pod_uid if leaf is not None else settings.security.pod_uid or str(uuid4())
        config = ElementConfig(
            pool_handle=settings.pool.pool_handle,
            identifiers=pe_identifiers(uid),
            transport=settings.application.transport(address),
            policy=settings.policy.policy(self._load),
            listening=Endpoint(TransportKind.TCP, (address,), settings.network.asap_port),
            registrars=registrars,
            timers=settings.timers.timers(),
            dialect=settings.pool.dialect,
        )
        scope = scope_of(settings.pool, settings.security, anonymous=False, registrar_threat="2.6")
        return Element(config, scope, Random(secrets.randbits(128)))  # noqa: S311 - chances, not secrets

    def _make_prober(self) -> Prober:
        health = self._settings.health
        address = self._settings.network.address
        port = health.port or self._settings.application.port
        probe = (
            http_get(address, port, health) if health.probe == "httpGet" else tcp_socket(address, port, health.timeout)
        )
        return Prober(probe, health)

    def _health_changed(self, healthy: bool, reason: str) -> None:
        if healthy:
            _log.info("the application is healthy")
        else:
            _log.warning("the application is not healthy", extra={"reason": reason})
        self._apply_health()

    def _apply_health(self) -> None:
        """In the pool while the application is healthy and nobody asked to leave."""
        if self._driver is None or self._machine is None:
            return
        if self._prober.healthy and not self._draining:
            self._driver.call(self._machine.serve)
        elif self._prober.healthy is False and not self._draining:
            reason = f"the application is not healthy: {self._prober.reason}"
            self._driver.call(lambda now: self._element.leave(now, reason))

    @property
    def _element(self) -> Element:
        assert self._machine is not None
        return self._machine

    async def _leave(self, reason: str) -> None:
        """Deregister, as long as that may take."""
        self._draining = True
        if self._driver is None or self._machine is None:
            return
        left = self._observer.when(ElementState.DEREGISTERED)
        self._driver.call(lambda now: self._element.leave(now, reason))
        if self._machine.state is ElementState.DEREGISTERED:
            return
        try:
            await asyncio.wait_for(left.wait(), self._settings.timers.leave)
        except TimeoutError:
            _log.warning("no registrar has acknowledged the deregistration; the registration will expire")

    # -- what is asked through the control socket

    async def _drain(self, _: Request) -> Response:
        """Leave the pool and stay out: a pod's preStop hook."""
        await self._leave("it is drained")
        return json_response(self._status())

    async def _set_load(self, request: Request) -> Response:
        """Take the application's word for its load, from 0 to 1."""
        try:
            load = float(json.loads(request.body)["load"])
        except (ValueError, KeyError, TypeError):
            return Response(status=400, body=b'write {"load": a number from 0 to 1}\n')
        if not 0 <= load <= 1:
            return Response(status=400, body=b"load is a number from 0 to 1\n")
        self._load = load
        if self._driver is not None and self._machine is not None:
            policy = self._settings.policy.policy(load)
            self._driver.call(lambda now: self._element.set_policy(policy, now))
        return json_response(self._status())

    # -- what is looked at

    def _status(self) -> dict[str, Any]:
        machine = self._machine
        return {
            "pool": f"{self._settings.pool.namespace}/{self._settings.pool.name}",
            "healthy": self._prober.healthy,
            "health_reason": self._prober.reason,
            "draining": self._draining,
            "load": self._load,
            "state": machine.state.value if machine is not None else "no identity yet",
            "registered": machine.registered if machine is not None else False,
            "pe_identifier": f"{machine.pe_identifier:#010x}" if machine is not None else None,
            "home": f"{machine.home_id:#010x}" if machine is not None and machine.home_id else None,
        }

    def _gauges(self) -> Mapping[str, tuple[str, float]]:
        machine = self._machine
        gauges = {
            "rserpool_element_registered": (
                "1 while the registration stands.",
                float(machine is not None and machine.registered),
            ),
            "rserpool_application_healthy": ("1 while the application is healthy.", float(bool(self._prober.healthy))),
        }
        if self._network is not None:
            gauges["rserpool_associations"] = ("Associations that are up.", self._network.associations)
            gauges["rserpool_half_open"] = ("Connections that have not authenticated.", self._network.half_open)
        if self._keeper is not None:
            gauges |= self._keeper.gauges()
        return gauges

    async def _healthz(self, _: Request) -> Response:
        return Response(body=b"ok\n")

    async def _readyz(self, _: Request) -> Response:
        """Latched: after the first registration only the application's health and leaving count, never registrars."""
        ready = self._observer.ever_registered and bool(self._prober.healthy) and not self._draining
        rejected = self._machine is not None and self._machine.state is ElementState.REJECTED
        if ready and not rejected:
            return Response(body=b"ready\n")
        return Response(status=503, body=json.dumps(self._status()).encode() + b"\n")
