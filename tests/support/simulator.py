# SPDX-License-Identifier: Apache-2.0
"""A world in one process: the very machines of the daemons, a virtual clock, a network that delays, cuts and loses.

Everything comes from one seed. Associations behave like TCP with TLS: ordered, refused by a host where nobody
listens, silent towards one that vanished, accepted by the kernel of a frozen process and answered by nobody, ended by
the sender when its data stays unacknowledged.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Any, TypeVar

from rserpool.asap.authorisation import Authoriser, Principal, Role
from rserpool.asap.effects import (
    Abandon,
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Emit,
    Endpoint,
    Machine,
    RequestId,
    Send,
    TransportKind,
)
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.events import ElementState, Event
from rserpool.asap.profiles import FAST, Profile
from rserpool.asap.server.desk import Limits, RegistrarConfig
from rserpool.asap.user import User, UserConfig
from rserpool.enrp import Registrar
from rserpool.identity import LeafIdentity, SecureScope, principal_of
from rserpool.identity.decisions import anonymous
from rserpool.wire import Policy, Ppid, TcpTransport, policies

ASAP_PORT, ENRP_PORT, APP_PORT = 3864, 9902, 7007
POOL = b"echo"
E = TypeVar("E")


def identity(role: Role, number: int, pool: str = "echo") -> LeafIdentity:
    uid = f"{number:08x}-0000-4000-8000-{number:012x}"
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool=pool, role=role, pod_uid=uid)


@dataclass
class Node:
    """A host with one process."""

    name: str
    address: IPv4Address
    machine: Machine
    principal: Principal
    listening: dict[Endpoint, Ppid] = field(default_factory=dict)
    ca: str = "echo"
    running: bool = True
    present: bool = True
    frozen: bool = False
    inbox: list[Callable[[float], list[Effect]]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    requests: set[RequestId] = field(default_factory=set)
    wake_at: float | None = None
    start: Callable[[float], list[Effect]] | None = None

    def seen(self, kind: type[E]) -> list[E]:
        """Events of a kind, in order."""
        return [e for _, e in self.events if isinstance(e, kind)]


@dataclass
class _Side:
    """One end of an association."""

    node: Node
    id: AssociationId
    up: bool = True


@dataclass
class _Pair:
    """An association, seen from both ends. Each direction is a queue of what is not delivered yet."""

    sides: tuple[_Side, _Side]
    queues: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))

    def other(self, side: _Side) -> _Side:
        return self.sides[1] if side is self.sides[0] else self.sides[0]


class World:
    """The simulator.

    Args:
        seed: of all randomness.
        latency: one way, in seconds; each message takes between half and one and a half of it.
    """

    def __init__(self, seed: int = 1, latency: float = 0.001, profile: Profile = FAST) -> None:
        self.rng = Random(seed)
        self.now = 1000.0
        self.latency = latency
        self.profile = profile
        self.user_timeout = 3 * profile.registrar.keep_alive_timeout
        self.nodes: dict[str, Node] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._ids = count(1)
        self._sides: dict[AssociationId, tuple[_Pair, _Side]] = {}
        self._cut: set[frozenset[str]] = set()
        self._numbers = count(1)

    # -- building

    def _host(self, name: str, number: int) -> IPv4Address:
        del name
        return IPv4Address(f"10.0.{number >> 8}.{number & 255}")

    def registrars(
        self, n: int, *, start: bool = True, ids: tuple[int, ...] = (), limits: Limits | None = None
    ) -> list[Node]:
        """Registrars that know of each other, named r1, r2, ..."""
        numbers = [next(self._numbers) for _ in range(n)]
        endpoints = [Endpoint(TransportKind.TCP, (self._host("", k),), ENRP_PORT) for k in numbers]
        made = []
        for index, number in enumerate(numbers):
            name = f"r{index + 1}"
            server_id = ids[index] if ids else self.rng.getrandbits(32) or 1
            node = self._registrar(name, number, server_id, tuple(endpoints), limits or Limits())
            made.append(node)
            if start:
                self._start(node)
        return made

    def _registrar(self, name: str, number: int, server_id: int, peers: tuple[Endpoint, ...], limits: Limits) -> Node:
        address = self._host(name, number)
        own = Endpoint(TransportKind.TCP, (address,), ENRP_PORT)
        config = RegistrarConfig(
            server_id=server_id, enrp=(own,), peers=peers, timers=self.profile.registrar, limits=limits
        )
        machine = Registrar(config, self.scope(), Random(self.rng.getrandbits(64)))
        node = Node(name, address, machine, principal_of(identity(Role.REGISTRAR, number)), {own: Ppid.ENRP})
        node.start = machine.start
        self.nodes[name] = node
        return node

    def element(
        self,
        name: str,
        *,
        policy: Policy | None = None,
        serve: bool = True,
        at: list[Node] | None = None,
        pool: bytes = POOL,
    ) -> Node:
        """A pool element; its application is at port 7007."""
        number = next(self._numbers)
        address = self._host(name, number)
        leaf = identity(Role.ELEMENT, number)
        principal = principal_of(leaf)
        listening = Endpoint(TransportKind.TCP, (address,), ASAP_PORT)
        config = ElementConfig(
            pool_handle=pool,
            identifiers=tuple(sorted(principal.pe_identifiers)),
            transport=TcpTransport(port=APP_PORT, address=address),
            policy=policy or policies.RoundRobin(),
            listening=listening,
            registrars=self.asap_endpoints(at),
            timers=self.profile.endpoint,
        )
        machine = Element(config, self.scope(), Random(self.rng.getrandbits(64)))
        node = Node(name, address, machine, principal, {listening: Ppid.ASAP})
        node.start = machine.serve
        self.nodes[name] = node
        if serve:
            self._start(node)
        return node

    def user(self, name: str, *, at: list[Node] | None = None) -> Node:
        """A pool user without a certificate."""
        address = self._host(name, next(self._numbers))
        config = UserConfig(registrars=self.asap_endpoints(at), timers=self.profile.endpoint)
        machine = User(config, self.scope("2.7"), Random(self.rng.getrandbits(64)))
        node = Node(name, address, machine, anonymous(str(address)))
        self.nodes[name] = node
        return node

    def scope(self, registrar_threat: str = "2.6") -> Authoriser:
        return SecureScope(pool_handle=POOL, registrar_threat=registrar_threat)

    def asap_endpoints(self, nodes: list[Node] | None = None) -> tuple[Endpoint, ...]:
        """Where the registrars listen for elements and users."""
        registrars = nodes or [n for n in self.nodes.values() if isinstance(n.machine, Registrar)]
        return tuple(Endpoint(TransportKind.TCP, (n.address,), ASAP_PORT) for n in registrars)

    def _start(self, node: Node) -> None:
        assert node.start is not None
        self._input(node, node.start)

    def start(self, node: Node) -> None:
        """Start a node that was made without."""
        self._start(node)

    # -- what happens to nodes

    def kill(self, node: Node) -> None:
        """End the process: its kernel closes all associations."""
        node.running = False
        for pair, side in self._of(node):
            side.up = False
            self._tell_closed(pair, side, "closed by the peer")

    def vanish(self, node: Node) -> None:
        """Take the host away: nobody hears of it."""
        node.running = node.present = False
        for _, side in self._of(node):
            side.up = False

    def freeze(self, node: Node) -> None:
        """Stop the process; its kernel goes on acknowledging."""
        node.frozen = True

    def thaw(self, node: Node) -> None:
        """Let it run on: everything that came meanwhile is handled first, then the timers."""
        node.frozen = False
        inbox, node.inbox = node.inbox, []
        for call in inbox:
            self._input(node, call)
        self._arm(node)

    def restart_registrar(self, node: Node, server_id: int | None = None) -> Node:
        """Start a registrar's successor in its place, with a new server ID."""
        if node.running:
            self.kill(node)
        assert isinstance(node.machine, Registrar)
        config = node.machine.desk.config  # type: ignore[attr-defined]
        number = int(node.address) & 0xFFFF
        fresh = self._registrar(
            node.name, number, server_id or self.rng.getrandbits(32) or 1, config.peers, config.limits
        )
        fresh.events = node.events
        self._start(fresh)
        return fresh

    def cut(self, a: Node, b: Node) -> None:
        """Drop all packets between two hosts."""
        self._cut.add(frozenset((a.name, b.name)))

    def heal(self, a: Node, b: Node) -> None:
        """Let packets flow again."""
        self._cut.discard(frozenset((a.name, b.name)))
        for pair, side in list(self._sides.values()):
            if side is pair.sides[0] and {s.node.name for s in pair.sides} == {a.name, b.name}:
                for direction in (0, 1):
                    self._flush(pair, direction)

    def partition(self, left: list[Node], right: list[Node]) -> None:
        """Cut every path between two groups."""
        for a in left:
            for b in right:
                self.cut(a, b)

    def heal_all(self) -> None:
        """Let all packets flow again."""
        for names in list(self._cut):
            a, b = (self.nodes[n] for n in names)
            self.heal(a, b)

    def _of(self, node: Node) -> list[tuple[_Pair, _Side]]:
        return [(pair, side) for pair, side in self._sides.values() if side.node is node and side.up]

    def _is_cut(self, a: Node, b: Node) -> bool:
        return frozenset((a.name, b.name)) in self._cut or not (a.present and b.present)

    # -- time

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._queue, (when, next(self._serial), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], within: float) -> float | None:
        """Let time pass until something holds; returns how long that took, ``None`` if it never did."""
        began = self.now
        until = began + within
        if condition():
            return 0.0
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            if condition():
                return self.now - began
        self.now = until
        return None

    def _delay(self) -> float:
        return self.latency * self.rng.uniform(0.5, 1.5)

    # -- machines

    def do(self, node: Node, call: Callable[[float], list[Effect]]) -> None:
        """Ask something of a node's machine, as its daemon would."""
        self._input(node, call)

    def _input(self, node: Node, call: Callable[[float], list[Effect]]) -> None:
        if not node.running:
            return
        if node.frozen:
            node.inbox.append(call)
            return
        self._apply(node, call(self.now))
        self._arm(node)

    def _arm(self, node: Node) -> None:
        machine = node.machine
        if isinstance(machine, Registrar) and machine.serving:
            node.listening[Endpoint(TransportKind.TCP, (node.address,), ASAP_PORT)] = Ppid.ASAP
        deadline = machine.deadline()
        if deadline is not None and (node.wake_at is None or deadline < node.wake_at):
            node.wake_at = deadline
            self.at(max(deadline, self.now), lambda: self._wake(node, deadline))

    def _wake(self, node: Node, deadline: float) -> None:
        if node.wake_at == deadline:
            node.wake_at = None
        if not node.running or node.frozen or self.nodes.get(node.name) is not node:
            return
        due = node.machine.deadline()
        if due is not None and due <= self.now:
            self._apply(node, node.machine.wake(self.now))
        self._arm(node)

    def _apply(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(event):
                    node.events.append((self.now, event))
                case Connect():
                    self._connect(node, effect)
                case Abandon(request):
                    node.requests.discard(request)
                case Send(association, octets):
                    self._send(association, octets)
                case Close(association, reason, _):
                    self._close(association, reason)

    # -- network

    def _connect(self, node: Node, effect: Connect) -> None:
        node.requests.add(effect.request)
        deadline = self.now + effect.deadline

        def fail(reason: str) -> None:
            if effect.request in node.requests:
                node.requests.discard(effect.request)
                self._input(node, lambda now: node.machine.connect_failed(effect.request, reason, now))

        def attempt() -> None:
            if effect.request not in node.requests or self.now >= deadline:
                return
            target = next((n for n in self.nodes.values() if n.address in effect.endpoint.addresses), None)
            if target is None or self._is_cut(node, target) or target.frozen:
                self.at(self.now + 0.2, attempt)  # retransmission, or a kernel that accepts for nobody
                return
            service = target.listening.get(effect.endpoint)
            if not target.running or service is not effect.service:
                self.at(self.now + self._delay(), lambda: fail("connection refused"))
            elif target.ca != node.ca:
                self.at(self.now + self._delay(), lambda: fail("certificate verify failed"))
            else:
                node.requests.discard(effect.request)
                self._establish(node, target, effect)

        self.at(self.now + self._delay() + self._delay(), attempt)
        self.at(deadline, lambda: fail("timed out"))

    def _establish(self, client: Node, server: Node, effect: Connect) -> None:
        ids = AssociationId(next(self._ids)), AssociationId(next(self._ids))
        pair = _Pair((_Side(client, ids[0]), _Side(server, ids[1])))
        for side in pair.sides:
            self._sides[side.id] = (pair, side)

        def association(index: int) -> Association:
            far = pair.sides[1 - index].node
            return Association(
                id=ids[index],
                service=effect.service,
                outbound=index == 0,
                kind=TransportKind.TCP,
                peer_addresses=(far.address,),
                peer_port=effect.endpoint.port if index == 0 else 40000 + ids[0] % 20000,
                principal=far.principal,
            )

        self._input(server, lambda now: server.machine.connected(association(1), None, now))
        self._input(client, lambda now: client.machine.connected(association(0), effect.request, now))

    def _send(self, association: AssociationId, octets: bytes) -> None:
        known = self._sides.get(association)
        if known is None or not known[1].up:
            return
        pair, side = known
        direction = pair.sides.index(side)
        pair.queues[direction].append(octets)
        self.at(self.now + self._delay(), lambda: self._flush(pair, direction))
        if self._is_cut(side.node, pair.other(side).node):
            self.at(self.now + self.user_timeout, lambda: self._check_acknowledged(pair, direction, octets))

    def _flush(self, pair: _Pair, direction: int) -> None:
        side, far = pair.sides[direction], pair.sides[1 - direction]
        if self._is_cut(side.node, far.node):
            return
        queue = pair.queues[direction]
        while queue:
            octets = queue.pop(0)
            if far.up:
                self._deliver(far, octets)
            elif side.up:  # the far end is gone: a reset comes back
                side.up = False
                self._lost(side, "connection reset")

    def _deliver(self, side: _Side, octets: bytes) -> None:
        self._input(side.node, lambda now: side.node.machine.received(side.id, octets, now))

    def _check_acknowledged(self, pair: _Pair, direction: int, octets: bytes) -> None:
        side = pair.sides[direction]
        if side.up and any(o is octets for o in pair.queues[direction]):
            side.up = False
            pair.queues[direction].clear()
            self._lost(side, "data stayed unacknowledged")

    def _lost(self, side: _Side, reason: str) -> None:
        self._input(side.node, lambda now: side.node.machine.lost(side.id, reason, now))

    def _close(self, association: AssociationId, reason: str) -> None:
        known = self._sides.get(association)
        if known is None or not known[1].up:
            return
        pair, side = known
        side.up = False
        self._tell_closed(pair, side, f"closed by the peer ({reason})")

    def _tell_closed(self, pair: _Pair, side: _Side, reason: str) -> None:
        far = pair.other(side)
        direction = pair.sides.index(side)

        def arrive() -> None:
            if self._is_cut(side.node, far.node):
                return  # a half-open association: the far end finds out when it sends
            self._flush(pair, direction)
            if far.up:
                far.up = False
                self._lost(far, reason)

        self.at(self.now + 1.5 * self.latency, arrive)

    # -- what is looked at

    def live_registrars(self) -> list[Node]:
        return [n for n in self.nodes.values() if isinstance(n.machine, Registrar) and n.running and n.present]

    def handlespaces(self) -> list[dict[str, Any]]:
        """The canonical dumps of all registrars that run and serve."""
        return [dump_of(n)["handlespace"] for n in self.live_registrars() if registrar(n).serving and not n.frozen]

    def agree(self) -> bool:
        """Whether all registrars hold the same."""
        spaces = self.handlespaces()
        return bool(spaces) and all(space == spaces[0] for space in spaces)

    def members(self, node: Node) -> dict[str, str]:
        """An element's address -> its home, in a registrar's handlespace."""
        return {
            e["transport"].split(":")[1]: e["home"]
            for pool in dump_of(node)["handlespace"]["pools"]
            for e in pool["elements"]
        }

    def everywhere(self, *elements: Node) -> bool:
        """Whether exactly these elements are registered at every registrar, and all hold the same."""
        wanted = {str(e.address) for e in elements}
        registrars = [n for n in self.live_registrars() if not n.frozen]
        return bool(registrars) and self.agree() and all(set(self.members(n)) == wanted for n in registrars)

    def all_homes_live(self) -> bool:
        """Whether every element's home is a registrar that runs, and each element knows it."""
        ids = {f"{registrar(n).server_id:#010x}" for n in self.live_registrars()}
        return all(home in ids for n in self.live_registrars() for home in self.members(n).values())


def registrar(node: Node) -> Registrar:
    assert isinstance(node.machine, Registrar)
    return node.machine


def element_of(node: Node) -> Element:
    assert isinstance(node.machine, Element)
    return node.machine


def user_of(node: Node) -> User:
    assert isinstance(node.machine, User)
    return node.machine


def dump_of(node: Node) -> dict[str, Any]:
    return registrar(node).dump()


def states(nodes: list[Node]) -> Iterator[ElementState]:
    return (element_of(n).state for n in nodes)
