# SPDX-License-Identifier: Apache-2.0
"""What state machines are told and what they answer: effects as data.

A machine never does anything. It is told that something happened, and when, and returns what is to be done, in order.
The daemons carry it out over real transports, the simulator over imagined ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol

from rserpool.asap.authorisation import Principal
from rserpool.asap.events import Event
from rserpool.wire import Address, AsapTransport, Ppid, SctpTransport, TcpTransport

AssociationId = NewType("AssociationId", int)
"""Names an association as long as the process lives; never used twice."""

RequestId = NewType("RequestId", int)
"""Names a wish to connect, from :class:`Connect` until it succeeded, failed or was abandoned."""


class TransportKind(Enum):
    """What carries an association."""

    SCTP = "SCTP"
    TCP = "TCP"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where somebody listens.

    Attributes:
        kind: SCTP or TCP.
        addresses: all addresses of it; TCP has one.
        port: never assumed, always carried.
    """

    kind: TransportKind
    addresses: tuple[Address, ...]
    port: int

    def __str__(self) -> str:
        addresses = "+".join(f"[{a}]" if a.version == 6 else str(a) for a in self.addresses)
        return f"{self.kind.value.lower()}:{addresses}:{self.port}"


def endpoint_of(transport: AsapTransport) -> Endpoint:
    """The endpoint an ASAP Transport or a Server Transport names."""
    kind = TransportKind.SCTP if isinstance(transport, SctpTransport) else TransportKind.TCP
    return Endpoint(kind, transport.addresses, transport.port)


def transport_of(endpoint: Endpoint) -> AsapTransport:
    """The transport parameter that names an endpoint."""
    if endpoint.kind is TransportKind.SCTP:
        return SctpTransport(port=endpoint.port, addresses=endpoint.addresses)
    return TcpTransport(port=endpoint.port, address=endpoint.addresses[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """An association that is up: authenticated, if the scope is secure.

    Attributes:
        service: ASAP or ENRP, by the port it was opened to.
        outbound: we opened it.
        kind: its transport.
        peer_addresses: all addresses of the peer that the transport vouches for.
        peer_port: the peer's port; for TCP that of the connection, where nobody may be listening.
        principal: who the peer proved to be.
    """

    id: AssociationId
    service: Ppid
    outbound: bool
    kind: TransportKind
    peer_addresses: tuple[Address, ...]
    peer_port: int
    principal: Principal

    def __str__(self) -> str:
        return f"{self.principal} at {Endpoint(self.kind, self.peer_addresses, self.peer_port)}"


@dataclass(frozen=True, slots=True)
class Connect:
    """Open an association; the answer is ``connected`` or ``connect_failed`` with the same request.

    Attributes:
        deadline: seconds until it has failed, TLS handshake included.
    """

    request: RequestId
    service: Ppid
    endpoint: Endpoint
    deadline: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop trying to connect; no answer follows."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Send:
    """Send one message."""

    association: AssociationId
    octets: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End an association; no ``lost`` follows.

    Attributes:
        reason: for the log.
        abort: at once, without sending what is queued.
    """

    association: AssociationId
    reason: str
    abort: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the operator of the daemon: log, count, show."""

    event: Event


Effect = Connect | Abandon | Send | Close | Emit


class Machine(Protocol):
    """What daemons and the simulator drive. ``now`` never goes backwards; it is in seconds, of any origin."""

    def connected(self, association: Association, request: RequestId | None, now: float) -> list[Effect]:
        """An association is up: the answer to ``request``, or one the peer opened."""

    def connect_failed(self, request: RequestId, reason: str, now: float) -> list[Effect]:
        """A wish to connect came to nothing."""

    def received(self, association: AssociationId, octets: bytes, now: float) -> list[Effect]:
        """One message's octets have come in."""

    def lost(self, association: AssociationId, reason: str, now: float) -> list[Effect]:
        """An association ended by itself, by the peer or by failure."""

    def ageing(self, association: AssociationId, now: float) -> list[Effect]:
        """The peer's credential ends soon, and the association with it: open another one in time."""

    def wake(self, now: float) -> list[Effect]:
        """The deadline has come."""

    def deadline(self) -> float | None:
        """When to call :meth:`wake`; ``None`` for never."""
