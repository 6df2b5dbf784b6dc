# SPDX-License-Identifier: Apache-2.0
"""Business cards: the application names elements, the pool's registrar says where they are (RFC 5352 3.9)."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from rserpool.asap.effects import Effect
from rserpool.asap.events import Event, Resolved
from rserpool.asap.user import User, UserConfig
from rserpool.daemon.identity import scope_of
from rserpool.session.element import MOST_ELEMENTS
from rserpool.transport.driver import Driver
from rserpool.transport.names import Resolver
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import PoolElement
from rserpool.wire.asap import BusinessCard
from rserpool_sidecar.config import SidecarSettings

PATIENCE: Final = 3.0
"""Seconds for a registrar to say where the pool's elements are."""
FRESH: Final = 30.0
"""Seconds after which what it said is asked for again, when another user comes."""
Resolve = Callable[[], Awaitable[tuple[PoolElement, ...]]]


class CardError(Exception):
    """There can be no such business card now; the text says why.

    Attributes:
        status: of HTTP, by which the application is told.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def order_of(body: bytes) -> tuple[int, ...]:
    """Read the application's list: PE identifiers, as numbers or as `rserpool` shows them (``0x0123abcd``).

    Raises:
        CardError: it is none.
    """
    advice = f"write a JSON list of 1 to {MOST_ELEMENTS} PE identifiers, in the order in which to fail over"
    try:
        entries = json.loads(body)
        if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_ELEMENTS:
            raise ValueError  # noqa: TRY301 - one advice for whatever is wrong
        order = tuple(_identifier(entry) for entry in entries)
    except (ValueError, RecursionError):
        raise CardError(advice) from None
    if len(set(order)) < len(order):
        raise CardError("name each PE identifier once")
    return order


def _identifier(entry: object) -> int:
    number = int(entry, 16) if isinstance(entry, str) and entry.startswith("0x") else entry
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= 0xFFFFFFFF:
        raise ValueError
    return number


class CardMaker:
    """Makes business cards of orders.

    Args:
        pool_handle: of the element.
        resolve: asks a registrar for all elements; raises CardError.
        clock: seconds.
    """

    def __init__(self, pool_handle: bytes, resolve: Resolve, clock: Callable[[], float]) -> None:
        self._pool_handle = pool_handle
        self._resolve = resolve
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known: dict[int, PoolElement] = {}
        self._known_at = float("-inf")

    async def make(self, order: tuple[int, ...]) -> tuple[BusinessCard, tuple[int, ...]]:
        """A card, and the identifiers that are not on it since no registrar knows them.

        Raises:
            CardError: no registrar answers, or none of them is known.
        """
        async with self._asking:
            if self._clock() - self._known_at > FRESH or not set(order) <= self._known.keys():
                self._known = {element.identifier: element for element in await self._resolve()}
                self._known_at = self._clock()
        found = tuple(self._known[identifier] for identifier in order if identifier in self._known)
        if not found:
            raise CardError("none of these PE identifiers is in the pool", 409)
        missing = tuple(identifier for identifier in order if identifier not in self._known)
        return BusinessCard(pool_handle=self._pool_handle, elements=found), missing

    @property
    def is_fresh(self) -> bool:
        """Whether what is known of the pool need not be asked for again."""
        return self._clock() - self._known_at <= FRESH


async def elements_of_pool(settings: SidecarSettings, security: Security | None) -> tuple[PoolElement, ...]:
    """Ask a registrar for the pool's elements, as an element that uses others does (RFC 5352 3.3).

    Raises:
        CardError: none answers.
    """
    resolver = Resolver(settings.registrars.addresses)
    config = UserConfig(
        registrars=await resolver.resolve(),
        patience=PATIENCE,
        timers=settings.timers.timers(),
        dialect=settings.pool.dialect,
    )
    scope = scope_of(settings.pool, settings.security, anonymous=False, registrar_threat="2.6")
    machine = User(config, scope, Random(secrets.randbits(128)))  # noqa: S311 - chances, not secrets
    done: asyncio.Future[Resolved] = asyncio.get_running_loop().create_future()

    def heard(event: Event) -> None:
        if isinstance(event, Resolved) and not done.done():
            done.set_result(event)

    def begin(now: float) -> list[Effect]:
        _, effects = machine.resolve(settings.pool.pool_handle, now, 0)
        return effects

    driver = Driver(machine, TcpNetwork(settings.network.address, security, TcpLimits(idle=0.0)), heard)
    try:
        driver.call(begin)
        outcome = await done
    finally:
        await driver.close()
    if outcome.failure is not None:
        raise CardError(f"no registrar says where the elements are: {outcome.reason}", 503)
    return outcome.elements
