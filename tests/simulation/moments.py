# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - these are the inputs that all machines, or watchers, are given
"""What must hold at every single input and message: nothing is excused for a while."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Close, Connect, Effect, Emit, Send
from rserpool.asap.element import Element
from rserpool.asap.events import Change, ElementChanged, Lagged, PeerChanged, PeerState, Serving
from rserpool.asap.limits import Rate
from rserpool.asap.user import User
from rserpool.enrp import Registrar
from rserpool.wire import AsapType, Ppid
from simulation.nodes import Node, dump_of, element_of, home_of, registrar
from simulation.sizes import too_large
from simulation.truth import Truth, key_of, space_of

UNTROUBLED = 5.0
"""Seconds without trouble after which an element counts as healthy: so long may one be missing (PROTOCOL 11.5)."""


class Momentary:
    """Watches every input.

    Attributes:
        name: in a few words.
        section: what demands it.
        found: what was wrong, the first time; empty while nothing was.
    """

    name: ClassVar[str]
    section: ClassVar[str]

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.found = ""

    def before(self, node: Node, source: Node | None) -> None:
        """A machine is about to be given an input."""

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        """It has answered."""

    def now_and_then(self) -> None:
        """Ten times a second."""

    def wrong(self, text: str) -> None:
        """Say what is wrong."""
        self.found = self.found or text


class NoneIsLost(Momentary):
    """No registrar that serves drops a healthy element, or begins to serve without one, whatever registrars do.

    Healthy is an element that wants to be in its pool, to which nothing has been done for 5 s, nor to its paths to all
    registrars; trouble of paths between element and registrar is what 5 s are granted for. Reports of users remove an
    element that may be healthy for all a registrar knows (PROTOCOL 10.8), so they are an excuse. So is a cut path, now
    or less than 3.2 s ago, between the registrar, the element's home, and whom else they can reach: nobody relays
    updates, so that of two registrars that cannot reach each other each takes over from the other. And a registrar that
    runs again reads first what it was sent before: for 3.2 s it may drop what died, and came back, while it was away.
    A registrar that begins to serve must know an element if another registrar, untroubled, served it and could be reached all the time.
    """

    name = "no healthy element goes missing through registrars' faults"
    section = "PROTOCOL 10.5, 10.6, 10.7, 18 Recovery"

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Emit):
                continue
            event = effect.event
            if isinstance(event, ElementChanged) and event.change in (Change.REMOVED, Change.DEREGISTERED):
                self._dropped(node, event)
            elif isinstance(event, Serving):
                self._began(node)

    def _healthy(self, element: Node) -> bool:
        world, long_ago = self.truth.world, self.truth.world.now - UNTROUBLED
        registrars = world.all_registrars()
        return (
            element.is_up
            and element.wants
            and element.changed_at < long_ago
            and all(self.truth.path_troubled_at(element, r) < long_ago for r in registrars)
            and all(self.truth.reach(element, r) for r in registrars)
        )

    def _dropped(self, node: Node, event: ElementChanged) -> None:
        if not node.serves or "users could not reach it" in event.reason:
            return
        for element in self.truth.world.all_elements():
            same = event.element.identifier == element_of(element).pe_identifier
            gone = space_of(node).get(key_of(element)) is None  # and not learnt from another at once
            returned = element.changed_at >= node.stopped_at and node.changed_at > self.truth.world.now - 3.2
            if same and gone and not returned and self._healthy(element) and self._hears_of(node, element):
                self.wrong(f"{node.name} drops {element.name}, which is healthy: {event.reason}")

    def _hears_of(self, node: Node, element: Node) -> bool:
        """Whether a registrar can know who the element's home is."""
        long_ago = self.truth.world.now - 3.2
        home = home_of(element)
        self.truth.look()
        group = next((g for g in self.truth.groups if node in g), None)
        return (
            group is not None
            and (home is None or home in group)
            and all(self.truth.path_troubled_at(a, b) < long_ago for a, b in combinations(group, 2))
        )

    def _began(self, node: Node) -> None:
        world = self.truth.world
        for element in world.all_elements():
            if not self._healthy(element) or space_of(node).get(key_of(element)) is not None:
                continue
            for other in self.truth.registrars:
                knows = other is not node and other.serves and space_of(other).get(key_of(element)) is not None
                began = node.began_at - UNTROUBLED
                untroubled = other.changed_at < began and self.truth.path_troubled_at(node, other) < node.began_at
                if knows and untroubled and self.truth.reach(node, other) and node.changed_at == node.began_at:
                    self.wrong(f"{node.name} begins to serve without {element.name}, which {other.name} serves")


class NobodyChangesAnything(Momentary):
    """What an intruder sends, and its coming and going, changes nothing and causes nothing but answers to itself.

    A user's report that an element is unreachable, without a certificate or with any, is no intrusion: it may make a
    registrar ask that element (PROTOCOL 10.8). What a machine does because it has been late is not the intruder's doing.
    """

    name = "unauthenticated and unauthorised input changes nothing"
    section = "threats 2.1 to 2.7, 2.15, PROTOCOL 13.4"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._before: object = None
        self._asked: dict[object, object] = {}

    def before(self, node: Node, source: Node | None) -> None:
        if source is not None and source.intruder:
            self._before, self._asked = _state(node), _asked(node)

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        if source is None or not source.intruder or node.intruder:
            return
        if _state(node) != self._before:
            self.wrong(f"{source.principal} has changed {node.name}")
        asked = _asked(node)
        if any(asked.get(key) != before for key, before in self._asked.items()):
            self.wrong(f"{source.principal} has answered {node.name} for an element")
        if any(isinstance(e, Emit) and isinstance(e.event, Lagged) for e in effects):
            return
        reports = source.principal.role is not Role.REGISTRAR and isinstance(node.machine, Registrar)
        for effect in effects:
            match effect:
                case Send(association, octets):
                    end = node.ends.get(association)
                    theirs = end is None or end.far.node.intruder
                    keep_alive = octets[0] == AsapType.ENDPOINT_KEEP_ALIVE
                    if not theirs and not (reports and keep_alive):
                        self.wrong(f"{source.principal} makes {node.name} send {octets.hex()}")
                case Close(association):
                    end = node.ends.get(association)
                    if end is not None and not end.far.node.intruder:
                        self.wrong(f"{source.principal} makes {node.name} close another association")
                case Connect(_, service) if not (reports and service is Ppid.ASAP):
                    self.wrong(f"{source.principal} makes {node.name} dial")
                case _:
                    pass


def _state(node: Node) -> object:
    """All of a machine that an intruder must not change."""
    match node.machine:
        case Registrar():
            dumped: dict[str, Any] = dump_of(node)
            return dumped, registrar(node).counts(), registrar(node).serving
        case Element() as machine:
            return machine.state, machine.home_id, machine.registered, machine.pe_identifier, vars(machine)["_home"]
        case _:
            return None


def _asked(node: Node) -> dict[object, object]:
    """The elements a registrar waits for an answer of: only they may give it."""
    if not isinstance(node.machine, Registrar):
        return {}
    watched = vars(vars(node.machine)["_front"].liveness)["_watched"]
    return {key: (w.tries, w.attached, w.identity) for key, w in watched.items() if w.outstanding}


class WithinLimits(Momentary):
    """No registrar asks an element more often than the limit allows, no user reports more often than it may.

    Counted is what is sent, from a registrar's start to its end, for each element: a burst, and an average. Probes of
    another registrar's element count with the keep-alives of its own.
    """

    name = "keep-alives and reports stay within their limits"
    section = "threats 2.13, 2.14, PROTOCOL 8"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._sent: dict[object, tuple[float, float]] = {}

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            kind = effect.octets[0]
            if kind == AsapType.ENDPOINT_KEEP_ALIVE and isinstance(node.machine, Registrar):
                end = node.ends.get(effect.association)
                if end is not None and end.association.service is Ppid.ASAP:
                    rate = self.truth.world.profile.registrar.keep_alive_rate
                    self._count((node, end.far.node.name), rate, f"{node.name} asks {end.far.node.name} too often")
            elif kind == AsapType.ENDPOINT_UNREACHABLE and isinstance(node.machine, User):
                self._count(node, Rate(1, 5), f"{node.name} reports too often")
                self._count((node, effect.octets[-4:]), Rate(0.1, 1), f"{node.name} reports one element too often")

    def _count(self, key: object, rate: Rate, text: str) -> None:
        """Count by a leaky bucket of our own: that of the machines may be what is broken."""
        now = self.truth.world.now
        level, at = self._sent.get(key, (0.0, now))
        level = max(0.0, level - (now - at) * rate.per_second) + 1
        self._sent[key] = level, now
        if level > rate.burst + 1e-3 * rate.per_second + 1e-6:
            self.wrong(text)


class StateIsBounded(Momentary):
    """No table of a machine grows with time: each is bounded by what there is of associations, elements and peers."""

    name = "state per peer is bounded"
    section = "PROTOCOL 13.6, RFC 5352 9.3"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._ticks = 0

    def now_and_then(self) -> None:
        self._ticks += 1
        if self._ticks % 20:
            return
        for node in self.truth.world.nodes.values():
            if node.is_up and not node.intruder:
                self.check(node)

    def check(self, node: Node) -> None:
        """Look at one machine."""
        world = self.truth.world
        elements = len(space_of(node)) if isinstance(node.machine, Registrar) else 1
        there = len(node.ends) + elements + len(world.nodes)
        for path, size, most in too_large(node.machine, there):
            self.wrong(f"{node.name}: {path} holds {size}, {most} at most with {there} of what there is")


class NoFalseAlarm(Momentary):
    """Where nothing is wrong but late packets and processes that stall, nobody is removed. Asked of such scripts only.

    300 ms of extra delay each way, and stalls of up to half a second, 5 % of the time.
    """

    name = "delay spikes and stalls remove nobody"
    section = "PROTOCOL 8, 10.6"

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Emit):
                continue
            event = effect.event
            if isinstance(event, ElementChanged) and event.change in (Change.REMOVED, Change.DEREGISTERED):
                self.wrong(f"{node.name} drops {event.element.identifier:#010x}: {event.reason}")
            elif isinstance(event, PeerChanged) and event.state in (PeerState.GONE, PeerState.TAKEOVER):
                self.wrong(f"{node.name} holds {event.server_id:#010x} for dead: {event.reason}")


MOMENTARY: tuple[type[Momentary], ...] = (NoneIsLost, NobodyChangesAnything, WithinLimits, StateIsBounded)
