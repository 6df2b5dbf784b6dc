# SPDX-License-Identifier: Apache-2.0
"""How a registrar starts: find a mentor, read its list and its handlespace, then serve (RFC 5353 3.2).

Registrars that start all at once would reject each other for ever. So when every configured one has said "not now",
the highest server ID serves at once, and the others find a mentor in it; and nobody waits longer than the discovery
time. No answer at all never means "alone" where the configuration says that there are peers (threat 2.12).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from rserpool.asap.events import Serving
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.enrp.ownership import Ignore
from rserpool.enrp.peers import Peer, Peers
from rserpool.enrp.resync import Resync
from rserpool.wire import enrp


class Phase(Enum):
    """Where a registrar stands."""

    LOOKING = "looking for a mentor"
    LISTING = "waiting for a list of registrars"
    READING = "reading the handlespace"
    SERVING = "serving"


class Startup:
    """Brings a registrar from nothing to serving.

    Attributes:
        phase: where it stands.
        on_serving: called once, when it begins to serve.
    """

    def __init__(self, desk: RegistrarDesk, peers: Peers, resync: Resync) -> None:
        self._desk = desk
        self._peers = peers
        self._resync = resync
        self._mentor: int | None = None
        self._asked: set[int] = set()
        self._starting: set[int] = set()
        self.phase = Phase.LOOKING
        self.on_serving: Callable[[], None] = lambda: None

    @property
    def serving(self) -> bool:
        """Whether the handlespace is complete, and may be served."""
        return self.phase is Phase.SERVING

    def begin(self) -> None:
        """Start: alone if there is nobody else, else look for a mentor."""
        config = self._desk.config
        if config.all_peers_known and all(e in config.enrp for e in config.peers):
            self._serve(0)
            return
        longest = self._desk.config.timers.mentor_discovery * self._desk.rng.uniform(0.8, 1.2)
        self._desk.after("discovery", longest, self._discovery_over)

    def _discovery_over(self) -> None:
        if self.phase is Phase.READING:  # a mentor is at it; it has its own timer
            self._desk.after("discovery", self._desk.config.timers.no_response, self._discovery_over)
        elif not self.serving:
            self._serve(0)

    def met(self, _: Peer) -> None:
        """A peer can be spoken to."""
        if self.phase is Phase.LOOKING and not self._desk.timers.is_set("retry"):
            self._ask_next()

    def gone(self, peer: Peer) -> None:
        """A peer is not there any more."""
        self._asked.discard(peer.server_id)
        self._starting.discard(peer.server_id)
        if self._mentor == peer.server_id and not self.serving:
            self._look_on()

    def _look_on(self) -> None:
        self._mentor = None
        self.phase = Phase.LOOKING
        self._desk.timers.cancel("list")
        self._ask_next()

    def _ask_next(self) -> None:
        """Ask a registrar that has not refused yet, the highest ID first; if all have, see who serves."""
        candidates = [p for p in self._peers if p.line is not None and p.server_id not in self._asked]
        if candidates:
            mentor = max(candidates, key=lambda p: p.server_id)
            self._mentor = mentor.server_id
            self.phase = Phase.LISTING
            self._peers.tell(mentor, enrp.ListRequest(sender=self._desk.server_id, receiver=mentor.server_id))
            self._desk.after("list", self._desk.config.timers.no_response, self._no_list, expiry=True)
            return
        if not self._asked:
            return
        all_starting = self._starting == {p.server_id for p in self._peers}
        if all_starting and self._peers.all_met and self._desk.server_id > max(self._starting):
            self._serve(0)
            return
        self._desk.after("retry", self._desk.config.timers.retry_after_reject, self._retry)

    def _retry(self) -> None:
        self._asked.clear()
        self._starting.clear()
        if self.phase is Phase.LOOKING:
            self._ask_next()

    def _no_list(self) -> None:
        if self._mentor is not None:
            self._asked.add(self._mentor)
        self._look_on()

    def listed(self, peer: Peer, response: enrp.ListResponse, ignore: Ignore) -> None:
        """A mentor has answered with the registrars it knows, or with "not now"."""
        if self.phase is not Phase.LISTING or peer.server_id != self._mentor:
            ignore("nobody asked")
            return
        self._desk.timers.cancel("list")
        if response.reject:
            self._asked.add(peer.server_id)
            self._starting.add(peer.server_id)
            self._look_on()
            return
        self._peers.learn_of(response.servers)
        self.phase = Phase.READING
        self._resync.download(peer, self._read)

    def _read(self, complete: bool) -> None:
        if self.serving:
            return
        if complete:
            self._serve(self._mentor or 0)
            return
        if self._mentor is not None:
            self._asked.add(self._mentor)
        self._look_on()

    def _serve(self, mentor: int) -> None:
        self.phase = Phase.SERVING
        for timer in ("discovery", "list", "retry"):
            self._desk.timers.cancel(timer)
        self._desk.emit(Serving(mentor))
        self.on_serving()
