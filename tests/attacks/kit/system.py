# SPDX-License-Identifier: Apache-2.0
"""The system under attack: three registrars of one pool and one of another, real processes, each pool with its own CA.

Every leaf is signed here, so an attacker may hold any. Beside the sidecars there is an honest driver that never stops
(:mod:`attacks.kit.honest`). The same system can be started with mechanisms switched off (:mod:`attacks.kit.weakened`).
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from attacks.kit import weakened
from attacks.kit.driver import Driver, Operation, driving
from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.client.scope import Scope
from rserpool.daemon.settings import render
from rserpool.identity import LeafIdentity
from rserpool.pool import read_manifests
from rserpool.transport.http import HttpError, Target, ask
from rserpool_cli.up.loopback import Addresses, claim
from rserpool_cli.up.plan import TRUST_DOMAIN, ProcessPlan, UpOptions, UpPlan, make_plan
from rserpool_cli.up.state import write_state
from support.planned import end, security_from_files, start
from support.rig_refusals import OwnPool, stranger
from support.rogue import Leaf, Rogue, forged
from support.running import PATIENCE, RegistrarProcess, manifest

NAMESPACE: Final = "demo"
ECHO, OTHER = "echo", "other"
"""The two pools."""
SPARE: Final = 3
"""Elements of the first pool that are planned and not started: a test may start one, or be one."""
STARTING: Final = 60.0
"""Seconds in which everything must run: a dozen interpreters begin at once."""
LATE: Final = 9
"""Index of a registrar that a test starts later."""
HONEST: Final = 100
"""Index of the driver's first place among `kind` 3 of the pool's addresses."""
BUSY: Final = 10.0
"""Seconds for which a registrar may be too busy to say what it holds."""
HERE: Final = Path(__file__).parent


class SystemPool(OwnPool):
    """One of the two pools, with its authority, its processes and its addresses.

    Args:
        name: its handle.
        directory: of its files.
        authority: signs its leaves.
        plan: who is where.
        addresses: of this pool alone.
    """

    def __init__(
        self, name: str, directory: Path, authority: EmbeddedAuthority, plan: UpPlan, addresses: Addresses
    ) -> None:
        super().__init__(directory, authority, plan)
        self.name = name
        self.addresses = addresses

    @property
    def scope(self) -> Scope:
        """For a PoolUser."""
        secure = self.plan.registrars[0].identity is not None
        places = tuple((r.address, r.asap_port) for r in self.registrars)
        return Scope(
            registrars=places,
            bundle=self.authority.bundle if secure else None,
            namespace=NAMESPACE,
            pool=self.name,
            trust_domain=TRUST_DOMAIN,
        )

    def leaf(self, role: Role, uid: str = "", *, pool: str = "") -> Leaf:
        """A good leaf of that role, of this pool unless another one is said."""
        return forged(self.identity(role, uid, pool=pool), self.authority)

    def identity(self, role: Role, uid: str = "", *, pool: str = "") -> LeafIdentity:
        """An identity as this pool's certificates have it."""
        return LeafIdentity(
            trust_domain=TRUST_DOMAIN,
            namespace=NAMESPACE,
            pool=pool or self.name,
            role=role,
            pod_uid=uid or str(uuid4()),
        )


@dataclass(slots=True)
class System:
    """What runs.

    Attributes:
        a: the pool that is attacked: three registrars.
        b: the other pool; one registrar and an element. ``None`` where a test does without.
        processes: by name: registrars, sidecars (``echo-0/sidecar``) and applications.
        driver: the honest one, where it runs.
        elements: how many sidecars of ``a`` run from the beginning.
    """

    a: SystemPool
    b: SystemPool | None
    elements: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    driver: Driver | None = None
    _spare: list[tuple[ProcessPlan, ProcessPlan]] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def pools(self) -> tuple[SystemPool, ...]:
        """Those that run."""
        return (self.a,) if self.b is None else (self.a, self.b)

    @property
    def operations(self) -> Sequence[Operation]:
        """What the honest driver has done so far."""
        return self.driver.operations if self.driver is not None else ()

    @property
    def driven_at(self) -> frozenset[str]:
        """Addresses of the driver's elements."""
        return self.driver.addresses if self.driver is not None else frozenset()

    # -- what it holds, says and uses

    def dumps(self) -> dict[str, Any]:
        """What every registrar of both pools holds, and who its peers are, without the driver's elements.

        Checksums are left out: they are about the driver's elements too.
        """
        found = {}
        for pool in self.pools:
            dumps, until = pool.dumps(), time.monotonic() + BUSY
            while silent := sorted({r.name for r in pool.registrars} - set(dumps)):
                logs = "\n".join(pool.log(name)[-2000:] for name in silent)
                assert time.monotonic() < until, f"{silent} do not answer:\n{logs}"
                dumps |= pool.dumps(without=list(dumps))
            for name, dump in dumps.items():
                peers = sorted((p["server_id"], p["identity"]) for p in dump["peers"])
                found[name] = {"server_id": dump["server_id"], "pools": self._held(dump), "peers": peers}
        return found

    def _held(self, dump: dict[str, Any]) -> list[dict[str, Any]]:
        pools = []
        for pool in dump["handlespace"]["pools"]:
            elements = [e for e in pool["elements"] if host_of(e["transport"]) not in self.driven_at]
            if elements:
                pools.append({**pool, "elements": elements})
        return pools

    def held(self, handle: str = ECHO) -> dict[str, list[dict[str, Any]]]:
        """For each registrar of ``a``, its elements of a pool without the driver's."""
        own = {r.name for r in self.a.registrars}
        return {
            name: [e for pool in dump["pools"] if pool["handle"] == handle for e in pool["elements"]]
            for name, dump in self.dumps().items()
            if name in own
        }

    def refusals(self) -> dict[str, float]:
        """What all registrars of both pools and all sidecars have refused so far, by threat."""
        found: dict[str, float] = {}
        for text in self._metrics().values():
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == "rserpool_refusals_total":
                        threat = sample.labels["threat"]
                        found[threat] = found.get(threat, 0) + sample.value
        return found

    def _metrics(self) -> dict[str, str]:
        plans = [p for pool in self.pools for p in (*pool.plan.registrars, *pool.plan.sidecars)]
        plans += [sidecar for _, sidecar in self._spare if sidecar.name in self.processes]
        found = {}
        for plan in plans:
            target = Target(host=str(plan.place.address), port=plan.place.ports["http"])
            with contextlib.suppress(HttpError):
                found[plan.name] = self.a.run(ask(target, "GET", "/metrics")).body.decode()
        return found

    def log(self, name: str) -> str:
        """What a process has logged."""
        pool = self.a if name.startswith(ECHO) else self.b
        assert pool is not None
        return pool.log(name)

    def logs(self) -> dict[str, str]:
        """What all daemons have logged, by name."""
        return {name: self.log(name) for name in self.processes}

    def log_size(self) -> int:
        """Octets of all logs, without what they say of the driver's elements, which come and go all the time."""
        lines = (line for text in self.logs().values() for line in text.splitlines())
        return sum(len(line) + 1 for line in lines if self.driver is None or not self.driver.is_about(line))

    def rss(self, name: str) -> int:
        """Octets a process has in memory."""
        status = Path(f"/proc/{self.processes[name].pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def daemons(self) -> list[str]:
        """Names of registrars and sidecars that run."""
        return [name for name in self.processes if "registrar" in name or name.endswith("/sidecar")]

    # -- who attacks, and who is there besides

    def stranger(self, leaf: Leaf | None = None) -> Rogue:
        """Somebody at an address of ``a``'s network where nobody has been before: his first refusal is logged."""
        return stranger(self.a, leaf)

    def compromised(self, index: int = 0, *, fresh: bool = True) -> Rogue:
        """An element of ``a`` in an attacker's hands: its address and an identity of this pool, of role element.

        Args:
            index: which element's address.
            fresh: an identity that has registered nothing yet, so that its refusals are logged; else the element's own.
        """
        plan = self.a.plan.sidecars[index]
        known = "" if fresh or plan.identity is None else plan.identity.pod_uid
        leaf = self.a.leaf(Role.ELEMENT, known)
        return Rogue(str(plan.place.address), leaf)

    def start_spare(self, registrars: Sequence[str] = (), without: Sequence[str] = ()) -> str:
        """Start a spare element of ``a``, a real sidecar with its application; returns the sidecar's name.

        Args:
            registrars: ``address:port`` of those it is told of; the pool's own if none.
            without: mechanisms its sidecar does without.
        """
        application, sidecar = next(pair for pair in self._spare if pair[1].name not in self.processes)
        self._start(self.a, application, ())
        self._start(self.a, sidecar, without, registrars)
        return sidecar.name

    def start_registrar(self, peers: Sequence[str], without: Sequence[str] = ()) -> RegistrarProcess:
        """Start one more registrar of ``a``, which nobody has been told of; does not wait for it.

        Args:
            peers: ``address:port`` of those it is told of.
            without: mechanisms it does without.
        """
        first = self.a.plan.registrars[0]
        place = self.a.addresses.place(1, LATE, **first.place.ports)
        short = str(self.a.directory / "late")
        tables = tomllib.loads(first.configuration)
        tables["network"]["address"] = str(place.address)
        tables["peers"]["addresses"] = [*peers, place.at("enrp")]
        tables["control"]["socket"] = f"{short}.sock"
        plan = replace(
            first,
            name=f"{ECHO}-registrar-{LATE}",
            command=(*first.command[:-1], f"{short}.toml"),
            place=place,
            configuration=render(tables),
            identity=self.a.identity(Role.REGISTRAR),
        )
        self._start(self.a, plan, without)
        ports = place.ports
        address = str(place.address)
        return RegistrarProcess(plan.name, None, address, ports["asap"], ports["enrp"], ports["http"], f"{short}.sock")

    def spare_plan(self, name: str) -> ProcessPlan:
        """Where a spare sidecar is, and who."""
        return next(sidecar for _, sidecar in self._spare if sidecar.name == name)

    def stop(self, name: str) -> None:
        """End a process, and see it end."""
        end(self.processes.pop(name))

    def wait(self, what: str, condition: Callable[[], object], within: float = PATIENCE) -> float:
        """Look until it is so; returns the seconds."""
        return self.a.wait(what, condition, within)

    # -- starting

    def _start(
        self, pool: SystemPool, plan: ProcessPlan, without: Sequence[str], registrars: Sequence[str] = ()
    ) -> None:
        command: Sequence[str] = ()
        if plan.configuration:
            file = Path(plan.command[-1])
            tables = tomllib.loads(plan.configuration)
            if plan.identity is not None:
                leaf = forged(plan.identity, pool.authority)
                tables["security"] = security_from_files(leaf, pool.authority.bundle, pool.directory)
            if registrars:
                tables["registrars"] = {"addresses": list(registrars)}
            file.write_text(render(tables))
            if without:
                command = weakened.command(plan.kind, without, str(file))
        process = self.processes[plan.name] = start(plan, pool.directory, command)
        self._stack.callback(end, process)


def host_of(transport: str) -> str:
    """The host of a transport as a dump shows it."""
    return transport.split(":", 1)[1].rpartition(":")[0].strip("[]")


@contextlib.contextmanager
def running_system(
    *,
    without: Sequence[str] = (),
    registrars: int = 3,
    elements: int = 2,
    foreign: bool = True,
    secure: bool = True,
    driven: bool = True,
    more: str = "",
) -> Iterator[System]:
    """Start the system, and end it.

    Args:
        without: mechanisms that all registrars of the first pool do without (:data:`attacks.kit.weakened.WEAKENINGS`).
        registrars: of the first pool.
        elements: sidecars of the first pool.
        foreign: whether the other pool runs too.
        secure: ``False`` switches TLS off in the first pool.
        driven: whether the honest driver runs.
        more: further lines of the first pool's spec.
    """
    mode = "" if secure else "  security: {mode: Insecure}\n"
    with contextlib.ExitStack() as stack:
        a, spare = _planned(stack, ECHO, registrars, elements, SPARE, mode + more)
        b = _planned(stack, OTHER, 1, 1, 0, "")[0] if foreign else None
        system = System(a, b, elements, _spare=spare, _stack=stack)
        for pool in system.pools:
            for plan in pool.plan.processes:
                system._start(pool, plan, without if pool is a and plan.kind == "registrar" else ())
        for pool in system.pools:
            pool.settled_with_all(STARTING)
        if driven:
            system.driver = stack.enter_context(_driving(a, spare))
            system.wait("the driver has done its first round", system.driver.has_gone_round)
        yield system


def _driving(pool: SystemPool, spare: Sequence[tuple[ProcessPlan, ProcessPlan]]) -> AbstractContextManager[Driver]:
    secure = pool.plan.registrars[0].identity is not None
    places = [str(pool.addresses.place(3, HONEST + i).address) for i in range(len(pool.registrars))]
    sidecars = (*pool.plan.sidecars, *(sidecar for _, sidecar in spare))
    return driving(
        pool.directory / "honest.json",
        handle=pool.name,
        bundle=pool.authority.bundle if secure else b"",
        registrars=[(r.address, r.asap_port) for r in pool.registrars],
        elements=[(place, pool.leaf(Role.ELEMENT)) for place in places],
        known=[str(sidecar.place.address) for sidecar in sidecars],
    )


def weakened_system(*names: str, **options: Any) -> AbstractContextManager[System]:
    """The first pool alone with these mechanisms switched off; one element and no driver unless asked for."""
    return running_system(without=names, **{"foreign": False, "driven": False, "elements": 1, **options})


def _planned(
    stack: contextlib.ExitStack, name: str, registrars: int, elements: int, spare: int, more: str
) -> tuple[SystemPool, list[tuple[ProcessPlan, ProcessPlan]]]:
    """A pool whose processes are not started yet, and spare elements: application and sidecar."""
    addresses = stack.enter_context(claim())
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-", ignore_cleanup_errors=True)))
    file = directory / "pool.yaml"
    file.write_text(manifest(name, replicas=registrars, more=more))
    options = UpOptions(elements=elements + spare)
    everybody = make_plan(read_manifests(file)[0].pool, options, addresses, directory, file, "https://127.0.0.1:1")
    plan = replace(everybody, sidecars=everybody.sidecars[:elements], applications=everybody.applications[:elements])
    now = datetime.now(UTC)
    authority = EmbeddedAuthority.create(name, now, life=timedelta(days=1), leaf_life=timedelta(hours=1))
    write_state(directory, plan, [], authority.bundle, addresses)
    pool = SystemPool(name, directory, authority, plan, addresses)
    stack.callback(pool.close)
    return pool, list(zip(everybody.applications[elements:], everybody.sidecars[elements:], strict=True))
