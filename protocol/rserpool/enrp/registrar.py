# SPDX-License-Identifier: Apache-2.0
"""The registrar: an ENRP server with its ASAP side, as one machine (RFC 5352, RFC 5353)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final

from rserpool.asap.answers import bounded
from rserpool.asap.authorisation import Authoriser
from rserpool.asap.effects import Association, Effect, Endpoint, transport_of
from rserpool.asap.events import Change, Malformed
from rserpool.asap.machine import MachineBase
from rserpool.asap.profiles import RegistrarTimers
from rserpool.asap.server.desk import Limits, RegistrarConfig, RegistrarDesk
from rserpool.asap.server.front import AsapFront
from rserpool.enrp.ownership import Ignore, Ownership
from rserpool.enrp.peers import Peer, Peers
from rserpool.enrp.resync import Resync
from rserpool.enrp.startup import Startup
from rserpool.enrp.tables import Tables
from rserpool.enrp.takeover import Takeovers
from rserpool.handlespace import dump
from rserpool.wire import (
    AsapTransport,
    DecodeError,
    EnrpType,
    PoolElement,
    Ppid,
    ServerInformation,
    UpdateAction,
    enrp,
)

POD_ENDED: Final = "its pod is gone or was revoked"
LEAF_REVOKED: Final = "its leaf was revoked"


class Registrar(MachineBase):
    """A registrar among registrars.

    Args:
        config: what it is told at its start.
        authoriser: who may do what.
        rng: all its randomness.
    """

    def __init__(self, config: RegistrarConfig, authoriser: Authoriser, rng: Random) -> None:
        desk = RegistrarDesk(config, authoriser, rng)
        super().__init__(desk)
        self._desk = desk
        self._front = AsapFront(desk)
        membership, liveness = self._front.membership, self._front.liveness
        self._peers = Peers(desk)
        self._ownership = Ownership(desk, self._peers, membership, liveness)
        self._front.registrations.formerly = self._ownership.disputes.formerly
        self._tables = Tables(desk)
        self._resync = Resync(desk, self._peers, membership, self._ownership)
        self._takeovers = Takeovers(desk, self._peers, membership, liveness, self._ownership)
        self._startup = Startup(desk, self._peers, self._resync)
        membership.announce = self._announce
        self._peers.on_connected = self._met
        self._peers.on_dead = self._dead
        self._peers.on_alive = self._takeovers.alive
        self._peers.on_removed = self._removed
        self._startup.on_serving = self._audit_all
        desk.kicked = self._lost
        self._isolated = True

    # -- what the daemon asks

    @property
    def serving(self) -> bool:
        """Whether elements and users may be let in."""
        return self._startup.serving

    @property
    def phase(self) -> str:
        """How far its start has come, in a word."""
        return self._startup.phase.value

    @property
    def server_id(self) -> int:
        """Its own server ID."""
        return self._desk.server_id

    def start(self, now: float) -> list[Effect]:
        """Begin; must be the first input."""
        self._enter(now)
        self._startup.begin()
        self._peers.look_for(self._desk.config.peers, all_known=self._desk.config.all_peers_known)
        self._heartbeat()
        return self._leave()

    def look_for(self, endpoints: Iterable[Endpoint], now: float, *, complete: bool = True) -> list[Effect]:
        """Say anew where the registrars of the scope should be, as DNS or the configuration has it now."""
        self._enter(now)
        self._peers.look_for(endpoints, all_known=complete)
        return self._leave()

    def renewed(self, now: float, within: float = 0.0) -> list[Effect]:
        """Its own leaf is another one: associations it has opened to its peers are replaced within so many seconds.

        They were opened with the former leaf, and end with it. Those that others have opened are theirs to replace.
        """
        self._enter(now)
        self._desk.after("renewed", self._desk.rng.uniform(0.0, within), self._peers.replace_all)
        return self._leave()

    def reconfigure(
        self,
        now: float,
        *,
        timers: RegistrarTimers | None = None,
        limits: Limits | None = None,
        authoriser: Authoriser | None = None,
    ) -> list[Effect]:
        """Go on with other timers, limits or rules; ``None`` leaves them as they are.

        Timers that judge somebody's silence end as they were set; the next ones are the new ones.
        """
        self._enter(now)
        desk = self._desk
        desk.authoriser = authoriser or desk.authoriser
        before = desk.config
        desk.config = replace(before, timers=timers or before.timers, limits=limits or before.limits)
        if desk.config != before:
            self._front.reconfigured()
        if desk.config.timers != before.timers and desk.timers.is_set("heartbeat"):
            self._heartbeat()  # peers with the new timers do not wait for us as long as we would have let them
        return self._leave()

    def remove_pods(
        self,
        identifiers: Collection[int],
        names: Collection[str],
        now: float,
        reason: str = POD_ENDED,
        serials: Collection[int] = (),
    ) -> list[Effect]:
        """Remove the own elements of pods that are gone or revoked, and end the associations to these.

        So for leaves that were revoked: the elements that are attached with them. One whose association is being opened
        is refused when it shows its leaf.

        Elements of another home are left to that one, which is told the same.

        Args:
            identifiers: the PE identifiers that follow from the pods' UIDs.
            names: the pods' identities, as principals have them.
            now: the time.
            reason: why, for the log.
            serials: of leaves that were revoked.
        """
        self._enter(now)
        revoked = {a.id for a in self._desk.associations.values() if a.principal.serial in serials}
        for key in self._desk.space.owned_by(self._desk.server_id):
            if self._front.liveness.association_of(key) in revoked:
                self._front.membership.drop(key, Change.REMOVED, LEAF_REVOKED, announce=True)
            elif key[1] in identifiers:
                holder = self._front.liveness.identity_of(key)
                if holder is None or holder in names or not self._desk.config.secure:  # 32 bits may be another's too
                    self._front.membership.drop(key, Change.REMOVED, reason, announce=True)
        for association in list(self._desk.associations.values()):
            if association.principal.name in names or association.id in revoked:
                why = reason if association.principal.name in names else LEAF_REVOKED
                self._desk.close(association.id, why, abort=True)
                self._lost(association, why)
        return self._leave()

    def counts(self) -> dict[str, int]:
        """What there is, for metrics: pools, elements, own and attached ones, peers by state, checksums that differ."""
        own, attached = self._front.liveness.counts()
        counts = {
            "pools": len(self._desk.space.pools),
            "elements": len(self._desk.space),
            "own": own,
            "attached": attached,
            "checksums differ": sum(peer.differs for peer in self._peers),
            "checksum mismatches": self._resync.mismatches,
        }
        for peer in self._peers:
            name = f"peers {peer.state.value}"
            counts[name] = counts.get(name, 0) + 1
        return counts

    def dump(self) -> dict[str, Any]:
        """The canonical dump of its handlespace, with its ID and how it stands to its peers.

        ``handlespace`` is equal for two registrars exactly if they hold the same.
        """
        told = self.standing()
        peers = told.pop("peers")
        return told | {"handlespace": dump(self._desk.space), "peers": peers}

    def standing(self) -> dict[str, Any]:
        """Its ID, its phase, and how it stands to its peers: what costs the same however many elements there are."""
        peers = [
            {
                "server_id": f"{peer.server_id:#010x}",
                "identity": peer.name,
                "state": peer.state.value,
                "endpoints": [str(e) for e in peer.endpoints],
                "connected": peer.line is not None,
            }
            for peer in sorted(self._peers, key=lambda p: p.server_id)
        ]
        own = {
            "server_id": f"{self._desk.server_id:#010x}",
            "phase": self._startup.phase.value,
            "endpoints": [str(e) for e in self._desk.config.enrp],
        }
        return own | {"peers": peers}

    # -- inputs

    def _accepted(self, association: Association) -> None:
        if association.service is Ppid.ENRP:
            self._peers.accepted(association)
        elif not self.serving:
            self._desk.close(association.id, "not serving yet", abort=True)

    def _received(self, association: Association, octets: bytes) -> None:
        if association.service is Ppid.ASAP:
            self._front.received(association, octets)
        else:
            self._enrp_received(association, octets)

    def _lost(self, association: Association, _reason: str) -> None:
        if association.service is Ppid.ASAP:
            self._front.lost(association)
        else:
            self._tables.lost(association.id)
            self._peers.lost(association)

    def _ageing(self, association: Association) -> None:
        if association.service is Ppid.ENRP:  # elements and users replace what they have opened, and their homes
            self._peers.replace(association.id)

    def _lagged(self, by: float) -> None:
        self._peers.lagged(by)
        self._front.liveness.lagged()

    def _enrp_received(self, association: Association, octets: bytes) -> None:
        try:
            decoded = self._desk.repeats.read(octets, Ppid.ENRP)
        except DecodeError as e:
            self._desk.emit(Malformed(peer=str(association), offset=e.offset, reason=e.reason))
            report = bounded(e.causes, len(octets)) if e.message_type != EnrpType.ERROR else ()
            answer = enrp.EnrpError(sender=self._desk.server_id, error=report) if report else None
            self._desk.refuse(association.id, answer)
            return
        message = decoded.message
        peer = self._peers.sender_of(association, message)
        if peer is None:
            self._desk.refuse(association.id, None)
            return
        ignore: Ignore = partial(self._desk.ignored, association, message.LAYOUT.name)
        self._dispatch(association, peer, message, ignore)
        if isinstance(message, enrp.HandleUpdate):
            key = (message.pool_handle, message.element.identifier)
            if self._desk.space.get(key) is message.element:
                self._desk.repeats.keep(key, octets, Ppid.ENRP, decoded)
        if decoded.reports and not isinstance(message, enrp.EnrpError):
            reports = bounded(decoded.reports, len(octets))
            error = enrp.EnrpError(sender=self._desk.server_id, receiver=peer.server_id, error=reports)
            self._desk.refuse(association.id, error)

    def _dispatch(self, association: Association, peer: Peer, message: object, ignore: Ignore) -> None:
        match message:
            case enrp.Presence():
                self._presence(association, peer, message)
            case enrp.HandleUpdate():
                self._ownership.updated(peer, message, ignore)
                if message.action is UpdateAction.ADD_PE:
                    self._resync.announced(peer, message.pool_handle, message.element)
            case enrp.HandleTableRequest() if self.serving:
                self._tables.requested(association, message)
            case enrp.HandleTableRequest():
                self._tables.reject(association, message)
            case enrp.HandleTableResponse():
                self._resync.responded(association.id, peer, message, ignore)
            case enrp.ListRequest():
                self._list(association, message)
            case enrp.ListResponse():
                self._startup.listed(peer, message, ignore)
            case enrp.EnrpError():
                ignore(", ".join(str(cause) for cause in message.error))
            case _:
                if isinstance(message, enrp.TakeoverServer):
                    self._resync.outdated(peer)
                self._takeovers.received(peer, message, ignore)

    def _presence(self, association: Association, peer: Peer, message: enrp.Presence) -> None:
        if message.server is not None:
            self._peers.introduced(peer, association, message.server)
        if message.reply_required:
            self._desk.send(association.id, self._peers.presence(peer.server_id))
        if message.checksum is not None and self.serving:
            self._resync.compare(peer, message.checksum, self._resynchronised)

    def _list(self, association: Association, message: enrp.ListRequest) -> None:
        response = enrp.ListResponse(sender=self._desk.server_id, receiver=message.sender, reject=not self.serving)
        if self.serving:
            known = [
                ServerInformation(server_id=p.server_id, transports=_transports(p.endpoints))
                for p in self._peers
                if p.endpoints and p.server_id != message.sender
            ]
            servers = (self._desk.config.server_information, *known)
            response = enrp.ListResponse(sender=self._desk.server_id, receiver=message.sender, servers=servers)
        self._desk.send(association.id, response)

    # -- what the parts tell each other

    def _announce(self, action: UpdateAction, handle: bytes, element: PoolElement) -> None:
        if action is UpdateAction.ADD_PE:
            self._peers.tell_all_octets(self._desk.repeats.announcement(self._desk.server_id, handle, element))
            return
        self._peers.tell_all(
            enrp.HandleUpdate(sender=self._desk.server_id, action=action, pool_handle=handle, element=element)
        )

    def _met(self, peer: Peer) -> None:
        if not self.serving:
            self._startup.met(peer)
            return
        if self._isolated:  # what others registered meanwhile is not known here yet
            self._isolated = False
            self._front.resolutions.settling = True
        self._resync.start(peer, self._resynchronised)
        self._resynchronised()

    def _resynchronised(self, _complete: bool = True) -> None:
        if not self._resync.busy:
            self._front.resolutions.settled()

    def _audit_all(self) -> None:
        """Begin to serve: what peers own may have changed while the mentor's table was read."""
        self._isolated = not self._peers.alive()
        for peer in self._peers.alive():
            self._resync.start(peer, self._resynchronised)

    def _dead(self, peer: Peer, reason: str) -> None:
        self._resync.abort(peer.server_id)
        if self.serving:
            self._takeovers.dead(peer, reason)
        else:  # what it owned is taken over by those who serve, or by us as orphans later
            self._peers.remove(peer, reason)

    def _removed(self, peer: Peer) -> None:
        self._resync.abort(peer.server_id)
        self._ownership.forget(peer.server_id)
        self._startup.gone(peer)
        self._isolated = self._isolated or not self._peers.alive()

    def _heartbeat(self) -> None:
        self._peers.heartbeat()
        if self.serving:
            self._takeovers.look_for_orphans()
        self._desk.after("heartbeat", self._desk.config.timers.heartbeat, self._heartbeat)


def _transports(endpoints: tuple[Endpoint, ...]) -> tuple[AsapTransport, ...]:
    return tuple(transport_of(e) for e in endpoints)
