# SPDX-License-Identifier: Apache-2.0
"""Connections that have not proved anything yet: bounded, so that strangers cannot exhaust us (threats 2.1, 2.2).

When there are too many, the oldest one of the source that has most makes room: accepting goes on, and an honest peer,
done in milliseconds, hardly ever is the oldest of the busiest source.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

MOST: Final = 256
C = TypeVar("C", bound=Hashable)


class HalfOpen(Generic[C]):
    """All half-open connections of a process."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._sources: dict[str, OrderedDict[C, Callable[[str], None]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, connection: C, source: str, end: Callable[[str], None]) -> None:
        """A stranger has connected.

        Args:
            connection: which one.
            source: its address.
            end: ends it, with the reason; it must call :meth:`remove`.
        """
        self._sources.setdefault(source, OrderedDict())[connection] = end
        self._count += 1
        if self._count > self._most:
            busiest = max(self._sources.values(), key=len)
            oldest = next(iter(busiest.values()))
            oldest("too many connections without a handshake")

    def forget_all(self) -> list[C]:
        """Forget all of them; returns them, for whoever wants to end them in silence."""
        known = [connection for connections in self._sources.values() for connection in connections]
        self._sources.clear()
        self._count = 0
        return known

    def remove(self, connection: C, source: str) -> None:
        """It is no stranger any more, or gone."""
        connections = self._sources.get(source)
        if connections is not None and connections.pop(connection, None) is not None:
            self._count -= 1
            if not connections:
                del self._sources[source]
