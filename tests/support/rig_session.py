# SPDX-License-Identifier: Apache-2.0
"""A pool user's session, an imagined clock, and elements that do what a test says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from random import Random
from typing import TypeVar

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.events import Failure
from rserpool.identity import LeafIdentity, pe_identifiers, principal_of
from rserpool.identity.decisions import unverified
from rserpool.session import frames
from rserpool.session.cache import CachedPool
from rserpool.session.seeker import State
from rserpool.session.sending import SendOptions
from rserpool.session.user import UserSession
from rserpool.session.user_config import SessionConfig
from rserpool.session.user_effects import (
    Ask,
    ChannelSecurity,
    Deliver,
    Dial,
    Ended,
    Peer,
    Report,
    Resolve,
    SessionEffect,
    Tell,
    Transmit,
)
from rserpool.wire import Message, Policy, PoolElement, Ppid, TcpTransport, asap, decode, policies

POOL = b"echo"
START = 1000.0
TLS13, TLS12 = "TLSv1.3", "TLSv1.2"
E = TypeVar("E")


def identity(number: int, role: Role = Role.ELEMENT, pool: str = "echo") -> LeafIdentity:
    uid = f"{number:08x}-0000-4000-8000-{number:012x}"
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool=pool, role=role, pod_uid=uid)


def number_of(k: int) -> int:
    """PE identifier of element ``k``: the first that its certificate allows it."""
    return pe_identifiers(identity(k).pod_uid)[0]


def element(k: int, policy: Policy | None = None) -> PoolElement:
    """Element ``k`` as a registrar tells of it."""
    transport = TcpTransport(port=7000 + k, address=IPv4Address(f"10.0.1.{k}"))
    return PoolElement(
        identifier=number_of(k), home=7, life=30, transport=transport, policy=policy or policies.RoundRobin()
    )


def elements(*numbers: int) -> tuple[PoolElement, ...]:
    return tuple(element(k) for k in numbers)


def is_who_it_should_be(k: int, version: str = TLS13) -> Peer:
    principal = principal_of(identity(k))
    return Peer(principal=principal, security=ChannelSecurity(identity=principal.name, version=version, cipher="AES"))


def somebody(principal: Principal, version: str = TLS13) -> Peer:
    return Peer(principal=principal, security=ChannelSecurity(identity=principal.name, version=version, cipher="AES"))


class Rig:
    """Carries out what a session's machine says, as far as the test has said what happens then.

    Attributes:
        now: the time.
        pool: what is known of the pool; a registrar's answer to each question is :attr:`answer`.
        answer: elements, or why there are none, or ``None``: no answer.
        far: what is at an element: a peer, a reason why it cannot be reached, or ``None`` for silence.
        done: all effects, in order.
        agrees: the application's answer; ``None``: it makes up its mind later.
    """

    def __init__(self, *pool: int, framed: bool = True, secure: bool = True, seed: int = 1, **config: object) -> None:
        self.now = START
        options = {"handle": POOL, "framed": framed, "secure": secure, **config}
        self.config = SessionConfig(**options)  # type: ignore[arg-type] # options of several types
        self.machine = UserSession(self.config, Random(seed))
        self.pool = CachedPool(POOL, Random(seed))
        self.answer: Sequence[PoolElement] | Failure | None = elements(*pool)
        self.cached = False
        self.far: dict[int, Peer | str | None] = {}
        for k in range(1, 10):
            who = is_who_it_should_be(k) if secure else Peer(principal=unverified(f"10.0.1.{k}:1"))
            self.far[element(k).identifier] = who
        self.agrees: bool | None = True
        self.done: list[SessionEffect] = []
        self.questions: list[tuple[float, bool]] = []
        self.dialled: list[tuple[float, int]] = []

    # -- what it did

    def of(self, kind: type[E]) -> list[E]:
        """Effects, or things told, of one kind."""
        told = [e.event for e in self.done if isinstance(e, Tell)]
        return [x for x in (*self.done, *told) if isinstance(x, kind)]

    @property
    def tried(self) -> list[int]:
        """Whom it has dialled, as test numbers."""
        return [k for _, k in self.dialled]

    @property
    def reported(self) -> list[int]:
        return [which(r.element.identifier) for r in self.of(Report)]

    @property
    def at(self) -> int:
        """Whom it speaks with."""
        assert self.machine.far is not None
        return which(self.machine.far.element.identifier)

    def state(self) -> State:
        """Where it stands; a method, since it changes with each call."""
        return self.machine.state

    @property
    def ended(self) -> Ended | None:
        found = self.of(Ended)
        assert len(found) <= 1
        return found[0] if found else None

    def said(self, attempt: int | None = None) -> list[bytes | Message]:
        """What was sent over a connection, by default the present one: data as octets, control messages decoded."""
        wanted = attempt or self.machine.attempt
        reader = frames.FrameReader()
        said: list[bytes | Message] = []
        for effect in self.of(Transmit):
            if effect.attempt == wanted:
                for frame in reader.feed(effect.octets):
                    data = frame.ppid == frames.DATA
                    said.append(frame.payload if data else decode(frame.payload, Ppid.ASAP))
        return said

    def received(self) -> bytes:
        return b"".join(d.octets for d in self.of(Deliver))

    def clear(self) -> None:
        self.done, self.questions, self.dialled = [], [], []

    # -- what happens to it

    def begin(self) -> Rig:
        self.do(self.machine.begin(self.now))
        return self

    def send(self, octets: bytes = b"hello", options: SendOptions = SendOptions.USE_DEFAULT) -> None:
        self.do(self.machine.send(octets, options, self.now))

    def data(self, octets: bytes) -> None:
        """The element sends data."""
        for frame in frames.data(octets):
            self.octets(frame)

    def control(self, message: Message) -> None:
        """The element sends a control message."""
        self.octets(frames.control(message))

    def octets(self, octets: bytes) -> None:
        self.do(self.machine.received(self.machine.attempt, octets, self.now))

    def lose(self, reason: str = "connection reset", *, orderly: bool = False) -> None:
        """The present connection ends."""
        self.do(self.machine.lost(self.machine.attempt, reason, self.now, orderly=orderly))

    def writable(self) -> None:
        self.do(self.machine.writable(self.machine.attempt, self.now))

    def drain(self) -> None:
        """The connection takes all there is."""
        while self.machine.wants_to_write:
            self.writable()

    def update(self, *numbers: int) -> None:
        """A registrar tells that the pool has changed."""
        self.learn(elements(*numbers))
        self.do(self.machine.updated(elements(*numbers), self.now))

    def connected(self, peer: Peer) -> None:
        """The connection that is being opened is up."""
        self.do(self.machine.connected(self.machine.attempt, peer, self.now))

    def not_connected(self, reason: str = "connection refused") -> None:
        self.do(self.machine.not_connected(self.machine.attempt, reason, self.now))

    def agree(self) -> None:
        self.do(self.machine.agreed(self.machine.attempt, self.now))

    def decline(self) -> None:
        self.do(self.machine.declined(self.machine.attempt, self.now))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until, turns = self.now + seconds, 0
        while (at := self.machine.deadline()) is not None and at <= until:
            turns += 1
            assert turns < 10_000, "the machine goes round in circles"
            self.now = max(self.now, at)
            self.do(self.machine.wake(self.now))
        self.now = until

    def learn(self, found: Sequence[PoolElement]) -> None:
        self.pool.learn(policies.RoundRobin(), found, self.now, self.now + 30, None, pushed=False)

    # -- carrying out

    def do(self, effects: Iterable[SessionEffect]) -> None:
        for effect in effects:
            self.done.append(effect)
            match effect:
                case Resolve(fresh):
                    self.questions.append((self.now, fresh))
                    self._resolve(fresh=fresh)
                case Dial():
                    self.dialled.append((self.now, which(effect.element.identifier)))
                    self._dial(effect)
                case Ask(attempt, _):
                    if self.agrees is not None:
                        call = self.machine.agreed if self.agrees else self.machine.declined
                        self.do(call(attempt, self.now))
                case _:
                    pass  # it is looked at in `done`

    def _resolve(self, *, fresh: bool) -> None:
        if self.cached and not fresh:
            self.do(self.machine.resolved(self.pool, self.now))
        elif isinstance(self.answer, Failure):
            self.do(self.machine.unresolved(self.answer, f"because of {self.answer.value}", self.now))
        elif self.answer is not None:
            self.learn(self.answer)
            self.do(self.machine.resolved(self.pool, self.now))

    def _dial(self, dial: Dial) -> None:
        found = self.far.get(dial.element.identifier)
        if isinstance(found, Peer):
            self.do(self.machine.connected(dial.attempt, found, self.now))
        elif found is not None:
            self.do(self.machine.not_connected(dial.attempt, found, self.now))


def which(identifier: int) -> int:
    """The test's number of an element; 0 for one whose PE identifier nobody knows."""
    return next((k for k in range(1, 200) if number_of(k) == identifier), 0)


def opened(*pool: int, **options: object) -> Rig:
    """A session that speaks with the first of these elements."""
    rig = Rig(*pool, **options)  # type: ignore[arg-type] # options of several types
    rig.begin()
    rig.clear()
    return rig


def dead(rig: Rig, *numbers: int, reason: str = "connection refused") -> None:
    for k in numbers:
        rig.far[element(k).identifier] = reason


def card(*numbers: int, handle: bytes = POOL) -> asap.BusinessCard:
    return asap.BusinessCard(pool_handle=handle, elements=elements(*numbers))
