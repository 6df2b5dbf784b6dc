# SPDX-License-Identifier: Apache-2.0
"""ASAP_HANDLE_RESOLUTION at a registrar, and those who want to be told of changes (RFC 5352 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Final

from rserpool.asap.authorisation import Action
from rserpool.asap.effects import Association, AssociationId
from rserpool.asap.limits import Buckets
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.membership import Transition
from rserpool.handlespace import Pool
from rserpool.wire import CauseCode, EncodeError, ErrorCause, PoolElement, asap, invalid_values
from rserpool.wire.elements import encode_element

UNKNOWN_POOL: Final = (ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),)
SECURITY: Final = (ErrorCause(CauseCode.SECURITY_REJECTION),)
RESOURCES: Final = (ErrorCause(CauseCode.LACK_OF_RESOURCES),)
ROOM: Final = 65535 - 1024
"""Octets of an answer that elements may fill; more are left out, the last first (RFC 5352 6.5.2.1)."""
MOST: Final = ROOM // 28
"""Elements that an answer holds at most: none takes fewer octets. Choosing more would be for nothing."""
SETTLING: Final = 1.0
"""Longest time, in seconds, for which an answer "no such pool" is held back."""


@dataclass(slots=True)
class _Subscription:
    """One association that is kept informed of one pool."""

    items: int
    updated_at: float


class Resolutions:
    """Answers resolutions.

    Attributes:
        settling: the handlespace is known to be incomplete (the registrar was cut off from all its peers and is reading
            their tables): "no such pool" waits until it is not.
    """

    def __init__(self, desk: RegistrarDesk) -> None:
        self._desk = desk
        self._rate = Buckets(desk.config.limits.resolutions)
        self._subscribers: dict[bytes, dict[AssociationId, _Subscription]] = {}
        self._pools_of: dict[AssociationId, set[bytes]] = {}
        self._waiting: list[tuple[AssociationId, asap.HandleResolution]] = []
        self.settling = False

    def reconfigured(self) -> None:
        """The desk has another configuration."""
        self._rate.change(self._desk.config.limits.resolutions, self._desk.now)

    def resolve(self, association: Association, message: asap.HandleResolution) -> None:
        """Answer one resolution."""
        desk, handle = self._desk, message.pool_handle
        if len(handle) > desk.config.limits.handle_length:
            desk.ignored(association, "ASAP_HANDLE_RESOLUTION", f"pool handle of {len(handle)} octets")
            desk.refuse(association.id, asap.AsapError(error=(invalid_values(),)))
            return
        if desk.denial(association, Action.RESOLVE, "ASAP_HANDLE_RESOLUTION", handle):
            desk.refuse(association.id, asap.HandleResolutionResponse(pool_handle=handle, error=SECURITY))
            return
        if not self._rate.take(association.principal.name, desk.now):
            desk.ignored(association, "ASAP_HANDLE_RESOLUTION", "over the limit of resolutions")
            desk.refuse(association.id, asap.HandleResolutionResponse(pool_handle=handle, error=RESOURCES))
            return
        if handle not in desk.space.pools and self.settling and len(self._waiting) < 1000:
            self._waiting.append((association.id, message))
            if not desk.timers.is_set("settling"):
                desk.after("settling", SETTLING, self.settled)
            return
        self._answer(association.id, message)

    def settled(self) -> None:
        """The handlespace is complete, or nobody may wait any longer."""
        self.settling = False
        self._desk.timers.cancel("settling")
        waiting, self._waiting = self._waiting, []
        for association, message in waiting:
            self._answer(association, message)

    def _answer(self, association: AssociationId, message: asap.HandleResolution) -> None:
        handle = message.pool_handle
        pool = self._desk.space.pools.get(handle)
        if pool is None:
            self._unsubscribe(association, handle)
            self._desk.send(association, asap.HandleResolutionResponse(pool_handle=handle, error=UNKNOWN_POOL))
            return
        limit = self._limit(message.items)
        subscribed = message.send_updates and self._subscribe(association, handle, limit)
        if not message.send_updates:
            self._unsubscribe(association, handle)
        self._desk.send_octets(association, _positive(pool, pool.select(limit), self._desk, updates=subscribed))

    def _limit(self, items: int | None) -> int:
        most = min(self._desk.config.limits.items or MOST, MOST)
        return most if items is None or items in (0, 0xFFFFFFFF) else min(items, most)

    def _subscribe(self, association: AssociationId, handle: bytes, items: int) -> bool:
        pools = self._pools_of.setdefault(association, set())
        if handle not in pools and len(pools) >= self._desk.config.limits.subscriptions:
            return False
        pools.add(handle)
        self._subscribers.setdefault(handle, {})[association] = _Subscription(items, self._desk.now)
        return True

    def _unsubscribe(self, association: AssociationId, handle: bytes) -> None:
        subscribers = self._subscribers.get(handle, {})
        if subscribers.pop(association, None) is None:
            return
        if not subscribers:
            del self._subscribers[handle]
        pools = self._pools_of[association]
        pools.discard(handle)
        if not pools:
            del self._pools_of[association]
        self._desk.timers.cancel(("update", association, handle))

    def lost(self, association: AssociationId) -> None:
        """A subscription lives as long as its association."""
        for handle in list(self._pools_of.get(association, ())):
            self._unsubscribe(association, handle)

    def observe(self, transition: Transition) -> None:
        """Tell subscribers of a change, each at most once an interval about a pool."""
        desk, handle = self._desk, transition.handle
        if transition.before is not None and transition.after is not None:
            unchanged = replace(transition.before, home=transition.after.home) == transition.after
            if unchanged:  # another home, nothing a user would see
                return
        for association, subscription in self._subscribers.get(handle, {}).items():
            key = ("update", association, handle)
            if not desk.timers.is_set(key):
                at = max(desk.now, subscription.updated_at + desk.config.limits.update_interval)
                desk.timers.set(key, at, partial(self._update, association, handle))

    def _update(self, association: AssociationId, handle: bytes) -> None:
        subscription = self._subscribers.get(handle, {}).get(association)
        if subscription is None:
            return
        if association not in self._desk.associations:
            self._unsubscribe(association, handle)
            return
        subscription.updated_at = self._desk.now
        pool = self._desk.space.pools.get(handle)
        if pool is None:
            self._desk.send(association, asap.HandleResolutionResponse(pool_handle=handle, error=UNKNOWN_POOL))
            self._unsubscribe(association, handle)
            return
        elements = pool.peek(subscription.items)
        self._desk.send_octets(association, _positive(pool, elements, self._desk, updates=True))


def _positive(pool: Pool, elements: Sequence[PoolElement], desk: RegistrarDesk, *, updates: bool) -> bytes:
    """A positive answer, with as many of the elements as a message holds; users need no ASAP transports."""
    shown = tuple(replace(e, asap_transport=None) for e in elements)
    answer = asap.HandleResolutionResponse(
        pool_handle=pool.handle, accept_updates=updates, policy=pool.policy, elements=shown
    )
    try:
        return desk.encoded(answer)
    except EncodeError:
        sizes = accumulate(len(encode_element(e, desk.dialect)) + 3 for e in shown)
        fitting = sum(size < ROOM for size in sizes)
        return desk.encoded(replace(answer, elements=shown[:fitting]))
