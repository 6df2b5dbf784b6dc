# SPDX-License-Identifier: Apache-2.0
"""Where others are, resolved again and again, and said anew while the process runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from rserpool.asap.effects import Endpoint
from rserpool.transport.names import Place, Resolver

Changed = Callable[[tuple[Endpoint, ...], bool], None]


class Places:
    """Keeps places resolved that may be replaced by others.

    Args:
        places: host and port of each.
        families, prefer: as a :class:`~rserpool.transport.names.Resolver` takes them.

    Attributes:
        on_changed: called with all endpoints, and whether every place is known, whenever they have changed.
    """

    def __init__(
        self, places: tuple[Place, ...], families: Collection[int] = (4, 6), prefer: int | None = None
    ) -> None:
        self._places = places
        self._families, self._prefer = families, prefer
        self._resolver = Resolver(places, families, prefer)
        self._replaced = asyncio.Event()
        self.on_changed: Changed = lambda _found, _complete: None

    @property
    def complete(self) -> bool:
        """Whether every place is known."""
        return self._resolver.complete

    async def resolve(self) -> tuple[Endpoint, ...]:
        """Resolve all places once."""
        return await self._resolver.resolve()

    def replace(self, places: tuple[Place, ...]) -> None:
        """Look at other places from now on."""
        if set(places) != set(self._places):
            self._places = places
            self._replaced.set()

    async def run(self) -> None:
        """Resolve again from time to time, for ever."""
        self._follow()
        following = asyncio.ensure_future(self._resolver.run())
        try:
            while True:
                await self._replaced.wait()
                self._replaced.clear()
                following.cancel()
                self._resolver = Resolver(self._places, self._families, self._prefer)
                self._follow()
                following = asyncio.ensure_future(self._resolve_on(self._resolver))
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    @staticmethod
    async def _resolve_on(resolver: Resolver) -> None:
        await resolver.resolve()
        await resolver.run()

    def _follow(self) -> None:
        resolver = self._resolver
        resolver.on_changed = lambda found: self.on_changed(found, resolver.complete)
