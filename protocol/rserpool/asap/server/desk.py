# SPDX-License-Identifier: Apache-2.0
"""What the parts of a registrar share: its configuration, its handlespace, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from rserpool.asap.authorisation import Action, Authoriser, Denial
from rserpool.asap.effects import Association, AssociationId, Endpoint, transport_of
from rserpool.asap.events import Ignored, Refused
from rserpool.asap.limits import Rate, TokenBucket
from rserpool.asap.machine import Desk
from rserpool.asap.profiles import FAST, RegistrarTimers
from rserpool.asap.server.repeats import Repeats
from rserpool.handlespace import Handlespace, Increment
from rserpool.wire import INFINITE_LIFE, RFC, Dialect, Message, PoolElement, ServerInformation, encode

ANSWERS_BEFORE_CLOSING: Final = 100
"""Refusals that went unanswered, by the rate limit, before an association is closed."""
FORGIVEN_AFTER: Final = 60.0
"""Seconds without a refusal after which they are counted anew."""


@dataclass(slots=True)
class _Refusals:
    """What one association was refused."""

    bucket: TokenBucket
    last: float
    unanswered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one identity, or one association, may cost a registrar.

    Attributes:
        registrations: registrations and deregistrations of an identity.
        resolutions: handle resolutions of an identity.
        reports: unreachable reports of an identity (threat 2.13).
        report_interval: seconds in which reports of one user about one element count once.
        bad_reports: MAX-BAD-PE-REPORT; one more removes the element.
        refusals: error answers on an association.
        elements: elements in the handlespace.
        elements_per_identity: elements an identity may register.
        pools: pools in the handlespace.
        subscriptions: pools an association may be kept informed of.
        update_interval: seconds between two updates to one subscriber about one pool.
        items: elements in an answer to a resolution; 0 for all.
        handle_length: octets of a pool handle.
        element_length: octets of a Pool Element parameter.
        table_sessions: registrars that may copy the handlespace at once.
        peers: registrars in the scope.
    """

    registrations: Rate = Rate(50, 100)
    resolutions: Rate = Rate(1000, 2000)
    reports: Rate = Rate(5, 5)
    report_interval: float = 10.0
    bad_reports: int = 3
    refusals: Rate = Rate(10, 10)
    elements: int = 50_000
    elements_per_identity: int = 16
    pools: int = 1000
    subscriptions: int = 64
    update_interval: float = 0.2
    items: int = 0
    handle_length: int = 255
    element_length: int = 1024
    table_sessions: int = 16
    peers: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarConfig:
    """What a registrar is told at its start.

    Attributes:
        server_id: its own, random and not 0, new at each start (RFC 5353 3.2.1).
        enrp: where it listens for its peers.
        peers: where the other registrars of the scope should be; empty if it is alone.
        all_peers_known: there are no others, whose names could not be resolved yet.
        secure: every peer has proved who it is. All or nothing (threat 2.15).
        loopback: addresses of this host may be registered; only where a whole pool runs on it.
        takeover_by_lowest: arbitration of rsplib, which inverts RFC 5353 3.5.1.
        lud_increment: whose degradation counters an answer raises (RFC 5356 5.2.2).
    """

    server_id: int
    enrp: tuple[Endpoint, ...]
    peers: tuple[Endpoint, ...] = ()
    all_peers_known: bool = True
    timers: RegistrarTimers = FAST.registrar
    limits: Limits = field(default_factory=Limits)
    dialect: Dialect = RFC
    secure: bool = True
    loopback: bool = False
    takeover_by_lowest: bool = False
    lud_increment: Increment = Increment.ALL

    @property
    def server_information(self) -> ServerInformation:
        """The registrar as its peers should know it."""
        return ServerInformation(server_id=self.server_id, transports=tuple(transport_of(e) for e in self.enrp))


class RegistrarDesk(Desk):
    """The desk of a registrar.

    Attributes:
        config: what it was told.
        authoriser: who may do what.
        space: its handlespace.
        repeats: reads what comes in.
        kicked: called after an association was closed because of what came over it.
    """

    def __init__(self, config: RegistrarConfig, authoriser: Authoriser, rng: Random) -> None:
        super().__init__(rng, config.dialect)
        self.config = config
        self.authoriser = authoriser
        self.space = Handlespace(rng, config.lud_increment)
        self.repeats = Repeats(config.dialect)
        self.kicked: Callable[[Association, str], None] = lambda _association, _reason: None
        self._refusals: dict[AssociationId, _Refusals] = {}

    @property
    def server_id(self) -> int:
        """The registrar's own ID."""
        return self.config.server_id

    def denial(
        self,
        association: Association,
        action: Action,
        what: str,
        handle: bytes | None = None,
        pe_identifier: int | None = None,
    ) -> Denial | None:
        """Ask whether the peer may do this; a refusal is reported to the operator."""
        denial = self.authoriser.may(association.principal, action, handle, pe_identifier)
        if denial is not None:
            self.refused(association, denial, what)
        return denial

    def refused(self, association: Association, denial: Denial, what: str) -> None:
        """Report a refusal."""
        self.emit(Refused(threat=denial.threat, peer=str(association), what=what, reason=denial.reason))

    def ignored(self, association: Association, what: str, reason: str) -> None:
        """Report that a message had no effect."""
        self.emit(Ignored(peer=str(association), what=what, reason=reason))

    def refuse(self, association: AssociationId, answer: Message | None) -> None:
        """Answer a bad message, as often as the limit allows; a peer that goes on is left.

        Args:
            association: whose message it was.
            answer: what to say; ``None`` to say nothing, which counts all the same.
        """
        peer = self.associations.get(association)
        if peer is None:
            return
        if association not in self._refusals:
            self._forget_closed()
            self._refusals[association] = _Refusals(TokenBucket(self.config.limits.refusals, self.now), self.now)
        refusals = self._refusals[association]
        if self.now - refusals.last > FORGIVEN_AFTER:
            refusals.unanswered = 0
        refusals.last = self.now
        if refusals.bucket.take(self.now):
            if answer is not None:
                self.send(association, answer)
            return
        refusals.unanswered += 1
        if refusals.unanswered >= ANSWERS_BEFORE_CLOSING:
            reason = "too many bad or forbidden messages"
            self.close(association, reason, abort=True)
            self.kicked(peer, reason)

    def _forget_closed(self) -> None:
        if len(self._refusals) > 2 * len(self.associations) + 16:
            self._refusals = {k: v for k, v in self._refusals.items() if k in self.associations}

    def life_of(self, element: PoolElement) -> float:
        """An element's registration life in seconds, capped (RFC 5354 3.10; -1 is for ever)."""
        cap = self.config.timers.max_life
        if self.dialect.life_in_milliseconds:
            return min(element.life / 1000, cap)
        return cap if element.life == INFINITE_LIFE else min(element.life, cap)

    def encoded(self, message: Message) -> bytes:
        """A message's octets, to be sent to several."""
        return encode(message, self.dialect)
