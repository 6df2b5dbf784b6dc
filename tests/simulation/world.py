# SPDX-License-Identifier: Apache-2.0
"""The world: registrars, elements and users on hosts of their own, and everything that can happen to them.

Everything comes from one seed. Machines are told a monotonic clock and no other, each from an origin of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from random import Random

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Abandon, Close, Connect, Effect, Emit, Endpoint, Machine, Send, TransportKind
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.profiles import FAST, Profile
from rserpool.asap.server.desk import Limits, RegistrarConfig
from rserpool.asap.user import User, UserConfig
from rserpool.enrp import Registrar
from rserpool.identity import SecureScope, principal_of
from rserpool.identity.decisions import anonymous
from rserpool.wire import Policy, Ppid, TcpTransport, policies
from simulation.clock import Clock
from simulation.faults import Faults
from simulation.network import Network
from simulation.nodes import Call, Node, registrar
from simulation.observations import Observations
from simulation.paths import Paths
from simulation.watching import Watcher
from support.scope import APP_PORT, ASAP_PORT, ENRP_PORT, POOL, identity

DIRECTORY_DELAY = 1.0
"""Seconds until everybody has heard of a registrar's new address."""


class World(Faults, Observations):
    """The simulator.

    Args:
        seed: of all randomness.
        latency: one way, in seconds; each packet takes between half and one and a half of it.
        profile: everybody's timers.

    Attributes:
        nodes: who has a name now; of those of one name the latest.
        watchers: told of what happens.
    """

    def __init__(self, seed: int = 1, latency: float = 0.001, profile: Profile = FAST) -> None:
        self.rng = Random(seed)
        self.clock = Clock()
        self.profile = profile
        self.paths = Paths(self.clock, seed, latency)
        self.network = Network(self.clock, self.paths, 3 * profile.registrar.keep_alive_timeout)
        self.network.on_input = self.give
        self.nodes: dict[str, Node] = {}
        self.watchers: list[Watcher] = []
        self._numbers = count(1)
        self._limits = Limits()

    @property
    def now(self) -> float:
        """The world's time, in seconds."""
        return self.clock.now

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_until(None, seconds)

    def run_until(self, condition: Callable[[], bool], within: float) -> float | None:
        """Let time pass until something holds; returns how long that took, ``None`` if it never did."""
        return self.clock.run_until(condition, within)

    # -- building

    def _add(self, node: Node) -> Node:
        node.changed_at = node.began_at = self.now
        node.offset = self.rng.uniform(0, 1e6)
        self.nodes[node.name] = node
        self.network.hosts[node.address] = node
        return node

    def _address(self, number: int) -> IPv4Address:
        return IPv4Address(f"10.0.{number >> 8}.{number & 255}")

    def _endpoint(self, node: Node, port: int) -> Endpoint:
        return Endpoint(TransportKind.TCP, (node.address,), port)

    def _random(self) -> Random:
        return Random(self.rng.getrandbits(64))

    def registrars(
        self, n: int, *, start: bool = True, ids: tuple[int, ...] = (), limits: Limits | None = None
    ) -> list[Node]:
        """Registrars that know of each other, named r1, r2, ..."""
        self._limits = limits or self._limits
        numbers = [next(self._numbers) for _ in range(n)]
        endpoints = tuple(Endpoint(TransportKind.TCP, (self._address(k),), ENRP_PORT) for k in numbers)
        made = []
        for index, number in enumerate(numbers):
            node = self.add_registrar(f"r{index + 1}", number, endpoints, ids[index] if ids else 0)
            made.append(node)
            if start:
                self.start(node)
        return made

    def add_registrar(self, name: str, number: int, peers: tuple[Endpoint, ...], server_id: int = 0) -> Node:
        """A registrar in pod ``number``, with a server ID of its own."""
        address = self._address(number)
        own = Endpoint(TransportKind.TCP, (address,), ENRP_PORT)
        config = RegistrarConfig(
            server_id=server_id or self.rng.getrandbits(32) or 1,
            enrp=(own,),
            peers=peers,
            timers=self.profile.registrar,
            limits=self._limits,
        )
        machine = Registrar(config, self.scope(), self._random())
        principal = principal_of(identity(Role.REGISTRAR, number))
        node = self._add(Node(name, number, address, machine, principal, {own: Ppid.ENRP}))
        node.start = machine.start
        return node

    def element(
        self,
        name: str,
        *,
        policy: Policy | None = None,
        serve: bool = True,
        at: list[Node] | None = None,
        pool: bytes = POOL,
        number: int | None = None,
    ) -> Node:
        """A pool element; its application is at port 7007. The same number is the same pod."""
        number = next(self._numbers) if number is None else number
        address = self._address(number)
        principal = principal_of(identity(Role.ELEMENT, number))
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
        machine = Element(config, self.scope(), self._random())
        node = self._add(Node(name, number, address, machine, principal, {listening: Ppid.ASAP}))
        node.policy = config.policy
        node.start = machine.serve
        if serve:
            self.start(node)
        return node

    def user(self, name: str, *, at: list[Node] | None = None, role: Role = Role.ANONYMOUS) -> Node:
        """A pool user, without a certificate unless it is one of role *user*."""
        number = next(self._numbers)
        address = self._address(number)
        config = UserConfig(registrars=self.asap_endpoints(at), timers=self.profile.endpoint)
        machine = User(config, self.scope("2.7"), self._random())
        principal = anonymous(str(address)) if role is Role.ANONYMOUS else principal_of(identity(role, number))
        return self._add(Node(name, number, address, machine, principal))

    def other(self, name: str, machine: Machine, role: Role, ca: str = "echo") -> Node:
        """Somebody who is none of these, with a certificate of that role."""
        number = next(self._numbers)
        address = self._address(number)
        principal = anonymous(str(address)) if role is Role.ANONYMOUS else principal_of(identity(role, number))
        return self._add(Node(name, number, address, machine, principal, ca=ca))

    def scope(self, registrar_threat: str = "2.6") -> Authoriser:
        return SecureScope(pool_handle=POOL, registrar_threat=registrar_threat)

    def all_registrars(self) -> list[Node]:
        """The registrars that have a name now, whether they run or not."""
        return [n for n in self.nodes.values() if isinstance(n.machine, Registrar)]

    def all_elements(self) -> list[Node]:
        """The elements that have a name now, whether they run or not."""
        return [n for n in self.nodes.values() if isinstance(n.machine, Element)]

    def enrp_endpoints(self) -> tuple[Endpoint, ...]:
        """Where the registrars listen for each other."""
        return tuple(self._endpoint(n, ENRP_PORT) for n in self.all_registrars())

    def asap_endpoints(self, nodes: list[Node] | None = None) -> tuple[Endpoint, ...]:
        """Where the registrars listen for elements and users."""
        return tuple(self._endpoint(n, ASAP_PORT) for n in nodes or self.all_registrars())

    def start(self, node: Node) -> None:
        """Start a node that was made without."""
        assert node.start is not None
        node.wants = isinstance(node.machine, Element)
        node.changed_at = node.began_at = self.now
        self.do(node, node.start)

    # -- who starts again

    def restart_registrar(self, node: Node, server_id: int = 0) -> Node:
        """Start a registrar's successor in its pod, with a new server ID."""
        if node.running:
            self.kill(node)
        config = registrar(node).desk.config  # type: ignore[attr-defined] # of a registrar it is one
        fresh = self.add_registrar(node.name, node.number, config.peers, server_id)
        fresh.events = node.events
        self.start(fresh)
        return fresh

    def replace_registrar(self, node: Node) -> Node:
        """Start a registrar's successor in a new pod, at another address that DNS tells everybody a little later."""
        if node.running:
            self.kill(node)
        node.present = False
        number = next(self._numbers)
        peers = tuple(self._endpoint(n, ENRP_PORT) for n in self.all_registrars() if n is not node)
        own = Endpoint(TransportKind.TCP, (self._address(number),), ENRP_PORT)
        fresh = self.add_registrar(node.name, number, (*peers, own))
        fresh.events = node.events
        self.clock.after(DIRECTORY_DELAY, self._tell_directory)
        self.start(fresh)
        return fresh

    def _tell_directory(self) -> None:
        enrp, asap = self.enrp_endpoints(), self.asap_endpoints()
        for node in list(self.nodes.values()):
            match node.machine:
                case Registrar() as machine:
                    self.do(node, partial(machine.look_for, enrp))
                case Element() | User() as machine:
                    self.do(node, partial(machine.set_registrars, asap))

    def restart_element(self, node: Node) -> Node:
        """Start an element anew in its pod: the same identity, the same PE identifiers, the same address."""
        if node.running:
            self.kill(node)
        fresh = self.element(node.name, number=node.number, policy=node.policy, serve=False)
        fresh.events = node.events
        self.start(fresh)
        return fresh

    # -- machines

    def do(self, node: Node, call: Call) -> None:
        """Ask something of a node's machine, as its daemon would."""
        self.give(node, call, None)

    def give(self, node: Node, call: Call, source: Node | None) -> None:
        """Give a machine an input, and carry out what it answers; later, if its process does not run."""
        node.defer(lambda: self._give(node, call, source))

    def _give(self, node: Node, call: Call, source: Node | None) -> None:
        for watcher in self.watchers:
            watcher.before(node, source)
        effects = call(self.now + node.offset)
        for watcher in self.watchers:
            watcher.after(node, source, effects)
        self._apply(node, effects)
        self._arm(node)

    def _arm(self, node: Node) -> None:
        machine = node.machine
        if isinstance(machine, Registrar) and machine.serving:
            node.listening[self._endpoint(node, ASAP_PORT)] = Ppid.ASAP
        deadline = machine.deadline()
        if deadline is not None and (node.wake_at is None or deadline < node.wake_at):
            node.wake_at = deadline
            # rounding: never before the deadline on the node's own clock
            self.clock.at(deadline - node.offset + 1e-6, lambda: self._wake(node, deadline))

    def _wake(self, node: Node, deadline: float) -> None:
        if node.wake_at == deadline:
            node.wake_at = None
        if not node.running or node.held or self.nodes.get(node.name) is not node:
            return
        due = node.machine.deadline()
        if due is not None and due <= self.now + node.offset:
            self._give(node, node.machine.wake, None)
        else:
            self._arm(node)

    def _apply(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(event):
                    node.events.append((self.now, event))
                case Connect():
                    self.network.dial(node, effect)
                case Abandon(request):
                    node.requests.discard(request)
                case Send(association, octets):
                    self.network.send(node, association, octets)
                case Close(association, _, abort):
                    self.network.close(node, association, abort=abort)
