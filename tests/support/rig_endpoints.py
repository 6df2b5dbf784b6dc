# SPDX-License-Identifier: Apache-2.0
"""One real machine of an element or a user, an imagined clock, and far ends that do what a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Generic, TypeVar

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import (
    Abandon,
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Emit,
    Endpoint,
    RequestId,
    Send,
    TransportKind,
)
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.events import ElementStateChanged, Event, Resolved
from rserpool.asap.machine import MachineBase
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.asap.user import User, UserConfig
from rserpool.identity import SecureScope
from rserpool.wire import (
    RFC,
    Address,
    Dialect,
    Message,
    Policy,
    Ppid,
    asap,
    decode,
    encode,
    policies,
)
from support.far_ends import (
    IDENTIFIERS,
    LISTENING,
    POOL,
    TRANSPORT,
    Script,
    granting,
    place,
    places,
    registrar,
    resolving,
)

START = 1000.0

M = TypeVar("M", bound=MachineBase)
T = TypeVar("T")


class Dice(Random):
    """Randomness from a seed, and the end of a machine that never comes to rest: each turn of its loop draws some."""

    draws = 0

    def _draw(self) -> None:
        self.draws += 1
        assert self.draws < 5000, "the machine goes round in circles"

    def random(self) -> float:
        self._draw()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        self._draw()
        return super().getrandbits(k)


@dataclass(frozen=True)
class Sent:
    """One message a machine sent."""

    at: float
    association: AssociationId
    message: Message


class Rig(Generic[M]):
    """Carries out a machine's effects, and fails where one is nonsense: a message on an association that is not up,
    a fourth attempt at once.

    Attributes:
        now: the time.
        answers: what is at an endpoint: somebody, a reason why nobody can be reached, or ``None`` for silence.
        script: what far ends answer to messages.
        dialled: all wishes to connect there ever were, and when.
        open: those nobody has answered.
        up: associations that are up.
        sent, closed, abandoned, events: what the machine did, since the last :meth:`clear`.
    """

    def __init__(self, machine: M, dice: Dice, dialect: Dialect, script: Script) -> None:
        self.machine = machine
        self.now = START
        self.answers: dict[Endpoint, Principal | str | None] = {}
        self.script = script
        self.dialled: list[tuple[float, Endpoint]] = []
        self.open: dict[RequestId, tuple[float, Connect]] = {}
        self.up: dict[AssociationId, Association] = {}
        self.sent: list[Sent] = []
        self.closed: list[Close] = []
        self.abandoned: list[RequestId] = []
        self.events: list[Event] = []
        self._dice = dice
        self._dialect = dialect
        self._ids = count(1)
        self._pending: deque[Callable[[], list[Effect]]] = deque()

    # -- what has happened

    @property
    def connecting(self) -> list[Endpoint]:
        """Where it is trying to connect to."""
        return [connect.endpoint for _, connect in self.open.values()]

    @property
    def messages(self) -> list[Message]:
        return [sent.message for sent in self.sent]

    def of(self, kind: type[T]) -> list[T]:
        """Events, or messages sent, of one kind."""
        return [x for x in (*self.events, *self.messages) if isinstance(x, kind)]

    def clear(self) -> None:
        """Forget what the machine did so far."""
        self.sent, self.closed, self.abandoned, self.events, self.dialled = [], [], [], [], []

    def at(self, number: int) -> AssociationId:
        """The association with registrar ``number`` that the machine has opened."""
        (found,) = (a.id for a in self.up.values() if a.outbound and a.peer_addresses == place(number).addresses)
        return found

    # -- what happens to it

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the machine has answered, and what follows from that."""
        self._apply(effects)
        while self._pending:
            self._input(self._pending.popleft())

    def call(self, principal: Principal, address: str = "10.0.0.250") -> AssociationId:
        """Somebody opens an association to the machine."""
        association = self._associate(principal, (IPv4Address(address),), 40000, outbound=False)
        self._later(lambda: self.machine.connected(association, None, self.now))
        return association.id

    def accept(self, endpoint: Endpoint, principal: Principal) -> AssociationId:
        """An attempt to connect succeeds, even one that has been abandoned."""
        request = next((r for r, (_, c) in self.open.items() if c.endpoint == endpoint), RequestId(0))
        association = self._associate(principal, endpoint.addresses, endpoint.port, outbound=True)
        self.open.pop(request, None)
        self._later(lambda: self.machine.connected(association, request, self.now))
        return association.id

    def refuse(self, endpoint: Endpoint, reason: str = "connection refused") -> None:
        """An attempt to connect fails."""
        (request,) = (r for r, (_, c) in self.open.items() if c.endpoint == endpoint)
        del self.open[request]
        self._later(lambda: self.machine.connect_failed(request, reason, self.now))

    def feed(self, association: AssociationId, message: Message | bytes) -> None:
        """The far end sends something."""
        octets = message if isinstance(message, bytes) else encode(message, self._dialect)
        self._later(lambda: self.machine.received(association, octets, self.now))

    def lose(self, association: AssociationId, reason: str = "connection reset") -> None:
        """An association ends by itself."""
        del self.up[association]
        self._later(lambda: self.machine.lost(association, reason, self.now))

    # -- time

    def run(self, seconds: float) -> None:
        """Let time pass; the machine is woken when it wants to be."""
        until, turns = self.now + seconds, 0
        while (at := self._next()) is not None and at <= until:
            turns = turns + 1 if at <= self.now else 0
            assert turns < 1000, "time stands still"
            self.now = max(at, self.now)
            expired = [r for r, (since, c) in self.open.items() if since + c.deadline <= self.now]
            for request in expired:
                self.refuse(self.open[request][1].endpoint, "timed out")
            if not expired:
                self._later(lambda: self.machine.wake(self.now))
        self.now = until

    def freeze(self, seconds: float) -> None:
        """Let time pass without the machine."""
        self.now += seconds

    def _next(self) -> float | None:
        times = [since + connect.deadline for since, connect in self.open.values()]
        deadline = self.machine.deadline()
        return min(times if deadline is None else [*times, deadline], default=None)

    # -- effects

    def _later(self, call: Callable[[], list[Effect]]) -> None:
        self._pending.append(call)
        self.do(())

    def _input(self, call: Callable[[], list[Effect]]) -> None:
        self._dice.draws = 0
        self._apply(call())

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(event):
                    self.events.append(event)
                case Connect():
                    self._connect(effect)
                case Abandon(request):
                    self.open.pop(request)
                    self.abandoned.append(request)
                case Close(association):
                    assert self.up.pop(association, None), "closed what was not up"
                    self.closed.append(effect)
                case Send(association, octets):
                    self._sent(association, octets)

    def _connect(self, connect: Connect) -> None:
        assert connect.service is Ppid.ASAP
        self.open[connect.request] = (self.now, connect)
        assert len(self.open) <= 3, "more than three at once"
        self.dialled.append((self.now, connect.endpoint))
        found = self.answers.get(connect.endpoint)
        if found is not None:
            self._pending.append(lambda: self._answer(connect, found))

    def _answer(self, connect: Connect, found: Principal | str) -> list[Effect]:
        if self.open.pop(connect.request, None) is None:
            return []
        if isinstance(found, str):
            return self.machine.connect_failed(connect.request, found, self.now)
        association = self._associate(found, connect.endpoint.addresses, connect.endpoint.port, outbound=True)
        return self.machine.connected(association, connect.request, self.now)

    def _associate(
        self, principal: Principal, addresses: tuple[Address, ...], port: int, *, outbound: bool
    ) -> Association:
        association = Association(
            id=AssociationId(next(self._ids)),
            service=Ppid.ASAP,
            outbound=outbound,
            kind=TransportKind.TCP,
            peer_addresses=addresses,
            peer_port=port,
            principal=principal,
        )
        self.up[association.id] = association
        return association

    def _sent(self, association: AssociationId, octets: bytes) -> None:
        known = self.up.get(association)
        assert known is not None, "sent on an association that is not up"
        message = decode(octets, Ppid.ASAP, self._dialect)
        self.sent.append(Sent(self.now, association, message))
        for reply in self.script(known, message):
            self._pending.append(partial(self._reply, association, encode(reply, self._dialect)))

    def _reply(self, association: AssociationId, octets: bytes) -> list[Effect]:
        return self.machine.received(association, octets, self.now) if association in self.up else []


def _people(rig: Rig[M], registrars: int) -> None:
    rig.answers.update({place(k): registrar(k) for k in range(1, registrars + 1)})


def element_rig(
    *,
    registrars: int = 1,
    script: Script = granting,
    timers: EndpointTimers = FAST.endpoint,
    dialect: Dialect = RFC,
    identifiers: tuple[int, ...] = IDENTIFIERS,
    policy: Policy | None = None,
    listening: Endpoint = LISTENING,
    seed: int = 1,
    serve: bool = True,
) -> Rig[Element]:
    """An element that is told of so many registrars, all of which are there."""
    dice = Dice(seed)
    config = ElementConfig(
        pool_handle=POOL,
        identifiers=identifiers,
        transport=TRANSPORT,
        policy=policy or policies.RoundRobin(),
        listening=listening,
        registrars=places(registrars),
        timers=timers,
        dialect=dialect,
    )
    rig = Rig(Element(config, SecureScope(pool_handle=POOL), dice), dice, dialect, script)
    _people(rig, registrars)
    if serve:
        rig.do(rig.machine.serve(rig.now))
    return rig


def states(rig: Rig[Element]) -> list[str]:
    """The states the element reported, with their reasons."""
    return [f"{e.state.name}: {e.reason}" if e.reason else e.state.name for e in rig.of(ElementStateChanged)]


def keep_alive(
    server_id: int = 1, *, home: bool = False, handle: bytes = POOL, identifier: int | None = IDENTIFIERS[0]
) -> asap.EndpointKeepAlive:
    return asap.EndpointKeepAlive(server_id=server_id, pool_handle=handle, home=home, pe_identifier=identifier)


def kept_alive(rig: Rig[Element], association: AssociationId, seconds: float, every: float = 1.0) -> None:
    """Let time pass in which a registrar sends keep-alives."""
    until = rig.now + seconds
    while rig.now + every <= until:
        rig.run(every)
        rig.feed(association, keep_alive(association, identifier=rig.machine.pe_identifier))
    rig.run(until - rig.now)


def user_rig(
    *,
    registrars: int = 1,
    script: Script | None = None,
    patience: float = 1.0,
    timers: EndpointTimers = FAST.endpoint,
    dialect: Dialect = RFC,
    seed: int = 1,
) -> Rig[User]:
    """A user that is told of so many registrars, all of which are there and know the elements 1 and 2."""
    dice = Dice(seed)
    config = UserConfig(registrars=places(registrars), patience=patience, timers=timers, dialect=dialect)
    scope = SecureScope(pool_handle=POOL, registrar_threat="2.7")
    rig = Rig(User(config, scope, dice), dice, dialect, script or resolving(1, 2))
    _people(rig, registrars)
    return rig


def resolve(rig: Rig[User], handle: bytes = POOL, items: int | None = None) -> int:
    """Begin a resolution; returns its token."""
    token, effects = rig.machine.resolve(handle, rig.now, items)
    rig.do(effects)
    return token


def outcome(rig: Rig[User], token: int) -> Resolved | None:
    """How a resolution ended; ``None`` while it goes on. It ends once at most."""
    found = [e for e in rig.of(Resolved) if e.token == token]
    assert len(found) <= 1
    return found[0] if found else None
