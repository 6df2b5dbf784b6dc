# SPDX-License-Identifier: Apache-2.0
"""What every refusal must leave behind: a number, a line, nothing else. And registrars with an authority of ours."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.client import PoolUser
from rserpool.client.scope import Scope
from rserpool.daemon.settings import render
from rserpool.identity import LeafIdentity
from rserpool.pool import read_manifests
from rserpool.wire import Message, PoolElement, Ppid, TcpTransport, UpdateAction, asap, enrp, policies
from rserpool_cli.up.loopback import claim
from rserpool_cli.up.plan import TRUST_DOMAIN, ProcessPlan, UpOptions, UpPlan, make_plan
from rserpool_cli.up.state import write_state
from support.planned import running, security_from_files
from support.rogue import Leaf, Line, Rogue, forged
from support.running import RegistrarProcess, RunningPool, manifest

HANDLE: Final = b"echo"
MARK: Final = b"octets-of-an-attacker"
"""Octets that attackers send and no log may repeat."""
SHORTEST_SECRET: Final = 32
"""Octets of a line of a token or a key; what frames a key is shorter."""
MOST_LINES: Final = 2
"""Lines about one peer and threat: one, or two if a minute ends meanwhile."""
COUNTED: Final = 5.0
"""Seconds in which a refusal that the attacker has seen must be counted; it is there already."""
_strangers = itertools.count(1)


def stranger(pool: RunningPool, leaf: Leaf | None = None) -> Rogue:
    """Somebody at an address of the pool's network where nobody has been before: his first refusal is logged."""
    number = next(_strangers)
    network = ".".join(pool.registrars[0].address.split(".")[:2])
    return Rogue(f"{network}.{200 + number // 250}.{number % 250 + 1}", leaf)


def asap_line(rogue: Rogue, registrar: RegistrarProcess) -> contextlib.AbstractContextManager[Line]:
    """TLS to its ASAP port."""
    return rogue.secure(registrar.address, registrar.asap_port, Ppid.ASAP)


def enrp_line(rogue: Rogue, registrar: RegistrarProcess) -> contextlib.AbstractContextManager[Line]:
    """TLS to its ENRP port."""
    return rogue.secure(registrar.address, registrar.enrp_port, Ppid.ENRP)


def offer(identifier: int, address: str, *, listens: str | None = None, home: int = 0) -> PoolElement:
    """An element as it is registered over TCP."""
    return PoolElement(
        identifier=identifier,
        home=home,
        life=30,
        transport=TcpTransport(port=7007, address=ip_address(address)),
        policy=policies.RoundRobin(),
        asap_transport=TcpTransport(port=3864, address=ip_address(listens or address)),
    )


def registration(identifier: int, address: str, handle: bytes = HANDLE, listens: str | None = None) -> Message:
    """A registration of somebody."""
    return asap.Registration(pool_handle=handle, element=offer(identifier, address, listens=listens))


def usurping(sender: int, target: int, sibling: int, address: str) -> list[Message]:
    """What would make the sender a registrar that owns an element, and takes over another one's."""
    updates = [
        enrp.HandleUpdate(
            sender=sender, action=action, pool_handle=HANDLE, element=offer(sibling, address, home=sender)
        )
        for action in UpdateAction
    ]
    return [
        enrp.Presence(sender=sender, reply_required=True, checksum=0),
        *updates,
        enrp.InitTakeover(sender=sender, target=target),
        enrp.TakeoverServer(sender=sender, target=target),
    ]


def causes(message: Message) -> list[int]:
    """The causes an answer names; a registration must have been rejected."""
    assert isinstance(message, asap.RegistrationResponse | asap.DeregistrationResponse | asap.AsapError)
    assert not isinstance(message, asap.RegistrationResponse) or message.reject
    return [cause.code for cause in message.error]


# -- what is left behind


@dataclass(frozen=True)
class Refusal:
    """What a registrar should have noted.

    Attributes:
        threat: section of the threats document.
        what: what was refused.
        reason: part of the reason in the log.
        peer: as the log must name it.
        times: how often; ``None``: at least once.
    """

    threat: str
    what: str
    reason: str
    peer: str
    times: int | None = 1


def holdings(pool: RunningPool) -> dict[str, Any]:
    """What every registrar holds, and who its peers are."""
    dumps = pool.dumps()
    assert len(dumps) == len(pool.registrars), "a registrar does not answer"
    return {
        name: (dump["server_id"], dump["handlespace"], [(p["server_id"], p["identity"]) for p in dump["peers"]])
        for name, dump in dumps.items()
    }


@contextlib.contextmanager
def refused(
    pool: RunningPool, registrar: RegistrarProcess, *refusals: Refusal, secrets: tuple[bytes, ...] = ()
) -> Iterator[None]:
    """An attack that is refused: counted under its threat and no other, logged, and without any effect."""
    with unmoved(pool, registrar, *secrets):
        before = [counted(pool, registrar, r) for r in refusals]
        total = pool.metric(registrar, "rserpool_refusals_total")
        seen = len(pool.log(registrar.name))
        yield
        for refusal, was in zip(refusals, before, strict=True):
            wanted = was + (refusal.times or 1)
            pool.wait(f"{refusal} is counted", partial(_reached, pool, registrar, refusal, wanted), COUNTED)
        risen = [counted(pool, registrar, r) - was for r, was in zip(refusals, before, strict=True)]
        for refusal, times in zip(refusals, risen, strict=True):
            assert refusal.times in (None, times), f"{refusal} was counted {times:g} times"
        assert pool.metric(registrar, "rserpool_refusals_total") - total == sum(risen)
        written = pool.log(registrar.name)[seen:].splitlines()
        for refusal in refusals:
            told(written, f"refused {refusal.what}: ", refusal.reason, refusal.peer, f"threat={refusal.threat}")


def _reached(pool: RunningPool, registrar: RegistrarProcess, refusal: Refusal, wanted: float) -> bool:
    return counted(pool, registrar, refusal) >= wanted


def counted(pool: RunningPool, registrar: RegistrarProcess, refusal: Refusal) -> float:
    """How often that was refused."""
    return pool.metric(registrar, "rserpool_refusals_total", threat=refusal.threat, what=refusal.what)


def told(lines: list[str], *parts: str) -> None:
    """One line says all of it, and hardly any other does."""
    said = [line for line in lines if all(part in line for part in parts)]
    assert 1 <= len(said) <= MOST_LINES, f"{len(said)} lines say {parts}:\n" + "\n".join(lines)


@contextlib.contextmanager
def unmoved(pool: RunningPool, registrar: RegistrarProcess, *secrets: bytes) -> Iterator[None]:
    """Whatever is done, no registrar holds anything else afterwards, honest users are served, logs tell no secret."""
    before = holdings(pool)
    yield
    assert served(pool, registrar) == len(before[registrar.name][1]["pools"][0]["elements"])
    assert holdings(pool) == before
    files = [file.read_bytes() for kind in ("token", "key") for file in pool.directory.glob(f"*.{kind}")]
    hidden = {line for secret in (*files, *secrets) for line in secret.splitlines() if len(line) > SHORTEST_SECRET}
    hidden |= {MARK, b"PRIVATE KEY"}
    logs = [file.read_bytes() for file in pool.directory.glob("*.log")] + ["\n".join(pool.lines).encode()]
    assert not any(secret in log for secret in hidden for log in logs), "a log tells a secret"


def served(pool: RunningPool, registrar: RegistrarProcess) -> int:
    """How many elements an honest user is told of by this very registrar."""

    async def ask() -> int:
        only = dataclasses.replace(pool.scope, registrars=((registrar.address, registrar.asap_port),))
        async with PoolUser(only) as users:
            return len((await users.resolve(HANDLE.decode(), fresh=True)).elements)

    return int(pool.run(ask()))


# -- registrars with an authority of ours, from which every leaf can be had


class OwnPool(RunningPool):
    """Two registrars and an element, real processes, with credentials from files.

    Args:
        directory: of their files.
        authority: signs all leaves.
        plan: who is where.
    """

    def __init__(self, directory: Path, authority: EmbeddedAuthority, plan: UpPlan) -> None:
        self.lines = []
        self.authority = authority
        self.plan = plan
        self._runner = asyncio.Runner()
        self._directory = directory

    @property
    def directory(self) -> Path:
        """Its folder."""
        return self._directory

    @property
    def scope(self) -> Scope:
        """For a PoolUser."""
        places = tuple((r.address, r.asap_port) for r in self.registrars)
        return Scope(
            registrars=places, bundle=self.authority.bundle, namespace="demo", pool="echo", trust_domain=TRUST_DOMAIN
        )

    def leaf(self, role: Role, uid: str = "", *, pool: str = "echo") -> Leaf:
        """A good leaf of that role."""
        identity = LeafIdentity(
            trust_domain=TRUST_DOMAIN, namespace="demo", pool=pool, role=role, pod_uid=uid or str(uuid4())
        )
        return forged(identity, self.authority)

    def close(self) -> None:
        """No coroutine is run any more."""
        self._runner.close()


@contextlib.contextmanager
def own_pool() -> Iterator[OwnPool]:
    """Run them, and end them."""
    with claim() as addresses, tempfile.TemporaryDirectory(prefix="rsp-") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        file = directory / "pool.yaml"
        file.write_text(manifest(replicas=2))
        server_pool = read_manifests(file)[0].pool
        plan = make_plan(server_pool, UpOptions(elements=1), addresses, directory, file, "https://127.0.0.1:1")
        now = datetime.now(UTC)
        ca = EmbeddedAuthority.create("ours", now, life=timedelta(days=1), leaf_life=timedelta(hours=1))
        write_state(directory, plan, [], ca.bundle, addresses)
        for process in plan.processes:
            _configure(process, directory, ca)
            stack.enter_context(running(process, directory))
        pool = OwnPool(directory, ca, plan)
        stack.callback(pool.close)
        pool.settled_with_all()
        yield pool


def _configure(process: ProcessPlan, directory: Path, ca: EmbeddedAuthority) -> None:
    if process.identity is not None:
        tables = tomllib.loads(process.configuration)
        tables["security"] = security_from_files(forged(process.identity, ca), ca.bundle, directory)
        Path(process.command[-1]).write_text(render(tables))
