# SPDX-License-Identifier: Apache-2.0
"""Peers that ask one registrar as fast as it answers: each association has one request on its way, never more."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random
from typing import Final

import uvloop

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.identity import pe_identifiers
from rserpool.transport.base import Link
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.transport.tls import Credentials
from rserpool.wire import PoolElement, Ppid, TcpTransport, asap, encode, policies
from scope import DOMAIN, NAMESPACE, POOL, Scope

CALLERS: Final = 32
REGISTRATION, RESOLUTION = "re-registration", "resolution"
_KEEP_ALIVE: Final = 0x07


@dataclass(slots=True)
class Rate:
    """What came of it: answers a second, and what each cost the registrar."""

    per_second: float
    cpu_microseconds: float
    registrar_busy: float

    @property
    def capacity(self) -> float:
        """Answers a second of a registrar whose CPU is used to the full; else who asks is the limit."""
        return 1e6 / self.cpu_microseconds


class _Caller:
    """One association that asks again whenever it was answered."""

    def __init__(self, question: bytes, acknowledgement: bytes) -> None:
        self.question = question
        self.acknowledgement = acknowledgement
        self.answers = 0

    def up(self, link: Link) -> None:
        link.send(self.question)

    def message(self, link: Link, octets: bytes) -> None:
        if octets[0] == _KEEP_ALIVE:
            link.send(self.acknowledgement)
            return
        if octets[1] & 0x01 or len(octets) < 16:
            raise RuntimeError(f"refused: {octets.hex()}")
        self.answers += 1
        link.send(self.question)

    def send_failed(self, link: Link, octets: bytes) -> None:
        raise RuntimeError(f"{link} did not take {octets.hex()}")

    def restarted(self, link: Link) -> None:
        raise RuntimeError(f"{link} has started again")

    def down(self, link: Link, reason: str) -> None:
        raise RuntimeError(f"the registrar has ended {link}: {reason}")

    def ageing(self, link: Link) -> None:
        """No measurement lasts as long as a leaf."""

    def refused(self, threat: str, peer: str, what: str, reason: str) -> None:
        raise RuntimeError(f"{what} with {peer} was refused ({threat}): {reason}")


def measure(pool: Scope, what: str, seconds: float) -> Rate:
    """Ask the first registrar for so long, from another processor than its own: neither takes it from the other."""
    processors = sorted(os.sched_getaffinity(0))
    try:
        if len(processors) > 1:
            os.sched_setaffinity(0, processors[1:])
            os.sched_setaffinity(pool.registrars[0].process.pid, processors[:1])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(pool, what, seconds))
    finally:
        os.sched_setaffinity(0, processors)


async def _measure(pool: Scope, what: str, seconds: float) -> Rate:
    registrar = pool.registrars[0]
    endpoint = Endpoint(TransportKind.TCP, (registrar.place.address,), registrar.place.ports["asap"])
    callers: list[_Caller] = []
    networks: list[TcpNetwork] = []
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    for index in range(CALLERS):
        caller, network = _resolver(pool) if what == RESOLUTION else _element(pool, index)
        networks.append(network)
        callers.append(caller)
        await network.connect(Ppid.ASAP, endpoint, 5.0, caller, caller.up)
    await asyncio.sleep(min(1.0, seconds / 4))
    before, cpu, began = sum(c.answers for c in callers), registrar.cpu, time.monotonic()
    await asyncio.sleep(seconds)
    count, used, passed = sum(c.answers for c in callers) - before, registrar.cpu - cpu, time.monotonic() - began
    for network in networks:
        await network.close()
    await asyncio.sleep(0.1)
    if failures or not count:
        raise SystemExit(f"{what}: {failures[:1] or 'no answers'}\n{pool.story()}")
    return Rate(count / passed, used / count * 1e6, used / passed)


def _resolver(pool: Scope) -> tuple[_Caller, TcpNetwork]:
    address = pool.addresses.client
    security = None
    if pool.secure:
        security = _security(Role.USER, Credentials.trusting(pool.authority.bundle))
    question = encode(asap.HandleResolution(pool_handle=POOL.encode()))
    return _Caller(question, b""), TcpNetwork(address, security, TcpLimits(idle=0.0))


def _element(pool: Scope, index: int) -> tuple[_Caller, TcpNetwork]:
    place = pool.addresses.place(2, 2000 + index, asap=3864)
    leaf = pool.leaf(Role.ELEMENT)
    identifier = pe_identifiers(leaf.identity.pod_uid)[0] if pool.secure else Random(index).randrange(1, 1 << 32)
    element = PoolElement(
        identifier=identifier,
        home=0,
        life=30,
        transport=TcpTransport(port=7007, address=place.address),
        policy=policies.RoundRobin(),
        asap_transport=TcpTransport(port=3864, address=place.address),
    )
    security = _security(Role.ELEMENT, leaf.credentials(pool.authority.bundle)) if pool.secure else None
    question = encode(asap.Registration(pool_handle=POOL.encode(), element=element))
    acknowledgement = encode(asap.EndpointKeepAliveAck(pool_handle=POOL.encode(), pe_identifier=identifier))
    return _Caller(question, acknowledgement), TcpNetwork(IPv4Address(place.address), security, TcpLimits(idle=0.0))


def _security(role: Role, credentials: Credentials) -> Security:
    return Security(trust_domain=DOMAIN, namespace=NAMESPACE, pool=POOL, role=role, credentials=credentials)
