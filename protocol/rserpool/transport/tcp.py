# SPDX-License-Identifier: Apache-2.0
"""ASAP and ENRP over TCP, plain or with TLS: the product's documented TCP profile, and RFC 5352 for pool users."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.identity import IdentityError
from rserpool.identity.decisions import unverified
from rserpool.transport.base import ConnectError, Link, LinkHandler, Network, Opened
from rserpool.transport.half_open import MOST, HalfOpen
from rserpool.transport.leaves import Leaves
from rserpool.transport.security import Security
from rserpool.transport.stream import ByteStream, Cause, Ending, describe
from rserpool.transport.tls import TlsEngine
from rserpool.transport.turns import Turns
from rserpool.wire import Address, DecodeError, Framer, Ppid, canonical_address

BACKLOG: Final = 1024
ANONYMOUS_MESSAGE: Final = 4096
"""Octets of a message of somebody without a certificate: it asks and reports, and that is short."""
ANONYMOUS_UNREAD: Final = 64 * 1024
"""Octets that somebody without a certificate may leave unread beyond what the kernel takes: the longest answer."""
LOOK: Final = 5.0
"""Seconds at most between two looks at the wall clock, which may be set while associations stand."""
EXPIRED: Final = "its leaf has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLimits:
    """Deadlines and bounds.

    Attributes:
        handshake: seconds until a connection that somebody opened to us must have authenticated.
        idle: seconds of silence after which an association ends.
        user_timeout: seconds for which sent data may stay unacknowledged; 0 for the kernel's default.
        half_open: connections that have not authenticated yet.
        anonymous_per_source: associations without a certificate from one address.
        per_identity: associations that one certificate's holder has opened to us. An honest one needs a few: one for
            each service, as many again while they are replaced, and what is left of those the network has cut.
    """

    handshake: float = 5.0
    idle: float = 300.0
    user_timeout: float = 0.0
    half_open: int = MOST
    anonymous_per_source: int = 256
    per_identity: int = 32


class TcpLink(Link):
    """An association over one TCP connection whose handshake is done."""

    kind = TransportKind.TCP

    def __init__(
        self,
        stream: ByteStream,
        service: Ppid,
        principal: Principal,
        handler: LinkHandler,
        gone: Callable[[TcpLink], None],
        *,
        outbound: bool,
    ) -> None:
        self.service = service
        self.outbound = outbound
        self.principal = principal
        self.peer_addresses = (canonical_address(ip_address(stream.peer[0])),)
        self.peer_port = stream.peer[1]
        self._stream = stream
        self._handler = handler
        self._gone = gone
        if principal.role is Role.ANONYMOUS:  # it has proved nothing, and costs no more than a stranger
            framer = Framer(ANONYMOUS_MESSAGE)
            stream.unread_at_most = ANONYMOUS_UNREAD
        else:
            framer = Framer()
        self._turns = Turns(stream, framer, self._heard, self._broken)
        stream.on_bytes = self._turns.add
        stream.on_end = self._ended

    def __str__(self) -> str:
        return f"{self.principal} at {where(self._stream)}"

    def send(self, octets: bytes) -> None:
        """Queue one message."""
        self._stream.write(octets)

    def close(self, reason: str) -> None:
        """End the association after what is queued."""
        del reason
        self._turns.leave()
        self._stream.close()
        self._gone(self)

    def abort(self, reason: str) -> None:
        """End the association at once."""
        del reason
        self._turns.leave()
        self._stream.abort()
        self._gone(self)

    def expire(self, threat: str) -> None:
        """End the association, since the peer's leaf is over; a new leaf needs a new handshake."""
        self.close(EXPIRED)
        self._handler.refused(threat, str(self), "association", EXPIRED)
        self._handler.down(self, EXPIRED)

    def age(self) -> None:
        """The peer's leaf is over soon."""
        self._handler.ageing(self)

    def _heard(self, message: bytes) -> None:
        self._handler.message(self, message)

    def _broken(self, error: DecodeError) -> None:
        self.abort(str(error))
        self._handler.refused("2.10", str(self), "message", str(error))
        self._handler.down(self, str(error))

    def _ended(self, ending: Ending) -> None:
        if not self._turns.finish():
            return
        self._gone(self)
        if ending.cause is Cause.TAMPERED:
            self._handler.refused("2.10", str(self), "TLS record", ending.reason)
        self._handler.down(self, ending.reason)


class TcpNetwork(Network):
    """TCP from and to one local address, or one of each family.

    Args:
        address: where it listens and dials from; ``None`` for any.
        security: credentials, or ``None`` for a scope without security.
        limits: deadlines and bounds.
        also: own addresses of the other family: it listens there too, and dials from there whom it can reach only so.
        clock: the wall clock, Unix time in seconds, by which peers' leaves are judged.
    """

    def __init__(
        self,
        address: Address | None,
        security: Security | None,
        limits: TcpLimits,
        also: tuple[Address, ...] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = (address, *also) if address is not None else ()
        self._security = security
        self._limits = limits
        self._servers: list[asyncio.Server] = []
        self._links: set[TcpLink] = set()
        self._half_open: HalfOpen[ByteStream] = HalfOpen(limits.half_open)
        self._opened: Counter[str] = Counter()
        self._clock = clock
        self._leaves: Leaves[TcpLink] = Leaves(random.uniform)  # only spreads load
        self._looking: asyncio.TimerHandle | None = None
        self._looking_at = 0.0

    @property
    def half_open(self) -> int:
        """Connections that have not authenticated yet."""
        return len(self._half_open)

    @property
    def associations(self) -> int:
        """Associations that are up."""
        return len(self._links)

    async def connect(
        self, service: Ppid, endpoint: Endpoint, deadline: float, handler: LinkHandler, opened: Opened
    ) -> None:
        """Open an association over TCP, TLS included."""
        loop = asyncio.get_running_loop()
        context = self._security.client_context if self._security else None
        stream = self._stream(TlsEngine(context, server=False) if context else None, deadline + 1)
        done: asyncio.Future[None] = loop.create_future()

        def failed(ending: Ending) -> None:
            if not done.done():
                done.set_exception(ConnectError(ending.reason))
            self._report(stream, service, handler, ending, inbound=False)

        def ready() -> None:
            if done.done():  # too late: nobody waits any more
                stream.abort()
                return
            try:
                principal = self._principal(stream)
            except IdentityError as e:
                stream.abort()
                failed(Ending(Cause.HANDSHAKE, str(e)))
                return
            done.set_result(None)
            opened(self._link(stream, service, principal, handler, outbound=True))

        stream.on_ready, stream.on_end = ready, failed
        try:
            async with asyncio.timeout(deadline):
                host, local = str(endpoint.addresses[0]), self._dials_from(endpoint.addresses[0])
                await loop.create_connection(lambda: stream, host, endpoint.port, local_addr=local)
                await done
        except TimeoutError:
            if done.done() and not done.cancelled() and done.exception() is None:
                return  # both in one turn of the loop: the association is there
            stream.abort()
            raise ConnectError(f"no answer within {deadline:g} s") from None
        except asyncio.CancelledError:
            if not done.done() or done.cancelled():
                stream.abort()
            raise
        except OSError as e:
            stream.abort()
            raise ConnectError(describe(e)) from None

    async def listen(self, service: Ppid, port: int, handler: LinkHandler) -> int:
        """Accept associations over TCP."""
        hosts = [str(address) for address in self._own] or None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: self._arrival(service, handler), hosts, port, backlog=BACKLOG)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _dials_from(self, to: Address) -> tuple[str, int] | None:
        """Where to dial from: an own address of the same family, if there is one."""
        same = [address for address in self._own if address.version == to.version]
        return (str((*same, *self._own)[0]), 0) if self._own else None

    def _arrival(self, service: Ppid, handler: LinkHandler) -> ByteStream:
        """Somebody has connected: half open until it has authenticated."""
        engine = TlsEngine(self._security.server_context(service), server=True) if self._security else None
        stream = self._stream(engine, self._limits.handshake)

        def turned_away(ending: Ending) -> None:
            self._half_open.remove(stream, stream.peer[0])
            self._report(stream, service, handler, ending, inbound=True)

        def crowded_out(reason: str) -> None:
            stream.abort()
            turned_away(Ending(Cause.HANDSHAKE, reason))

        stream.on_connected = lambda: self._half_open.add(stream, stream.peer[0], crowded_out)
        stream.on_ready = lambda: self._arrived(stream, service, handler)
        stream.on_end = turned_away
        return stream

    def _arrived(self, stream: ByteStream, service: Ppid, handler: LinkHandler) -> None:
        self._half_open.remove(stream, stream.peer[0])
        try:
            principal = self._principal(stream)
            self._admit(principal, stream.peer[0])
        except IdentityError as e:
            stream.close()
            self._report(stream, service, handler, Ending(Cause.HANDSHAKE, str(e)), inbound=True)
            return
        handler.up(self._link(stream, service, principal, handler, outbound=False))

    def _admit(self, principal: Principal, source: str) -> None:
        if principal.role is Role.UNVERIFIED:  # nobody is told from anybody
            return
        anonymous = principal.role is Role.ANONYMOUS
        most = self._limits.anonymous_per_source if anonymous else self._limits.per_identity
        whose = source if anonymous else principal.name
        if self._opened[whose] >= most:
            which = "without a certificate from its address" if anonymous else f"of {principal.name}"
            raise IdentityError(f"there are {most} associations {which}")
        self._opened[whose] += 1

    def _principal(self, stream: ByteStream) -> Principal:
        if self._security is None:
            return unverified(where(stream))
        assert stream.engine is not None
        return self._security.principal(stream.engine.peer_certificate, stream.peer[0])

    def _stream(self, engine: TlsEngine | None, handshake: float) -> ByteStream:
        limits = self._limits
        return ByteStream(engine, handshake=handshake, idle=limits.idle, user_timeout=limits.user_timeout)

    def _link(
        self, stream: ByteStream, service: Ppid, principal: Principal, handler: LinkHandler, *, outbound: bool
    ) -> TcpLink:
        link = TcpLink(stream, service, principal, handler, self._forget, outbound=outbound)
        self._links.add(link)
        if principal.not_after:
            own = self._security.own_leaf if self._security is not None and outbound else None
            self._leaves.add(link, (principal.not_before, principal.not_after), self._clock(), own)
            self._look_later()
        return link

    def _look_later(self) -> None:
        """Look at the leaves when the next one ages or ends; and now and then, since the wall clock may be set."""
        if not len(self._leaves):
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + min(max(0.0, self._leaves.next() - self._clock()), LOOK)
        if self._looking is not None:
            if self._looking_at <= at:
                return
            self._looking.cancel()
        self._looking, self._looking_at = loop.call_at(at, self._look), at  # uvloop's handles may not know when

    def _look(self) -> None:
        self._looking = None
        over, ageing = self._leaves.look(self._clock())
        for link in over:
            assert self._security is not None
            link.expire(self._security.threat_of_handshake(link.service, inbound=not link.outbound))
        for link in ageing:
            if link in self._links:
                link.age()
        self._look_later()

    def _report(
        self, stream: ByteStream, service: Ppid, handler: LinkHandler, ending: Ending, *, inbound: bool
    ) -> None:
        """A handshake that came to nothing is a refusal; a connection that was merely lost is not."""
        if ending.cause is Cause.TAMPERED:  # right behind the handshake, before there was an association
            handler.refused("2.10", where(stream), "TLS record", ending.reason)
        if self._security is None or ending.cause not in (Cause.HANDSHAKE, Cause.NOT_TLS):
            return
        threat = self._security.threat_of_handshake(service, inbound=inbound)
        if ending.cause is Cause.NOT_TLS:
            threat = "2.15"
        handler.refused(threat, where(stream), "handshake", ending.reason)

    def _forget(self, link: TcpLink) -> None:
        if link not in self._links:
            return
        self._links.discard(link)
        self._leaves.remove(link)
        if not link.outbound and link.principal.role is not Role.UNVERIFIED:
            anonymous = link.principal.role is Role.ANONYMOUS
            whose = str(link.peer_addresses[0]) if anonymous else link.principal.name
            self._opened[whose] -= 1
            if not self._opened[whose]:
                del self._opened[whose]

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self) -> None:
        """Stop listening, and end all associations."""
        self.stop_listening()
        if self._looking is not None:
            self._looking.cancel()
        for stream in self._half_open.forget_all():
            stream.abort()
        for link in list(self._links):
            link.abort("the process ends")


def where(stream: ByteStream) -> str:
    """A connection's far end, for the log."""
    host, port = stream.peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
