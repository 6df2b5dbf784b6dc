# SPDX-License-Identifier: Apache-2.0
"""Which processes a pool on this machine consists of, and how each is configured. Pure: nothing is started here."""

from __future__ import annotations

import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.daemon.settings import render
from rserpool.identity import LeafIdentity
from rserpool.pool import ServerPool
from rserpool.pool.model import UP_COMMAND, LoadSource, Mode, Protocol, SignerType, TransportName
from rserpool.pool.settings import Tables, registrar_tables, sidecar_tables
from rserpool_cli.errors import CommandError
from rserpool_cli.up.loopback import ELEMENTS, REGISTRARS, Addresses, Place

TRUST_DOMAIN: Final = "up.local"
PRIVILEGED: Final = 1024
LONGEST_DRAIN: Final = 3.0
"""Seconds for which connections of pool users go on when their element is ended: whoever ends it waits for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlan:
    """One process.

    Attributes:
        name: unique in the pool, such as ``echo-registrar-0``.
        kind: ``registrar``, ``sidecar`` or ``application``.
        command: what to run.
        environment: added to ours.
        place: its address and ports; an element's: ``application``, and ``channel`` if pool users connect there.
        configuration: contents of its file, if it has one.
        identity: whom it may enrol as, in a secure pool.
        folder: where it runs; ``None``: here.
        process_file: where its process ID is written while it lives, for whoever measures its load.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    place: Place
    configuration: str = field(default="", repr=False)  # a sidecar's holds the keys of cookies
    identity: LeafIdentity | None = None
    folder: Path | None = None
    process_file: Path | None = None


def served_port(place: Place) -> int:
    """Where pool users reach an element: the port that is registered."""
    return place.ports.get("channel", place.ports["application"])


@dataclass(frozen=True, slots=True, kw_only=True)
class UpPlan:
    """All of them, in the order in which they start, and what a user should be told once."""

    pool: ServerPool
    registrars: tuple[ProcessPlan, ...]
    sidecars: tuple[ProcessPlan, ...]
    applications: tuple[ProcessPlan, ...]
    remarks: tuple[str, ...]

    @property
    def processes(self) -> tuple[ProcessPlan, ...]:
        """All."""
        return (*self.registrars, *self.applications, *self.sidecars)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line says.

    Attributes:
        command: the application; empty: the manifest's annotation.
        weights: of the elements in turn; empty: the manifest's.
        multicast: registrars announce themselves, sidecars listen.
    """

    elements: int = 3
    command: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    multicast: bool = False


def make_plan(
    pool: ServerPool,
    options: UpOptions,
    addresses: Addresses,
    directory: Path,
    manifest: Path,
    url: str,
    cookie_key: str = "",
    other_url: str = "",
) -> UpPlan:
    """Plan a pool.

    Args:
        pool: from the manifest.
        options: from the command line.
        addresses: give each process its place.
        directory: of this pool's sockets, tokens and configuration files.
        manifest: where the pool was read; its annotation's command runs beside it.
        url: where to enrol.
        cookie_key: key of the pool's cookies, in base64, for the configuration files of its sidecars; empty: none.
        other_url: where processes of the other IP family enrol; empty: there are none.

    Raises:
        CommandError: this machine cannot run such a pool; the text says why.
    """
    _check(pool)
    command, folder = _command(pool, options, manifest)
    planner = _Planner(pool, addresses, directory, (url, other_url), cookie_key, multicast=options.multicast)
    registrars = tuple(planner.registrar(i) for i in range(pool.spec.registrars.replicas))
    sidecars = tuple(planner.sidecar(i, options.weights) for i in range(options.elements))
    applications = tuple(planner.application(i, command, folder) for i in range(options.elements))
    return UpPlan(
        pool=pool,
        registrars=registrars,
        sidecars=sidecars,
        applications=applications,
        remarks=tuple(_remarks(pool, planner)),
    )


def resize(plan: UpPlan, fresh: UpPlan) -> UpPlan:
    """A plan with as many elements as ``fresh``, in which those that are there already stay who they are."""
    kept = min(len(plan.sidecars), len(fresh.sidecars))
    return replace(
        plan,
        sidecars=(*plan.sidecars[:kept], *fresh.sidecars[kept:]),
        applications=(*plan.applications[:kept], *fresh.applications[kept:]),
    )


def _check(pool: ServerPool) -> None:
    spec = pool.spec
    if TransportName.TCP not in spec.transport.order:
        raise CommandError(
            f"{pool.full_name}: spec.transport.order names SCTP only, and `rserpool up` runs pools over TCP; add TCP"
        )
    if spec.elements.protocol is Protocol.SCTP:
        raise CommandError(
            f"{pool.full_name}: spec.elements.protocol is SCTP, which this machine's loopback pool does not offer;"
            " write TCP or UDP"
        )


def _command(pool: ServerPool, options: UpOptions, manifest: Path) -> tuple[tuple[str, ...], Path | None]:
    if options.command:
        return options.command, None
    annotation = pool.metadata.annotations.get(UP_COMMAND)
    if annotation is None:
        raise CommandError(
            f"{pool.full_name} does not say which program to run: give one after --,"
            f" or write it into the annotation {UP_COMMAND}"
        )
    folder = manifest if manifest.is_dir() else manifest.parent
    try:
        return tuple(shlex.split(annotation)), folder.resolve()
    except ValueError as e:
        raise CommandError(f"{pool.full_name}: annotation {UP_COMMAND}: {str(e).lower()} in {annotation!r}") from None


def _remarks(pool: ServerPool, planner: _Planner) -> list[str]:
    remarks = []
    port = pool.spec.elements.port
    if planner.application_port(0) != port:
        remarks.append(f"port {port} needs rights a user has not: elements get {planner.application_port(0)} instead")
    if pool.spec.security.mode is Mode.INSECURE:
        remarks.append("security mode Insecure: no TLS, nobody is verified")
    elif pool.spec.security.signer.type is not SignerType.EMBEDDED:
        remarks.append(f"certificates are signed by this process, not by {pool.spec.security.signer.type}")
    return remarks


class _Planner:
    def __init__(
        self,
        pool: ServerPool,
        addresses: Addresses,
        directory: Path,
        urls: tuple[str, str],
        cookie_key: str,
        *,
        multicast: bool,
    ) -> None:
        self._cookie_key = cookie_key
        self._multicast = multicast
        self._pool = pool
        self._addresses = addresses
        self._directory = directory
        self._urls = urls
        self._secure = pool.spec.security.mode is Mode.SECURE

    @property
    def _name(self) -> str:
        return self._pool.metadata.name

    def _registrar_place(self, index: int) -> Place:
        return self._addresses.place(REGISTRARS, index, asap=3864, enrp=9902, http=8080)

    def _element_place(self, index: int) -> Place:
        port = self._pool.spec.elements.port
        application = port if port >= PRIVILEGED else port + 8000
        asap = 3864 if application != 3864 else 3865
        http = 8081 if application != 8081 else 8082
        ports = {"application": application, "asap": asap, "http": http}
        if self._pool.spec.control_channel:
            ports["channel"] = 7008 if application != 7008 else 7009
            ports["local"] = 8082 if application != 8082 and http != 8082 else 8083
        return self._addresses.place(ELEMENTS, index, **ports)

    def application_port(self, index: int) -> int:
        """Where an element's application serves."""
        return self._element_place(index).ports["application"]

    def _registrars(self) -> list[Place]:
        return [self._registrar_place(i) for i in range(self._pool.spec.registrars.replicas)]

    @property
    def _measured(self) -> bool:
        """Whether sidecars measure the CPU time of their applications."""
        spec = self._pool.spec
        return spec.policy.type.adaptive and spec.elements.load.source is LoadSource.CPU

    def _process_file(self, index: int) -> Path:
        return self._directory / f"a{index}.pid"

    def _identity(self, role: Role) -> LeafIdentity | None:
        if not self._secure:
            return None
        return LeafIdentity(
            trust_domain=TRUST_DOMAIN,
            namespace=self._pool.metadata.namespace,
            pool=self._name,
            role=role,
            pod_uid=str(uuid.uuid4()),
        )

    def _url(self, place: Place) -> str:
        """Where a process enrols: it asks from its own address, so by that family."""
        first = self._registrar_place(0).address.version
        return self._urls[0] if place.address.version == first else self._urls[1]

    def _finish(self, tables: Tables, short: str, identity: LeafIdentity | None, place: Place) -> str:
        if self._multicast:
            tables["discovery"] = {"multicast": True}
        tables["control"] = {"socket": str(self._directory / f"{short}.sock")}
        if identity is not None:
            tables["security"] |= {
                "source": "enrolment",
                "pod_uid": identity.pod_uid,
                "url": self._url(place),
                "token_file": str(self._directory / f"{short}.token"),
                "authority_file": str(self._directory / "authority.pem"),
            }
        return render(tables)

    def registrar(self, index: int) -> ProcessPlan:
        short = f"r{index}"
        place = self._registrar_place(index)
        tables = registrar_tables(self._pool, TRUST_DOMAIN)
        tables["network"] = {
            "address": str(place.address),
            "asap_port": place.ports["asap"],
            "enrp_port": place.ports["enrp"],
            "http_port": place.ports["http"],
            "loopback": True,
        }
        if place.also:
            tables["network"]["also"] = [str(address) for address in place.also]
        tables["peers"] = {"addresses": [registrar.at("enrp") for registrar in self._registrars()]}
        identity = self._identity(Role.REGISTRAR)
        return ProcessPlan(
            name=f"{self._name}-registrar-{index}",
            kind="registrar",
            command=(*_python(), "-m", "rserpool_registrar", "--config", str(self._directory / f"{short}.toml")),
            environment={},
            place=place,
            configuration=self._finish(tables, short, identity, place),
            identity=identity,
        )

    def sidecar(self, index: int, weights: Sequence[int]) -> ProcessPlan:
        short = f"s{index}"
        place = self._element_place(index)
        tables = sidecar_tables(self._pool, TRUST_DOMAIN)
        tables["network"] = {
            "address": str(place.address),
            "asap_port": place.ports["asap"],
            "http_port": place.ports["http"],
        }
        tables["registrars"] = {"addresses": [at for r in self._registrars() for at in r.everywhere("asap")]}
        tables["application"]["port"] = place.ports["application"]
        if self._measured:
            tables["load"]["process_file"] = str(self._process_file(index))
        if tables["load"].get("port") == self._pool.spec.elements.port:
            tables["load"]["port"] = 0  # the application's, wherever it is
        if "channel" in tables:
            tables["channel"] |= {
                "port": place.ports["channel"],
                "http_address": str(place.address),
                "http_port": place.ports["local"],
                "keys": [f"1:{self._cookie_key}"] if self._cookie_key else [],
                "drain": min(LONGEST_DRAIN, self._pool.spec.elements.drain.total_seconds()),
            }
        if tables["health"].get("port") == self._pool.spec.elements.port:
            tables["health"]["port"] = 0  # the application's, wherever it is
        if weights:
            tables["policy"]["weight"] = weights[index % len(weights)]
        identity = self._identity(Role.ELEMENT)
        return ProcessPlan(
            name=f"{self._name}-{index}/sidecar",
            kind="sidecar",
            command=(*_python(), "-m", "rserpool_sidecar", "--config", str(self._directory / f"{short}.toml")),
            environment={},
            place=place,
            configuration=self._finish(tables, short, identity, place),
            identity=identity,
        )

    def application(self, index: int, command: Sequence[str], folder: Path | None) -> ProcessPlan:
        place = self._element_place(index)
        address, port = str(place.address), str(place.ports["application"])
        environment = {"RSERPOOL_ADDRESS": address, "RSERPOOL_PORT": port}
        if "local" in place.ports:
            environment["RSERPOOL_CHANNEL"] = f"http://{place.at('local')}"
        return ProcessPlan(
            name=f"{self._name}-{index}",
            kind="application",
            command=tuple(part.replace("{address}", address).replace("{port}", port) for part in command),
            environment=environment,
            place=place,
            folder=folder,
            process_file=self._process_file(index) if self._measured else None,
        )


def _python() -> tuple[str, ...]:
    """The interpreter for daemons: without docstrings, which saves each of them two MiB."""
    return (sys.executable, "-OO")
