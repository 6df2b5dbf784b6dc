# SPDX-License-Identifier: Apache-2.0
"""The other registrars of the scope: connections to them, presence, and the notice of their silence (RFC 5353 3.4).

There is one connection between two registrars: of two, the one opened by the higher server ID stays, and all messages
to a peer take it, so that updates never overtake each other. A server ID is bound to the identity that used it first,
and an association to the ID first seen on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rserpool.asap.authorisation import Action, Denial, Role
from rserpool.asap.effects import Association, AssociationId, Endpoint, RequestId, endpoint_of
from rserpool.asap.events import PeerChanged, PeerState
from rserpool.asap.profiles import RegistrarTimers
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.wire import CauseCode, ErrorCause, Message, Ppid, ServerInformation, enrp

SILENT_STRANGER: Final = 5.0
"""Seconds after which an association is closed on which no registrar has introduced itself."""


@dataclass(slots=True)
class Peer:
    """Another registrar.

    Attributes:
        name: the identity its ID is bound to.
        line: the association all messages to it take; ``None`` while there is none.
        spare: other associations to it that are being closed.
        taken_by: who said that it takes this one over.
        mismatches: presences in a row whose checksum was not ours, since its table was read last.
        differs: the last one's was not.
    """

    server_id: int
    name: str
    last_heard: float
    state: PeerState = PeerState.ACTIVE
    endpoints: tuple[Endpoint, ...] = ()
    line: AssociationId | None = None
    spare: set[AssociationId] = field(default_factory=set)
    taken_by: int | None = None
    mismatches: int = 0
    differs: bool = False


class Peers:
    """Knows the other registrars.

    Attributes:
        on_connected: called when a peer has a new line, or its first.
        on_dead: called when a peer has to be held for dead.
        on_alive: called when a peer that was not counted active has spoken.
        on_removed: called when a peer has been forgotten.
    """

    def __init__(self, desk: RegistrarDesk) -> None:
        self._desk = desk
        self._peers: dict[int, Peer] = {}
        self._bound: dict[AssociationId, int] = {}
        self._wanted: tuple[Endpoint, ...] = ()
        self._all_known = True
        self._learned: dict[Endpoint, float] = {}
        self._selves: set[Endpoint] = set(desk.config.enrp)
        self._dialling: dict[Endpoint, RequestId] = {}
        self._dialled: dict[AssociationId, Endpoint] = {}
        self.on_connected: Callable[[Peer], None] = lambda _: None
        self.on_dead: Callable[[Peer, str], None] = lambda _peer, _reason: None
        self.on_alive: Callable[[Peer], None] = lambda _: None
        self.on_removed: Callable[[Peer], None] = lambda _: None

    @property
    def _timers(self) -> RegistrarTimers:
        return self._desk.config.timers

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, server_id: int) -> Peer | None:
        """A peer by its server ID."""
        return self._peers.get(server_id)

    def alive(self, *, but: int | None = None) -> list[Peer]:
        """The peers that are counted active and can be spoken to."""
        return [p for p in self if p.state is PeerState.ACTIVE and p.line is not None and p.server_id != but]

    def is_there(self, server_id: int) -> bool:
        """Whether a peer is connected and not silent, whatever others say of it."""
        peer = self._peers.get(server_id)
        if peer is None or peer.line is None:
            return False
        return self._desk.now - peer.last_heard <= self._timers.last_heard

    @property
    def all_met(self) -> bool:
        """Whether every registrar of the configuration is known by address and has been met."""
        return self._all_known and all(e in self._selves or self._is_met(e) for e in self._wanted)

    # -- connections

    def look_for(self, endpoints: Iterable[Endpoint], *, all_known: bool) -> None:
        """Say where the registrars of the scope should be; those that are not met are dialled from now on.

        Args:
            endpoints: where.
            all_known: these are all; no name is left that could not be resolved.
        """
        self._wanted = tuple(dict.fromkeys(endpoints))
        self._all_known = all_known
        self._dial_missing()

    def learn_of(self, servers: Iterable[ServerInformation]) -> None:
        """Registrars that another one knows (ENRP_LIST_RESPONSE): dialled for a while."""
        for server in servers:
            if server.server_id in (0, self._desk.server_id) or server.server_id in self._peers:
                continue
            for transport in server.transports:
                if len(self._learned) < self._desk.config.limits.peers:
                    self._learned[endpoint_of(transport)] = self._desk.now + 10 * self._timers.heartbeat
        self._dial_missing()

    def heartbeat(self) -> None:
        """Tell all peers that we are here, and look for those who are missing."""
        octets = self._desk.encoded(self.presence())
        for peer in self:
            if peer.line is not None:
                self._desk.send_octets(peer.line, octets)
        self._dial_missing()

    def presence(self, receiver: int = 0, *, reply_required: bool = False) -> enrp.Presence:
        """Our own presence, with checksum and Server Information in every one."""
        return enrp.Presence(
            sender=self._desk.server_id,
            receiver=receiver,
            reply_required=reply_required,
            checksum=self._desk.space.checksum(self._desk.server_id),
            server=self._desk.config.server_information,
        )

    def _dial_missing(self) -> None:
        self._learned = {e: until for e, until in self._learned.items() if until > self._desk.now}
        known = [e for p in self if p.line is None and p.state is not PeerState.NOT_ACTIVE for e in p.endpoints]
        for endpoint in dict.fromkeys((*self._wanted, *known, *self._learned)):
            if endpoint not in self._selves and endpoint not in self._dialling and not self._is_met(endpoint):
                self._dial(endpoint)

    def _dial(self, endpoint: Endpoint) -> None:
        then = partial(self._outcome, endpoint)
        self._dialling[endpoint] = self._desk.connect(Ppid.ENRP, endpoint, self._timers.connect, then)

    def replace_all(self) -> None:
        """Open newer associations for all that were opened from here."""
        for peer in self:
            if peer.line is not None:
                self.replace(peer.line)

    def replace(self, association: AssociationId) -> None:
        """Open a newer association to the peer that has this one, if it was opened from here.

        The newer one becomes the line when the peer has spoken on it; the older one is drained then.
        """
        endpoint = self._dialled.get(association)
        in_use = any(peer.line == association for peer in self)
        if in_use and endpoint is not None and endpoint not in self._dialling:
            self._dial(endpoint)

    def _is_met(self, endpoint: Endpoint) -> bool:
        up = any(e == endpoint for a, e in self._dialled.items() if a in self._desk.associations)
        return up or any(p.line is not None and endpoint in p.endpoints for p in self)

    def _outcome(self, endpoint: Endpoint, association: Association | None, reason: str) -> None:
        del self._dialling[endpoint]
        if association is None:
            for peer in self:
                others = any(e in self._dialling for e in peer.endpoints)
                if peer.line is None and endpoint in peer.endpoints and not others and peer.state is PeerState.PROBING:
                    self._dead(peer, f"it cannot be reached: {reason}")
            return
        if self._admit(association):
            self._dialled[association.id] = endpoint
            self._desk.send(association.id, self.presence(reply_required=True))

    def accepted(self, association: Association) -> None:
        """Somebody has opened an association to our ENRP port."""
        self._admit(association)

    def _admit(self, association: Association) -> bool:
        """Only registrars take part (threat 2.5); whoever else comes is told so and left."""
        if self._desk.denial(association, Action.PEER, "ENRP association"):
            self._reject(association)
            return False
        key = ("stranger", association.id)
        self._desk.after(key, SILENT_STRANGER, partial(self._close_stranger, association.id))
        return True

    def _close_stranger(self, association: AssociationId) -> None:
        if association not in self._bound:
            self._leave(association, "no registrar introduced itself")

    def _leave(self, association: AssociationId, reason: str, *, abort: bool = False) -> None:
        """End an association of ours, and forget what it was for."""
        self._bound.pop(association, None)
        self._dialled.pop(association, None)
        for timer in ("stranger", "drain"):
            self._desk.timers.cancel((timer, association))
        self._desk.close(association, reason, abort=abort)

    def _reject(self, association: Association) -> None:
        error = (ErrorCause(CauseCode.SECURITY_REJECTION),)
        self._desk.send(association.id, enrp.EnrpError(sender=self._desk.server_id, error=error))
        server_id = self._bound.get(association.id)
        self._leave(association.id, "rejected due to security considerations")
        self._line_lost(association.id, server_id)

    def lost(self, association: Association) -> None:
        """An ENRP association has ended: of a peer without another one, ask whether it is still there."""
        self._desk.timers.cancel(("stranger", association.id))
        self._dialled.pop(association.id, None)
        self._line_lost(association.id, self._bound.pop(association.id, None))

    def _line_lost(self, association: AssociationId, server_id: int | None) -> None:
        peer = self._peers.get(server_id) if server_id is not None else None
        if peer is None:
            return
        peer.spare.discard(association)
        if peer.line != association:
            return
        peer.line = min(peer.spare, default=None)
        if peer.line is not None:
            peer.spare.discard(peer.line)
            self._desk.timers.cancel(("drain", peer.line))
            self.on_connected(peer)
        elif peer.state is PeerState.ACTIVE:
            self.probe(peer, "its association ended")

    # -- identity

    def sender_of(self, association: Association, message: Message) -> Peer | None:
        """Whose message this is, and whether it may be handled at all.

        Returns:
            The peer; ``None`` if the message must be dropped, which has been reported then.
        """
        assert isinstance(message, enrp.EnrpMessage)
        what = message.LAYOUT.name
        bound = self._bound.get(association.id)
        if message.sender in (0, self._desk.server_id):
            if message.sender == self._desk.server_id and bound is None and association.id in self._dialled:
                self._selves.add(self._dialled[association.id])
                self._leave(association.id, "that is ourselves")
            self._desk.ignored(association, what, f"sender {message.sender:#010x}")
            return None
        if bound is not None and bound != message.sender:
            reason = f"speaks as {message.sender:#010x}, but is {bound:#010x}"
            self._desk.refused(association, Denial("2.5", reason), what)
            self._reject(association)
            return None
        if message.receiver not in (0, self._desk.server_id):
            self._desk.ignored(association, what, f"for {message.receiver:#010x}, not for us")
            return None
        if bound is None and not self._bind(association, message.sender, what):
            return None
        peer = self._peers.get(message.sender)
        if peer is not None:
            self._heard(peer)
        return peer

    def _bind(self, association: Association, server_id: int, what: str) -> bool:
        name = association.principal.name
        verified = association.principal.role is not Role.UNVERIFIED
        peer = self._peers.get(server_id)
        if peer is not None and verified and peer.name != name:
            self._desk.refused(association, Denial("2.5", f"server ID {server_id:#010x} is that of {peer.name}"), what)
            self._reject(association)
            return False
        if peer is None and len(self._peers) >= self._desk.config.limits.peers:
            self._desk.ignored(association, what, f"there are {len(self._peers)} registrars already")
            self._leave(association.id, "too many registrars")
            return False
        self._desk.timers.cancel(("stranger", association.id))
        self._bound[association.id] = server_id
        if peer is None:
            peer = self._peers[server_id] = Peer(server_id, name, self._desk.now)
            self._desk.emit(PeerChanged(server_id=server_id, state=PeerState.ACTIVE, name=name))
            self._watch(peer)
            peer.line = association.id
            self._desk.send(association.id, self.presence(server_id, reply_required=True))
            for other in self:
                if verified and other.name == name and other.server_id != server_id:
                    self.probe(other, f"it has started again as {server_id:#010x}")
            self.on_connected(peer)
        else:
            self._choose_line(peer, association)
        return True

    def _choose_line(self, peer: Peer, newer: Association) -> None:
        """Of two connections the one opened by the higher server ID stays; of one side's two, the newer one."""
        older = self._desk.associations.get(peer.line) if peer.line is not None else None
        we_are_higher = self._desk.server_id > peer.server_id
        if older is None:
            peer.line = newer.id
        elif newer.outbound in (we_are_higher, older.outbound):
            peer.line = newer.id
            self._drain(peer, older.id)
        else:
            self._drain(peer, newer.id)
            return
        self.on_connected(peer)

    def _drain(self, peer: Peer, association: AssociationId) -> None:
        peer.spare.add(association)
        self._desk.after(("drain", association), self._timers.heartbeat, partial(self._drained, peer, association))

    def _drained(self, peer: Peer, association: AssociationId) -> None:
        peer.spare.discard(association)
        self._leave(association, "another association to this registrar stays")

    # -- monitoring

    def _heard(self, peer: Peer) -> None:
        peer.last_heard = self._desk.now
        if peer.state is not PeerState.ACTIVE:
            self.mark(peer, PeerState.ACTIVE, "it has spoken")
            self._desk.timers.cancel(("dead", peer.server_id))
            self._watch(peer)
            self.on_alive(peer)

    def introduced(self, peer: Peer, association: Association, server: ServerInformation) -> None:
        """A peer says where it listens; believed if it speaks from one of those addresses."""
        endpoints = tuple(endpoint_of(t) for t in server.transports)
        addresses = {a for e in endpoints for a in e.addresses}
        if server.server_id == peer.server_id and addresses & set(association.peer_addresses):
            peer.endpoints = endpoints

    def _watch(self, peer: Peer) -> None:
        at = peer.last_heard + self._timers.last_heard
        self._desk.timers.set(("silent", peer.server_id), at, partial(self._silent, peer.server_id), expiry=True)

    def _silent(self, server_id: int) -> None:
        peer = self._peers.get(server_id)
        if peer is None or peer.state is not PeerState.ACTIVE:
            return
        if peer.last_heard + self._timers.last_heard > self._desk.now:
            self._watch(peer)
        else:
            self.probe(peer, "it has been silent")

    def probe(self, peer: Peer, reason: str) -> None:
        """Ask a peer whether it is there; without an answer in time it is dead (RFC 5353 3.4.3)."""
        if peer.state is PeerState.PROBING:
            return
        self.mark(peer, PeerState.PROBING, reason)
        if peer.line is not None:
            self._desk.send(peer.line, self.presence(peer.server_id, reply_required=True))
        key, delay = ("dead", peer.server_id), self._timers.no_response
        self._desk.after(key, delay, partial(self._unanswered, peer.server_id, reason), expiry=True)
        if peer.line is None:
            self._dial_missing()

    def _unanswered(self, server_id: int, reason: str) -> None:
        peer = self._peers.get(server_id)
        if peer is not None and peer.state is PeerState.PROBING:
            self._dead(peer, f"{reason}, and it does not answer")

    def _dead(self, peer: Peer, reason: str) -> None:
        self._desk.timers.cancel(("dead", peer.server_id))
        self.on_dead(peer, reason)

    def mark(self, peer: Peer, state: PeerState, reason: str) -> None:
        """Change how a peer is regarded."""
        if peer.state is not state:
            peer.state = state
            self._desk.emit(PeerChanged(server_id=peer.server_id, state=state, name=peer.name, reason=reason))

    def remove(self, peer: Peer, reason: str) -> None:
        """Forget a peer, and end its associations."""
        if self._peers.pop(peer.server_id, None) is None:
            return
        for association in {peer.line, *peer.spare} - {None}:
            assert association is not None
            self._leave(association, reason, abort=True)
        for timer in ("silent", "dead", "monitor"):
            self._desk.timers.cancel((timer, peer.server_id))
        self.mark(peer, PeerState.GONE, reason)
        self.on_removed(peer)

    def lagged(self, by: float) -> None:
        """The process did not run for a while: nobody was silent in that time, and everybody is asked anew."""
        for peer in self:
            peer.last_heard += by
            if peer.line is not None:
                self._desk.send(peer.line, self.presence(peer.server_id, reply_required=True))

    def tell_all(self, message: Message) -> None:
        """Send a message to every peer there is an association to."""
        self.tell_all_octets(self._desk.encoded(message))

    def tell_all_octets(self, octets: bytes) -> None:
        """Send a message that has been written already to every peer there is an association to."""
        for peer in self:
            if peer.line is not None:
                self._desk.send_octets(peer.line, octets)

    def tell(self, peer: Peer, message: Message) -> None:
        """Send a message to one peer."""
        if peer.line is not None:
            self._desk.send(peer.line, message)
