# SPDX-License-Identifier: Apache-2.0
"""Names to endpoints. DNS is a hint only: whoever answers there must prove who it is (threat 2.12)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Final

from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.wire import Address, canonical_address

_log: Final = logging.getLogger(__name__)
INTERVAL: Final = 2.0
PATIENCE: Final = 5.0

Place = tuple[str, int]


def literal(host: str) -> Address | None:
    """An address written as such, else ``None``."""
    try:
        return canonical_address(ip_address(host))
    except ValueError:
        return None


class Resolver:
    """Keeps places resolved.

    Args:
        places: host and port of each.
        families: IP versions that can be dialled from here; addresses of another one are passed over.
        prefer: of a name that has addresses of this version, no others are taken: for peers with whom there is to be
            one connection.

    Attributes:
        on_changed: called with all endpoints whenever they have changed.
    """

    def __init__(
        self, places: tuple[Place, ...], families: Collection[int] = (4, 6), prefer: int | None = None
    ) -> None:
        self._places = places
        self._families = families
        self._prefer = prefer
        self.on_changed: Callable[[tuple[Endpoint, ...]], None] = lambda _: None
        self._known: dict[Place, tuple[Endpoint, ...]] = {}
        self._told: tuple[Endpoint, ...] | None = None
        self._unresolved: set[Place] = set()

    @property
    def needs_dns(self) -> bool:
        """Whether any place is a name."""
        return any(literal(host) is None for host, _ in self._places)

    async def resolve(self) -> tuple[Endpoint, ...]:
        """Resolve all places once; a name that cannot be resolved keeps what it last was."""
        await asyncio.gather(*(self._resolve(place) for place in self._places))
        found = tuple(dict.fromkeys(e for place in self._places for e in self._known.get(place, ())))
        if found != self._told:
            self._told = found
            self.on_changed(found)
        return found

    @property
    def complete(self) -> bool:
        """Whether every place is known."""
        return all(place in self._known for place in self._places)

    async def _resolve(self, place: Place) -> None:
        host, port = place
        address = literal(host)
        if address is not None:
            able = address.version in self._families
            self._known[place] = (Endpoint(TransportKind.TCP, (address,), port),) if able else ()
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as e:  # also what no name can be
            if place not in self._unresolved:
                self._unresolved.add(place)
                _log.warning("the name %s cannot be resolved: %s", host, str(e) or "no answer")
            return
        found = {canonical_address(ip_address(str(info[4][0]).partition("%")[0])) for info in infos}
        usable = {a for a in found if a.version in self._families}
        if not usable:
            if place not in self._unresolved:
                self._unresolved.add(place)
                _log.warning("the name %s has no address of a family this process has", host)
            return
        self._unresolved.discard(place)
        preferred = {a for a in usable if a.version == self._prefer} or usable
        self._known[place] = tuple(Endpoint(TransportKind.TCP, (a,), port) for a in sorted(preferred, key=str))

    async def run(self) -> None:
        """Resolve again from time to time, for ever; pods come and go behind a name."""
        while self.needs_dns:
            await asyncio.sleep(INTERVAL)
            await self.resolve()
