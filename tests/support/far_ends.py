# SPDX-License-Identifier: Apache-2.0
"""Far ends of elements and users: where they are, who they are, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import (
    Association,
    Endpoint,
    TransportKind,
)
from rserpool.identity import LeafIdentity, principal_of
from rserpool.identity.decisions import anonymous
from rserpool.wire import (
    CauseCode,
    ErrorCause,
    Message,
    PoolElement,
    TcpTransport,
    asap,
    policies,
)

POOL = b"echo"
ASAP_PORT, APP_PORT = 3864, 7007
IDENTIFIERS = (0x11111111, 0x22222222, 0x33333333)
OWN = IPv4Address("10.0.1.1")
LISTENING = Endpoint(TransportKind.TCP, (OWN,), ASAP_PORT)
TRANSPORT = TcpTransport(port=APP_PORT, address=OWN)
UNKNOWN_POOL = ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE)

Script = Callable[[Association, Message], Sequence[Message]]
"""What a far end answers to a message, at once."""


def place(number: int) -> Endpoint:
    """Where registrar ``number`` is."""
    return Endpoint(TransportKind.TCP, (IPv4Address(f"10.0.0.{number}"),), ASAP_PORT)


def places(number: int) -> tuple[Endpoint, ...]:
    return tuple(place(k) for k in range(1, number + 1))


def leaf(role: Role, number: int = 1, pool: str = "echo") -> LeafIdentity:
    uid = f"{number:08x}-0000-4000-8000-{number:012x}"
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool=pool, role=role, pod_uid=uid)


def registrar(number: int = 1) -> Principal:
    return principal_of(leaf(Role.REGISTRAR, number))


NO_REGISTRARS = (principal_of(leaf(Role.ELEMENT, 9)), principal_of(leaf(Role.USER, 9)), anonymous("10.0.0.1"))
"""Who may not act as a registrar."""


def silent(_association: Association, _message: Message) -> Sequence[Message]:
    """A registrar that accepts associations and never says anything."""
    return ()


def granting(_association: Association, message: Message) -> Sequence[Message]:
    """A registrar that grants whatever an element asks."""
    match message:
        case asap.Registration(pool_handle=handle, element=element):
            return [asap.RegistrationResponse(pool_handle=handle, pe_identifier=element.identifier)]
        case asap.Deregistration(pool_handle=handle, pe_identifier=identifier):
            return [asap.DeregistrationResponse(pool_handle=handle, pe_identifier=identifier)]
    return ()


def rejecting(*codes: int) -> Script:
    """A registrar that rejects all registrations."""

    def script(_association: Association, message: Message) -> Sequence[Message]:
        if not isinstance(message, asap.Registration):
            return ()
        causes = tuple(ErrorCause(code) for code in codes)
        identifier = message.element.identifier
        response = asap.RegistrationResponse(
            pool_handle=message.pool_handle, pe_identifier=identifier, reject=True, error=causes
        )
        return [response]

    return script


def answer(
    handle: bytes = POOL, *identifiers: int, updates: bool = False, error: Sequence[ErrorCause] = ()
) -> asap.HandleResolutionResponse:
    """A handle resolution response; negative if it has an error."""
    elements = tuple(
        PoolElement(identifier=i, home=7, life=30, transport=TRANSPORT, policy=policies.RoundRobin())
        for i in identifiers
    )
    policy = None if error else policies.RoundRobin()
    return asap.HandleResolutionResponse(
        pool_handle=handle, accept_updates=updates, policy=policy, elements=elements, error=tuple(error)
    )


def resolving(*identifiers: int, error: Sequence[ErrorCause] = ()) -> Script:
    """A registrar that gives the same answer to all resolutions, and accepts subscriptions unless it is negative."""

    def script(_association: Association, message: Message) -> Sequence[Message]:
        if not isinstance(message, asap.HandleResolution):
            return ()
        updates = message.send_updates and not error
        return [answer(message.pool_handle, *identifiers, updates=updates, error=error)]

    return script


def speaking(*numbers: int) -> Script:
    """Only these registrars answer resolutions."""

    def script(association: Association, message: Message) -> Sequence[Message]:
        heard = any(association.peer_addresses == place(n).addresses for n in numbers)
        return resolving(1, 2)(association, message) if heard else ()

    return script
