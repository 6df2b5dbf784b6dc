# SPDX-License-Identifier: Apache-2.0
"""Defects put into the machines, by invariant: each must be caught by its invariant within a few seeds.

An invariant that none of these breaks would be worth nothing. Much of the protocol exists twice, so that one half mends
what the other lost: an audit finds what no update told, an element leaves a home that nobody took over. Such a defect
shows only together with one of the other half, and is here with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from rserpool.asap.authorisation import Action, Denial, Principal
from rserpool.asap.effects import Association, AssociationId, Endpoint
from rserpool.asap.element import Element
from rserpool.asap.events import Change
from rserpool.asap.hunt import Hunter
from rserpool.asap.limits import Buckets, TokenBucket
from rserpool.asap.profiles import FAST
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.registration import Registrations
from rserpool.asap.timers import Timers
from rserpool.enrp.disputes import Disputes
from rserpool.enrp.ownership import Ownership
from rserpool.enrp.peers import Peer, Peers
from rserpool.enrp.resync import Resync
from rserpool.enrp.startup import Startup
from rserpool.enrp.takeover import Takeovers
from rserpool.enrp.unlisted import Unlisted
from rserpool.handlespace import ElementKey
from rserpool.identity import SecureScope
from rserpool.wire import Message, enrp
from simulation import stage
from simulation.generate import generate
from simulation.invariants import AllTheSame, CutIsBack, DeadIsGone, OneOwner, Standing
from simulation.moments import (
    Momentary,
    NobodyChangesAnything,
    NoFalseAlarm,
    NoneIsLost,
    StateIsBounded,
    WithinLimits,
)
from simulation.script import Script
from simulation.world import World

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutation:
    """A defect.

    Attributes:
        name: what is wrong.
        breaks: the invariant that must notice.
        kind: of the scripts that show it.
        apply: puts it in, as long as the patch lasts.
        seeds: within how many it must be noticed.
        late: only put in when the pool has settled.
        script: that shows it, where the kind's own do so seldom; its seed is what varies.
    """

    name: str
    breaks: type[Standing | Momentary]
    kind: str
    apply: Callable[[Patch], None]
    seeds: int = 30
    late: bool = False
    script: str = ""

    def script_of(self, seed: int) -> Script:
        """What is played with a seed."""
        return Script.parse(self.script) if self.script else generate(seed, self.kind)

    @property
    def invariant(self) -> str:
        """The name of the invariant that must notice."""
        return self.breaks.name


def nothing(*_: Any, **__: Any) -> None:
    """What a function does that was taken out."""


def without(owner: type, *names: str) -> Callable[[Patch], None]:
    """Take functions out."""

    def apply(patch: Patch) -> None:
        for name in names:
            patch.setattr(owner, name, nothing)

    return apply


def instead(owner: type, name: str, function: Callable[..., Any]) -> Callable[[Patch], None]:
    """Put a function in the place of another one."""
    return lambda patch: patch.setattr(owner, name, function)


def both(*changes: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Several defects at once."""

    def apply(patch: Patch) -> None:
        for change in changes:
            change(patch)

    return apply


def with_timers(**timers: Any) -> Callable[[Patch], None]:
    """Registrars have other timers."""
    profile = replace(FAST, registrar=replace(FAST.registrar, **timers))
    return lambda patch: patch.setattr(stage, "World", partial(World, profile=profile))


def unlistened(self: Liveness, key: ElementKey) -> None:
    self._answered(self._watched[key])


def dropped_with_its_home(self: Takeovers, peer: Peer, reason: str) -> None:
    for key in self._desk.space.owned_by(peer.server_id):
        self._membership.drop(key, Change.REMOVED, "its home is dead", announce=False)
    self._peers.remove(peer, reason)


def left_behind(self: Takeovers, peer: Peer, reason: str) -> None:
    self._peers.remove(peer, reason)


def removed_when_lost(self: Liveness, association: AssociationId) -> None:
    for key in sorted(self._on.pop(association, ())):
        watch = self._watched[key]
        watch.attached = watch.probe = None
        self._fail(key, "its association ended")


def homeless(self: Element, reason: str, lost: Association | None = None) -> None:
    self._drop_home(reason)


def long_rounds(patch: Patch) -> None:
    begin = Hunter._begin_round

    def begin_round(self: Hunter, avoid: Endpoint | None) -> None:
        self._round = 30.0
        begin(self, avoid)

    patch.setattr(Hunter, "_begin_round", begin_round)


def no_updates(patch: Patch) -> None:
    write = Peers.tell_all_octets

    def tell_all(self: Peers, message: Message) -> None:
        if not isinstance(message, enrp.HandleUpdate):
            write(self, self._desk.encoded(message))

    patch.setattr(Peers, "tell_all", tell_all)
    patch.setattr(Peers, "tell_all_octets", lambda *_: None)  # by which additions are announced


def serve_at_once(self: Startup) -> None:
    self._serve(0)


def unbound(patch: Patch) -> None:
    bind = Peers._bind

    def bind_anybody(self: Peers, association: Association, server_id: int, what: str) -> bool:
        peer = self.get(server_id)
        if peer is not None:
            peer.name = association.principal.name
        return bind(self, association, server_id, what)

    patch.setattr(Peers, "_bind", bind_anybody)


def may_all(*actions: Action) -> Callable[[Patch], None]:
    """Everybody may do this."""

    def apply(patch: Patch) -> None:
        may = SecureScope.may

        def asked(
            self: SecureScope, principal: Principal, action: Action, handle: bytes | None = None, pe: int | None = None
        ) -> Denial | None:
            return None if action in actions else may(self, principal, action, handle, pe)

        patch.setattr(SecureScope, "may", asked)

    return apply


def any_pool(patch: Patch) -> None:
    element = SecureScope._element

    def asked(
        self: SecureScope, principal: Principal, action: Action, handle: bytes | None, pe: int | None
    ) -> Denial | None:
        del handle
        return element(self, principal, action, self.pool_handle, pe)

    patch.setattr(SecureScope, "_element", asked)


def always_a_token(self: Buckets, key: object, now: float) -> bool:
    return True


def anybody_acknowledges(self: Liveness, association: Association, message: Any) -> bool:
    watch = self._watched.get((message.pool_handle, message.pe_identifier))
    if watch is not None:
        self._answered(watch)
    return watch is not None


def kept_for_ever(self: Peers, association: Association) -> None:
    self._line_lost(association.id, self._bound.get(association.id))


def waits_for_ever(self: Disputes, peer: Peer, key: ElementKey, *_: object) -> bool:
    known = self._desk.space.get(key)
    return known is not None and known.home != peer.server_id and self._peers.is_there(known.home)


TWO_OF_FOUR = """
world registrars=4 elements=6 latency=0.001 window=65536 length=12
  1.0 vanish e1
  1.0 vanish e2
  1.0 vanish e3
  1.0 vanish e4
  1.0 vanish e5
  1.0 vanish e6
  1.0 vanish r1
  1.85 vanish r2
"""
FROZEN_WITH_ALL = """
world registrars=2 elements=2 latency=0.001 window=65536 length=8
  1.0 vanish e1
  1.0 vanish e2
  1.0 freeze r1
"""
AWAY_FOR_LONG = """
world registrars=3 elements=3 latency=0.001 window=65536 length=60
  1.0 stall r1 45
"""
BACK_LATE = """
world registrars=3 elements=6 latency=0.001 window=65536 length=6
  0.0 suspend r2 2
  0.6 sleep r1 3
"""
ATTACKED_WHILE_FROZEN = """
world registrars=1 elements=2 latency=0.001 window=65536 length=15
  0.0 attack element
  0.0 attack user
  2.0 stall e1 1
  4.0 stall e2 1
  6.0 stall e1 1
  8.0 stall e2 1
 10.0 stall e1 1
 12.0 stall e2 1
"""
FLOODED = """
world registrars=2 elements=2 latency=0.001 window=65536 length=40
  0.0 attack user
  0.0 attack user
  0.0 attack anonymous
  0.0 attack element
"""
"""Scripts for what happens seldom otherwise."""

MUTATIONS: tuple[Mutation, ...] = (
    # a dead element is served for 3 s at most
    Mutation("a failed element is not dropped", DeadIsGone, "elements", without(Liveness, "_fail")),
    Mutation("a keep-alive needs no answer", DeadIsGone, "elements", instead(Liveness, "_unanswered", unlistened)),
    Mutation("inherited elements are not asked", DeadIsGone, "both", without(Liveness, "claim"), 60),
    Mutation(
        "removals are not announced, and no table takes anything out",
        DeadIsGone,
        "elements",
        both(no_updates, without(Unlisted, "judge")),
        late=True,
    ),
    Mutation("what an element's home does not list stays", DeadIsGone, "mixed", without(Unlisted, "judge"), 120),
    Mutation(
        "the elements of a dead registrar are left behind",
        DeadIsGone,
        "both",
        instead(Takeovers, "dead", left_behind),
        120,
    ),
    # an element that can reach a registrar is missing for 5 s at most
    Mutation("a silent home is not left", CutIsBack, "paths", without(Element, "_home_silent"), 60),
    Mutation(
        "who has lost its home does not look for another",
        CutIsBack,
        "registrars",
        instead(Element, "_leave_home", homeless),
    ),
    Mutation("rounds of the hunt are long", CutIsBack, "registrars", long_rounds, 60),
    Mutation(
        "registrations are neither announced nor audited",
        CutIsBack,
        "elements",
        both(no_updates, without(Resync, "compare")),
        late=True,
    ),
    # one owner
    Mutation("a takeover is never won", OneOwner, "registrars", without(Takeovers, "_won"), 120),
    Mutation("silence of a peer is not noticed", OneOwner, "both", without(Peers, "_silent"), script=FROZEN_WITH_ALL),
    Mutation(
        "who has died is awaited for ever",
        OneOwner,
        "both",
        both(without(Takeovers, "_overdue"), without(Takeovers, "_awaited_no_more")),
        script=TWO_OF_FOUR,
    ),
    Mutation("tables are never read again", OneOwner, "parts", without(Resync, "start"), 60),
    # handlespaces are equal
    Mutation("no table is read again", AllTheSame, "parts", without(Resync, "start")),
    Mutation(
        "updates are neither sent nor audited",
        AllTheSame,
        "churn",
        both(no_updates, without(Resync, "compare")),
        late=True,
    ),
    Mutation("what is not listed any more stays", AllTheSame, "mixed", without(Unlisted, "judge"), 120),
    # no healthy element goes missing
    Mutation(
        "a registrar that dies takes its elements with it",
        NoneIsLost,
        "registrars",
        instead(Takeovers, "dead", dropped_with_its_home),
    ),
    Mutation(
        "a registrar serves before it has read anything",
        NoneIsLost,
        "registrars",
        instead(Startup, "begin", serve_at_once),
    ),
    Mutation(
        "the mentor's word is not taken", NoneIsLost, "registrars", instead(Resync, "_is_new", lambda *_: False), 60
    ),
    Mutation("lag goes unnoticed", NoneIsLost, "clocks", instead(Timers, "lag", lambda *_: 0.0), script=AWAY_FOR_LONG),
    Mutation(
        "a lost association is a lost element", NoneIsLost, "stalls", instead(Liveness, "lost", removed_when_lost), 60
    ),
    Mutation(
        "who had an element before is forgotten", NoneIsLost, "stalls", instead(Unlisted, "_former_of", nothing), 120
    ),
    Mutation(
        "unlisted elements are dropped at once",
        NoneIsLost,
        "clocks",
        instead(Unlisted, "_may_be_named", lambda *_: False),
        script=BACK_LATE,
    ),
    Mutation(
        "what a registrar claims of another's has to wait, and nobody takes up what has waited",
        NoneIsLost,
        "both",
        both(instead(Disputes, "waits", waits_for_ever), without(Ownership, "_waited_for")),
        60,
    ),
    # unauthorised input changes nothing
    Mutation("everybody may do everything", NobodyChangesAnything, "attacks", may_all(*Action)),
    Mutation("everybody may register", NobodyChangesAnything, "attacks", may_all(Action.REGISTER)),
    Mutation("everybody may take part as a registrar", NobodyChangesAnything, "attacks", may_all(Action.PEER)),
    Mutation("everybody may be a home", NobodyChangesAnything, "attacks", may_all(Action.HOME)),
    Mutation(
        "addresses are not compared",
        NobodyChangesAnything,
        "attacks",
        instead(Registrations, "_foreign_address", nothing),
    ),
    Mutation("an element may register in any pool", NobodyChangesAnything, "attacks", any_pool),
    Mutation("a server ID is bound to nobody", NobodyChangesAnything, "attacks", unbound),
    Mutation(
        "anybody answers for an element",
        NobodyChangesAnything,
        "attacks",
        both(may_all(Action.ACKNOWLEDGE), instead(Liveness, "acknowledged", anybody_acknowledges)),
        script=ATTACKED_WHILE_FROZEN,
    ),
    # limits
    Mutation(
        "an element is asked as often as anybody likes",
        WithinLimits,
        "attacks",
        instead(TokenBucket, "wait", lambda *_: 0.0),
        script=FLOODED,
    ),
    Mutation("rates are not limited", WithinLimits, "reports", instead(Buckets, "take", always_a_token)),
    Mutation(
        "a user's bucket is never empty",
        WithinLimits,
        "reports",
        both(instead(Buckets, "take", always_a_token), instead(TokenBucket, "take", lambda *_: True)),
    ),
    # state
    Mutation(
        "refusals are never forgotten",
        StateIsBounded,
        "attacks",
        without(RegistrarDesk, "_forget_closed"),
        10,
        script=FLOODED,
    ),
    Mutation("timers that were set anew pile up", StateIsBounded, "resets", without(Timers, "_rebuild")),
    Mutation(
        "associations that ended are kept in mind", StateIsBounded, "resets", instead(Peers, "lost", kept_for_ever), 60
    ),
    # no false alarms
    Mutation("one keep-alive must be answered", NoFalseAlarm, "noise", with_timers(keep_alive_tries=1)),
    Mutation("a peer is given little time", NoFalseAlarm, "noise", with_timers(last_heard=0.5, no_response=0.1)),
    Mutation(
        "a lost association removes its element",
        NoFalseAlarm,
        "noise",
        both(instead(Liveness, "lost", removed_when_lost), with_timers(keep_alive_timeout=0.2)),
    ),
)
