# SPDX-License-Identifier: Apache-2.0
"""Discovery by multicast in a process: a registrar announces itself, an element or a user listens (RFC 5352 3.6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from rserpool.asap.announce import Announced, Announcer, Multicast
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.events import Event, HuntChanged
from rserpool.transport.multicast import Groups
from rserpool.wire import Address, Dialect

_log: Final = logging.getLogger(__name__)
IDLE: Final = 1.0
"""Seconds after which it is looked again whether there is anything to forget."""


class Announcing:
    """A registrar's announcements.

    Args:
        where: to which groups, and how far.
        own: its own addresses.
        announcer: what is sent, and when.
        registrars: how many other registrars there are at this moment.
    """

    def __init__(
        self, where: Multicast, own: Iterable[Address], announcer: Announcer, registrars: Callable[[], int]
    ) -> None:
        self._announcer = announcer
        self._registrars = registrars
        self._groups = Groups(where, own, self._heard)

    def _heard(self, octets: bytes, _source: Address) -> None:
        self._announcer.heard(octets, asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Announce until cancelled.

        Raises:
            OSError: the groups cannot be joined.
        """
        clock = asyncio.get_running_loop().time
        self._groups.join()
        self._announcer.start(clock())
        _log.info("this registrar announces itself by multicast")
        try:
            while True:
                due = self._announcer.deadline()
                assert due is not None
                await asyncio.sleep(max(0.0, due - clock()))
                octets = self._announcer.wake(clock(), self._registrars())
                if octets is not None:
                    self._groups.send(octets)
        finally:
            self._groups.leave()


class Listening:
    """What is announced, as far as this process could connect to it.

    Args:
        where: which groups.
        own: own addresses; their families are those that can be dialled.
        t7: for how long an address is remembered.
        dialect: how messages are read.

    Attributes:
        on_changed: called with all addresses when one came or went.
    """

    def __init__(self, where: Multicast, own: Iterable[Address], t7: float, dialect: Dialect) -> None:
        addresses = tuple(own)
        self._families = {address.version for address in addresses}
        self._announced = Announced(t7, asyncio.get_running_loop().time(), dialect)
        self._groups = Groups(where, addresses, self._heard)
        self.on_changed: Callable[[tuple[Endpoint, ...]], None] = lambda _: None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where registrars may be."""
        return tuple(e for e in self._announced.endpoints if e.kind is TransportKind.TCP and self._can_dial(e))

    @property
    def ignored(self) -> int:
        """Datagrams that had no effect."""
        return self._announced.ignored

    def _can_dial(self, endpoint: Endpoint) -> bool:
        return endpoint.addresses[0].version in self._families

    def _heard(self, octets: bytes, source: Address) -> None:
        if self._announced.heard(octets, source, asyncio.get_running_loop().time()):
            self.on_changed(self.endpoints)

    async def run(self) -> None:
        """Listen until cancelled.

        Raises:
            OSError: the groups cannot be joined.
        """
        clock = asyncio.get_running_loop().time
        self._groups.join()
        try:
            while True:
                due = self._announced.deadline()
                await asyncio.sleep(IDLE if due is None else min(IDLE, max(0.0, due - clock())))
                if self._announced.wake(clock()):
                    self.on_changed(self.endpoints)
        finally:
            self._groups.leave()


class Registrars:
    """Configured registrars, and announced ones beside them for as long as none of the configured answers.

    So a flood of announcements costs nothing where the configuration works, and where it does not there is a hint.

    Args:
        tell: called with where registrars may be, in a turn of the loop of its own.
    """

    def __init__(self, tell: Callable[[tuple[Endpoint, ...]], None]) -> None:
        self._tell = tell
        self._configured: tuple[Endpoint, ...] = ()
        self._announced: tuple[Endpoint, ...] = ()
        self._lost = False
        self._told: tuple[Endpoint, ...] | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where registrars may be."""
        hints = self._announced if self._lost or not self._configured else ()
        return tuple(dict.fromkeys((*self._configured, *hints)))

    def configured(self, endpoints: tuple[Endpoint, ...]) -> None:
        """These are configured, or stand behind the configured names."""
        self._configured = endpoints
        self._change()

    def announced(self, endpoints: tuple[Endpoint, ...]) -> None:
        """These are announced."""
        self._announced = endpoints
        self._change()

    def event(self, event: Event) -> None:
        """The machine has found a registrar, or none in a whole round."""
        if isinstance(event, HuntChanged) and event.found == self._lost:
            self._lost = not event.found
            self._change()

    def _change(self) -> None:
        if self.endpoints != self._told:
            self._told = self.endpoints
            asyncio.get_running_loop().call_soon(self._tell, self._told)


def announcing(
    where: Multicast,
    own: tuple[Address, ...],
    port: int,
    *,
    server_id: int,
    t6: float,
    rng: Random,
    dialect: Dialect,
    registrars: Callable[[], int],
) -> Announcing:
    """The announcements of a registrar that serves at a port of its own addresses."""
    served = tuple(Endpoint(TransportKind.TCP, (address,), port) for address in own)
    return Announcing(where, own, Announcer(server_id, served, t6, rng, dialect), registrars)
