# SPDX-License-Identifier: Apache-2.0
"""What a peer is not believed about elements that another registrar has (RFC 5355 2.17).

Nothing on the wire proves whose an element is, so one hacked registrar can claim those of all the others. What bounds
it is that the home of an element is there to contradict. A claim that says besides that the element is somewhere else
waits until its home has given it up: an element that moves to another home does not move to another address. And who is
contradicted again and again may not move what it has claimed, and takes no registrar over that is there, until it has
been quiet. A claim to be home alone misleads no user, and is believed of
everybody: honest registrars that are cut off from each other contradict each other, too. Whatever its home loses,
removes or lists no more goes to the one whose claim has waited, so that an honest registrar is believed late and not
never; and of a dead registrar's elements everybody is believed as before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rserpool.asap.effects import endpoint_of
from rserpool.asap.events import Change, Refused
from rserpool.asap.limits import Rate, TokenBucket
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.membership import Membership, Transition
from rserpool.enrp.peers import Peer, Peers
from rserpool.handlespace import ElementKey
from rserpool.wire import PoolElement

CONTRADICTIONS: Final = Rate(0.05, 2)
"""How often a peer may be contradicted and is still believed; those within the time of one answer count once."""
QUIET: Final = 20.0
"""Seconds without a contradiction after which a peer is believed again."""
REMEMBERED: Final = 10.0
"""Seconds for which it is known where an element was before somebody else claimed it, or moved it."""
MOST_PEERS: Final = 256
"""Identities whose contradictions are counted; the one longest without any makes room."""

THREAT: Final = "2.17"


@dataclass(slots=True)
class _Dispute:
    """An element that was claimed from its home, or moved.

    Attributes:
        element: as it was before.
        by: the server ID of who has said otherwise last.
        name: its identity.
    """

    element: PoolElement
    by: int
    name: str
    since: float


@dataclass(slots=True)
class _Credit:
    """How much one identity is believed."""

    bucket: TokenBucket
    counted: float = float("-inf")
    disbelieved_until: float = float("-inf")


class Disputes:
    """Keeps count of contradictions, and the claims that wait.

    Attributes:
        learned: takes a claim over that has waited long enough: its element's home has none any more.
    """

    def __init__(self, desk: RegistrarDesk, peers: Peers, membership: Membership) -> None:
        self._desk = desk
        self._peers = peers
        self._disputed: OrderedDict[ElementKey, _Dispute] = OrderedDict()
        self._waiting: dict[ElementKey, PoolElement] = {}
        self._credits: OrderedDict[str, _Credit] = OrderedDict()
        self.learned: Callable[[bytes, PoolElement], None] = lambda _handle, _element: None
        membership.observers.append(self._observe)

    def believes(self, peer: Peer | None) -> bool:
        """Whether a peer is believed about where elements are that were another's."""
        credit = self._credits.get(peer.name) if peer is not None else None
        return credit is None or credit.disbelieved_until <= self._desk.now

    def doubts(self, peer: Peer) -> bool:
        """Whether a peer was contradicted of late."""
        credit = self._credits.get(peer.name)
        return credit is not None and self._desk.now - credit.counted <= QUIET

    def refused(self, peer: Peer, reason: str) -> None:
        """Report that a peer with a good certificate is not believed."""
        self._desk.emit(Refused(threat=THREAT, peer=peer.name, what="claim", reason=reason))

    def waits(self, peer: Peer, key: ElementKey, element: PoolElement, ignore: Callable[[str], None]) -> bool:
        """Whether a claim to an element that is not attached here has to wait; its home's own word counts at once."""
        known = self._desk.space.get(key)
        if known is None or known.home == self._desk.server_id:
            return False
        if known.home == peer.server_id:
            return self._is_hijacked(peer, key, known, element)
        if not moves(known, element) or not self._peers.is_there(known.home) or self._restores(key, known, element):
            return False
        if self.believes(peer):
            ignore(f"claims {key[1]:#010x} from a home that is there, and with another address")
        else:
            self.refused(peer, f"claims {key[1]:#010x} with another address, and was contradicted too often")
        self._waiting[key] = element
        return True

    def _is_hijacked(self, peer: Peer, key: ElementKey, known: PoolElement, element: PoolElement) -> bool:
        """Whether a home that is believed no more says of an element it has just claimed that it is somewhere else."""
        if moves(known, element) and self._dispute(key) is not None and not self.believes(peer):
            self.refused(peer, f"moves {key[1]:#010x}, which it has claimed, and was contradicted too often")
            return True
        self._confirmed(key)
        return False

    def formerly(self, key: ElementKey) -> PoolElement | None:
        """An element as it was before others said that it has another home, or is somewhere else."""
        dispute = self._dispute(key)
        return dispute.element if dispute is not None else None

    def contradicted(self, name: str) -> None:
        """Somebody was wrong about an element, as its home has said."""
        credit = self._credits.get(name)
        if credit is None:
            credit = self._credits[name] = _Credit(TokenBucket(CONTRADICTIONS, self._desk.now))
            if len(self._credits) > MOST_PEERS:
                self._credits.popitem(last=False)
        self._credits.move_to_end(name)
        now = self._desk.now
        if now - credit.counted < self._desk.config.timers.reclaim:  # one answer may be about many elements
            return
        credit.counted = now
        if credit.disbelieved_until > now or not credit.bucket.take(now):
            credit.disbelieved_until = now + QUIET

    def forget(self, server_id: int) -> None:
        """A registrar is gone, and what it claimed cannot be its own any more."""
        self._waiting = {key: element for key, element in self._waiting.items() if element.home != server_id}

    def _confirmed(self, key: ElementKey) -> None:
        """The home has named its element, whatever others say."""
        waiting = self._waiting.pop(key, None)
        claimant = self._peers.get(waiting.home) if waiting is not None else None
        if claimant is not None:
            self.contradicted(claimant.name)

    def _dispute(self, key: ElementKey) -> _Dispute | None:
        dispute = self._disputed.get(key)
        return dispute if dispute is not None and self._desk.now - dispute.since <= REMEMBERED else None

    def _restores(self, key: ElementKey, known: PoolElement | None, element: PoolElement) -> bool:
        """Whether this undoes what somebody else has said of the element."""
        dispute = self._dispute(key)
        if dispute is None or element.home == dispute.by:
            return False
        if element.home == dispute.element.home:
            return True
        return known is not None and moves(known, dispute.element) and not moves(dispute.element, element)

    def _observe(self, transition: Transition) -> None:
        key, before, after = transition.key, transition.before, transition.after
        if after is None:
            waiting = self._waiting.pop(key, None)
            if waiting is not None and transition.change is Change.REMOVED:
                self.learned(key[0], waiting)
            return
        if before is None or before.home != after.home:
            self._waiting.pop(key, None)
        if self._restores(key, before, after):
            self.contradicted(self._disputed.pop(key).name)
        elif after.home == self._desk.server_id:
            self._disputed.pop(key, None)
        elif before is not None and (before.home != after.home or moves(before, after)):
            self._remember(key, before, after)

    def _remember(self, key: ElementKey, before: PoolElement, after: PoolElement) -> None:
        now, peer = self._desk.now, self._peers.get(after.home)
        dispute = self._dispute(key)
        undisputed = dispute.element if dispute is not None else before
        self._disputed[key] = _Dispute(undisputed, after.home, peer.name if peer else "", now)
        self._disputed.move_to_end(key)
        for oldest, dispute in list(self._disputed.items())[:2]:
            if now - dispute.since > REMEMBERED or len(self._disputed) > self._desk.config.limits.elements:
                del self._disputed[oldest]


def moves(known: PoolElement, element: PoolElement) -> bool:
    """Whether an element is said to be somewhere else than it was."""
    return _where(known) != _where(element)


def _where(element: PoolElement) -> tuple[object, ...]:
    asap = element.asap_transport
    return element.transport, endpoint_of(asap).addresses if asap is not None else ()
