# SPDX-License-Identifier: Apache-2.0
"""Associations as TCP with TLS makes them: ordered, acknowledged by kernels, refused, reset, half-open.

A kernel acknowledges for a frozen process until its window is full. Data that stays unacknowledged is sent again, at
0.2 s, 0.4 s and so on, and ends the association after the user timeout; nobody tells the far end of that. A host that
was away meanwhile, or started anew, answers what comes in on an association it does not know by a reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from rserpool.asap.effects import Association, AssociationId, Connect, TransportKind
from simulation.clock import Clock
from simulation.nodes import Node
from simulation.paths import Paths

FIRST_RETRANSMISSION = 0.2
SYN_RETRANSMISSION = 1.0
HEADERS = 60
"""Octets of a packet besides its payload, TLS record included."""


class Kind(Enum):
    """What a segment carries."""

    OPEN = "the last message of the handshake"
    DATA = "a message"
    FIN = "the end"


@dataclass(slots=True)
class Segment:
    number: int
    kind: Kind
    octets: bytes
    sent_at: float


@dataclass(eq=False, slots=True)
class End:
    """One end of an association.

    Attributes:
        up: the process has it.
        opening: the handshake has not been finished here yet.
        unread: octets its kernel holds for the process.
        unacked: what it has sent, and its kernel keeps until it is acknowledged.
        expected: the number of the segment that comes next from the far end.
    """

    node: Node
    id: AssociationId
    association: Association
    up: bool = False
    opening: bool = False
    far: End = field(init=False)
    unread: int = 0
    unacked: deque[Segment] = field(default_factory=deque)
    unacked_octets: int = 0
    sent: int = 0
    expected: int = 0
    last_arrival: float = 0.0
    timeout: float = FIRST_RETRANSMISSION
    retry: int = 0
    retrying: bool = False


class Network:
    """Carries associations.

    Args:
        clock: the world's.
        paths: between hosts.
        user_timeout: seconds for which data may stay unacknowledged.

    Attributes:
        hosts: who is at which address.
        window: octets a kernel keeps for a process that does not read.
        write_limit: octets a process keeps for a peer that does not read; more ends the association.
        on_input: gives a machine an input: the node, what to call, and the node it comes from.
    """

    def __init__(self, clock: Clock, paths: Paths, user_timeout: float) -> None:
        self.clock = clock
        self.paths = paths
        self.user_timeout = user_timeout
        self.window = 64 * 1024
        self.write_limit = 1024 * 1024
        self.hosts: dict[object, Node] = {}
        self.on_input: Callable[..., None] = lambda *_: None

    # -- dialling

    def dial(self, node: Node, effect: Connect) -> None:
        """Open an association: a round trip of TCP, one of TLS, and the client's last message."""
        node.requests.add(effect.request)
        _Dial(self, node, effect).begin()

    def establish(self, client: Node, server: Node, effect: Connect) -> None:
        """The client's side of the handshake is done."""
        ends = []
        for node, far, outbound in ((client, server, True), (server, client, False)):
            association = Association(
                id=AssociationId(next(node.ids)),
                service=effect.service,
                outbound=outbound,
                kind=TransportKind.TCP,
                peer_addresses=(far.address,),
                peer_port=effect.endpoint.port if outbound else 40000 + client.number,
                principal=far.principal,
            )
            ends.append(End(node, association.id, association, up=outbound, opening=not outbound))
        near, far_end = ends
        near.far, far_end.far = far_end, near
        client.ends[near.id], server.ends[far_end.id] = near, far_end
        self._push(near, Kind.OPEN)
        self.on_input(client, lambda now: client.machine.connected(near.association, effect.request, now), server)

    # -- what processes do

    def send(self, node: Node, association: AssociationId, octets: bytes) -> None:
        """Send a message."""
        end = node.ends.get(association)
        if end is None or not end.up:
            return
        if end.unacked_octets > self.write_limit:
            end.unacked.clear()
            self._reset(node, end.far)
            self._lose(end, "it does not read what it is sent")
            return
        self._push(end, Kind.DATA, octets)

    def close(self, node: Node, association: AssociationId, *, abort: bool) -> None:
        """End an association."""
        end = node.ends.get(association)
        if end is None or not (end.up or end.opening):
            return
        if abort:
            self._abort(end)
        else:
            self._gone(end)
            self._push(end, Kind.FIN)

    def close_all(self, node: Node) -> None:
        """The process has ended: its kernel ends its associations."""
        for end in list(node.ends.values()):
            self._gone(end)
            self._push(end, Kind.FIN)

    def forget(self, node: Node) -> None:
        """The host is away: nobody hears of it."""
        for end in list(node.ends.values()):
            self._gone(end)
            end.unacked.clear()

    def reset(self, a: Node, b: Node) -> None:
        """Something between two hosts ends all their associations, for both at once."""
        for end in [e for e in a.ends.values() if e.far.node is b]:
            for side in (end, end.far):
                side.unacked.clear()
                side.node.defer(partial(self._lose, side, "connection reset"))

    def _abort(self, end: End) -> None:
        self._gone(end)
        end.unacked.clear()
        self._reset(end.node, end.far)

    @staticmethod
    def _gone(end: End) -> None:
        """The process has it no more; its kernel may still be sending."""
        end.up = end.opening = False
        end.node.ends.pop(end.id, None)

    def _lose(self, end: End, reason: str) -> None:
        """Tell the process that it is over."""
        was_up = end.up
        self._gone(end)
        if was_up:
            machine = end.node.machine
            self.on_input(end.node, lambda now: machine.lost(end.id, reason, now), None)

    def _reset(self, sender: Node, end: End) -> None:
        """One packet; if it is lost, nobody sends it again."""
        arrives = self.paths.transit(sender.name, end.node.name, HEADERS) if sender.kernel_runs else None

        def arrive() -> None:
            if end.node.kernel_runs and self.paths.path(sender.name, end.node.name).is_open:
                end.unacked.clear()
                end.node.defer(partial(self._lose, end, "connection reset by the peer"))

        if arrives is not None:
            self.clock.at(max(arrives, end.far.last_arrival), arrive)

    # -- segments

    def _push(self, end: End, kind: Kind, octets: bytes = b"") -> None:
        segment = Segment(end.sent, kind, octets, self.clock.now)
        end.sent += 1
        end.unacked.append(segment)
        end.unacked_octets += len(octets)
        if not end.retrying:
            self._transmit(end, segment)

    def _transmit(self, end: End, segment: Segment) -> None:
        source, target = end.node, end.far.node
        arrives = None
        if source.kernel_runs:
            arrives = self.paths.transit(source.name, target.name, len(segment.octets) + HEADERS)
        if arrives is None:
            self._try_again(end)
            return
        end.last_arrival = arrives = max(arrives, end.last_arrival)
        self.clock.at(arrives, partial(self._arrive, end, segment))

    def _arrive(self, end: End, segment: Segment) -> None:
        source, far = end.node, end.far
        target = self.hosts.get(far.node.address, far.node)
        if not self.paths.path(source.name, target.name).is_open or not target.kernel_runs:
            self._try_again(end)
            return
        if segment.number < far.expected:  # it has been here, its acknowledgement was lost
            self._acknowledge(end, far, segment)
            return
        if segment.number > far.expected:  # one before it was lost; all are sent again
            self._try_again(end)
            return
        if target is not far.node or not target.running or not (far.up or far.opening):
            self._acknowledge(end, far, segment)
            if segment.kind is not Kind.FIN:
                self._reset(target, end)
            return
        if target.held and far.unread + len(segment.octets) > self.window:
            self._try_again(end)
            return
        far.expected += 1
        self._acknowledge(end, far, segment)
        far.unread += len(segment.octets)
        target.defer(partial(self._read, far, segment))

    def _acknowledge(self, end: End, far: End, segment: Segment) -> None:
        if not self.paths.path(far.node.name, end.node.name).is_open or not end.node.kernel_runs:
            self._try_again(end)
            return
        while end.unacked and end.unacked[0].number <= segment.number:
            end.unacked_octets -= len(end.unacked.popleft().octets)
        end.timeout = FIRST_RETRANSMISSION
        end.retry += 1
        if end.retrying:
            end.retrying = False
            for waiting in list(end.unacked):
                self._transmit(end, waiting)

    def _try_again(self, end: End) -> None:
        if end.retrying or not end.unacked:
            return
        end.retrying = True
        end.retry += 1
        at = min(self.clock.now + end.timeout, end.unacked[0].sent_at + self.user_timeout)
        self.clock.at(at, partial(self._retransmit, end, end.retry))

    def _retransmit(self, end: End, retry: int) -> None:
        if end.retry != retry or not end.unacked:
            return
        if not end.node.present or self.hosts.get(end.node.address) is not end.node:
            return
        if self.clock.now >= end.unacked[0].sent_at + self.user_timeout:
            end.unacked.clear()
            end.node.defer(partial(self._lose, end, "data stayed unacknowledged"))
            return
        end.timeout *= 2
        end.retrying = False
        self._transmit(end, end.unacked[0])
        if end.unacked and not end.retrying:
            end.retrying = True  # what comes after it waits for its acknowledgement, or for the next attempt
            end.retry += 1
            at = min(self.clock.now + end.timeout, end.unacked[0].sent_at + self.user_timeout)
            self.clock.at(at, partial(self._retransmit, end, end.retry))

    def _read(self, end: End, segment: Segment) -> None:
        end.unread -= len(segment.octets)
        node, source = end.node, end.far.node
        match segment.kind:
            case Kind.OPEN if end.opening:
                end.up, end.opening = True, False
                self.on_input(node, lambda now: node.machine.connected(end.association, None, now), source)
            case Kind.DATA if end.up:
                self.on_input(node, lambda now: node.machine.received(end.id, segment.octets, now), source)
            case Kind.FIN if end.up:
                self._lose(end, "closed by the peer")
                self._push(end, Kind.FIN)
            case _:
                pass


class _Dial:
    """One wish to connect on its way."""

    def __init__(self, network: Network, node: Node, effect: Connect) -> None:
        self.network = network
        self.clock = network.clock
        self.node = node
        self.effect = effect
        self.deadline = self.clock.now + effect.deadline
        self.pause = FIRST_RETRANSMISSION

    def begin(self) -> None:
        self.clock.at(self.deadline, lambda: self.node.defer(partial(self._fail, "timed out")))
        self._syn(SYN_RETRANSMISSION)

    @property
    def _over(self) -> bool:
        return self.effect.request not in self.node.requests or not self.node.running

    def _target(self) -> Node | None:
        hosts = self.network.hosts
        return next((hosts[a] for a in self.effect.endpoint.addresses if a in hosts), None)

    def _fail(self, reason: str) -> None:
        if not self._over:
            node, request = self.node, self.effect.request
            node.requests.discard(request)
            self.network.on_input(node, lambda now: node.machine.connect_failed(request, reason, now), None)

    def _hop(
        self, source: Node, target: Node | None, then: Callable[[Node], None], otherwise: Callable[[], None]
    ) -> None:
        """Carry one packet; ``otherwise`` if it is lost."""
        paths = self.network.paths
        if target is None or not source.kernel_runs:
            otherwise()
            return
        arrives = paths.transit(source.name, target.name, 4 * HEADERS)

        def arrive() -> None:
            if self._over:
                return
            current = self.network.hosts.get(target.address)
            if current is None or not current.kernel_runs or not paths.path(source.name, target.name).is_open:
                otherwise()
            else:
                then(current)

        if arrives is None:
            otherwise()
        else:
            self.clock.at(arrives, arrive)

    def _syn(self, pause: float) -> None:
        if self._over:
            return
        sent_at = self.clock.now

        def lost() -> None:
            self.clock.at(sent_at + pause, partial(self._syn, 2 * pause))

        def arrived(server: Node) -> None:
            accepts = server.running and server.listening.get(self.effect.endpoint) is self.effect.service
            answer = self._hello if accepts else partial(self._refused)
            self._hop(server, self.node, lambda _: self.node.defer(partial(answer, server)), lost)

        self._hop(self.node, self._target(), arrived, lost)

    def _refused(self, _: Node) -> None:
        self._fail("connection refused")

    def _hello(self, server: Node) -> None:
        """TLS: the processes of both must run for it, and each packet is sent again until it arrives."""
        if self._over:
            return

        def lost() -> None:
            self.pause *= 2
            self.clock.after(self.pause / 2, partial(self._hello, server))

        def arrived(current: Node) -> None:
            if current is server and server.running:
                server.defer(lambda: self._hop(server, self.node, answered, lost))
            else:
                self._hop(current, self.node, lambda _: self._fail("connection reset"), lost)

        def answered(_: Node) -> None:
            self.node.defer(partial(self._finish, server))

        self._hop(self.node, server, arrived, lost)

    def _finish(self, server: Node) -> None:
        if self._over:
            return
        if server.ca != self.node.ca:
            self._fail("certificate verify failed")
            return
        self.node.requests.discard(self.effect.request)
        self.network.establish(self.node, server, self.effect)
