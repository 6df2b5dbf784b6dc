# SPDX-License-Identifier: Apache-2.0
"""Auditing peers and reading their tables (RFC 5353 3.6, and 3.2.3 from the asking side).

A checksum that differs twice in a row, or a new connection, starts a re-synchronisation: all elements of that peer
are marked, its table takes the marks off, and what is still marked after the last part is gone, silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rserpool.asap.effects import AssociationId
from rserpool.asap.limits import Buckets, Rate
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.membership import Membership
from rserpool.enrp.ownership import Ignore, Ownership
from rserpool.enrp.peers import Peer, Peers
from rserpool.enrp.unlisted import Unlisted
from rserpool.handlespace import ElementKey
from rserpool.wire import PoolElement, enrp

RATE: Final = Rate(0.5, 3)
"""Re-synchronisations with one peer: a lying one must not keep us busy."""
MISMATCHES: Final = 2
"""Presences in a row that differ before a re-synchronisation starts: updates may be on their way."""
MOST_PARTS: Final = 10_000
OVERDUE: Final = 10.0
"""Seconds for which an answer that did not come in time is still expected."""

Finished = Callable[[bool], None]


@dataclass(slots=True)
class _Reading:
    """A table that is being read.

    Attributes:
        line: the association it was asked for on; answers that come over another one are not this table's.
        whole: the whole handlespace is read (a mentor's), not only what the peer owns.
        marked: elements of the peer it has not named yet.
    """

    peer: int
    line: AssociationId
    whole: bool
    finished: Finished
    marked: set[ElementKey] = field(default_factory=set)
    parts: int = 0


class Resync:
    """Reads tables.

    Attributes:
        mismatches: presences so far whose checksum was not that of what is held here.
    """

    def __init__(self, desk: RegistrarDesk, peers: Peers, membership: Membership, ownership: Ownership) -> None:
        self._desk = desk
        self._peers = peers
        self._membership = membership
        self._ownership = ownership
        self._rate = Buckets(RATE)
        self._reading: dict[int, _Reading] = {}
        self._overdue: dict[AssociationId, float] = {}
        self.mismatches = 0
        self._unlisted = Unlisted(desk, peers, membership)
        self._unlisted.busy = lambda: self.busy
        self._unlisted.ask = self._ask_again
        self._unlisted.reclaim = ownership.reclaim
        ownership.given_back = self._unlisted.removed

    @property
    def busy(self) -> bool:
        """Whether any table is being read."""
        return bool(self._reading)

    def compare(self, peer: Peer, checksum: int, finished: Finished) -> None:
        """A presence has told the peer's checksum; ``finished`` is called after a re-synchronisation it caused."""
        self._unlisted.heard(peer.server_id)
        peer.differs = checksum != self._desk.space.checksum(peer.server_id)
        if not peer.differs:
            peer.mismatches = 0
            return
        self.mismatches += 1
        peer.mismatches += 1
        if peer.mismatches >= MISMATCHES:
            self.start(peer, finished)

    def start(self, peer: Peer, finished: Finished) -> None:
        """Re-synchronise with what a peer owns, unless that is being done; later, if it was done too often."""
        reading = self._reading.get(peer.server_id)
        if peer.line is None or (reading is not None and reading.line == peer.line):
            return
        if not self._rate.take(peer.server_id, self._desk.now):
            timer = ("resync", peer.server_id)
            if not self._desk.timers.is_set(timer):
                self._desk.after(timer, 1 / RATE.per_second, partial(self._start_late, peer.server_id, finished))
            return
        peer.mismatches = 0
        self._begin(peer, finished, whole=False).marked = set(self._desk.space.owned_by(peer.server_id))

    def _start_late(self, server_id: int, finished: Finished) -> None:
        peer = self._peers.get(server_id)
        if peer is not None:
            self.start(peer, finished)

    def _ask_again(self, server_id: int) -> None:
        self._start_late(server_id, lambda _: None)

    def download(self, peer: Peer, finished: Finished) -> None:
        """Read the whole handlespace of a mentor."""
        self._begin(peer, finished, whole=True)

    def _begin(self, peer: Peer, finished: Finished, *, whole: bool) -> _Reading:
        assert peer.line is not None
        reading = self._reading[peer.server_id] = _Reading(peer.server_id, peer.line, whole, finished)
        self._request(reading, peer)
        return reading

    def abort(self, server_id: int) -> None:
        """A peer is gone, or takes too long."""
        reading = self._reading.pop(server_id, None)
        if reading is not None:
            self._desk.timers.cancel(("reading", server_id))
            peer = self._peers.get(server_id)
            if peer is not None:  # the next presence that differs is reason enough to try again
                peer.mismatches = MISMATCHES - 1
            self._unlisted.settled()
            reading.finished(False)

    def _request(self, reading: _Reading, peer: Peer) -> None:
        self._peers.tell(
            peer,
            enrp.HandleTableRequest(
                sender=self._desk.server_id, receiver=peer.server_id, own_children_only=not reading.whole
            ),
        )
        timer, delay = ("reading", peer.server_id), self._desk.config.timers.no_response
        self._desk.after(timer, delay, partial(self._unanswered, peer.server_id, reading.line), expiry=True)

    def _unanswered(self, server_id: int, line: AssociationId) -> None:
        """An answer that comes after all must not pass for that to a later request: nothing tells them apart."""
        self._overdue[line] = self._desk.now
        self.abort(server_id)

    def _is_overdue(self, line: AssociationId) -> bool:
        since = self._overdue.pop(line, None)
        self._overdue = {k: at for k, at in self._overdue.items() if self._desk.now - at < OVERDUE}
        return since is not None and self._desk.now - since < OVERDUE

    def responded(self, line: AssociationId, peer: Peer, response: enrp.HandleTableResponse, ignore: Ignore) -> None:
        """A part has come in."""
        reading = self._reading.get(peer.server_id)
        if self._is_overdue(line):
            ignore("it is too late")
            return
        if reading is None or reading.line != line:
            ignore("nobody asked")
            return
        reading.parts += 1
        if response.reject or reading.parts > MOST_PARTS:
            self.abort(peer.server_id)
            return
        for entry in response.pools:
            for element in entry.elements:
                reading.marked.discard((entry.pool_handle, element.identifier))
                if element.home == peer.server_id:
                    self._unlisted.named(peer.server_id, (entry.pool_handle, element.identifier))
                if not reading.whole or element.home == peer.server_id:
                    self._ownership.claimed(peer, entry.pool_handle, element, ignore)
                elif element.home == self._desk.server_id:
                    ignore(f"lists {element.identifier:#010x} as ours, which it cannot be")
                elif element.asap_transport is not None and self._is_new(entry.pool_handle, element.identifier):
                    self._ownership.learned(entry.pool_handle, element, f"by the mentor {peer.server_id:#010x}", ignore)
        if response.more:
            self._request(reading, peer)
            return
        self._finish(reading)

    def _is_new(self, handle: bytes, identifier: int) -> bool:
        """A mentor's word of a third registrar's element counts only where nothing newer has been heard."""
        limit = self._desk.config.limits.elements
        return self._desk.space.get((handle, identifier)) is None and len(self._desk.space) < limit

    def _finish(self, reading: _Reading) -> None:
        del self._reading[reading.peer]
        self._desk.timers.cancel(("reading", reading.peer))
        self._unlisted.judge(reading.peer, reading.marked)
        self._unlisted.settled()
        reading.finished(True)

    def announced(self, peer: Peer, handle: bytes, element: PoolElement) -> None:
        """What a peer announces while its table is being read, or afterwards, is not gone."""
        if element.home != peer.server_id:
            return
        self._unlisted.named(peer.server_id, (handle, element.identifier))
        reading = self._reading.get(peer.server_id)
        if reading is not None:
            reading.marked.discard((handle, element.identifier))

    def outdated(self, peer: Peer) -> None:
        """A peer has taken another one over: what it has listed so far lacks what it has inherited."""
        self._unlisted.forget(peer.server_id)
        reading = self._reading.get(peer.server_id)
        if reading is not None:
            reading.marked.clear()
