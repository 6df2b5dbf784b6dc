# SPDX-License-Identifier: Apache-2.0
"""Elements that the table of their home does not name: gone, unless another registrar has them (RFC 5353 3.6.2).

Who was away for a while, frozen or cut off, believes an element at a home it has left long ago; and a peer that was
away claims elements that are no longer its own until it has heard so. Neither may take a healthy element out, not even
for a moment. So nothing is dropped before every other peer has been heard, and all tables asked for have been read; and
an element that was claimed from a peer that is still there goes back to that one, which is asked whether it has it. One
that was claimed from us is asked itself: of two registrars each may have given it to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from rserpool.asap.events import Change, PeerState
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.membership import Membership, Transition
from rserpool.enrp.peers import Peer, Peers
from rserpool.handlespace import ElementKey
from rserpool.wire import PoolElement

MISTAKEN: Final = 10.0
"""Seconds for which it is remembered whose an element was before another peer claimed it."""
PATIENCE: Final = 4
"""How often MAX-TIME-NO-RESPONSE is waited for other tables before unlisted elements are dropped all the same."""


@dataclass(slots=True)
class _Waiting:
    """What one home has not listed.

    Attributes:
        awaited: the peers that have not been heard since.
    """

    keys: set[ElementKey]
    awaited: set[int]
    waited: int = 0


class Unlisted:
    """Judges them.

    Attributes:
        busy: whether tables are being read, which may name them.
        ask: reads the table of a peer that is said to have elements.
        reclaim: makes an element ours, and asks it.
    """

    def __init__(self, desk: RegistrarDesk, peers: Peers, membership: Membership) -> None:
        self._desk = desk
        self._peers = peers
        self._membership = membership
        self._former: dict[ElementKey, tuple[float, PoolElement]] = {}
        self._waiting: dict[int, _Waiting] = {}
        self.busy: Callable[[], bool] = lambda: False
        self.ask: Callable[[int], None] = lambda _: None
        self.reclaim: Callable[[ElementKey], None] = lambda _: None
        membership.observers.append(self._observe)

    def judge(self, home: int, keys: Iterable[ElementKey]) -> None:
        """Elements of ours whose home has not listed them."""
        unlisted = {key for key in keys if not self._was_ours(home, key)}
        if not unlisted:
            return
        before = self._waiting.get(home)
        unlisted |= before.keys if before else set()
        self._waiting[home] = _Waiting(unlisted, {p.server_id for p in self._others(home)})
        self._settle(home)

    def removed(self, home: int, key: ElementKey) -> bool:
        """A home removes an element; returns whether it is given back to the peer it has just been claimed from.

        That peer answers the claim, if the element is its own, but only after 0.3 s; and who was away may find out what
        it has lost by not reaching it any more.
        """
        at, _ = self._former.get(key, (0.0, None))
        if self._desk.now - at > 2 * self._desk.config.timers.reclaim:
            return False
        former = self._former_of(key)
        if former is None or former.home in (home, self._desk.server_id):
            return False
        self._give_back(key, former, f"{home:#010x} has lost it")
        self.ask(former.home)
        return True

    def heard(self, server_id: int) -> None:
        """A peer has said that it is there, after whatever else it had to say."""
        for home, waiting in list(self._waiting.items()):
            waiting.awaited.discard(server_id)
            self._settle(home)

    def settled(self) -> None:
        """A table has been read, or its peer is gone."""
        for home in list(self._waiting):
            self._settle(home)

    def named(self, home: int, key: ElementKey) -> None:
        """The home names it after all."""
        self._desk.timers.cancel(("reclaim", key))
        if home in self._waiting:
            self._waiting[home].keys.discard(key)

    def forget(self, home: int) -> None:
        """What a home has listed is older than what it has: the next audit tells."""
        self._waiting.pop(home, None)
        self._desk.timers.cancel(("unlisted", home))

    def _others(self, home: int) -> list[Peer]:
        """Peers that are there, or are being looked for."""
        return [p for p in self._peers if p.server_id != home and p.state in (PeerState.ACTIVE, PeerState.PROBING)]

    def _settle(self, home: int) -> None:
        """Drop what nobody else can name any more; the longest time is waited for nobody."""
        waiting, timer = self._waiting[home], ("unlisted", home)
        if waiting.waited < PATIENCE and self._may_be_named(home, waiting):
            if not self._desk.timers.is_set(timer):
                self._desk.after(timer, self._desk.config.timers.no_response, partial(self._waited, home))
            return
        del self._waiting[home]
        self._desk.timers.cancel(timer)
        ask = {former for key in sorted(waiting.keys) if (former := self._put_right(home, key))}
        for former in sorted(ask):
            self.ask(former)

    def _waited(self, home: int) -> None:
        self._waiting[home].waited += 1
        self._settle(home)

    def _may_be_named(self, home: int, waiting: _Waiting) -> bool:
        return self.busy() or any(p.line is None or p.server_id in waiting.awaited for p in self._others(home))

    def _put_right(self, home: int, key: ElementKey) -> int:
        """Drop an element, or give it back to the peer it was claimed from, whose ID is returned."""
        element = self._desk.space.get(key)
        if element is None or element.home != home:
            return 0
        former = self._former_of(key)
        if former is None:
            reason = f"its home {home:#010x} does not list it"
            self._membership.drop(key, Change.REMOVED, reason, announce=False)
            return 0
        self._give_back(key, former, f"{home:#010x} has it no more")
        return former.home

    def _give_back(self, key: ElementKey, former: PoolElement, reason: str) -> None:
        self._membership.learn(key[0], former, reason)
        self._former.pop(key, None)  # if that one does not have it either, nobody has

    def _was_ours(self, home: int, key: ElementKey) -> bool:
        """Ask an element for which nobody else needs to be heard; if the home is to win, it may do so first."""
        _, former = self._former.get(key, (0.0, None))
        if former is None or former.home != self._desk.server_id or self._former_of(key) is None:
            return False
        config = self._desk.config
        wins = (self._desk.server_id > home) is not config.takeover_by_lowest
        delay = 0.0 if wins else config.timers.no_response
        self._desk.after(("reclaim", key), delay, partial(self._reclaim, home, key))
        return True

    def _reclaim(self, home: int, key: ElementKey) -> None:
        element = self._desk.space.get(key)
        if element is not None and element.home == home:
            self.reclaim(key)

    def _former_of(self, key: ElementKey) -> PoolElement | None:
        at, element = self._former.pop(key, (0.0, None))
        if element is None or self._desk.now - at > MISTAKEN:
            return None
        if element.home == self._desk.server_id:
            return element
        peer = self._peers.get(element.home)
        return element if peer is not None and peer.state is PeerState.ACTIVE and peer.line is not None else None

    def _observe(self, transition: Transition) -> None:
        """Remember who had an element that a peer claims."""
        before, after = transition.before, transition.after
        self._former.pop(transition.key, None)
        if after is not None:  # it has come to this home after the table was written, by a takeover for instance
            self.named(after.home, transition.key)
        if before is None or after is None or after.home in (before.home, self._desk.server_id):
            return
        if before.home == self._desk.server_id or self._peers.get(before.home) is not None:
            self._former[transition.key] = (self._desk.now, before)
