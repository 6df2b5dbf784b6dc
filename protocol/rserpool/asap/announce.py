# SPDX-License-Identifier: Apache-2.0
"""ASAP_SERVER_ANNOUNCE, where a scope uses IP multicast: registrars say where they serve, others listen (RFC 5352 3.6).

There is no security on it (RFC 5352 9.2). So it is a hint and nothing else: whoever is met at an announced address has
to prove to be a registrar, as everywhere; tables are bounded, a flood is dropped unread, and nothing is ever answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Final

from rserpool.asap.effects import Endpoint, TransportKind, endpoint_of, transport_of
from rserpool.asap.limits import Rate, TokenBucket
from rserpool.wire import RFC, Address, DecodeError, Dialect, Ppid, asap, canonical_address, decode, encode

GROUPS: Final[tuple[Address, ...]] = (IPv4Address("224.0.1.185"), IPv6Address("ff02::133"))
"""Where announcements go (RFC 5352 8.4); of IPv6's scopes the link alone."""
PORT: Final = 3863
"""UDP port of announcements, and the SCTP port of a registrar that names none (RFC 5352 3.6)."""
LONGEST: Final = 1500
"""Octets of a datagram that is looked at."""
READ: Final = Rate(50, 100)
"""Datagrams that are looked at; the rest of a flood is dropped."""
MOST: Final = 32
"""Addresses an element or a user keeps."""
MOST_OF_ONE: Final = 4
"""Addresses it keeps of one source, so that one flood does not fill the table."""
MOST_REGISTRARS: Final = 64
"""Other registrars that are counted."""
MISSED: Final = 3
"""Announcements another registrar may miss before it counts no more."""


@dataclass(frozen=True, slots=True)
class Multicast:
    """Where announcements go.

    Attributes:
        groups: multicast addresses; of several of a family the first.
        port: UDP port.
        hops: how far a datagram goes: 1 is the link.
    """

    groups: tuple[Address, ...] = GROUPS
    port: int = PORT
    hops: int = 1


def read_announcement(octets: bytes, dialect: Dialect) -> asap.ServerAnnounce | None:
    """One datagram; ``None`` if it is no announcement."""
    if len(octets) > LONGEST:
        return None
    try:
        message = decode(octets, Ppid.ASAP, dialect)
    except DecodeError:
        return None
    return message if isinstance(message, asap.ServerAnnounce) else None


class Announcer:
    """A registrar's announcements: one every (N + 1) times T6, N being the others that announce.

    Whoever likes can pretend to be many others. So N is at most the number of registrars that have proved to be some,
    and nobody can make a registrar fall silent.

    Args:
        server_id: the registrar's own.
        served: where elements and users are served.
        t6: T6-Serverannounce in seconds.
        rng: the moment of the first announcement, so that registrars that start together do not speak together.
        dialect: how messages are written.
    """

    def __init__(
        self, server_id: int, served: Iterable[Endpoint], t6: float, rng: Random, dialect: Dialect = RFC
    ) -> None:
        transports = tuple(transport_of(endpoint) for endpoint in served)
        self._octets = encode(asap.ServerAnnounce(server_id=server_id, transports=transports), dialect)
        self._server_id = server_id
        self._t6 = t6
        self._rng = rng
        self._dialect = dialect
        self._bucket: TokenBucket | None = None
        self._others: dict[int, float] = {}
        self._due: float | None = None

    def start(self, now: float) -> None:
        """Begin: the first announcement comes within T6."""
        self._bucket = TokenBucket(READ, now)
        self._due = now + self._rng.uniform(0.0, self._t6)

    def heard(self, octets: bytes, now: float) -> None:
        """A datagram has come to the group."""
        if self._bucket is None or not self._bucket.take(now):
            return
        message = read_announcement(octets, self._dialect)
        if message is None or message.server_id in (0, self._server_id):
            return
        if message.server_id in self._others or len(self._others) < MOST_REGISTRARS:
            self._others[message.server_id] = now

    def deadline(self) -> float | None:
        """When to call :meth:`wake`; ``None`` before the start."""
        return self._due

    def wake(self, now: float, registrars: int) -> bytes | None:
        """The deadline has come: what to send to the group, ``None`` if it has not.

        Args:
            now: the time in seconds.
            registrars: how many others have proved to be registrars of the scope.
        """
        if self._due is None or now < self._due:
            return None
        patience = MISSED * (len(self._others) + 1) * self._t6
        self._others = {server: at for server, at in self._others.items() if now - at <= patience}
        self._due = now + (min(len(self._others), registrars) + 1) * self._t6
        return self._octets


class Announced:
    """Addresses of registrars that an element or a user has heard announced, each for T7.

    Args:
        t7: T7-ENRPoutdate in seconds.
        now: the time in seconds.
        dialect: how messages are read.

    Attributes:
        ignored: datagrams that were no announcement, too many, or had no room.
    """

    def __init__(self, t7: float, now: float, dialect: Dialect = RFC) -> None:
        self._t7 = t7
        self._dialect = dialect
        self._bucket = TokenBucket(READ, now)
        self._until: dict[Endpoint, tuple[float, Address]] = {}
        self.ignored = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where registrars may be, the first heard first."""
        return tuple(self._until)

    def heard(self, octets: bytes, source: Address, now: float) -> bool:
        """A datagram has come to the group; returns whether there is a new address."""
        message = read_announcement(octets, self._dialect) if self._bucket.take(now) else None
        if message is None:
            self.ignored += 1
            return False
        if message.transports:
            named = [endpoint_of(transport) for transport in message.transports]
        else:
            named = [Endpoint(TransportKind.SCTP, (canonical_address(source),), PORT)]
        return sum(self._note(endpoint, canonical_address(source), now) for endpoint in named if _usable(endpoint)) > 0

    def _note(self, endpoint: Endpoint, source: Address, now: float) -> bool:
        known = endpoint in self._until
        if not known:
            sources = Counter(of for _, of in self._until.values())
            if len(self._until) >= MOST or sources[source] >= MOST_OF_ONE:
                self.ignored += 1
                return False
        self._until[endpoint] = (now + self._t7, source)
        return not known

    def deadline(self) -> float | None:
        """When to call :meth:`wake`; ``None`` while nothing is known."""
        return min((until for until, _ in self._until.values()), default=None)

    def wake(self, now: float) -> bool:
        """The deadline has come; returns whether an address has been forgotten (T7)."""
        left = {endpoint: entry for endpoint, entry in self._until.items() if entry[0] > now}
        changed, self._until = len(left) < len(self._until), left
        return changed


def _usable(endpoint: Endpoint) -> bool:
    """Whether a registrar could be there."""
    return not any(a.is_multicast or a.is_unspecified for a in endpoint.addresses)
