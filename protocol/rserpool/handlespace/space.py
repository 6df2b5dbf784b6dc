# SPDX-License-Identifier: Apache-2.0
"""The handlespace: pools, their elements, and who owns each (RFC 5353 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random as RandomSource
from types import MappingProxyType

from rserpool.handlespace.checksum import block_sum, fold
from rserpool.handlespace.pools import Pool
from rserpool.handlespace.selection import Increment
from rserpool.wire import PoolElement

ElementKey = tuple[bytes, int]
"""Pool handle and PE identifier: what names an element in an operational scope."""


class Handlespace:
    """A registrar's copy of the handlespace. Knows no clock: lives and expiry are the machines' business.

    Args:
        rng: source for the random policies.
        increment: whose degradation counters an answer raises, in pools that have them.
    """

    def __init__(self, rng: RandomSource, increment: Increment = Increment.ALL) -> None:
        self._rng = rng
        self._increment = increment
        self._pools: dict[bytes, Pool] = {}
        self._owned: dict[int, dict[ElementKey, None]] = {}
        self._sums: dict[int, int] = {}

    @property
    def pools(self) -> Mapping[bytes, Pool]:
        """The pools by handle, read-only."""
        return MappingProxyType(self._pools)

    def __len__(self) -> int:
        return sum(len(owned) for owned in self._owned.values())

    def __iter__(self) -> Iterator[tuple[bytes, PoolElement]]:
        """All elements with their pool handles, sorted."""
        for handle in sorted(self._pools):
            elements = self._pools[handle].elements
            for identifier in sorted(elements):
                yield handle, elements[identifier]

    def get(self, key: ElementKey) -> PoolElement | None:
        """An element, if it is known."""
        pool = self._pools.get(key[0])
        return pool.elements.get(key[1]) if pool else None

    def put(self, handle: bytes, element: PoolElement) -> bool:
        """Add an element or replace all its attributes, its home included.

        Returns:
            False, and nothing has changed, where the element does not fit its pool (:meth:`Pool.mismatch` says why).
        """
        key = (handle, element.identifier)
        pool = self._pools.get(handle)
        if pool is None:
            pool = self._pools[handle] = Pool(handle, element, self._rng, self._increment)
        elif pool.mismatch(element):
            return False
        before = pool.elements.get(element.identifier)
        pool.put(element)
        self._change_owner(key, before.home if before else None, element.home)
        return True

    def set_home(self, key: ElementKey, home: int) -> PoolElement:
        """Give an element to another registrar; it must be known. Returns it as it is now."""
        pool = self._pools[key[0]]
        before = pool.elements[key[1]]
        element = replace(before, home=home)
        pool.move(element)
        self._change_owner(key, before.home, home)
        return element

    def remove(self, key: ElementKey) -> PoolElement | None:
        """Take an element out, and its pool if it was the last one. Returns what it was, ``None`` if unknown."""
        pool = self._pools.get(key[0])
        element = pool.elements.get(key[1]) if pool else None
        if pool is None or element is None:
            return None
        pool.remove(key[1])
        if not pool.elements:
            del self._pools[key[0]]
        self._disown(key, element.home)
        return element

    def owned_by(self, server_id: int) -> list[ElementKey]:
        """The elements whose home is that registrar."""
        return list(self._owned.get(server_id, ()))

    def count_owned_by(self, server_id: int) -> int:
        """How many elements have that home."""
        return len(self._owned.get(server_id, ()))

    @property
    def owners(self) -> list[int]:
        """All server IDs that own an element, sorted."""
        return sorted(self._owned)

    def checksum(self, server_id: int) -> int:
        """PE checksum over the elements whose home is that registrar (RFC 5353 3.6.2)."""
        return fold(self._sums.get(server_id, 0))

    def _change_owner(self, key: ElementKey, before: int | None, after: int) -> None:
        if before == after:
            return
        if before is not None:
            self._disown(key, before)
        self._owned.setdefault(after, {})[key] = None
        self._sums[after] = self._sums.get(after, 0) + block_sum(*key)

    def _disown(self, key: ElementKey, owner: int) -> None:
        del self._owned[owner][key]
        self._sums[owner] -= block_sum(*key)
        if not self._owned[owner]:
            del self._owned[owner], self._sums[owner]
