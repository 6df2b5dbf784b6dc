# SPDX-License-Identifier: Apache-2.0
"""The sidecar as a process: an identity, an ear for registrars, and an eye on the application."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.events import ElementState, Event
from rserpool.daemon.channel import State, channel_gauges
from rserpool.daemon.control import json_response, shows
from rserpool.daemon.control_channel import Ended, one_line
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.frame import Beginning, showing, with_identity
from rserpool.daemon.identity import Operator, names_of, scope_of
from rserpool.daemon.live import POOLS, LiveSettings
from rserpool.daemon.places import Places
from rserpool.daemon.process import ended, first_of, until
from rserpool.identity import Revoking, pe_identifiers
from rserpool.transport.discovery import Listening, Registrars
from rserpool.transport.driver import Driver
from rserpool.transport.http import Request, Response, Routes
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import Ppid
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.health import Probe, Prober, anywhere, http_get, tcp_socket
from rserpool_sidecar.load.measuring import Loading
from rserpool_sidecar.observe import Observer

if TYPE_CHECKING:
    from rserpool_sidecar.channel.relay import ChannelRelay

_log: Final = logging.getLogger("rserpool.sidecar")
FIXED: Final = {**POOLS, "application": frozenset({"port", "protocol"}), "channel": frozenset({"enabled"})}
"""What a sidecar cannot change while it runs: the application beside it, or pool users, would not follow."""


async def main(settings: SidecarSettings, stop: asyncio.Event) -> int:
    """Run until told to stop; returns the exit status."""
    return await with_identity(
        Role.ELEMENT,
        settings.network.address,
        settings.pool,
        settings.security,
        settings.operator,
        settings.log,
        lambda keeper, operator: SidecarDaemon(settings, keeper, operator).run(stop),
    )


class SidecarDaemon:
    """One sidecar process.

    Args:
        settings: its own; an operator may say the rest, and other ones later.
        keeper: of its credentials; ``None``: it has none.
        operator: ``None``: there is none.
    """

    def __init__(self, settings: SidecarSettings, keeper: Keeper | None, operator: Operator | None = None) -> None:
        vault = operator.vault if operator is not None else None
        self._live = LiveSettings(settings, FIXED, operated=operator is not None, vault=vault)
        self._live.on_changed = self._reconfigure
        self._keeper = keeper
        self._beginning = Beginning(Role.ELEMENT, keeper, operator, self._live, self._told)
        self._beginning.on_ended = self._pods_ended
        self._ended = Ended(version="", pod_uids=())
        self._load = Loading(settings)
        self._load.on_change = self._load_changed
        self._draining = False
        self._leave_by: float | None = None
        self._machine: Element | None = None
        self._driver: Driver | None = None
        self._network: TcpNetwork | None = None
        self._places: Places | None = None
        self._relay: ChannelRelay | None = None
        self._known: Registrars | None = None
        self._heard: Listening | None = None
        self._prober = Prober(self._probe(), settings.health)
        self._prober.on_change = self._health_changed
        self._observer = Observer(self._gauges, asyncio.get_running_loop().time)
        self._observer.on_state = self._state_changed
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

    @property
    def _settings(self) -> SidecarSettings:
        """The settings in force."""
        return self._live.value

    async def _serve(self, stop: asyncio.Event) -> int:
        if not await self._beginning.begin(stop):
            return 0
        own = self._settings.network.address
        places = self._places = Places(self._settings.registrars.addresses, {own.version})
        registrars = await first_of(places.resolve(), stop, self._beginning.tasks)
        if registrars is None:
            await ended(self._beginning.tasks)
            return 0
        timers = self._settings.timers.timers()
        limits = TcpLimits(handshake=timers.connect, idle=0.0)
        self._network = TcpNetwork(self._settings.network.address, self._beginning.security, limits)
        machine = self._machine = self._make(registrars)
        driver = self._driver = Driver(machine, self._network, self._event)
        known = self._known = Registrars(lambda found: driver.call(lambda now: machine.set_registrars(found, now)))
        known.configured(registrars)
        places.on_changed = lambda found, _: known.configured(found)
        if self._keeper is not None:
            keeper = self._keeper
            keeper.on_renewed = lambda: driver.call(lambda now: machine.renewed(now, keeper.replaced_within))
        await self._network.listen(Ppid.ASAP, self._settings.network.asap_port, driver)
        try:
            if self._settings.channel.enabled:
                from rserpool_sidecar.channel.opening import open_channel  # noqa: PLC0415 - most pools have none

                self._relay = await open_channel(lambda: self._settings, self._beginning.security, self._observer.event)
            if self._prober.healthy:
                driver.call(machine.serve)
            relaying = [self._relay.run()] if self._relay is not None else []
            looking = [self._listening(known).run()] if self._settings.discovery.multicast else []
            looking = [*looking, self._prober.run(), self._load.run()]
            return await until(stop, [*self._beginning.tasks, places.run(), *relaying, *looking])
        finally:
            await self._leave("the sidecar ends")
            if self._relay is not None:
                await self._relay.drain(self._settings.channel.drain)
                await self._relay.close()
            await driver.close()
            await asyncio.sleep(0.05)  # what was sent last is on its way before the process is gone

    def _listening(self, known: Registrars) -> Listening:
        """Hear registrars announce themselves, beside those that are configured."""
        settings = self._settings
        own, t7 = (settings.network.address,), settings.timers.timers().t7
        listening = self._heard = Listening(settings.discovery.where, own, t7, settings.pool.dialect)
        listening.on_changed = known.announced
        return listening

    def _event(self, event: Event) -> None:
        """The machine tells what happened."""
        self._observer.event(event)
        if self._known is not None:
            self._known.event(event)

    def _make(self, registrars: tuple[Endpoint, ...]) -> Element:
        settings = self._settings
        address = settings.network.address
        leaf = self._keeper.leaf if self._keeper is not None else None
        uid = leaf.identity.pod_uid if leaf is not None else settings.security.pod_uid or str(uuid4())
        config = ElementConfig(
            pool_handle=settings.pool.pool_handle,
            identifiers=pe_identifiers(uid),
            transport=settings.user_transport,
            policy=settings.policy.policy(self._load.registered),
            listening=Endpoint(TransportKind.TCP, (address,), settings.network.asap_port),
            registrars=registrars,
            timers=settings.timers.timers(),
            dialect=settings.pool.dialect,
        )
        return Element(config, self._scope(), Random(secrets.randbits(128)))  # noqa: S311 - chances, not secrets

    def _scope(self) -> Authoriser:
        settings, ended = self._settings, self._ended
        scope = scope_of(settings.pool, settings.security, anonymous=False, registrar_threat="2.6")
        return Revoking(scope, names_of(settings.pool, ended.pod_uids), frozenset(ended.serials))

    def _probe(self) -> Probe:
        health = self._settings.health
        addresses = self._settings.application_addresses
        port = health.port or self._settings.application.port
        if health.probe == "httpGet":
            return anywhere([http_get(address, port, health) for address in addresses], health.timeout)
        return anywhere([tcp_socket(address, port, health.timeout) for address in addresses], health.timeout)

    # -- what the operator says, and is told

    def _reconfigure(self, before: SidecarSettings) -> None:
        """Other settings are in force."""
        after = self._settings
        looked_at = (after.health, after.application, after.application_addresses)
        if looked_at != (before.health, before.application, before.application_addresses):
            self._prober.replace(self._probe(), after.health)
        self._load.reconfigure(after)
        machine = self._machine
        if machine is None or self._driver is None or self._places is None:
            return
        if self._relay is not None:
            self._relay.reconfigure(after.channel, (after.application_addresses, after.application.port))
        policy, timers = after.policy.policy(self._load.registered), after.timers.timers()
        self._driver.call(lambda now: machine.reconfigure(now, timers=timers))
        self._driver.call(lambda now: machine.set_policy(policy, now))
        if after.registrars != before.registrars:
            self._places.replace(after.registrars.addresses)

    def _pods_ended(self, ended: Ended) -> None:
        """Registrars are gone or revoked: they are left, and whatever still shows their leaves is refused."""
        self._ended = ended
        machine, scope = self._machine, self._scope()
        if machine is not None and self._driver is not None:
            self._driver.call(lambda now: machine.reauthorise(scope, now))

    def _load_changed(self, load: float) -> None:
        if self._driver is not None and self._machine is not None:
            policy = self._settings.policy.policy(load)
            self._driver.call(lambda now: self._element.set_policy(policy, now))

    def _told(self) -> State:
        """How it is, for the operator."""
        machine = self._machine
        unhealthy = self._prober.healthy is False
        return {
            "state": (machine.state if machine is not None else ElementState.STOPPED).value,
            "registered": machine is not None and machine.registered,
            "healthy": self._prober.healthy,
            "draining": self._draining,
            "reason": one_line(self._prober.reason if unhealthy else self._observer.reason),
        }

    def _state_changed(self) -> None:
        if self._beginning.channel is not None:
            self._beginning.channel.changed()

    def _health_changed(self, healthy: bool, reason: str) -> None:
        if healthy:
            _log.info("the application is healthy")
        else:
            _log.warning("the application is not healthy", extra={"reason": reason})
        self._apply_health()
        self._state_changed()

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
        """Deregister, as long as that may take: once, since drain and end are in one grace period of the pod."""
        self._draining = True
        clock = asyncio.get_running_loop().time
        if self._leave_by is None:
            self._leave_by = clock() + self._settings.timers.leave
        self._state_changed()
        if self._driver is None or self._machine is None:
            return
        left = self._observer.when(ElementState.DEREGISTERED)
        self._driver.call(lambda now: self._element.leave(now, reason))
        if self._machine.state is ElementState.DEREGISTERED:
            return
        try:
            await asyncio.wait_for(left.wait(), max(0.0, self._leave_by - clock()))
        except TimeoutError:
            _log.warning("no registrar has acknowledged the deregistration; the registration will expire")

    # -- what is asked through the control socket

    async def _drain(self, _: Request) -> Response:
        """Leave the pool and stay out: a pod's preStop hook."""
        await self._leave("it is drained")
        return json_response(self._status())

    async def _set_load(self, request: Request) -> Response:
        """Take the application's word for its load, from 0 to 1, until it says that it is to be measured again."""
        try:
            said = json.loads(request.body)["load"]
            load = None if said == "measured" else float(said)
        except (ValueError, KeyError, TypeError):
            return Response(status=400, body=b'write {"load": a number from 0 to 1}, or {"load": "measured"}\n')
        if load is not None and not 0 <= load <= 1:
            return Response(status=400, body=b"load is a number from 0 to 1\n")
        self._load.tell(load)
        return json_response(self._status())

    # -- what is looked at

    def _status(self) -> dict[str, Any]:
        machine, waiting = self._machine, self._beginning.waiting
        status: dict[str, Any] = {
            "pool": f"{self._settings.pool.namespace}/{self._settings.pool.name}",
            "healthy": self._prober.healthy,
            "health_reason": self._prober.reason,
            "draining": self._draining,
            **self._load.status(),
            "state": machine.state.value if machine is not None else waiting or "starting",
            "registered": machine.registered if machine is not None else False,
            "pe_identifier": f"{machine.pe_identifier:#010x}" if machine is not None else None,
            "home": f"{machine.home_id:#010x}" if machine is not None and machine.home_id else None,
        }
        if self._relay is not None:
            status["users"] = self._relay.users
        if self._heard is not None:
            status["announced"] = [str(endpoint) for endpoint in self._heard.endpoints]
        return status | {"waiting": waiting} if waiting else status

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
        if self._relay is not None:
            gauges |= self._relay.gauges()
        gauges |= self._load.gauges()
        return gauges | channel_gauges(self._beginning.channel) | self._live.gauges()

    async def _healthz(self, _: Request) -> Response:
        return Response(body=b"ok\n")

    async def _readyz(self, _: Request) -> Response:
        """Latched: after the first registration only the application's health and leaving count, never registrars."""
        ready = self._observer.ever_registered and bool(self._prober.healthy) and not self._draining
        rejected = self._machine is not None and self._machine.state is ElementState.REJECTED
        if ready and not rejected:
            return Response(body=b"ready\n")
        if self._beginning.waiting:
            return Response(status=503, body=f"{self._beginning.waiting}\n".encode())
        return Response(status=503, body=json.dumps(self._status()).encode() + b"\n")
