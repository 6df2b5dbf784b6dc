# SPDX-License-Identifier: Apache-2.0
"""ASAP_REGISTRATION and ASAP_DEREGISTRATION at a registrar (RFC 5352 3.1, 3.2).

The checks stand in a fixed order, and the first that fails is the answer: who asks comes before what is asked, and
nothing changes before all have passed (threats 2.1 to 2.4, 2.15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from rserpool.asap.authorisation import Action, Denial, Role
from rserpool.asap.effects import Association, TransportKind
from rserpool.asap.events import Change
from rserpool.asap.limits import Buckets
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.membership import Membership
from rserpool.handlespace import ElementKey
from rserpool.wire import (
    Address,
    AsapTransport,
    CauseCode,
    ErrorCause,
    OpaqueTransport,
    PoolElement,
    SctpTransport,
    TcpTransport,
    Transport,
    UnknownPolicy,
    asap,
    canonical_address,
    invalid_values,
)
from rserpool.wire.elements import encode_element
from rserpool.wire.policies import encode_policy
from rserpool.wire.transports import encode_transport

SECURITY = ErrorCause(CauseCode.SECURITY_REJECTION)
REPEATABLE = 60_000
"""Octets of the longest pool handle that any answer can repeat beside its causes."""
RESOURCES = ErrorCause(CauseCode.LACK_OF_RESOURCES)
TOO_OFTEN = Denial("2.2", "over the limit of registrations")


class Registrations:
    """Grants and refuses membership.

    Attributes:
        formerly: an element as it was before other registrars said something else of it, if they have of late.
    """

    def __init__(self, desk: RegistrarDesk, membership: Membership, liveness: Liveness) -> None:
        self._desk = desk
        self._membership = membership
        self._liveness = liveness
        self._rate = Buckets(desk.config.limits.registrations)
        self.formerly: Callable[[ElementKey], PoolElement | None] = lambda _: None

    def reconfigured(self) -> None:
        """The desk has another configuration."""
        self._rate.change(self._desk.config.limits.registrations, self._desk.now)

    def register(self, association: Association, message: asap.Registration, length: int) -> bool:
        """Answer an ASAP_REGISTRATION of ``length`` octets, and spread it if it is granted; returns whether it is."""
        handle, wanted = message.pool_handle, message.element
        if self._too_long(association, handle):
            return False
        cause = self._refusal(association, handle, wanted, length)
        if cause is not None:
            answer = asap.RegistrationResponse(
                pool_handle=handle, pe_identifier=wanted.identifier, reject=True, error=(cause,)
            )
            self._desk.refuse(association.id, answer)
            return False
        element, warning = self._granted(association, wanted)
        self._membership.grant(handle, element)
        self._liveness.attach((handle, element.identifier), association)
        self._desk.send(
            association.id,
            asap.RegistrationResponse(pool_handle=handle, pe_identifier=element.identifier, error=warning),
        )
        return True

    def deregister(self, association: Association, message: asap.Deregistration) -> None:
        """Answer an ASAP_DEREGISTRATION; a stranger to us is granted without a word to the peers."""
        handle, identifier = message.pool_handle, message.pe_identifier
        key = (handle, identifier)
        if self._too_long(association, handle):
            return
        cause = self._deregistration_refusal(association, key)
        if cause is not None:
            answer = asap.DeregistrationResponse(pool_handle=handle, pe_identifier=identifier, error=(cause,))
            self._desk.refuse(association.id, answer)
            return
        element = self._desk.space.get(key)
        if element is not None:
            if element.home != self._desk.server_id:  # it lost its home and came to us: own it, then let it go
                self._membership.grant(handle, element)
            self._liveness.detach(key, association.id)
            self._membership.drop(key, Change.DEREGISTERED, "it deregistered", announce=True)
        self._desk.send(association.id, asap.DeregistrationResponse(pool_handle=handle, pe_identifier=identifier))

    def _too_long(self, association: Association, handle: bytes) -> bool:
        """A handle that no answer could repeat is not answered by the request's own response."""
        if len(handle) <= REPEATABLE:
            return False
        self._desk.ignored(association, "registration", f"pool handle of {len(handle)} octets")
        self._desk.refuse(association.id, asap.AsapError(error=(invalid_values(),)))
        return True

    def answer_broken(
        self,
        association: Association,
        handle: bytes,
        pe_identifier: int,
        causes: tuple[ErrorCause, ...],
        *,
        joins: bool,
    ) -> None:
        """Refuse a request that was not well formed but said who it was for (RFC 5352 2.2.3, 2.2.4)."""
        action, what = (Action.REGISTER, "ASAP_REGISTRATION") if joins else (Action.DEREGISTER, "ASAP_DEREGISTRATION")
        if self._desk.denial(association, action, what, handle, pe_identifier):
            causes = (SECURITY,)
        answer: asap.RegistrationResponse | asap.DeregistrationResponse
        if joins:
            answer = asap.RegistrationResponse(
                pool_handle=handle, pe_identifier=pe_identifier, reject=True, error=causes
            )
        else:
            answer = asap.DeregistrationResponse(pool_handle=handle, pe_identifier=pe_identifier, error=causes)
        self._desk.refuse(association.id, answer)

    def _refusal(self, association: Association, handle: bytes, element: PoolElement, length: int) -> ErrorCause | None:
        """The cause to refuse a registration with, by the first check that fails; ``None`` if all pass."""
        desk = self._desk
        what = "ASAP_REGISTRATION"
        if desk.denial(association, Action.REGISTER, what, handle, element.identifier):
            return SECURITY
        invalid = self._invalid(association, handle, element, length)
        if invalid is not None:
            desk.ignored(association, what, invalid[1])
            return invalid[0]
        if not self._rate.take(association.principal.name, desk.now):
            desk.refused(association, TOO_OFTEN, what)
            return RESOURCES
        shortage = self._shortage(association, (handle, element.identifier))
        if shortage is not None:
            desk.ignored(association, what, shortage)
            return RESOURCES
        foreign = self._foreign_address(association, element)
        if foreign is not None:
            desk.refused(association, Denial("2.3", f"registers {foreign}, which is not its own address"), what)
            return SECURITY if desk.config.secure else self._shown(element)
        pool = desk.space.pools.get(handle)
        mismatch = pool.mismatch(element) if pool else None
        if mismatch is not None:
            desk.ignored(association, what, f"does not fit its pool: {mismatch}")
            return mismatch
        if not self._is_same(association, (handle, element.identifier)):
            reason = f"PE identifier {element.identifier:#010x} belongs to another element"
            desk.refused(association, Denial("2.3", reason), what)
            return ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
        return None

    def _deregistration_refusal(self, association: Association, key: ElementKey) -> ErrorCause | None:
        desk = self._desk
        what = "ASAP_DEREGISTRATION"
        if desk.denial(association, Action.DEREGISTER, what, *key):
            return SECURITY
        if association.kind is TransportKind.TCP and not desk.dialect.tcp_profile:
            desk.ignored(association, what, "deregisters over TCP, which needs the TCP profile")
            return invalid_values()
        if len(key[0]) > desk.config.limits.handle_length:
            desk.ignored(association, what, f"pool handle of {len(key[0])} octets")
            return invalid_values()
        if not self._rate.take(association.principal.name, desk.now):
            desk.refused(association, TOO_OFTEN, what)
            return RESOURCES
        if not self._is_same(association, key):
            desk.refused(association, Denial("2.3", f"deregisters {key[1]:#010x}, which is another element"), what)
            return SECURITY
        return None

    def _invalid(
        self, association: Association, handle: bytes, element: PoolElement, length: int
    ) -> tuple[ErrorCause, str] | None:
        """A value no registration may have, with the cause that shows it."""
        desk = self._desk
        if association.kind is TransportKind.TCP and not desk.dialect.tcp_profile:
            return self._shown(element), "registers over TCP, which needs the TCP profile"
        if len(handle) > desk.config.limits.handle_length:
            return invalid_values(), f"pool handle of {len(handle)} octets"
        if element.identifier == 0 or element.life == 0:
            return invalid_values(), "PE identifier 0" if element.identifier == 0 else "Registration Life 0"
        if length > desk.config.limits.element_length:  # of the message, which is all of it but a few octets
            length = len(encode_element(element, desk.dialect))
        if length > desk.config.limits.element_length:
            return invalid_values(), f"Pool Element of {length} octets"
        if isinstance(element.policy, UnknownPolicy):
            return invalid_values(encode_policy(element.policy)), f"unknown policy {element.policy.TYPE:#010x}"
        for address in (*element.transport.addresses, *_listening(association, element)):
            fault = unusable(canonical_address(address), loopback=desk.config.loopback)
            if fault:
                return self._shown(element), f"registers {address}: {fault}"
        if association.kind is TransportKind.TCP and not isinstance(element.asap_transport, TcpTransport):
            return self._shown(element), "does not say on which TCP port it listens for registrars"
        return None

    def _shown(self, element: PoolElement) -> ErrorCause:
        """The cause that shows an element's User Transport."""
        return invalid_values(encode_transport(element.transport, self._desk.dialect))

    def _shortage(self, association: Association, key: ElementKey) -> str | None:
        desk, limits = self._desk, self._desk.config.limits
        if desk.space.get(key) is not None:
            return None
        if len(desk.space) >= limits.elements:
            return f"the handlespace is full: {limits.elements} elements"
        if key[0] not in desk.space.pools and len(desk.space.pools) >= limits.pools:
            return f"the handlespace is full: {limits.pools} pools"
        if self._liveness.count_of(association.principal.name) >= limits.elements_per_identity:
            return f"the identity has registered {limits.elements_per_identity} elements already"
        return None

    def _foreign_address(self, association: Association, element: PoolElement) -> Address | None:
        """An address the element wants to register but does not speak from (RFC 5352 2.2.1 MUST)."""
        own = {canonical_address(a) for a in association.peer_addresses}
        named = (*element.transport.addresses, *_listening(association, element))
        return next((a for a in named if canonical_address(a) not in own), None)

    def _is_same(self, association: Association, key: ElementKey) -> bool:
        """Whether an identifier is free, or belongs to the very element that speaks."""
        known = self._desk.space.get(key)
        if known is None:
            return True
        if association.principal.role is not Role.UNVERIFIED:
            registered_by = self._liveness.identity_of(key)
            if registered_by is not None:
                return registered_by == association.principal.name
        if self._liveness.association_of(key) == association.id:
            return True
        formerly = self.formerly(key)
        if _lives_at(association, known) or (formerly is not None and _lives_at(association, formerly)):
            return True
        return self._is_robbed(association, key[0])

    def _is_robbed(self, association: Association, handle: bytes) -> bool:
        """Whether others are said to be elements by several identifiers that this peer's certificate gives it.

        One is an accident of 32 bits, and it takes its next. Two are the work of a registrar that lies (RFC 5355
        2.17), which must not keep an element out of its pool by what nobody has proved.
        """
        known = (self._desk.space.get((handle, i)) for i in association.principal.pe_identifiers)
        others = [e for e in known if e is not None and not _lives_at(association, e)]
        return len(others) > 1 and all(self._liveness.identity_of((handle, e.identifier)) is None for e in others)

    def _granted(self, association: Association, wanted: PoolElement) -> tuple[PoolElement, tuple[ErrorCause, ...]]:
        """The element as it is registered, and the warning if that is not what it asked for."""
        desk = self._desk
        asap_transport: AsapTransport
        if association.kind is TransportKind.SCTP:  # where it listens is where it speaks from
            addresses = tuple(dict.fromkeys(canonical_address(a) for a in association.peer_addresses))
            asap_transport = SctpTransport(port=association.peer_port, addresses=addresses)
        else:
            assert isinstance(wanted.asap_transport, TcpTransport)
            asap_transport = replace(wanted.asap_transport, unrecognized=())
        element = replace(
            wanted,
            home=desk.server_id,
            transport=_plain(wanted.transport),
            asap_transport=asap_transport,
            unrecognized=(),
        )
        seconds = desk.life_of(wanted)
        capped = round(seconds * 1000) if desk.dialect.life_in_milliseconds else int(seconds)
        if capped == wanted.life:
            return element, ()
        element = replace(element, life=capped)
        return element, (invalid_values(encode_element(element, desk.dialect)),)


def _lives_at(association: Association, element: PoolElement) -> bool:
    """Whether all addresses of an element are those that a peer speaks from."""
    own = {canonical_address(a) for a in association.peer_addresses}
    addresses = element.transport.addresses
    return bool(addresses) and all(canonical_address(a) in own for a in addresses)


def _listening(association: Association, element: PoolElement) -> Iterable[Address]:
    """Addresses of a TCP profile's ASAP Transport; over SCTP it is overwritten, so nobody looks at it."""
    over_tcp = association.kind is TransportKind.TCP and isinstance(element.asap_transport, TcpTransport)
    return element.asap_transport.addresses if over_tcp and element.asap_transport is not None else ()


def _plain(transport: Transport) -> Transport:
    """A transport without what its sender put into it beyond the RFC."""
    if isinstance(transport, OpaqueTransport) or not transport.unrecognized:
        return transport
    return replace(transport, unrecognized=())


def unusable(address: Address, *, loopback: bool) -> str | None:
    """Why nobody else could reach an element at this address; ``None`` if they could."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_loopback:
        return None if loopback else "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.version == 4 and int(address) == 0xFFFFFFFF:
        return "the broadcast address"
    return None
