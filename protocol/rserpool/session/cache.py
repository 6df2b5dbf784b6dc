# SPDX-License-Identifier: Apache-2.0
"""What a pool user remembers of pools, and for how long (RFC 5352 3.3 C1 to C4, 6.3, 6.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from rserpool.asap.effects import AssociationId
from rserpool.asap.events import Failure
from rserpool.handlespace.choosing import UserSelector
from rserpool.wire import Policy, PolicyType, PoolElement

STALE_AFTER: Final[Mapping[int, float]] = {
    PolicyType.ROUND_ROBIN: 30.0,
    PolicyType.WEIGHTED_ROUND_ROBIN: 30.0,
    PolicyType.RANDOM: 30.0,
    PolicyType.PRIORITY: 30.0,
}
"""Seconds after which an answer is stale, by policy; the others' loads and weights are worth nothing a moment later."""
NEGATIVE: Final = 1.0
"""Seconds for which "no such pool" is believed; a pool that has just been made is not missed for longer."""
MOST: Final = 1024
"""Pools that are remembered; the one longest unused makes room."""


class CachedPool:
    """What is known of one pool, and whose turn it is.

    Attributes:
        handle: the pool handle.
        policy: the pool's; ``None`` means Round Robin.
        elements: in the order received.
        since: when that was said.
    """

    def __init__(self, handle: bytes, rng: Random) -> None:
        self.handle = handle
        self.policy: Policy | None = None
        self.elements: tuple[PoolElement, ...] = ()
        self.since = 0.0
        self._stale_at = 0.0
        self._subscription: AssociationId | None = None
        self._selector = UserSelector(rng)

    def choose(self, without: Collection[int] = ()) -> PoolElement | None:
        """The element whose turn it is by the pool's policy, leaving these PE identifiers out; ``None``: no other."""
        return self._selector.choose(without)

    def find(self, identifier: int) -> PoolElement | None:
        """The element with this PE identifier."""
        return next((e for e in self.elements if e.identifier == identifier), None)

    def is_fresh(self, now: float, subscription: AssociationId | None) -> bool:
        """Whether a registrar need not be asked.

        Args:
            now: the time.
            subscription: the association over which a registrar tells of changes now. What came by one is fresh as
                long as it lives, however old, and stale when it does not, however young.
        """
        if self._subscription is not None:
            return self._subscription == subscription
        return now < self._stale_at

    def learn(
        self,
        policy: Policy | None,
        elements: Sequence[PoolElement],
        now: float,
        stale_at: float,
        subscription: AssociationId | None,
        *,
        pushed: bool,
    ) -> None:
        """Take an answer."""
        self.policy = policy
        self.elements = tuple(elements)
        self.since = now
        self._stale_at = stale_at
        self._subscription = subscription
        self._selector.update(_type(policy), elements, pushed=pushed)

    def drop(self, identifier: int) -> None:
        """Leave out an element that has just failed, until a registrar names it again."""
        kept = tuple(e for e in self.elements if e.identifier != identifier)
        if len(kept) < len(self.elements):
            self.elements = kept
            self._selector.update(_type(self.policy), kept, pushed=True)


@dataclass(frozen=True, slots=True)
class Missing:
    """There was no such pool a moment ago."""

    failure: Failure
    reason: str


class Cache:
    """Pools by their handles. It asks nobody: who owns it does, when :meth:`look` has nothing.

    Args:
        rng: of policies that draw lots.
        stale_after: seconds after which an answer is stale, whatever the policy; ``None``: by policy.
        most: pools that are remembered.
    """

    def __init__(self, rng: Random, stale_after: float | None = None, most: int = MOST) -> None:
        self._rng = rng
        self._stale_after = stale_after
        self._most = most
        self._pools: OrderedDict[bytes, CachedPool] = OrderedDict()
        self._missing: OrderedDict[bytes, tuple[Missing, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pools) + len(self._missing)

    def look(self, handle: bytes, now: float, subscription: AssociationId | None = None) -> CachedPool | Missing | None:
        """What is known of a pool and not stale; ``None``: ask a registrar.

        Args:
            handle: the pool handle.
            now: the time.
            subscription: the association over which a registrar tells of this pool's changes now.
        """
        missing = self._missing.get(handle)
        if missing is not None:
            if now < missing[1]:
                return missing[0]
            del self._missing[handle]
        pool = self._pools.get(handle)
        if pool is None or not pool.elements or not pool.is_fresh(now, subscription):
            return None
        self._pools.move_to_end(handle)
        return pool

    def known(self, handle: bytes) -> CachedPool | None:
        """What is known of a pool, stale or not."""
        return self._pools.get(handle)

    def learn(
        self,
        handle: bytes,
        policy: Policy | None,
        elements: Sequence[PoolElement],
        now: float,
        subscription: AssociationId | None = None,
        *,
        pushed: bool = False,
    ) -> CachedPool:
        """Take a registrar's answer.

        Args:
            handle: the pool handle.
            policy: the pool's policy, as the answer names it.
            elements: in the order received.
            now: the time.
            subscription: the association over which a registrar tells of this pool's changes now.
            pushed: it came unasked, by that subscription.
        """
        self._missing.pop(handle, None)
        pool = self._pools.get(handle)
        if pool is None:
            pool = self._pools[handle] = CachedPool(handle, self._rng)
            if len(self._pools) > self._most:
                self._pools.popitem(last=False)
        else:
            self._pools.move_to_end(handle)
        life = self._stale_after if self._stale_after is not None else STALE_AFTER.get(_type(policy), 0.0)
        pool.learn(policy, elements, now, now + life, subscription, pushed=pushed)
        return pool

    def learn_missing(self, handle: bytes, failure: Failure, reason: str, now: float) -> None:
        """Take a negative answer: nothing that was known of the pool is kept."""
        self._pools.pop(handle, None)
        life = NEGATIVE if self._stale_after is None else min(NEGATIVE, self._stale_after)
        if failure is Failure.UNKNOWN_POOL and life > 0:  # a refusal may be over with the next question
            self._missing[handle] = (Missing(failure, reason), now + life)
            self._missing.move_to_end(handle)
            if len(self._missing) > self._most:
                self._missing.popitem(last=False)

    def drop(self, handle: bytes, identifier: int) -> None:
        """Do not offer this element again until a registrar does."""
        pool = self._pools.get(handle)
        if pool is not None:
            pool.drop(identifier)

    def purge(self, handle: bytes | None = None) -> None:
        """Forget a pool, or all of them (RFC 5352 6.4)."""
        if handle is None:
            self._pools.clear()
            self._missing.clear()
        else:
            self._pools.pop(handle, None)
            self._missing.pop(handle, None)


def _type(policy: Policy | None) -> int:
    return PolicyType.ROUND_ROBIN if policy is None else policy.TYPE
