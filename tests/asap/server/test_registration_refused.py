# SPDX-License-Identifier: Apache-2.0
"""A refused registration says why by the first check it fails, changes nothing and is announced to nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import pytest

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Ignored, Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import Limits
from rserpool.wire import (
    RFC,
    RFC_SCTP_ONLY,
    CauseCode,
    ErrorCause,
    OpaqueTransport,
    PoolElement,
    SctpTransport,
    TcpTransport,
    TransportUse,
    UdpTransport,
    UnknownPolicy,
    UnrecognizedParameter,
    invalid_values,
    policies,
)
from rserpool.wire.elements import encode_element
from rserpool.wire.policies import encode_policy
from rserpool.wire.transports import encode_transport
from support.rig_asapserver import POOL, Rig, foreign, refused

ONCE = Rate(1 / 1000, 1)
TOO_LONG = (UnrecognizedParameter(0, bytes.fromhex("81230800") + bytes(2044)),)
Change = Callable[[PoolElement], PoolElement]


def shown(element: PoolElement) -> ErrorCause:
    """Cause 0x3 with the User Transport."""
    return invalid_values(encode_transport(element.transport, RFC))


def at(address: str, port: int = 7) -> TcpTransport:
    return TcpTransport(port=port, address=ip_address(address))


# -- who asks


@pytest.mark.rfc("RFC 5352 3.1: every registration is answered")
@pytest.mark.parametrize(
    ("role", "threat"), [(Role.ANONYMOUS, "2.1"), (Role.USER, "2.2"), (Role.REGISTRAR, "2.2")], ids=str
)
def test_only_an_element_may_register(role: Role, threat: str) -> None:
    rig = Rig()
    far = rig.user(1, role)
    assert refused(far, far.offer(identifier=7)) == ErrorCause(CauseCode.SECURITY_REJECTION)
    assert [(r.threat, r.what) for r in rig.seen(Refused)] == [(threat, "ASAP_REGISTRATION")]


@pytest.mark.rfc("RFC 5352 3.1: a registrar may refuse for other reasons")
def test_an_element_may_not_register_in_another_pool_nor_create_one() -> None:
    rig = Rig()
    far = rig.element(1)
    assert refused(far, far.offer(), b"other") == ErrorCause(CauseCode.SECURITY_REJECTION)
    assert [r.threat for r in rig.seen(Refused)] == ["2.4"]


@pytest.mark.rfc("PROTOCOL 14.32: a PE identifier follows from the certificate")
def test_an_element_may_not_register_an_identifier_that_is_not_its_own() -> None:
    rig = Rig()
    victim, far = rig.element(1).register(), rig.element(2)
    for identifier in (victim.identifier, 0):
        assert refused(far, far.offer(identifier=identifier)) == ErrorCause(CauseCode.SECURITY_REJECTION)
    assert [r.threat for r in rig.seen(Refused)] == ["2.3", "2.3"]


@pytest.mark.rfc("PROTOCOL 14.32: a PE identifier follows from the certificate")
def test_every_identifier_of_its_certificate_is_an_elements_own() -> None:
    rig = Rig()
    far = rig.element(1)
    for identifier in sorted(far.association.principal.pe_identifiers):
        far.register(identifier=identifier)
    assert rig.elements().keys() == far.association.principal.pe_identifiers


# -- what is asked


def listening(element: PoolElement, transport: TcpTransport | SctpTransport | None) -> PoolElement:
    return replace(element, asap_transport=transport)


@pytest.mark.rfc("PROTOCOL 9.2: over TCP a registrar understands users only")
def test_tcp_needs_the_tcp_profile() -> None:
    rig = Rig(dialect=RFC_SCTP_ONLY)
    far = rig.element(1)
    offer = listening(far.offer(), None)
    assert refused(far, offer) == shown(offer)
    rig.element(1, kind=TransportKind.SCTP).register()


@pytest.mark.rfc("PROTOCOL 9.9: over TCP an element says where it listens")
def test_tcp_needs_a_port_where_the_element_listens() -> None:
    far = Rig().element(1)
    for named in (None, SctpTransport(port=3864, addresses=(far.address,))):
        offer = listening(far.offer(), named)
        assert refused(far, offer) == shown(offer)


VALUES: dict[str, tuple[dict[str, Any], bytes, bytes]] = {
    "PE identifier 0": ({"identifier": 0}, POOL, b""),
    "a pool handle of 256 octets": ({}, b"h" * 256, b""),
    "a Pool Element of more than 1024 octets": ({"unrecognized": TOO_LONG}, POOL, b""),
    "a long opaque transport": ({"transport": OpaqueTransport(value=bytes(1100))}, POOL, b""),
    "an unknown policy": (
        {"policy": UnknownPolicy(0xB0001001, b"\1\2\3\4")},
        POOL,
        encode_policy(UnknownPolicy(0xB0001001, b"\1\2\3\4")),
    ),
}


@pytest.mark.rfc("RFC 5352 3.1: every registration is answered")
@pytest.mark.rfc("RFC 5356 7.1: policies nobody knows are not registered")
@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_nobody_may_register_is_refused_with_cause_3(name: str) -> None:
    changes, handle, info = VALUES[name]
    rig = Rig(secure=False)
    far = rig.element(1)
    assert refused(far, far.offer(**changes), handle) == invalid_values(info)
    assert len(rig.seen(Ignored)) == 1


@pytest.mark.rfc("RFC 5354 3.9: a pool handle is any octets")
def test_a_pool_handle_of_255_octets_is_accepted_whatever_they_are() -> None:
    rig = Rig(secure=False)
    handle = bytes(range(255))
    rig.element(1).register(handle)
    assert rig.user().resolve(handle).elements


def test_a_pool_element_of_1024_octets_is_not_too_long() -> None:
    rig = Rig()
    element = rig.element(1)
    around = len(encode_element(element.offer(transport=OpaqueTransport(value=b"")), rig.dialect))
    longest = element.offer(transport=OpaqueTransport(value=bytes(1024 - around)))
    longer = element.offer(transport=OpaqueTransport(value=bytes(1025 - around)))
    assert refused(element, longer) == invalid_values()
    assert not element.ask_to_register(longest).reject


UNUSABLE = (
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "127.0.0.1",
    "169.254.1.1",
    "fe80::1",
    "::1",
    "255.255.255.255",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
)


@pytest.mark.rfc("PROTOCOL 3.1: addresses that nobody else could reach are not registered")
@pytest.mark.parametrize("address", UNUSABLE)
def test_an_address_where_nobody_else_could_reach_it_is_refused_even_if_it_speaks_from_there(address: str) -> None:
    rig = Rig(secure=False)
    far = rig.element(1, "10.0.0.1", address, kind=TransportKind.SCTP)
    offer = far.offer(transport=SctpTransport(port=7, addresses=(far.address, ip_address(address))))
    assert refused(far, offer) == shown(offer)
    listener = rig.element(2, "10.0.0.2", address)
    offer = listener.offer(transport=at("10.0.0.2"), asap_transport=at(address, 3864))
    assert refused(listener, offer) == shown(offer)


def test_loopback_may_be_registered_where_a_test_says_so() -> None:
    rig = Rig(loopback=True)
    element = rig.element(1, "127.0.0.1").register()
    assert rig.elements().keys() == {element.identifier}


# -- limits


@pytest.mark.rfc("RFC 5352 3.1: a registrar may refuse for other reasons")
def test_a_full_handlespace_takes_no_new_element() -> None:
    rig = Rig(limits=Limits(elements=2))
    rig.peer(0xBEEF, foreign(1))
    rig.element(2).register()
    far = rig.element(3)
    assert refused(far, far.offer()) == ErrorCause(CauseCode.LACK_OF_RESOURCES)


@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_a_full_handlespace_takes_no_new_pool() -> None:
    rig = Rig(secure=False, limits=Limits(pools=1))
    rig.element(1).register(b"one")
    far = rig.element(2)
    assert refused(far, far.offer(), b"two") == ErrorCause(CauseCode.LACK_OF_RESOURCES)
    far.register(b"one")


@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_an_identity_registers_so_many_elements_and_others_as_many_again() -> None:
    rig = Rig(limits=Limits(elements_per_identity=2))
    far, other = rig.element(1), rig.element(2)
    first, second, third = sorted(far.association.principal.pe_identifiers)[:3]
    far.register(identifier=first)
    rig.element(1).register(identifier=second)  # over another association, the identity is what counts
    assert refused(far, far.offer(identifier=third)) == ErrorCause(CauseCode.LACK_OF_RESOURCES)
    other.register()
    assert far.deregister(identifier=first) == ()
    far.register(identifier=third)


@pytest.mark.rfc("RFC 5352 3.1: a registrar may refuse for other reasons")
@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_an_identity_that_registers_too_often_gets_cause_6_and_others_are_not_affected() -> None:
    rig = Rig(limits=Limits(registrations=Rate(2, 3)))
    flood, element = rig.element(1), rig.element(2)
    for _ in range(3):
        flood.register()
    assert refused(flood, flood.offer(life=7)) == ErrorCause(CauseCode.LACK_OF_RESOURCES)
    again = rig.element(1)  # a new association is not a new allowance
    assert refused(again, again.offer()) == ErrorCause(CauseCode.LACK_OF_RESOURCES)
    element.register()
    rig.run(0.5)
    flood.register()
    assert refused(flood, flood.offer(life=7)) == ErrorCause(CauseCode.LACK_OF_RESOURCES)


# -- where it speaks from


@pytest.mark.rfc("RFC 5352 2.2.1: an element registers the addresses of its association only")
@pytest.mark.parametrize("secure", [True, False])
def test_an_element_registers_no_address_but_its_own(*, secure: bool) -> None:
    rig = Rig(secure=secure)
    rig.element(2).register()
    far = rig.element(1)
    for changes in ({"transport": at("10.0.0.2")}, {"asap_transport": at("10.0.0.2", 3864)}):
        offer = far.offer(**changes)
        assert refused(far, offer) == (ErrorCause(CauseCode.SECURITY_REJECTION) if secure else shown(offer))
    assert [r.threat for r in rig.seen(Refused)] == ["2.3", "2.3"]


@pytest.mark.rfc("RFC 5352 2.2.1: an element registers the addresses of its association only")
@pytest.mark.parametrize("secure", [True, False])
def test_one_foreign_address_among_its_own_is_one_too_many(*, secure: bool) -> None:
    rig = Rig(secure=secure)
    far = rig.element(1, "10.0.0.1", "fd00::1", kind=TransportKind.SCTP)
    offer = far.offer(transport=SctpTransport(port=7, addresses=(far.address, ip_address("fd00::2"))))
    assert refused(far, offer) == (ErrorCause(CauseCode.SECURITY_REJECTION) if secure else shown(offer))


# -- whether it fits its pool


@dataclass(frozen=True)
class Misfit:
    first: dict[str, Any]
    second: dict[str, Any]
    cause: ErrorCause


def sctp(number: int, use: TransportUse = TransportUse.DATA_ONLY) -> SctpTransport:
    return SctpTransport(port=7, addresses=(ip_address(f"10.0.0.{number}"),), use=use)


CONTROL = TransportUse.DATA_PLUS_CONTROL
MISFITS = {
    "another transport": Misfit(
        {"transport": at("10.0.0.1")},
        {"transport": UdpTransport(port=7, address=ip_address("10.0.0.2"))},
        ErrorCause(CauseCode.INCONSISTENT_TRANSPORT_TYPE, encode_transport(at("10.0.0.1"), RFC)),
    ),
    "control where the pool has none": Misfit(
        {"transport": sctp(1)}, {"transport": sctp(2, CONTROL)}, ErrorCause(CauseCode.INCONSISTENT_DATA_CONTROL)
    ),
    "no control where the pool has it": Misfit(
        {"transport": sctp(1, CONTROL)}, {"transport": sctp(2)}, ErrorCause(CauseCode.INCONSISTENT_DATA_CONTROL)
    ),
    "another policy": Misfit(
        {"policy": policies.WeightedRoundRobin(3)},
        {"policy": policies.RoundRobin()},
        ErrorCause(CauseCode.INCONSISTENT_POLICY, encode_policy(policies.WeightedRoundRobin(3))),
    ),
}


@pytest.mark.rfc("RFC 5354 3.12.8: cause 0x7 carries the pool's transport")
@pytest.mark.rfc("RFC 5352 3.1: another policy is refused with cause 0x5")
@pytest.mark.rfc("RFC 5352 3.1: another transport is refused with cause 0x7")
@pytest.mark.rfc("RFC 5352 3.1: another transport use is refused with cause 0x8")
@pytest.mark.parametrize("name", MISFITS)
def test_an_element_that_does_not_fit_its_pool_is_shown_what_the_pool_is(name: str) -> None:
    misfit = MISFITS[name]
    rig = Rig()
    rig.element(1).register(**misfit.first)
    far = rig.element(2)
    assert refused(far, far.offer(**misfit.second)) == misfit.cause


@pytest.mark.rfc("RFC 5352 3.1: another policy is refused with cause 0x5")
def test_an_element_may_not_change_the_policy_of_its_pool_even_if_it_is_alone() -> None:
    rig = Rig()
    far = rig.element(1).register()
    assert refused(far, far.offer(policy=policies.Random())).code == CauseCode.INCONSISTENT_POLICY


# -- the order of the checks

FAULTS: list[tuple[CauseCode, str]] = [
    (CauseCode.SECURITY_REJECTION, "a user asks"),
    (CauseCode.INVALID_VALUES, "over TCP without the profile"),
    (CauseCode.INVALID_VALUES, "a Pool Element that is too long"),
    (CauseCode.LACK_OF_RESOURCES, "too often"),
    (CauseCode.SECURITY_REJECTION, "an address of somebody else"),
    (CauseCode.INCONSISTENT_TRANSPORT_TYPE, "another transport"),
    (CauseCode.INCONSISTENT_DATA_CONTROL, "another use"),
    (CauseCode.INCONSISTENT_POLICY, "another policy"),
    (CauseCode.NON_UNIQUE_PE_IDENTIFIER, "an identifier that is taken"),
]


@pytest.mark.rfc("PROTOCOL 10.4: the first check that fails is the answer")
@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[what for _, what in FAULTS])
def test_of_several_faults_the_first_one_in_the_rfcs_order_is_the_answer(first: int) -> None:
    rig = Rig(limits=Limits(registrations=ONCE), dialect=RFC_SCTP_ONLY)
    owner = Principal(role=Role.ELEMENT, name="owner", pe_identifiers=frozenset({7}))
    rig.connect(owner, "10.0.0.1", identifier=7, kind=TransportKind.SCTP).register(transport=sctp(1))

    role = Role.USER if first == 0 else Role.ELEMENT
    kind = TransportKind.TCP if first <= 1 else TransportKind.SCTP
    principal = Principal(role=role, name="other", pe_identifiers=frozenset({7, 8}))
    far = rig.connect(principal, "10.0.0.2", identifier=8, kind=kind)
    if first == 3:  # its one registration is spent on something that is refused later
        assert far.ask_to_register(far.offer(transport=sctp(2), policy=policies.Random())).reject
    address = 9 if first <= 4 else 2
    transport = sctp(address, CONTROL) if first == 6 else sctp(address) if first > 6 else at(f"10.0.0.{address}")
    offer = far.offer(
        identifier=7,
        transport=transport,
        policy=policies.Random() if first <= 7 else policies.RoundRobin(),
        unrecognized=TOO_LONG if first <= 2 else (),
        asap_transport=None,
    )
    cause = refused(far, offer)
    assert cause.code == FAULTS[first][0]
    if first == 1:
        assert cause.info  # the transport is shown, the length of the element is not
    if first == 2:
        assert not cause.info


@pytest.mark.rfc("PROTOCOL 10.4: the first check that fails is the answer")
def test_what_is_refused_before_the_limits_costs_an_identity_nothing() -> None:
    rig = Rig(limits=Limits(registrations=ONCE))
    far = rig.element(1)
    for offer in (far.offer(identifier=1), far.offer(unrecognized=TOO_LONG)):
        assert refused(far, offer).code != CauseCode.LACK_OF_RESOURCES
    far.register()
    assert refused(far, far.offer()) == ErrorCause(CauseCode.LACK_OF_RESOURCES)
