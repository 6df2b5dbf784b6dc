# SPDX-License-Identifier: Apache-2.0
"""Other registrars, played by a test: their associations with the machine, and what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import (
    Association,
    Close,
    Endpoint,
)
from rserpool.handlespace import ElementKey
from rserpool.handlespace.checksum import block_sum, fold
from rserpool.identity import principal_of
from rserpool.wire import (
    Message,
    PoolElement,
    PoolEntry,
    Ppid,
    ServerInformation,
    UpdateAction,
    encode,
    enrp,
)
from support.beings import Being, Reaction, endpoint, server_information
from support.scope import POOL, identity

if TYPE_CHECKING:
    from support.rig_enrp import Rig

T = TypeVar("T")


@dataclass
class Line:
    """An association of the machine, seen from the far end.

    Attributes:
        sent: what the machine has sent over it, and when.
        react: what the far end answers by itself.
    """

    rig: Rig
    association: Association
    react: Reaction | None = None
    sent: list[tuple[float, Message]] = field(default_factory=list)
    closed: Close | None = None
    lost: bool = False

    @property
    def up(self) -> bool:
        return self.closed is None and not self.lost

    def send(self, *messages: Message) -> None:
        """Have the machine receive messages."""
        for message in messages:
            self.send_octets(encode(message, self.rig.dialect))

    def send_octets(self, octets: bytes) -> None:
        self.rig.do(lambda m, now: m.received(self.association.id, octets, now))

    def lose(self) -> None:
        """End the association from the far end."""
        self.lost = True
        self.rig.do(lambda m, now: m.lost(self.association.id, "closed by the peer", now))

    def all(self, kind: type[T]) -> list[T]:
        """What the machine has sent of a kind."""
        return [m for _, m in self.sent if isinstance(m, kind)]

    def times(self, kind: type[T]) -> list[float]:
        """When it did, in seconds since the start of the rig."""
        return [at - self.rig.began for at, m in self.sent if isinstance(m, kind)]

    def kinds(self) -> list[str]:
        """What it has sent, by names."""
        return [type(m).__name__ for _, m in self.sent]


class Peer:
    """Another registrar, played by the test.

    Attributes:
        owns: the elements it says are its own.
        knows: elements of others it has in its table.
        servers: the registrars it lists.
        alive: it behaves as a registrar does; otherwise it is silent unless told to speak.
        requests: what it does about list and table requests, if alive: ``serve``, ``reject`` or ``ignore``.
        acknowledges: it acknowledges takeovers, if alive.
    """

    def __init__(self, rig: Rig, server_id: int, number: int, *, alive: bool = True) -> None:
        self.rig = rig
        self.server_id = server_id
        self.number = number
        self.principal = principal_of(identity(Role.REGISTRAR, number))
        self.owns: dict[ElementKey, PoolElement] = {}
        self.knows: dict[ElementKey, PoolElement] = {}
        self.servers: tuple[ServerInformation, ...] = ()
        self.alive = alive
        self.requests = "serve"
        self.acknowledges = True
        self.next_beat = rig.now + 0.2
        self._lines: list[Line] = []

    @property
    def endpoint(self) -> Endpoint:
        return endpoint(self.number)

    @property
    def line(self) -> Line:
        """The association it speaks over: the newest one that is up, or was."""
        up = [line for line in self._lines if line.up]
        return (up or self._lines)[-1]

    @property
    def connected(self) -> bool:
        return any(line.up for line in self._lines)

    def dial(self) -> Line:
        """Open an association to the machine."""
        return self._keep(self.rig.accept(Ppid.ENRP, self.principal, self.endpoint.addresses, self.react))

    def answer(self) -> Line:
        """Accept the association the machine wants to open to it."""
        return self._keep(self.rig.establish(self.endpoint, self.principal, self.react))

    def refuse(self) -> None:
        """Let the machine's attempt to connect fail."""
        self.rig.fail(self.endpoint)

    def _keep(self, line: Line) -> Line:
        self._lines.append(line)
        return line

    def introduce(self) -> None:
        """Send a presence over its line."""
        self.line.send(self.presence())

    def presence(self, *, checksum: int | None = None, reply: bool = False) -> enrp.Presence:
        own = fold(sum(block_sum(*key) for key in self.owns)) if checksum is None else checksum
        server = server_information(self.server_id, self.number)
        return enrp.Presence(sender=self.server_id, reply_required=reply, checksum=own, server=server)

    def update(self, element: PoolElement, action: UpdateAction = UpdateAction.ADD_PE) -> None:
        """Announce an element, or that it is gone, without keeping account of it."""
        message = enrp.HandleUpdate(sender=self.server_id, action=action, pool_handle=POOL, element=element)
        self.line.send(message)

    def own(self, *beings: Being) -> None:
        """Have elements registered with it, and announce them."""
        for being in beings:
            self.owns[being.key] = being.element(self.server_id)
            self.update(self.owns[being.key])

    def table(self, elements: Iterable[PoolElement] = (), *, more: bool = False) -> enrp.HandleTableResponse:
        entries = tuple(elements)
        pools = (PoolEntry(pool_handle=POOL, elements=entries),) if entries else ()
        return enrp.HandleTableResponse(sender=self.server_id, receiver=self.rig.server_id, more=more, pools=pools)

    def listing(self, *servers: ServerInformation) -> enrp.ListResponse:
        return enrp.ListResponse(sender=self.server_id, receiver=self.rig.server_id, servers=servers)

    def react(self, message: Message) -> Message | None:
        if not self.alive:
            return None
        match message:
            case enrp.Presence(reply_required=True):
                return self.presence()
            case enrp.HandleTableRequest() if self.requests == "serve":
                others = () if message.own_children_only else self.knows.values()
                return self.table([*self.owns.values(), *others])
            case enrp.HandleTableRequest() if self.requests == "reject":
                return enrp.HandleTableResponse(sender=self.server_id, receiver=self.rig.server_id, reject=True)
            case enrp.ListRequest() if self.requests == "serve":
                return self.listing(*self.servers)
            case enrp.ListRequest() if self.requests == "reject":
                return enrp.ListResponse(sender=self.server_id, receiver=self.rig.server_id, reject=True)
            case enrp.InitTakeover(target=target) if target != self.server_id and self.acknowledges:
                return enrp.InitTakeoverAck(sender=self.server_id, receiver=self.rig.server_id, target=target)
            case _:
                return None

    def init_takeover(self, target: int) -> None:
        self.line.send(enrp.InitTakeover(sender=self.server_id, target=target))

    def acknowledge(self, target: int) -> None:
        self.line.send(enrp.InitTakeoverAck(sender=self.server_id, receiver=self.rig.server_id, target=target))

    def takeover_server(self, target: int) -> None:
        self.line.send(enrp.TakeoverServer(sender=self.server_id, target=target))
