# SPDX-License-Identifier: Apache-2.0
"""Single daemons as victims, beside a system that runs: a sidecar with its application, or one registrar more.

Where they believe registrars to be, what names mean to them, whether the application counts, and which mechanisms they
do without is the test's to say. They belong to the system's first pool, and are at addresses of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from attacks.kit import weakened
from attacks.kit.system import System, SystemPool
from rserpool.asap.authorisation import Role
from rserpool.daemon.control import ControlError, control
from rserpool.daemon.settings import render
from rserpool.identity import LeafIdentity, pe_identifiers
from rserpool.transport.http import HttpError, Target, ask
from support.planned import end, security_from_files
from support.rogue import Leaf, forged
from support.running import REPOSITORY

PATIENCE: Final = 30.0
APPLICATION, ASAP, ENRP, CHANNEL, LOCAL, HTTP = 7007, 3864, 9902, 7008, 8083, 8081
ECHO: Final = REPOSITORY / "examples" / "echo" / "echo.py"
COUNTER: Final = REPOSITORY / "examples" / "counter" / "counter.py"
Tables = dict[str, dict[str, Any]]
Places = Sequence[tuple[str, int]]
_numbers = itertools.count(1)
_taken: set[str] = set()


def place(system: System) -> str:
    """An address of the first pool's network that nobody has."""
    number = next(_numbers)
    network = ".".join(system.a.registrars[0].address.split(".")[:2])
    return f"{network}.{180 + number // 250}.{number % 250 + 1}"


@contextlib.contextmanager
def _spare_address(system: System) -> Iterator[str]:
    """The address of a spare element, which the honest driver knows for an honest one's."""
    running = {str(plan.place.address) for _, plan in system._spare if plan.name in system.processes}
    free = [str(plan.place.address) for _, plan in system._spare]
    address = next(a for a in free if a not in running and a not in _taken)
    _taken.add(address)
    try:
        yield address
    finally:
        _taken.discard(address)


class Victim:
    """A daemon that runs.

    Attributes:
        identity: who it is.
        address: where it is.
        process: of the daemon itself.
    """

    def __init__(self, identity: LeafIdentity, address: str, folder: Path) -> None:
        self.identity = identity
        self.address = address
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def identifier(self) -> int:
        """An element's PE identifier."""
        return pe_identifiers(self.identity.pod_uid)[0]

    @property
    def log(self) -> str:
        """All it has logged."""
        return (self.folder / "daemon.log").read_text()

    def lines(self, *parts: str) -> list[str]:
        """The lines of its log that say all of that."""
        return [line for line in self.log.splitlines() if all(part in line for part in parts)]

    def dump(self) -> dict[str, Any]:
        """What it says of itself; nothing, if it does not answer."""
        try:
            found = asyncio.run(control(self.folder / "daemon.sock", "GET", "/dump", timeout=2.0))
        except ControlError:
            return {}
        return found if isinstance(found, dict) else {}

    def metric(self, name: str, **labels: str) -> float:
        """One sample of its metrics, or the sum of all that fit."""
        text = asyncio.run(ask(Target(host=self.address, port=HTTP), "GET", "/metrics")).body.decode()
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def refusals(self, threat: str) -> int:
        """How much it has refused as that threat."""
        return round(self.metric("rserpool_refusals_total", threat=threat))

    def is_ready(self) -> bool:
        """Whether its pod would be ready: a sidecar is registered, a registrar serves."""
        try:
            return asyncio.run(ask(Target(host=self.address, port=HTTP), "GET", "/readyz")).status == 200
        except HttpError:
            return False

    @property
    def resident(self) -> int:
        """Octets of memory."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def wait(self, what: str, condition: Callable[[], object], within: float = PATIENCE) -> float:
        """Look until it is so; returns the seconds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > within:
                raise AssertionError(f"not within {within:g} s: {what}\n{self.log[-4000:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def ready(self, within: float = PATIENCE) -> float:
        """Wait until it is; returns the seconds."""
        return self.wait("it is ready", self.is_ready, within)


@contextlib.contextmanager
def sidecar(
    system: System,
    *,
    registrars: Places = (),
    without: Sequence[str] = (),
    before: Sequence[str] = (),
    channel: Sequence[str] | None = None,
    leaf: Leaf | None = None,
    secure: bool | None = None,
    tables: Tables | None = None,
) -> Iterator[Victim]:
    """Start a sidecar and its application, and end them; it need not find a registrar. There are at most three at once.

    Args:
        system: whose first pool it belongs to.
        registrars: where it believes the registrars to be; those of the pool, if nothing else is said.
        without: mechanisms it does without.
        before: what stands before its command line.
        channel: keys of the pool's cookies, each as ID:BASE64: it relays, and its application counts.
        leaf: its certificate; a good one, if nothing else is said.
        secure: whether it speaks TLS; as its pool does, if nothing else is said.
        tables: further configuration.
    """
    with _spare_address(system) as address:
        made = _sidecar(system.a, address, registrars, channel, leaf, secure, tables or {})
        with made as found, contextlib.ExitStack() as stack:
            environment = {
                "RSERPOOL_ADDRESS": address,
                "RSERPOOL_PORT": str(APPLICATION),
                "RSERPOOL_CHANNEL": f"http://{address}:{LOCAL}",
            }
            _run(stack, found, [sys.executable, str(ECHO if channel is None else COUNTER)], environment)
            found.process = _run(stack, found, _command("sidecar", found, without, before))
            yield found


def _sidecar(
    pool: SystemPool,
    address: str,
    registrars: Places,
    channel: Sequence[str] | None,
    leaf: Leaf | None,
    secure: bool | None,
    tables: Tables,
) -> contextlib.AbstractContextManager[Victim]:
    identity = leaf.identity if leaf else pool.identity(Role.ELEMENT)
    at = registrars or [(r.address, r.asap_port) for r in pool.registrars]
    configuration: Tables = {
        "pool": _pool(identity),
        "network": {"address": address, "asap_port": ASAP, "http_port": HTTP},
        "registrars": {"addresses": [f"{host}:{port}" for host, port in at]},
        "application": {"port": APPLICATION},
        **tables,
    }
    if channel is not None:
        configuration["channel"] = {
            "enabled": True, "port": CHANNEL, "http_address": address, "http_port": LOCAL, "keys": list(channel),
            "drain": 0.2, **configuration.get("channel", {}),
        }  # fmt: skip
    return _victim(pool, leaf or identity, address, configuration, secure)


@contextlib.contextmanager
def registrar(
    system: System,
    *,
    peers: Places = (),
    without: Sequence[str] = (),
    before: Sequence[str] = (),
    leaf: Leaf | None = None,
    secure: bool | None = None,
    tables: Tables | None = None,
) -> Iterator[Victim]:
    """Start one registrar more, and end it; it need not find the others.

    Args:
        system: whose first pool it belongs to.
        peers: where it believes the others to be; where they are, if nothing else is said.
        without: mechanisms it does without.
        before: what stands before its command line.
        leaf: its certificate; a good one, if nothing else is said.
        secure: whether it speaks TLS; as its pool does, if nothing else is said.
        tables: further configuration.
    """
    pool, address = system.a, place(system)
    identity = leaf.identity if leaf else pool.identity(Role.REGISTRAR)
    at = peers or [(r.address, r.enrp_port) for r in pool.registrars]
    network = {"address": address, "asap_port": ASAP, "enrp_port": ENRP, "http_port": HTTP, "loopback": True}
    configuration: Tables = {
        **{name: dict(table) for name, table in tomllib.loads(pool.plan.registrars[0].configuration).items()},
        "network": network,
        "peers": {"addresses": [f"{host}:{port}" for host, port in at]},
        **(tables or {}),
    }
    with _victim(pool, leaf or identity, address, configuration, secure) as found, contextlib.ExitStack() as stack:
        found.process = _run(stack, found, _command("registrar", found, without, before))
        yield found


def _pool(identity: LeafIdentity) -> dict[str, Any]:
    return {"namespace": identity.namespace, "name": identity.pool, "trust_domain": identity.trust_domain}


@contextlib.contextmanager
def _victim(
    pool: SystemPool, who: Leaf | LeafIdentity, address: str, configuration: Tables, secure: bool | None
) -> Iterator[Victim]:
    """Its folder and its files."""
    folder = pool.directory / f"v{next(_numbers)}"
    folder.mkdir()
    security: dict[str, Any] = {"mode": "Insecure"}
    identity = who.identity if isinstance(who, Leaf) else who
    if secure if secure is not None else pool.plan.registrars[0].identity is not None:
        shown = who if isinstance(who, Leaf) else forged(who, pool.authority)
        security = security_from_files(shown, pool.authority.bundle, folder)
    own = {"security": security, "control": {"socket": str(folder / "daemon.sock")}}
    (folder / "daemon.toml").write_text(render({**configuration, **own}))
    yield Victim(identity, address, folder)


def _command(kind: str, found: Victim, without: Sequence[str], before: Sequence[str]) -> list[str]:
    config = str(found.folder / "daemon.toml")
    if without:
        return [*before, *weakened.command(kind, without, config)]
    return [*before, sys.executable, "-OO", "-m", f"rserpool_{kind}", "--config", config]


def _run(
    stack: contextlib.ExitStack, found: Victim, command: Sequence[str], environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with (found.folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    stack.callback(end, process)
    return process
