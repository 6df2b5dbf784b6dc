# SPDX-License-Identifier: Apache-2.0
"""One registrar, and far ends made by hand: messages go in, everything it does comes out decoded, time is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from itertools import count
from random import Random
from typing import Any, Final, TypeVar

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
    Send,
    TransportKind,
)
from rserpool.asap.events import ElementChanged, Event
from rserpool.asap.profiles import FAST, RegistrarTimers
from rserpool.asap.server.desk import Limits, RegistrarConfig
from rserpool.enrp import Registrar
from rserpool.identity import InsecureScope, SecureScope, principal_of
from rserpool.identity.decisions import anonymous, unverified
from rserpool.wire import (
    RFC,
    Address,
    AsapTransport,
    Dialect,
    ErrorCause,
    Message,
    PoolElement,
    PoolEntry,
    Ppid,
    SctpTransport,
    ServerInformation,
    TcpTransport,
    UpdateAction,
    asap,
    decode,
    encode,
    enrp,
    policies,
)
from support.scope import identity

POOL: Final = b"echo"
SERVER_ID: Final = 0xA1B2C3D4
PEER_ID: Final = 0x0000BEEF
HERE: Final = IPv4Address("10.0.255.1")
LISTENING, SCTP_PORT, APP_PORT, ENRP_PORT = 3864, 34127, 7007, 9902
QUIET: Final = replace(FAST.registrar, heartbeat=1e6, last_heard=3e6)
"""The fast profile of a registrar that leaves its peers alone."""
E = TypeVar("E")


@dataclass
class Far:
    """The far end of one association.

    Attributes:
        identifier: the PE identifier it is entitled to, or would use.
        acknowledges: it answers each keep-alive at once, for the element that is asked.
        heard: what was sent to it since it was last looked at, with the time.
        closed: how the registrar ended the association.
    """

    rig: Rig
    association: Association
    identifier: int
    acknowledges: bool = False
    heard: list[tuple[float, Message]] = field(default_factory=list)
    closed: Close | None = None

    @property
    def address(self) -> Address:
        return self.association.peer_addresses[0]

    def is_up(self) -> bool:
        """Whether the registrar has not ended the association."""
        return self.closed is None

    def send(self, *messages: Message) -> list[Message]:
        """Say something; returns what comes back at once."""
        return self.send_octets(*(encode(message, self.rig.dialect) for message in messages))

    def send_octets(self, *octets: bytes) -> list[Message]:
        """As :meth:`send`, for what no encoder would write."""
        before = len(self.heard)
        for each in octets:
            self.rig.hear(self, each)
        answers = [message for _, message in self.heard[before:]]
        del self.heard[before:]
        return answers

    def take(self) -> list[Message]:
        """What has come since the last look."""
        heard, self.heard = self.heard, []
        return [message for _, message in heard]

    def lose(self) -> None:
        """The association breaks."""
        del self.rig.fars[self.association.id]
        self.rig.apply(self.rig.machine.lost(self.association.id, "connection reset", self.rig.now))

    def offer(self, **changes: Any) -> PoolElement:
        """What a well-behaved element here would register, with changes."""
        tcp = self.association.kind is TransportKind.TCP
        element = PoolElement(
            identifier=self.identifier,
            home=0,
            life=300,
            transport=TcpTransport(port=APP_PORT, address=self.address),
            policy=policies.RoundRobin(),
            asap_transport=TcpTransport(port=LISTENING, address=self.address) if tcp else None,
        )
        return replace(element, **changes)

    def ask_to_register(self, element: PoolElement | None = None, handle: bytes = POOL) -> asap.RegistrationResponse:
        """Send an ASAP_REGISTRATION; returns its one answer."""
        (answer,) = self.send(asap.Registration(pool_handle=handle, element=element or self.offer()))
        assert isinstance(answer, asap.RegistrationResponse)
        return answer

    def register(self, handle: bytes = POOL, **changes: Any) -> Far:
        """Register what :meth:`offer` says; it must be granted. Returns itself."""
        answer = self.ask_to_register(self.offer(**changes), handle)
        assert not answer.reject, answer
        return self

    def deregister(self, handle: bytes = POOL, identifier: int | None = None) -> tuple[ErrorCause, ...]:
        """Send an ASAP_DEREGISTRATION; returns the error of its one answer."""
        identifier = self.identifier if identifier is None else identifier
        (answer,) = self.send(asap.Deregistration(pool_handle=handle, pe_identifier=identifier))
        assert isinstance(answer, asap.DeregistrationResponse)
        assert (answer.pool_handle, answer.pe_identifier) == (handle, identifier)
        return answer.error

    def acknowledge(self, identifier: int | None = None, handle: bytes = POOL) -> list[Message]:
        identifier = self.identifier if identifier is None else identifier
        return self.send(asap.EndpointKeepAliveAck(pool_handle=handle, pe_identifier=identifier))

    def report(self, identifier: int, handle: bytes = POOL) -> list[Message]:
        return self.send(asap.EndpointUnreachable(pool_handle=handle, pe_identifier=identifier))

    def resolve(
        self, handle: bytes = POOL, *, items: int | None = None, updates: bool = False
    ) -> asap.HandleResolutionResponse:
        """Send an ASAP_HANDLE_RESOLUTION; returns its one answer."""
        (answer,) = self.send(asap.HandleResolution(pool_handle=handle, items=items, send_updates=updates))
        assert isinstance(answer, asap.HandleResolutionResponse)
        return answer


class Rig:
    """A registrar that has no configured peers, at a clock that only :meth:`run` moves.

    Attributes:
        connects: wishes to connect that are still open.
        events: what it told its operator.
        fars: far ends of the associations that are up.
    """

    def __init__(
        self,
        *,
        secure: bool = True,
        scope: Authoriser | None = None,
        limits: Limits | None = None,
        timers: RegistrarTimers = QUIET,
        dialect: Dialect = RFC,
        loopback: bool = False,
        seed: int = 1,
        now: float = 1000.0,
    ) -> None:
        kind = TransportKind.TCP if dialect.tcp_profile else TransportKind.SCTP
        config = RegistrarConfig(
            server_id=SERVER_ID,
            enrp=(Endpoint(kind, (HERE,), ENRP_PORT),),
            timers=timers,
            limits=limits or Limits(),
            dialect=dialect,
            secure=secure,
            loopback=loopback,
        )
        rules: Authoriser = SecureScope(pool_handle=POOL) if secure else InsecureScope()
        self.secure = secure
        self.dialect = dialect
        self.now = now
        self.machine = Registrar(config, scope or rules, Random(seed))
        self.connects: list[Connect] = []
        self.events: list[Event] = []
        self.fars: dict[AssociationId, Far] = {}
        self._ids = count(1)
        self._witness: Far | None = None
        self.apply(self.machine.start(now))
        assert self.machine.serving

    # -- far ends

    def connect(
        self,
        principal: Principal,
        *addresses: str,
        kind: TransportKind = TransportKind.TCP,
        service: Ppid = Ppid.ASAP,
        identifier: int = 0,
        answer_to: Connect | None = None,
    ) -> Far:
        """Bring an association up: one the far end opened, or the one the registrar wished for."""
        number = next(self._ids)
        association = Association(
            id=AssociationId(number),
            service=service,
            outbound=answer_to is not None,
            kind=kind,
            peer_addresses=tuple(ip_address(a) for a in addresses),
            peer_port=SCTP_PORT if kind is TransportKind.SCTP else 40000 + number,
            principal=principal,
        )
        far = self.fars[association.id] = Far(self, association, identifier)
        request = None
        if answer_to is not None:
            self.connects.remove(answer_to)
            request = answer_to.request
        self.apply(self.machine.connected(association, request, self.now))
        return far

    def element(
        self, number: int, *addresses: str, kind: TransportKind = TransportKind.TCP, answer_to: Connect | None = None
    ) -> Far:
        """The element of that number has an association; its address follows from the number unless it is given."""
        principal = self.principal(Role.ELEMENT, number)
        identifier = min(principal.pe_identifiers, default=number)
        where = addresses or (f"10.0.{number >> 8}.{number & 255}",)
        return self.connect(principal, *where, kind=kind, identifier=identifier, answer_to=answer_to)

    def user(self, number: int = 1, role: Role = Role.USER) -> Far:
        """Somebody else than an element has an association to the ASAP port."""
        return self.connect(self.principal(role, number), f"10.1.{number >> 8}.{number & 255}")

    def principal(self, role: Role, number: int) -> Principal:
        address = f"10.{0 if role is Role.ELEMENT else 1}.{number >> 8}.{number & 255}"
        if not self.secure:
            return unverified(address)
        return anonymous(address) if role is Role.ANONYMOUS else principal_of(identity(role, number))

    def peer(self, server_id: int = PEER_ID, *elements: PoolElement, welcome: bool = True) -> Far:
        """Another registrar introduces itself and, to be welcomed, says that it owns these elements."""
        principal = self.principal(Role.REGISTRAR, server_id & 0xFF)
        address = f"10.0.255.{server_id & 0xFF}"
        far = self.connect(principal, address, service=Ppid.ENRP)
        here = SctpTransport(port=ENRP_PORT, addresses=(ip_address(address),))
        far.send(enrp.Presence(sender=server_id, server=ServerInformation(server_id=server_id, transports=(here,))))
        if welcome:
            far.send(table(server_id, *elements))
        return far

    @property
    def witness(self) -> Far:
        """A peer that owns nothing and hears what is announced."""
        if self._witness is None:
            self._witness = self.peer(0xFACE)
        self._witness.take()
        return self._witness

    # -- inputs

    def hear(self, far: Far, octets: bytes) -> None:
        self.apply(self.machine.received(far.association.id, octets, self.now))

    def fail(self, connect: Connect, reason: str = "connection refused") -> None:
        """A wish to connect comes to nothing."""
        self.connects.remove(connect)
        self.apply(self.machine.connect_failed(connect.request, reason, self.now))

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass; every timer is served when it comes."""
        until, turns = self.now + seconds, 0
        while (due := self.machine.deadline()) is not None and due <= until:
            turns = 0 if due > self.now else turns + 1
            assert turns < 1000, "the registrar never comes to rest"
            self.now = max(self.now, due)
            self.apply(self.machine.wake(self.now))
        self.now = until

    def freeze(self, seconds: float) -> None:
        """The process does not run for a while, and then all that was due comes at once."""
        self.now += seconds
        self.apply(self.machine.wake(self.now))

    # -- what it does

    def apply(self, effects: Iterable[Effect]) -> None:
        """Note what the registrar does; nothing may be sent where nobody is."""
        asked: list[tuple[Far, asap.EndpointKeepAlive]] = []
        for effect in effects:
            match effect:
                case Send(association, octets):
                    far = self.fars[association]
                    message = decode(octets, far.association.service, self.dialect)
                    far.heard.append((self.now, message))
                    if far.acknowledges and isinstance(message, asap.EndpointKeepAlive):
                        asked.append((far, message))
                case Close(association):
                    self.fars.pop(association).closed = effect
                case Connect():
                    self.connects.append(effect)
                case Abandon(request):
                    self.connects = [c for c in self.connects if c.request != request]
                case Emit(event):
                    self.events.append(event)
        for far, question in asked:
            if far.closed is None:
                assert question.pe_identifier is not None
                ack = asap.EndpointKeepAliveAck(pool_handle=question.pool_handle, pe_identifier=question.pe_identifier)
                self.hear(far, encode(ack, self.dialect))

    def seen(self, kind: type[E]) -> list[E]:
        """Events of a kind since the last look."""
        found: list[E] = [e for e in self.events if isinstance(e, kind)]
        self.events = [e for e in self.events if not isinstance(e, kind)]
        return found

    @property
    def space(self) -> dict[str, Any]:
        """The canonical dump of the handlespace."""
        space: dict[str, Any] = self.machine.dump()["handlespace"]
        return space

    def elements(self, handle: bytes = POOL) -> dict[int, dict[str, Any]]:
        """A pool's elements in the dump, by identifier; none if there is no such pool."""
        pools = [p["elements"] for p in self.space["pools"] if p["handle"] == handle.decode()]
        return {int(e["identifier"], 16): e for e in pools[0]} if pools else {}


def refused(far: Far, element: PoolElement, handle: bytes = POOL) -> ErrorCause:
    """Register what must be refused: with one cause, without any effect. Returns the cause."""
    rig, peer = far.rig, far.rig.witness
    before, alive = rig.space, rig.machine.counts()["own"]
    rig.seen(ElementChanged)
    answer = far.ask_to_register(element, handle)
    (cause,) = answer.error
    assert answer == asap.RegistrationResponse(
        pool_handle=handle, pe_identifier=element.identifier, reject=True, error=(cause,)
    )
    assert rig.space == before
    assert rig.machine.counts()["own"] == alive
    assert updates(peer) == []
    assert rig.seen(ElementChanged) == []
    assert far.is_up()
    return cause


def updates(far: Far) -> list[tuple[UpdateAction, bytes, PoolElement]]:
    """What a peer has been told of the handlespace since the last look."""
    return [(m.action, m.pool_handle, m.element) for m in far.take() if isinstance(m, enrp.HandleUpdate)]


def keep_alives(far: Far) -> list[float]:
    """When an element has been asked since the last look, after which nothing of it is left to see."""
    times = [at for at, m in far.heard if isinstance(m, asap.EndpointKeepAlive)]
    far.take()
    return times


def foreign(number: int = 1, home: int = PEER_ID, **changes: Any) -> PoolElement:
    """The element of that number, as another registrar announces it: its ASAP Transport is where it listens."""
    address = IPv4Address(f"10.0.0.{number}")
    principal = principal_of(identity(Role.ELEMENT, number))
    listening: AsapTransport = TcpTransport(port=LISTENING, address=address)
    element = PoolElement(
        identifier=min(principal.pe_identifiers),
        home=home,
        life=300,
        transport=TcpTransport(port=APP_PORT, address=address),
        policy=policies.RoundRobin(),
        asap_transport=listening,
    )
    return replace(element, **changes)


def table(server_id: int, *elements: PoolElement) -> enrp.HandleTableResponse:
    """What a peer answers when it is asked for the elements it owns."""
    pools = (PoolEntry(pool_handle=POOL, elements=elements),) if elements else ()
    return enrp.HandleTableResponse(sender=server_id, receiver=SERVER_ID, pools=pools)


def add(element: PoolElement, handle: bytes = POOL) -> enrp.HandleUpdate:
    """What its home announces an element by."""
    return enrp.HandleUpdate(sender=element.home, action=UpdateAction.ADD_PE, pool_handle=handle, element=element)


def codes(causes: Iterable[ErrorCause]) -> list[int]:
    return [cause.code for cause in causes]


def tlv(kind: int, *body: bytes) -> bytes:
    """One parameter by hand, padded."""
    value = b"".join(body)
    return kind.to_bytes(2) + (4 + len(value)).to_bytes(2) + value + bytes(-len(value) % 4)


def raw(kind: int, *parameters: bytes) -> bytes:
    """One message by hand, of parameters that need no padding."""
    value = b"".join(parameters)
    return bytes([kind, 0]) + (4 + len(value)).to_bytes(2) + value
