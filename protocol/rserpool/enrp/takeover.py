# SPDX-License-Identifier: Apache-2.0
"""Inheriting the elements of a dead registrar (RFC 5353 3.5).

Who holds a peer for dead asks all others; if none of them objects, and the target does not answer, it announces that
the target's elements are its own and tells each of them. Of two that start at once the higher server ID wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from rserpool.asap.events import PeerState
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.membership import Membership
from rserpool.enrp.ownership import Ignore, Ownership
from rserpool.enrp.peers import Peer, Peers
from rserpool.wire import enrp

ROUNDS: Final = 3
"""After so many rounds without all acknowledgements a takeover goes on without the missing ones."""


@dataclass(slots=True)
class _Takeover:
    """A takeover this registrar has started."""

    target: int
    awaiting: set[int]
    rounds: int = 1


class Takeovers:
    """Starts, yields, wins and hears of takeovers."""

    def __init__(
        self, desk: RegistrarDesk, peers: Peers, membership: Membership, liveness: Liveness, ownership: Ownership
    ) -> None:
        self._desk = desk
        self._peers = peers
        self._membership = membership
        self._liveness = liveness
        self._ownership = ownership
        self._started: dict[int, _Takeover] = {}
        self._announced: dict[int, int] = {}

    def received(self, sender: Peer, message: object, ignore: Ignore) -> None:
        """One of the three messages of a takeover has come in."""
        match message:
            case enrp.InitTakeover():
                self.init_received(sender, message)
            case enrp.InitTakeoverAck():
                self.ack_received(sender, message, ignore)
            case enrp.TakeoverServer():
                self.finished_received(sender, message, ignore)

    def dead(self, peer: Peer, reason: str) -> None:
        """A peer must be held for dead (RFC 5353 3.4.3)."""
        self._awaited_no_more(peer.server_id)
        for other in self._peers:
            if other.taken_by == peer.server_id and other.state is PeerState.NOT_ACTIVE:
                self._monitor_again(other.server_id)
        winner = self._peers.get(self._announced.pop(peer.server_id, 0))
        if winner is not None:
            self._taken_over(peer.server_id, winner)
            return
        if self._desk.space.count_owned_by(peer.server_id) == 0:
            self._peers.remove(peer, reason)
            return
        self._peers.mark(peer, PeerState.TAKEOVER, reason)
        self._start(peer.server_id, 1)

    def look_for_orphans(self) -> None:
        """Elements whose home is no registrar we know, since it died before we met it, need a home too."""
        timers = self._desk.config.timers
        for owner in self._desk.space.owners:
            timer = ("orphans", owner)
            known = owner == self._desk.server_id or owner in self._started or self._peers.get(owner) is not None
            if known:
                self._desk.timers.cancel(timer)
            elif not self._desk.timers.is_set(timer):
                patience = 2 * (timers.last_heard + timers.no_response)
                self._desk.after(timer, patience, partial(self._orphaned, owner), expiry=True)

    def _orphaned(self, owner: int) -> None:
        if self._peers.get(owner) is None and owner not in self._started and self._desk.space.count_owned_by(owner):
            self._start(owner, 1)

    def _start(self, target: int, rounds: int) -> None:
        awaiting = {p.server_id for p in self._peers.alive(but=target)}
        self._started[target] = _Takeover(target, awaiting, rounds)
        self._peers.tell_all(enrp.InitTakeover(sender=self._desk.server_id, target=target))
        if not awaiting:
            self._won(target)
            return
        timer, delay = ("takeover", target), self._desk.config.timers.takeover
        self._desk.after(timer, delay, partial(self._overdue, target), expiry=True)

    def _overdue(self, target: int) -> None:
        takeover = self._started.get(target)
        if takeover is None:
            return
        if takeover.rounds >= ROUNDS:
            self._won(target)
        else:
            self._start(target, takeover.rounds + 1)

    def _awaited_no_more(self, server_id: int) -> None:
        for takeover in list(self._started.values()):
            takeover.awaiting.discard(server_id)
            if not takeover.awaiting and takeover.target != server_id:
                self._won(takeover.target)

    def alive(self, peer: Peer) -> None:
        """The target has spoken: stop at once (RFC 5353 3.5.1)."""
        peer.taken_by = None
        liar = self._peers.get(self._announced.pop(peer.server_id, 0))
        if liar is not None:
            self._ownership.disputes.contradicted(liar.name)
        self._stop(peer.server_id)
        self._desk.timers.cancel(("monitor", peer.server_id))

    def _stop(self, target: int) -> None:
        self._announced.pop(target, None)
        if self._started.pop(target, None) is not None:
            self._desk.timers.cancel(("takeover", target))

    def init_received(self, sender: Peer, message: enrp.InitTakeover) -> None:
        """Another registrar holds one for dead."""
        target = message.target
        if target == self._desk.server_id:
            self._peers.tell_all(self._peers.presence())
            return
        if target in self._started:
            if not self._yields_to(sender.server_id):
                return
            self._stop(target)
        peer = self._peers.get(target)
        if peer is not None:
            peer.taken_by = sender.server_id
            self._peers.mark(peer, PeerState.NOT_ACTIVE, f"{sender.server_id:#010x} takes it over")
            timers = self._desk.config.timers
            delay = 2 * (timers.last_heard + timers.no_response)
            self._desk.after(("monitor", target), delay, partial(self._monitor_again, target), expiry=True)
        ack = enrp.InitTakeoverAck(sender=self._desk.server_id, receiver=sender.server_id, target=target)
        self._peers.tell(sender, ack)

    def _yields_to(self, other: int) -> bool:
        higher = other > self._desk.server_id
        return not higher if self._desk.config.takeover_by_lowest else higher

    def _monitor_again(self, target: int) -> None:
        """The initiator died, or never announced that it won: the target is ours to judge again."""
        peer = self._peers.get(target)
        if peer is not None and peer.state is PeerState.NOT_ACTIVE:
            peer.taken_by = None
            self._peers.probe(peer, "its takeover was not finished")

    def ack_received(self, sender: Peer, message: enrp.InitTakeoverAck, ignore: Ignore) -> None:
        """A peer does not object."""
        takeover = self._started.get(message.target)
        if takeover is None:
            ignore("no such takeover of ours")
            return
        takeover.awaiting.discard(sender.server_id)
        if not takeover.awaiting:
            self._won(message.target)

    def _won(self, target: int) -> None:
        self._stop(target)
        peer = self._peers.get(target)
        self._peers.tell_all(enrp.TakeoverServer(sender=self._desk.server_id, target=target))
        keys = sorted(self._desk.space.owned_by(target))
        for key in keys:
            self._membership.rehome(key, self._desk.server_id, f"its home {target:#010x} is dead")
        if peer is not None:
            self._peers.remove(peer, "taken over by us")
        self._liveness.claim(keys)

    def finished_received(self, sender: Peer, message: enrp.TakeoverServer, ignore: Ignore) -> None:
        """Another registrar has taken one over (RFC 5353 3.5.2): the target's elements are its own now."""
        target = message.target
        if target == self._desk.server_id:
            self._peers.tell_all(self._peers.presence())
            self._ownership.reannounce()
            return
        peer = self._peers.get(target)
        if peer is not None and peer.state is PeerState.ACTIVE:
            ignore(f"takes over {target:#010x}, which is alive")
            return
        doubted = self._ownership.disputes.doubts(sender)
        if peer is not None and doubted and self._peers.is_there(target):
            self._doubt(peer, sender)
            return
        self._taken_over(target, sender)

    def _doubt(self, peer: Peer, sender: Peer) -> None:
        """One that is said to be dead has spoken a moment ago, and who says so was wrong of late: it is asked first."""
        disputes = self._ownership.disputes
        if not disputes.believes(sender):
            disputes.refused(sender, f"takes over {peer.server_id:#010x}, and was contradicted too often")
            return
        self._announced = {t: by for t, by in self._announced.items() if self._peers.get(t) is not None}
        self._announced[peer.server_id] = sender.server_id
        self._peers.probe(peer, f"{sender.server_id:#010x} has taken it over")

    def _taken_over(self, target: int, sender: Peer) -> None:
        peer = self._peers.get(target)
        self._stop(target)
        if peer is not None:
            self._peers.remove(peer, f"taken over by {sender.server_id:#010x}")
            self._awaited_no_more(target)
        for key in sorted(self._desk.space.owned_by(target)):
            self._membership.rehome(key, sender.server_id, f"its home {target:#010x} is dead")
