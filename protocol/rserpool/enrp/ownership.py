# SPDX-License-Identifier: Apache-2.0
"""Who owns an element: what a registrar believes of its peers' claims (RFC 5353 3.3).

Nothing on the wire carries a time, so "newest" cannot be computed. What decides is whether the element's own
association is here: an attached element is kept and the claim answered, another one is given up. Of two registrars
that are both attached, the higher server ID keeps it, unless it says that the element is somewhere else
(:mod:`~rserpool.enrp.disputes`). Only a home announces, and only a home removes: a thawed or hostile
registrar must not wipe healthy elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rserpool.asap.events import Change
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.membership import Membership, Transition
from rserpool.enrp.disputes import Disputes, moves
from rserpool.enrp.peers import Peer, Peers
from rserpool.handlespace import ElementKey
from rserpool.wire import PoolElement, UpdateAction, enrp

Ignore = Callable[[str], None]


@dataclass(slots=True)
class _Contest:
    """A foreign claim to an element that is attached here.

    Attributes:
        name: the claimant's identity.
        answered: the claimant has been told at least once that it is ours.
        standing: it has claimed it since.
    """

    claimant: int
    name: str
    element: PoolElement
    answered: bool = False
    standing: bool = True


class Ownership:
    """Judges claims.

    Attributes:
        disputes: which claims have to wait.
        given_back: whether an element a peer removes goes back to the one it was claimed from.
    """

    def __init__(self, desk: RegistrarDesk, peers: Peers, membership: Membership, liveness: Liveness) -> None:
        self._desk = desk
        self._membership = membership
        self._liveness = liveness
        self._contests: dict[ElementKey, _Contest] = {}
        self.given_back: Callable[[int, ElementKey], bool] = lambda _home, _key: False
        membership.observers.append(self._observe)
        self.disputes = Disputes(desk, peers, membership)
        self.disputes.learned = self._waited_for

    def updated(self, peer: Peer, update: enrp.HandleUpdate, ignore: Ignore) -> None:
        """An ENRP_HANDLE_UPDATE has come in."""
        key = (update.pool_handle, update.element.identifier)
        if update.action is UpdateAction.ADD_PE:
            self.claimed(peer, update.pool_handle, update.element, ignore)
            return
        known = self._desk.space.get(key)
        if known is None:
            return
        if known.home != peer.server_id:
            ignore(f"removes {key[1]:#010x}, whose home is {known.home:#010x}")
            return
        if not self.given_back(peer.server_id, key):
            self._membership.drop(key, Change.REMOVED, f"its home {peer.server_id:#010x} removed it", announce=False)

    def claimed(self, peer: Peer, handle: bytes, element: PoolElement, ignore: Ignore) -> None:
        """A peer says that an element is its own."""
        key = (handle, element.identifier)
        if element.home != peer.server_id:
            ignore(f"announces {element.identifier:#010x} as owned by {element.home:#010x}")
            return
        if element.asap_transport is None:
            ignore(f"announces {element.identifier:#010x} without an ASAP transport")
            return
        before = self._desk.space.get(key)
        if before is None and len(self._desk.space) >= self._desk.config.limits.elements:
            ignore("announces more elements than this registrar holds")
            return
        attached = before is not None and before.home == self._desk.server_id and self._liveness.is_attached(key)
        if attached and self._keep(key, peer, element):
            return
        if not attached and self.disputes.waits(peer, key, element, ignore):
            return
        self.learned(handle, element, f"by {peer.server_id:#010x}", ignore)

    def learned(self, handle: bytes, element: PoolElement, reason: str, ignore: Ignore) -> None:
        """Take over what another registrar knows."""
        self._contests.pop((handle, element.identifier), None)
        if not self._membership.learn(handle, element, reason):
            ignore(f"announces {element.identifier:#010x}, which does not fit its pool")

    def _keep(self, key: ElementKey, peer: Peer, element: PoolElement) -> bool:
        """Whether an attached element stays ours against this claim; it is answered a little later, if it still is."""
        contest = self._contests.get(key)
        if contest is not None and contest.answered and self._yields_to(peer.server_id, key, element):
            return False
        answered = contest.answered if contest else False
        self._contests[key] = _Contest(peer.server_id, peer.name, element, answered)
        timer = ("contest", key)
        if not self._desk.timers.is_set(timer):
            self._desk.after(timer, self._desk.config.timers.reclaim, partial(self._answer, key))
        return True

    def _yields_to(self, claimant: int, key: ElementKey, element: PoolElement) -> bool:
        """Whether one that is attached at both is the claimant's; at another address it is attached at one only."""
        higher = claimant > self._desk.server_id
        own = self._desk.space.get(key)
        if own is None or moves(own, element):
            return False
        return not higher if self._desk.config.takeover_by_lowest else higher

    def _answer(self, key: ElementKey) -> None:
        contest = self._contests.get(key)
        element = self._desk.space.get(key)
        if contest is None or element is None or element.home != self._desk.server_id:
            self._contests.pop(key, None)
            return
        if not self._liveness.is_attached(key):
            self.learned(key[0], contest.element, f"by {contest.claimant:#010x}", lambda _: None)
            return
        contest.answered, contest.standing = True, False
        self.disputes.contradicted(contest.name)
        self._membership.announce(UpdateAction.ADD_PE, key[0], element)
        self._desk.after(("uncontested", key), 10 * self._desk.config.timers.reclaim, partial(self._settle, key))

    def _settle(self, key: ElementKey) -> None:
        self._contests.pop(key, None)

    def forget(self, claimant: int) -> None:
        """A registrar is gone, and what it claimed cannot be its own any more."""
        self._contests = {key: contest for key, contest in self._contests.items() if contest.claimant != claimant}
        self.disputes.forget(claimant)

    def _waited_for(self, handle: bytes, element: PoolElement) -> None:
        """Its home has an element no more that another registrar has claimed meanwhile."""
        if len(self._desk.space) < self._desk.config.limits.elements:
            self.learned(handle, element, f"by {element.home:#010x}, after its former home", lambda _: None)

    def reclaim(self, key: ElementKey) -> None:
        """Take an element back that another registrar claimed and does not have: it is asked whether it is there."""
        self._membership.rehome(key, self._desk.server_id, "who claimed it does not have it")
        element = self._desk.space.get(key)
        if element is not None:
            self._membership.announce(UpdateAction.ADD_PE, key[0], element)
            self._liveness.claim([key])

    def reannounce(self) -> None:
        """Tell everybody of all elements that are attached here: somebody has said they are his."""
        for key in self._desk.space.owned_by(self._desk.server_id):
            element = self._desk.space.get(key)
            if element is not None and self._liveness.is_attached(key):
                self._membership.announce(UpdateAction.ADD_PE, key[0], element)

    def _observe(self, transition: Transition) -> None:
        """An element that was claimed, and is out of our reach, is the claimant's after all."""
        if transition.after is None:
            contest = self._contests.pop(transition.key, None)
            if contest is not None and contest.standing and transition.change is Change.REMOVED:
                self.learned(transition.handle, contest.element, f"by {contest.claimant:#010x}", lambda _: None)
