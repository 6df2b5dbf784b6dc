# SPDX-License-Identifier: Apache-2.0
"""Whose a PE identifier is: who has registered it, who lives where it lives, and who has been robbed of it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Refused
from rserpool.wire import CauseCode, ErrorCause, OpaqueTransport, SctpTransport
from support.rig_asapserver import Far, Rig, foreign, refused


def certified(rig: Rig, name: str, address: str, *identifiers: int) -> Far:
    """An element by hand: two of them may claim one identifier, as two pods whose numbers collide."""
    principal = Principal(role=Role.ELEMENT, name=name, pe_identifiers=frozenset(identifiers))
    return rig.connect(principal, address, identifier=identifiers[0])


@pytest.mark.rfc("RFC 5352 3.1: an identifier that another element has is refused with cause 0x4")
def test_an_identifier_of_another_identity_is_taken_even_at_the_same_address() -> None:
    rig = Rig()
    certified(rig, "first", "10.0.0.1", 7, 8).register()
    second = certified(rig, "second", "10.0.0.1", 7, 9)
    assert refused(second, second.offer()) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
    assert [r.threat for r in rig.seen(Refused)] == ["2.3"]
    second.register(identifier=9)


@pytest.mark.rfc("RFC 5352 3.1: an identifier that another element has is refused with cause 0x4")
@pytest.mark.parametrize("kind", TransportKind)
def test_an_element_of_another_registrar_belongs_to_whoever_has_its_addresses(kind: TransportKind) -> None:
    rig = Rig()
    rig.peer(0xBEEF, foreign(1))
    stranger = rig.element(1, "10.0.0.9", kind=kind)
    assert refused(stranger, stranger.offer()) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
    rig.element(1, "10.0.0.1", kind=kind).register()


def test_some_of_the_addresses_of_another_registrars_element_are_not_enough() -> None:
    rig = Rig()
    both = (*foreign(1).transport.addresses, ip_address("fd00::1"))
    rig.peer(0xBEEF, foreign(1, transport=SctpTransport(port=7, addresses=both)))
    one = rig.element(1, kind=TransportKind.SCTP)
    offer = one.offer(transport=SctpTransport(port=7, addresses=(ip_address("10.0.0.1"),)))
    assert refused(one, offer) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
    rig.element(1, "10.0.0.1", "fd00::1", kind=TransportKind.SCTP).register(transport=offer.transport)


def test_an_element_of_another_registrar_that_has_no_address_belongs_to_nobody_here() -> None:
    rig = Rig()
    opaque = OpaqueTransport(value=b"unix")
    rig.peer(0xBEEF, foreign(1, transport=opaque))
    far = rig.element(1)
    assert refused(far, far.offer(transport=opaque)) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)


@pytest.mark.rfc("RFC 5352 3.1: an identifier that another element has is refused with cause 0x4")
def test_without_security_the_address_or_the_association_says_who_is_who() -> None:
    rig = Rig(secure=False)
    first = rig.element(7).register()
    same = rig.connect(first.association.principal, "10.0.0.7", identifier=7)
    same.register(life=30)
    other = rig.connect(rig.principal(Role.ELEMENT, 8), "10.0.0.8", identifier=7)
    assert refused(other, other.offer()) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
    opaque = rig.element(9).register(b"two", transport=OpaqueTransport(value=b"a"))
    opaque.register(b"two", transport=OpaqueTransport(value=b"b"))
    double = rig.element(9)
    taken = refused(double, double.offer(transport=OpaqueTransport(value=b"c")), b"two")
    assert taken == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)


@pytest.mark.rfc("PROTOCOL 10.5: what a registrar says of elements keeps none of them out")
def test_who_finds_several_of_its_identifiers_taken_by_hearsay_is_robbed_and_may_register() -> None:
    rig = Rig()
    rig.peer(0xBEEF, foreign(1, identifier=7), foreign(1, identifier=8))
    element = certified(rig, "element", "10.0.0.9", 7, 8, 9).register()
    assert element.is_up()
    assert rig.elements()[7]["transport"].split(":")[1] == "10.0.0.9"
    assert [r.threat for r in rig.seen(Refused)] == []


def test_what_others_have_registered_here_is_theirs_however_much_it_is() -> None:
    rig = Rig()
    certified(rig, "first", "10.0.0.1", 7, 10).register()
    certified(rig, "second", "10.0.0.2", 8, 11).register()
    third = certified(rig, "third", "10.0.0.3", 7, 8)
    assert refused(third, third.offer()) == ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER)
