# SPDX-License-Identifier: Apache-2.0
"""The registrar as a process: identity first, then its peers, then those it serves."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.events import PeerState
from rserpool.asap.server.desk import RegistrarConfig
from rserpool.daemon.channel import State, channel_gauges
from rserpool.daemon.control import shows
from rserpool.daemon.control_channel import Ended
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.frame import Beginning, showing, with_identity
from rserpool.daemon.garbage import collect_seldom
from rserpool.daemon.identity import Operator, names_of, scope_of
from rserpool.daemon.live import POOLS, LiveSettings
from rserpool.daemon.places import Places
from rserpool.daemon.process import ended, first_of, until
from rserpool.enrp import Registrar
from rserpool.handlespace import Increment
from rserpool.identity import Revoking, pe_identifiers
from rserpool.identity.revoked import Revoked
from rserpool.transport.discovery import Announcing, announcing
from rserpool.transport.driver import Driver
from rserpool.transport.http import Request, Response, Routes
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
        settings.operator,
        settings.log,
        lambda keeper, operator: RegistrarDaemon(settings, keeper, operator).run(stop),
    )


class RegistrarDaemon:
    """One registrar process.

    Args:
        settings: its own; an operator may say the rest, and other ones later.
        keeper: of its credentials; ``None``: it has none.
        operator: ``None``: there is none.
    """

    def __init__(self, settings: RegistrarSettings, keeper: Keeper | None, operator: Operator | None = None) -> None:
        vault = operator.vault if operator is not None else None
        self._live = LiveSettings(settings, POOLS, operated=operator is not None, vault=vault)
        self._live.on_changed = self._reconfigure
        self._keeper = keeper
        self._beginning = Beginning(Role.REGISTRAR, keeper, operator, self._live, self._told)
        self._beginning.on_ended = self._pods_ended
        self._ended = Ended(version="", pod_uids=())
        self._server_id = secrets.randbelow(0xFFFFFFFF) + 1
        self._driver: Driver | None = None
        self._places: Places | None = None
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
            ("GET", "/peers"): shows(lambda: self._standing().get("peers", [])),
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

    @property
    def _settings(self) -> RegistrarSettings:
        """The settings in force."""
        return self._live.value

    async def _serve(self, stop: asyncio.Event) -> int:
        if not await self._beginning.begin(stop):
            return 0
        own = self._settings.network.own
        families = {address.version for address in own}
        places = self._places = Places(self._settings.peers.addresses, families, prefer=own[0].version)
        peers = await first_of(places.resolve(), stop, self._beginning.tasks)
        if peers is None:
            await ended(self._beginning.tasks)
            return 0
        timers = self._settings.timers.timers()
        limits = self._settings.limits.tcp(timers.keep_alive_timeout * timers.keep_alive_tries)
        self._network = TcpNetwork(own[0], self._beginning.security, limits, also=own[1:])
        machine = self._machine = self._make(peers, complete=places.complete)
        driver = self._driver = Driver(machine, self._network, self._observer.event)
        places.on_changed = lambda found, complete: driver.call(
            lambda now: machine.look_for(found, now, complete=complete)
        )
        if self._keeper is not None:
            keeper = self._keeper
            keeper.on_renewed = lambda: driver.call(lambda now: machine.renewed(now, keeper.replaced_within))
        serving = asyncio.Event()
        self._observer.on_serving = serving.set
        self._observer.on_elements = self._elements_changed
        await self._network.listen(Ppid.ENRP, self._settings.network.enrp_port, driver)
        _log.info("registrar %#010x starts", machine.server_id)
        driver.call(machine.start)
        try:
            parts = (places.run(), self._listen_when(serving, driver), collect_seldom())
            return await until(stop, [*self._beginning.tasks, *parts])
        finally:
            _log.info("registrar %#010x ends", machine.server_id)
            await driver.close()
            await asyncio.sleep(0.05)  # what says goodbye is on its way before the process is gone

    def _make(self, peers: tuple[Endpoint, ...], *, complete: bool) -> Registrar:
        settings = self._settings
        config = RegistrarConfig(
            server_id=self._server_id,
            enrp=(Endpoint(TransportKind.TCP, (settings.network.address,), settings.network.enrp_port),),
            peers=peers,
            all_peers_known=complete,
            timers=settings.timers.timers(),
            limits=settings.limits.limits(),
            dialect=settings.pool.dialect,
            secure=settings.security.secure,
            loopback=settings.network.loopback,
            takeover_by_lowest=settings.pool.dialect is RSPLIB,
            lud_increment=Increment(settings.policy.lud_increment),
        )
        return Registrar(config, self._scope(), Random(secrets.randbits(128)))  # noqa: S311 - chances, not secrets

    def _scope(self) -> Authoriser:
        settings = self._settings
        scope = scope_of(settings.pool, settings.security, anonymous=settings.users.anonymous, registrar_threat="2.5")
        own = Revoked.of(settings.security.revoked)
        uids, serials = own.pod_uids.union(self._ended.pod_uids), own.serials.union(self._ended.serials)
        return Revoking(scope, names_of(settings.pool, uids), serials) if uids or serials else scope

    # -- what the operator says while it runs

    def _reconfigure(self, before: RegistrarSettings) -> None:
        """Other settings are in force."""
        machine, after = self._machine, self._settings
        if machine is None or self._driver is None or self._places is None:
            return
        timers, limits, scope = after.timers.timers(), after.limits.limits(), self._scope()
        self._driver.call(lambda now: machine.reconfigure(now, timers=timers, limits=limits, authoriser=scope))
        if after.peers != before.peers:
            self._places.replace(after.peers.addresses)

    def _pods_ended(self, ended: Ended) -> None:
        """Pods are gone or revoked, or leaves are: what is left of them goes, and they may do nothing any more."""
        before, self._ended = self._ended, ended
        machine = self._machine
        if machine is None or self._driver is None:
            return
        uids = frozenset(ended.pod_uids) - frozenset(before.pod_uids)
        serials = frozenset(ended.serials) - frozenset(before.serials)
        scope, names = self._scope(), names_of(self._settings.pool, uids)
        numbers = frozenset(number for uid in uids for number in pe_identifiers(uid))
        self._driver.call(lambda now: machine.reconfigure(now, authoriser=scope))
        self._driver.call(lambda now: machine.remove_pods(numbers, names, now, serials=serials))

    def _elements_changed(self) -> None:
        if self._beginning.channel is not None:
            self._beginning.channel.lively()

    def _told(self) -> State:
        """How it is, for the operator."""
        machine = self._machine
        counts = machine.counts() if machine is not None else {}
        return {
            "server_id": f"{self._server_id:#010x}",
            "serving": machine is not None and machine.serving,
            "phase": machine.phase if machine is not None else "starting",
            "pools": counts.get("pools", 0),
            "elements": counts.get("elements", 0),
            "own": counts.get("own", 0),
            "attached": counts.get("attached", 0),
            "peers": self._peers_active(),
        }

    def _peers_active(self) -> int:
        counts = self._machine.counts() if self._machine is not None else {}
        return counts.get(f"peers {PeerState.ACTIVE.value}", 0)

    async def _listen_when(self, serving: asyncio.Event, driver: Driver) -> None:
        """Elements and users are let in when there is something to tell them."""
        await serving.wait()
        assert self._network is not None
        await self._network.listen(Ppid.ASAP, self._settings.network.asap_port, driver)
        if self._settings.discovery.multicast:
            await self._announcing().run()
        await asyncio.Event().wait()

    def _announcing(self) -> Announcing:
        settings = self._settings
        return announcing(
            settings.discovery.where,
            settings.network.own,
            settings.network.asap_port,
            server_id=self._server_id,
            t6=settings.timers.timers().t6,
            rng=Random(secrets.randbits(128)),  # noqa: S311 - chances, not secrets
            dialect=settings.pool.dialect,
            registrars=self._peers_active,
        )

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
        gauges["rserpool_checksums_differ"] = (
            "Peers whose last presence had another checksum than what this registrar holds of them.",
            counts.get("checksums differ", 0),
        )
        gauges["rserpool_checksum_mismatches_total"] = (
            "Presences with another checksum than what this registrar holds of the peer.",
            counts.get("checksum mismatches", 0),
        )
        if self._network is not None:
            gauges["rserpool_associations"] = ("Associations that are up.", self._network.associations)
            gauges["rserpool_half_open"] = ("Connections that have not authenticated.", self._network.half_open)
        if self._keeper is not None:
            gauges |= self._keeper.gauges()
        return gauges | channel_gauges(self._beginning.channel) | self._live.gauges()

    async def _healthz(self, _: Request) -> Response:
        return Response(body=b"ok\n")

    async def _readyz(self, _: Request) -> Response:
        if self._machine is not None and self._machine.serving:
            return Response(body=b"serving\n")
        return Response(status=503, body=f"{self._phase()}\n".encode())

    def _phase(self) -> str:
        return self._machine.phase if self._machine is not None else self._beginning.waiting or "starting"

    def _dump(self) -> dict[str, Any]:
        return self._machine.dump() if self._machine is not None else {"phase": self._phase()}

    def _standing(self) -> dict[str, Any]:
        return self._machine.standing() if self._machine is not None else {"phase": self._phase()}

    def _held(self) -> list[dict[str, Any]]:
        pools: list[dict[str, Any]] = self._dump().get("handlespace", {}).get("pools", [])
        return pools

    def _pools(self) -> list[dict[str, Any]]:
        return [{**pool, "elements": len(pool["elements"])} for pool in self._held()]

    def _elements(self) -> list[dict[str, Any]]:
        return [{"pool": pool["handle"], **element} for pool in self._held() for element in pool["elements"]]

    def _status(self) -> dict[str, Any]:
        waiting = {"waiting": self._beginning.waiting} if self._beginning.waiting else {}
        return self._standing() | {"counts": self._machine.counts() if self._machine is not None else {}} | waiting
