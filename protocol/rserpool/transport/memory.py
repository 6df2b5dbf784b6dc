# SPDX-License-Identifier: Apache-2.0
"""A network in one process that behaves like SCTP: whole messages, several addresses, send failure, restart.

Daemons run over it in tests without a socket; what it can do and TCP cannot is what an SCTP transport must do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.transport.base import ConnectError, Link, LinkHandler, Network, Opened
from rserpool.wire import Address, Ppid


class MemoryLink(Link):
    """One end of an association."""

    kind = TransportKind.SCTP

    def __init__(self, service: Ppid, far: MemoryNetwork, port: int, handler: LinkHandler, *, outbound: bool) -> None:
        self.service = service
        self.outbound = outbound
        self.peer_addresses = far.addresses
        self.peer_port = port
        self.principal = far.principal
        self.handler = handler
        self.other: MemoryLink | None = None
        self.failing = False
        self.is_up = True

    def send(self, octets: bytes) -> None:
        """Deliver one message, a little later and in order; or fail to."""
        other = self.other
        if other is None or not self.is_up:
            return
        loop = asyncio.get_running_loop()
        if self.failing:
            loop.call_soon(self.handler.send_failed, self, octets)
        else:
            loop.call_soon(other.deliver, octets)

    def deliver(self, octets: bytes) -> None:
        """A message has arrived."""
        if self.is_up:
            self.handler.message(self, octets)

    def close(self, reason: str) -> None:
        """End the association; the far end hears of it after what was sent."""
        if self.is_up:
            self.is_up = False
            if self.other is not None:
                asyncio.get_running_loop().call_soon(self.other.ended, f"closed by the peer ({reason})")

    def abort(self, reason: str) -> None:
        """End the association; the far end hears of it."""
        self.close(reason)

    def ended(self, reason: str) -> None:
        """The far end has closed."""
        if self.is_up:
            self.is_up = False
            self.handler.down(self, reason)


@dataclass
class MemoryHub:
    """All hosts of one imagined network."""

    listeners: dict[tuple[Address, int], tuple[MemoryNetwork, Ppid, LinkHandler]] = field(default_factory=dict)
    ports: int = 40000


class MemoryNetwork(Network):
    """One host.

    Args:
        hub: the network it is on.
        addresses: all its addresses.
        principal: who it proves to be to everybody.
    """

    def __init__(self, hub: MemoryHub, addresses: tuple[Address, ...], principal: Principal) -> None:
        self._hub = hub
        self.addresses = addresses
        self.principal = principal
        self.links: list[MemoryLink] = []

    async def connect(
        self, service: Ppid, endpoint: Endpoint, deadline: float, handler: LinkHandler, opened: Opened
    ) -> None:
        """Open an association to whoever listens at one of the endpoint's addresses."""
        del deadline
        await asyncio.sleep(0)
        places = (self._hub.listeners.get((address, endpoint.port)) for address in endpoint.addresses)
        found = next((place for place in places if place is not None), None)
        if found is None or found[1] is not service:
            raise ConnectError("connection refused")
        network, _, far_handler = found
        self._hub.ports += 1
        near = MemoryLink(service, network, endpoint.port, handler, outbound=True)
        far = MemoryLink(service, self, self._hub.ports, far_handler, outbound=False)
        near.other, far.other = far, near
        self.links.append(near)
        network.links.append(far)
        far_handler.up(far)
        opened(near)

    async def listen(self, service: Ppid, port: int, handler: LinkHandler) -> int:
        """Accept associations at all addresses."""
        for address in self.addresses:
            self._hub.listeners[address, port] = (self, service, handler)
        return port

    def restart(self) -> None:
        """Start again without closing anything: each peer sees an association restart (SCTP_RESTART)."""
        for link in self.links:
            if link.is_up and link.other is not None:
                link.is_up = False
                other = link.other
                asyncio.get_running_loop().call_soon(other.handler.restarted, other)
        self.links.clear()

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        for key in [k for k, v in self._hub.listeners.items() if v[0] is self]:
            del self._hub.listeners[key]

    async def close(self) -> None:
        """Leave the network."""
        self.stop_listening()
        for link in self.links:
            link.close("the process ends")
