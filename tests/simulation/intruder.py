# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - these are the inputs that all machines, or watchers, are given
"""Somebody who sends what it must not, to registrars and elements: well-formed, and garbage."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import (
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Endpoint,
    RequestId,
    Send,
    TransportKind,
)
from rserpool.enrp import Registrar
from rserpool.wire import (
    CauseCode,
    ErrorCause,
    Message,
    PoolElement,
    PoolEntry,
    Ppid,
    TcpTransport,
    UpdateAction,
    asap,
    encode,
    enrp,
    policies,
)
from simulation.nodes import Node, element_of, registrar
from support.scope import APP_PORT, ASAP_PORT, ENRP_PORT, POOL

if TYPE_CHECKING:
    from simulation.world import World

ROLES = {
    "anonymous": Role.ANONYMOUS,
    "user": Role.USER,
    "element": Role.ELEMENT,
    "registrar": Role.REGISTRAR,
    "stranger": Role.ELEMENT,
}
"""What ``attack`` may name: a stranger is an element of another pool, whose certificate is another authority's."""
MOST_OPEN = 12


class Intruder:
    """A machine that knows everything about the world, and obeys no rule.

    A registrar's certificate makes it an impostor: it speaks as another registrar, to those who know that one.
    """

    def __init__(self, world: World, role: str, rng: Random) -> None:
        self.world = world
        self.role = role
        self.rng = rng
        self.node: Node | None = None
        self.open: dict[AssociationId, Association] = {}
        self.next = 0.0
        self.requests = 0

    # -- the inputs of a machine

    def begin(self, now: float) -> list[Effect]:
        self.next = now
        return []

    def connected(self, association: Association, request: RequestId | None, now: float) -> list[Effect]:
        self.open[association.id] = association
        return [] if self.rng.random() < 0.2 else self._speak(association)

    def connect_failed(self, request: RequestId, reason: str, now: float) -> list[Effect]:
        return []

    def received(self, association: AssociationId, octets: bytes, now: float) -> list[Effect]:
        return []

    def lost(self, association: AssociationId, reason: str, now: float) -> list[Effect]:
        self.open.pop(association, None)
        return []

    def ageing(self, association: AssociationId, now: float) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return self.next

    def wake(self, now: float) -> list[Effect]:
        self.next = now + self.rng.expovariate(12)
        if self.open and (len(self.open) >= MOST_OPEN or self.rng.random() < 0.6):
            association = self.rng.choice(list(self.open.values()))
            if self.rng.random() < 0.3:
                del self.open[association.id]
                return [Close(association.id, "", self.rng.random() < 0.5)]
            return self._speak(association)
        return self._dial()

    # -- what it does

    def _dial(self) -> list[Effect]:
        targets = [n for n in self.world.nodes.values() if n.listening]
        if not targets:
            return []
        target = self.rng.choice(targets)
        asap_side = self.role != "registrar" and (not isinstance(target.machine, Registrar) or self.rng.random() < 0.6)
        if self.role == "registrar" and not isinstance(target.machine, Registrar):
            return []
        self.requests += 1
        port, service = (ASAP_PORT, Ppid.ASAP) if asap_side else (ENRP_PORT, Ppid.ENRP)
        endpoint = Endpoint(TransportKind.TCP, (target.address,), port)
        return [Connect(RequestId(self.requests), service, endpoint, 1.0)]

    def _speak(self, association: Association) -> list[Effect]:
        target = self.world.network.hosts.get(association.peer_addresses[0])
        if target is None:
            return []
        count = self.rng.choice([1, 1, 1, 3, 40])
        return [Send(association.id, octets) for _ in range(count) for octets in self._octets(association, target)]

    def _octets(self, association: Association, target: Node) -> list[bytes]:
        if self.role == "registrar":
            return self._as_another(target)
        if self.rng.random() < 0.2:
            return [self.rng.randbytes(self.rng.randint(1, 60))]
        message = self.rng.choice(self._enrp(self._id()) if association.service is Ppid.ENRP else self._asap(target))
        octets = bytearray(encode(message))
        if self.rng.random() < 0.2:
            octets[self.rng.randrange(len(octets))] ^= 1 << self.rng.randrange(8)
            if association.service is Ppid.ASAP and self.role == "element":
                return []  # by chance it could become what it may say
        return [bytes(octets)]

    def _as_another(self, target: Node) -> list[bytes]:
        others = known_peers(target)
        if not others:
            return []
        return [encode(self.rng.choice(self._enrp(self.rng.choice(others))))]

    def _id(self) -> int:
        return registrar(self.rng.choice(self.world.all_registrars())).server_id

    def _victim(self) -> tuple[Node, PoolElement]:
        node = self.rng.choice(self.world.all_elements())
        return node, PoolElement(
            identifier=element_of(node).pe_identifier,
            home=self._id(),
            life=300,
            transport=TcpTransport(port=APP_PORT, address=node.address),
            policy=policies.WeightedRoundRobin(weight=7),
            asap_transport=TcpTransport(port=ASAP_PORT, address=node.address),
        )

    def _asap(self, target: Node) -> list[Message]:
        _, victim = self._victim()
        identifier = victim.identifier
        assert self.node is not None
        if isinstance(target.machine, Registrar):
            own = self.rng.choice(sorted(self.node.principal.pe_identifiers) or [1])
            me = PoolElement(
                identifier=own,
                home=0,
                life=300,
                transport=TcpTransport(port=APP_PORT, address=self.node.address),
                policy=policies.WeightedRoundRobin(weight=1),
                asap_transport=TcpTransport(port=ASAP_PORT, address=self.node.address),
            )
            return [
                asap.Registration(pool_handle=POOL, element=victim),
                asap.Registration(pool_handle=b"other", element=me),
                *([] if self.role == "element" else [asap.Registration(pool_handle=POOL, element=me)]),
                asap.Registration(pool_handle=POOL, element=_with(victim, own)),
                asap.Deregistration(pool_handle=POOL, pe_identifier=identifier),
                asap.Deregistration(pool_handle=b"other", pe_identifier=identifier),
                asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=identifier),
                asap.HandleResolution(pool_handle=POOL),
                asap.HandleResolution(pool_handle=b"other"),
                asap.EndpointUnreachable(pool_handle=POOL, pe_identifier=identifier),
                asap.EndpointKeepAlive(server_id=self._id(), pool_handle=POOL, pe_identifier=identifier, home=True),
                asap.AsapError(error=(ErrorCause(CauseCode.UNSPECIFIED),)),
            ]
        return [
            asap.EndpointKeepAlive(server_id=self._id(), pool_handle=POOL, pe_identifier=identifier, home=True),
            asap.EndpointKeepAlive(server_id=self._id(), pool_handle=POOL, home=True),
            asap.RegistrationResponse(pool_handle=POOL, pe_identifier=identifier, reject=True),
            asap.RegistrationResponse(pool_handle=POOL, pe_identifier=identifier),
            asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=identifier),
        ]

    def _enrp(self, sender: int) -> list[Message]:
        _, victim = self._victim()
        owned = _owned(victim, sender)
        return [
            enrp.Presence(sender=sender, checksum=self.rng.getrandbits(16), reply_required=True),
            enrp.HandleUpdate(sender=sender, action=UpdateAction.DEL_PE, pool_handle=POOL, element=victim),
            enrp.HandleUpdate(sender=sender, action=UpdateAction.ADD_PE, pool_handle=POOL, element=owned),
            enrp.HandleTableResponse(sender=sender, pools=(PoolEntry(pool_handle=POOL, elements=(owned,)),)),
            enrp.HandleTableRequest(sender=sender, receiver=0),
            enrp.ListRequest(sender=sender),
            enrp.InitTakeover(sender=sender, target=self._id()),
            enrp.InitTakeoverAck(sender=sender, target=self._id()),
            enrp.TakeoverServer(sender=sender, target=self._id()),
        ]


def known_peers(node: Node) -> list[int]:
    """The registrars that a registrar knows by their identity."""
    return [int(p["server_id"], 16) for p in registrar(node).dump()["peers"]]


def _with(element: PoolElement, identifier: int) -> PoolElement:
    return PoolElement(
        identifier=identifier,
        home=element.home,
        life=element.life,
        transport=element.transport,
        policy=element.policy,
        asap_transport=element.asap_transport,
    )


def _owned(element: PoolElement, home: int) -> PoolElement:
    return PoolElement(
        identifier=element.identifier,
        home=home,
        life=element.life,
        transport=element.transport,
        policy=element.policy,
        asap_transport=element.asap_transport,
    )


def let_in(world: World, role: str, name: str, rng: Random) -> Node:
    """Put an intruder into the world."""
    machine = Intruder(world, role, rng)
    node = world.other(name, machine, ROLES[role], ca="another" if role == "stranger" else "echo")
    node.intruder = True
    machine.node = node
    world.do(node, machine.begin)
    return node
