# SPDX-License-Identifier: Apache-2.0
"""One registrar machine among scripted peers: what it sends is decoded and kept, what they say is up to the test.

Time is virtual, the machine is woken exactly at its deadlines. A peer that is *alive* sends its presence each
heartbeat, answers presences and table requests and acknowledges takeovers; any other one does what it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Any, TypeVar

from rserpool.asap.authorisation import Authoriser, Principal
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
from rserpool.asap.events import ElementChanged, Event, Ignored, PeerChanged, Refused
from rserpool.asap.profiles import FAST, RegistrarTimers
from rserpool.asap.server.desk import Limits, RegistrarConfig
from rserpool.enrp import Registrar
from rserpool.identity import SecureScope
from rserpool.identity.decisions import anonymous
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
)
from support.beings import US, Being, Reaction, endpoint
from support.peers import Line, Peer
from support.scope import POOL

T = TypeVar("T")


class Rig:
    """The machine, its clock and its surroundings.

    Args:
        expects: numbers of the registrars its configuration names.
        lowest: rsplib's arbitration.
        enrp_endpoint: where the machine listens for its peers.
    """

    def __init__(
        self,
        *,
        server_id: int = US,
        expects: tuple[int, ...] = (),
        timers: RegistrarTimers = FAST.registrar,
        limits: Limits | None = None,
        scope: Authoriser | None = None,
        dialect: Dialect = RFC,
        secure: bool = True,
        lowest: bool = False,
        seed: int = 1,
        enrp_endpoint: Endpoint | None = None,
    ) -> None:
        self.server_id = server_id
        self.dialect = dialect
        self.heartbeat = timers.heartbeat
        config = RegistrarConfig(
            server_id=server_id,
            enrp=(enrp_endpoint or endpoint(1),),
            peers=tuple(endpoint(n) for n in expects),
            timers=timers,
            limits=limits or Limits(),
            dialect=dialect,
            secure=secure,
            takeover_by_lowest=lowest,
        )
        self.machine = Registrar(config, scope or SecureScope(pool_handle=POOL), Random(seed))
        self.began = self.now = 1000.0
        self.lines: dict[AssociationId, Line] = {}
        self.dials: dict[RequestId, tuple[float, Connect]] = {}
        self.events: list[tuple[float, Event]] = []
        self.log: list[tuple[float, Message]] = []
        self.peers: list[Peer] = []
        self._ids = count(1)
        self._numbers = count(2)
        self._answers: deque[tuple[Line, Message]] = deque()

    # -- inputs

    def do(self, call: Callable[[Registrar, float], list[Effect]]) -> None:
        """Have the machine handle one input, and everything that is answered to its messages by itself."""
        self._apply(call(self.machine, self.now))
        while self._answers:
            line, answer = self._answers.popleft()
            if line.up:
                octets = encode(answer, self.dialect)
                self._apply(self.machine.received(line.association.id, octets, self.now))

    def start(self) -> Rig:
        self.do(lambda m, now: m.start(now))
        return self

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds + 1e-9
        while (when := self._next()) <= until:
            self.now = max(self.now, when)
            for peer in self.peers:
                if peer.next_beat <= self.now:
                    peer.next_beat += self.heartbeat
                    if peer.alive and peer.connected:
                        peer.introduce()
            for request, (deadline, _) in list(self.dials.items()):
                if deadline <= self.now and request in self.dials:
                    del self.dials[request]
                    self.do(lambda m, now, r=request: m.connect_failed(r, "timed out", now))  # type: ignore[misc] # mypy infers no lambda with a default
            deadline = self.machine.deadline() or until
            if deadline <= self.now:
                self.do(lambda m, now: m.wake(now))
        self.now = until - 1e-9

    def _next(self) -> float:
        deadline = self.machine.deadline()
        beats = [p.next_beat for p in self.peers]
        timeouts = [at for at, _ in self.dials.values()]
        return min([*beats, *timeouts, *([] if deadline is None else [deadline])], default=float("inf"))

    def freeze(self, seconds: float) -> None:
        """Let time pass in which the process does not run; its kernel keeps what comes."""
        self.now += seconds
        for peer in self.peers:
            while peer.next_beat < self.now:
                peer.next_beat += self.heartbeat

    def wake(self) -> None:
        self.do(lambda m, now: m.wake(now))

    @property
    def clock(self) -> float:
        """Seconds since the start of the rig."""
        return self.now - self.began

    # -- connections

    def accept(
        self, service: Ppid, principal: Principal, addresses: tuple[Address, ...], react: Reaction | None = None
    ) -> Line:
        """Somebody opens an association to the machine."""
        return self._connected(service, principal, addresses, None, react)

    def establish(self, to: Endpoint, principal: Principal, react: Reaction | None = None) -> Line:
        """The machine's attempt to connect succeeds, and meets ``principal``."""
        request = self._dial_to(to)
        connect = self.dials.pop(request)[1]
        return self._connected(connect.service, principal, to.addresses, request, react)

    def fail(self, to: Endpoint, reason: str = "connection refused") -> None:
        request = self._dial_to(to)
        del self.dials[request]
        self.do(lambda m, now: m.connect_failed(request, reason, now))

    def _dial_to(self, to: Endpoint) -> RequestId:
        found = [request for request, (_, connect) in self.dials.items() if connect.endpoint == to]
        assert found, f"nobody dials {to}, only {self.dialled()}"
        return found[0]

    def dialled(self) -> list[str]:
        """Where the machine is trying to connect to."""
        return sorted(str(connect.endpoint) for _, connect in self.dials.values())

    def _connected(
        self,
        service: Ppid,
        principal: Principal,
        addresses: tuple[Address, ...],
        request: RequestId | None,
        react: Reaction | None,
    ) -> Line:
        association = Association(
            id=AssociationId(next(self._ids)),
            service=service,
            outbound=request is not None,
            kind=TransportKind.TCP,
            peer_addresses=addresses,
            peer_port=40000,
            principal=principal,
        )
        line = self.lines[association.id] = Line(self, association, react)
        self.do(lambda m, now: m.connected(association, request, now))
        return line

    # -- players

    def peer(self, server_id: int, number: int | None = None, *, alive: bool = True) -> Peer:
        """A registrar that has not been heard of yet."""
        made = Peer(self, server_id, next(self._numbers) if number is None else number, alive=alive)
        self.peers.append(made)
        return made

    def meet(self, *server_ids: int) -> list[Peer]:
        """Registrars that are connected and alive; what was said at their introduction is forgotten."""
        peers = [self.peer(server_id) for server_id in server_ids]
        for peer in peers:
            peer.dial()
            peer.introduce()
        self.forget()
        return peers

    def forget(self) -> None:
        """Forget what the machine has sent and reported so far."""
        for line in self.lines.values():
            line.sent.clear()
        self.events.clear()
        self.log.clear()

    def attach(self, being: Being, *, policy: Policy | None = None) -> Line:
        """An element registers with the machine; it answers keep-alives."""
        line = self.accept(Ppid.ASAP, being.principal, (being.address,), acknowledging(being))
        line.send(asap.Registration(pool_handle=POOL, element=being.element(policy=policy)))
        assert line.all(asap.RegistrationResponse) == [
            asap.RegistrationResponse(pool_handle=POOL, pe_identifier=being.identifier)
        ]
        return line

    def reached(self, being: Being, *, answers: bool = True) -> Line:
        """The machine's attempt to connect to an element succeeds."""
        return self.establish(being.listening, being.principal, acknowledging(being) if answers else None)

    def user(self) -> Line:
        """A pool user without a certificate connects."""
        address = IPv4Address("10.0.99.1")
        return self.accept(Ppid.ASAP, anonymous(str(address)), (address,))

    # -- what can be seen

    def times(self, kind: type[T]) -> list[tuple[float, T]]:
        """What the machine has sent of a kind, over all associations, in order, with the seconds since the start."""
        return [(round(at, 6), m) for at, m in self.log if isinstance(m, kind)]

    def seen(self, kind: type[T]) -> list[T]:
        """Events of a kind, in order."""
        return [e for _, e in self.events if isinstance(e, kind)]

    def states(self, peer: Peer | int) -> list[str]:
        """How a peer has been regarded, in order."""
        server_id = peer if isinstance(peer, int) else peer.server_id
        return [e.state.value for e in self.seen(PeerChanged) if e.server_id == server_id]

    def changes(self) -> list[tuple[str, int]]:
        """What has happened to which element, in order."""
        return [(e.change.value, e.element.identifier) for e in self.seen(ElementChanged)]

    def ignored(self) -> list[tuple[str, str]]:
        """What has been ignored, and why."""
        return [(e.what, e.reason) for e in self.seen(Ignored)]

    def threats(self) -> list[tuple[str, str]]:
        """What has been refused: threat and message."""
        return [(e.threat, e.what) for e in self.seen(Refused)]

    def homes(self) -> dict[int, int]:
        """The homes of all elements by identifier, as the dump says."""
        pools = self.machine.dump()["handlespace"]["pools"]
        return {int(e["identifier"], 16): int(e["home"], 16) for pool in pools for e in pool["elements"]}

    def space(self) -> dict[str, Any]:
        """The dump of the handlespace."""
        handlespace: dict[str, Any] = self.machine.dump()["handlespace"]
        return handlespace

    def known(self) -> dict[int, str]:
        """The peers it knows, and how it regards them."""
        return {int(p["server_id"], 16): p["state"] for p in self.machine.dump()["peers"]}

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(association, octets):
                    line = self.lines[association]
                    assert line.up, f"sent over an association that has ended: {line.association}"
                    message = decode(octets, line.association.service, self.dialect)
                    line.sent.append((self.now, message))
                    self.log.append((self.now - self.began, message))
                    answer = line.react(message) if line.react is not None else None
                    if answer is not None:
                        self._answers.append((line, answer))
                case Close(association):
                    assert self.lines[association].up, "closed twice"
                    self.lines[association].closed = effect
                case Connect(request, deadline=deadline):
                    self.dials[request] = (self.now + deadline, effect)
                case Abandon(request):
                    del self.dials[request]
                case Emit(event):
                    self.events.append((self.now, event))


def acknowledging(being: Being) -> Reaction:
    """An element that answers every keep-alive."""

    def react(message: Message) -> Message | None:
        if isinstance(message, asap.EndpointKeepAlive):
            return asap.EndpointKeepAliveAck(pool_handle=message.pool_handle, pe_identifier=being.identifier)
        return None

    return react


def alone(
    *,
    server_id: int = US,
    timers: RegistrarTimers = FAST.registrar,
    limits: Limits | None = None,
    lowest: bool = False,
) -> Rig:
    """A registrar that serves, alone so far."""
    rig = Rig(server_id=server_id, timers=timers, limits=limits, lowest=lowest).start()
    rig.forget()
    return rig
