# SPDX-License-Identifier: Apache-2.0
"""Registrars and elements as the rig of ENRP knows them: numbers, addresses, certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import (
    Endpoint,
    TransportKind,
    transport_of,
)
from rserpool.handlespace import ElementKey
from rserpool.identity import principal_of
from rserpool.wire import (
    Message,
    Policy,
    PoolElement,
    ServerInformation,
    TcpTransport,
    policies,
)
from support.scope import APP_PORT, ASAP_PORT, ENRP_PORT, POOL, identity

US = 0x50000000
LOWEST, LOWER, HIGHER, HIGHEST = 0x10000000, 0x20000000, 0x80000000, 0x90000000
Reaction = Callable[[Message], Message | None]


def endpoint(number: int) -> Endpoint:
    """Where registrar ``number`` listens; the machine under test is number 1."""
    return Endpoint(TransportKind.TCP, (IPv4Address(f"10.0.0.{number}"),), ENRP_PORT)


def server_information(server_id: int, number: int) -> ServerInformation:
    return ServerInformation(server_id=server_id, transports=(transport_of(endpoint(number)),))


@dataclass(frozen=True)
class Being:
    """A pool element, as its certificate makes it."""

    number: int

    @property
    def principal(self) -> Principal:
        return principal_of(identity(Role.ELEMENT, self.number))

    @property
    def identifier(self) -> int:
        return min(self.principal.pe_identifiers)

    @property
    def key(self) -> ElementKey:
        return POOL, self.identifier

    @property
    def address(self) -> IPv4Address:
        return IPv4Address(f"10.0.{1 + (self.number >> 8)}.{self.number & 255}")

    @property
    def listening(self) -> Endpoint:
        return Endpoint(TransportKind.TCP, (self.address,), ASAP_PORT)

    def element(self, home: int = 0, *, life: int = 300, policy: Policy | None = None) -> PoolElement:
        return PoolElement(
            identifier=self.identifier,
            home=home,
            life=life,
            transport=TcpTransport(port=APP_PORT, address=self.address),
            policy=policy or policies.RoundRobin(),
            asap_transport=TcpTransport(port=ASAP_PORT, address=self.address),
        )
