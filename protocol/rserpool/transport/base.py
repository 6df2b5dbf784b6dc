# SPDX-License-Identifier: Apache-2.0
"""The transport interface: what a driver sees of a network, shaped by SCTP (RFC 6458).

TCP fills it as far as it can: one address, no restart, and a failed send is the end of the association.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.wire import Address, Ppid


class ConnectError(Exception):
    """An association could not be opened; the text says why, for the log and for who asked."""


class Link(ABC):
    """An association that is up, authenticated where the scope is secure.

    Attributes:
        service: which protocol it carries; one association carries one.
        outbound: we opened it.
        kind: its transport.
        peer_addresses, peer_port: where the peer is, as far as the transport vouches for it.
        principal: who the peer proved to be.
    """

    service: Ppid
    outbound: bool
    kind: TransportKind
    peer_addresses: tuple[Address, ...]
    peer_port: int
    principal: Principal

    @abstractmethod
    def send(self, octets: bytes) -> None:
        """Queue one message; the queue is bounded, and a peer that does not read is left."""

    @abstractmethod
    def close(self, reason: str) -> None:
        """End the association after what is queued; no :meth:`LinkHandler.down` follows."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """End the association at once; no :meth:`LinkHandler.down` follows."""


Opened = Callable[["Link"], None]


class LinkHandler(Protocol):
    """Who is told what happens to associations."""

    def up(self, link: Link) -> None:
        """A peer has opened an association to us."""

    def message(self, link: Link, octets: bytes) -> None:
        """One whole message has come in."""

    def send_failed(self, link: Link, octets: bytes) -> None:
        """A message could not be delivered; the association may still be up (RFC 6458 6.1.11)."""

    def restarted(self, link: Link) -> None:
        """The peer has started again on the same association: nothing it proved before holds (RFC 6458 6.1.1)."""

    def down(self, link: Link, reason: str) -> None:
        """An association has ended by itself or by the peer."""

    def ageing(self, link: Link) -> None:
        """The peer's leaf ends soon; the association ends with it. May be said several times."""

    def refused(self, threat: str, peer: str, what: str, reason: str) -> None:
        """Somebody was turned away.

        There was no association yet, or its octets were not what TLS sealed, or its leaf has expired since.
        """


class Network(ABC):
    """One host's access to a network."""

    @abstractmethod
    async def connect(
        self, service: Ppid, endpoint: Endpoint, deadline: float, handler: LinkHandler, opened: Opened
    ) -> None:
        """Open an association; returns after ``opened`` was called with it.

        Args:
            service: ASAP or ENRP.
            endpoint: where the peer listens.
            deadline: seconds until the attempt has failed, TLS included.
            handler: who is told what happens to it.
            opened: called the moment it is up, before anything that comes over it is delivered.

        Raises:
            ConnectError: it could not be opened.
        """

    @abstractmethod
    async def listen(self, service: Ppid, port: int, handler: LinkHandler) -> int:
        """Accept associations for a service; returns the port, which was given unless it was 0.

        Raises:
            OSError: the port cannot be had.
        """

    @abstractmethod
    def stop_listening(self) -> None:
        """Accept nobody any more; what is up stays up."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening, and end all associations at once."""
