# SPDX-License-Identifier: Apache-2.0
"""An element leaves by its own word only; every request is answered, and what was not there is no error."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Change, ElementChanged, Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import Limits
from rserpool.wire import RFC_SCTP_ONLY, CauseCode, ErrorCause, UpdateAction, asap
from support.rig_asapserver import PEER_ID, POOL, SERVER_ID, Far, Rig, foreign, keep_alives, updates

SECURITY = (ErrorCause(CauseCode.SECURITY_REJECTION),)
RESOURCES = (ErrorCause(CauseCode.LACK_OF_RESOURCES),)


def refused(far: Far, identifier: int, handle: bytes = POOL) -> tuple[ErrorCause, ...]:
    """Deregister what must not be deregistered: nothing changes and nobody is told. Returns the error."""
    rig, peer = far.rig, far.rig.witness
    before, own = rig.space, rig.machine.counts()["own"]
    rig.seen(ElementChanged)
    error = far.deregister(handle, identifier)
    assert rig.space == before
    assert rig.machine.counts()["own"] == own
    assert updates(peer) == []
    assert rig.seen(ElementChanged) == []
    return error


@pytest.mark.rfc("RFC 5352 3.2: every deregistration is answered")
def test_an_element_that_deregisters_is_removed_and_its_removal_announced() -> None:
    rig = Rig()
    stays, leaves = rig.element(1).register(), rig.element(2).register()
    peer = rig.witness
    rig.seen(ElementChanged)
    assert leaves.deregister() == ()
    assert rig.elements().keys() == {stays.identifier}
    assert updates(peer) == [(UpdateAction.DEL_PE, POOL, leaves.offer(home=SERVER_ID))]
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.element.identifier) == (Change.DEREGISTERED, leaves.identifier)


@pytest.mark.rfc("RFC 5352 3.2: the last element takes its pool with it")
def test_the_last_element_takes_its_pool_with_it() -> None:
    rig = Rig()
    rig.element(1).register().deregister()
    assert rig.space == {"pools": [], "checksums": {}}


@pytest.mark.rfc("RFC 3237 2.7: joining and leaving interrupt nobody")
def test_an_element_that_left_keeps_its_association_and_is_asked_no_more() -> None:
    rig = Rig()
    element = rig.element(1).register()
    element.deregister()
    rig.run(5)
    assert element.is_up()
    assert keep_alives(element) == []
    element.lose()
    rig.run(5)
    assert rig.connects == []


def test_an_element_that_left_may_come_back() -> None:
    rig = Rig(limits=Limits(elements_per_identity=1))
    element = rig.element(1).register()
    element.deregister()
    element.register()
    rig.run(1.5)
    assert keep_alives(element)


def test_an_element_may_deregister_over_another_association_and_over_one_it_shares() -> None:
    rig = Rig()
    first = rig.element(1)
    low, high = sorted(first.association.principal.pe_identifiers)[:2]
    first.register(identifier=low)
    first.register(identifier=high)
    assert rig.element(1).deregister(identifier=low) == ()
    rig.run(1.5)
    assert rig.elements().keys() == {high}
    assert {m.pe_identifier for m in first.take() if isinstance(m, asap.EndpointKeepAlive)} == {high}


@pytest.mark.rfc("RFC 5352 3.2: what is not registered is deregistered without an error")
@pytest.mark.rfc("RFC 5352 3.2: peers hear of a removal only if there was one")
@pytest.mark.parametrize("handle", [POOL, b"none"])
def test_what_is_not_registered_is_deregistered_without_an_error_and_without_a_word_to_the_peers(handle: bytes) -> None:
    rig = Rig(secure=False)
    rig.element(1).register()
    assert refused(rig.element(2), 2, handle) == ()


@pytest.mark.rfc("RFC 5352 3.2: what is not registered is deregistered without an error")
def test_deregistering_twice_is_no_error() -> None:
    element = Rig().element(1).register()
    assert element.deregister() == ()
    assert element.deregister() == ()


# -- whose word counts


@pytest.mark.rfc("RFC 5352 3.2: every deregistration is answered")
@pytest.mark.parametrize(("role", "threat"), [(Role.ANONYMOUS, "2.1"), (Role.USER, "2.2"), (Role.REGISTRAR, "2.2")])
def test_only_an_element_may_deregister(role: Role, threat: str) -> None:
    rig = Rig()
    victim = rig.element(1).register()
    assert refused(rig.user(1, role), victim.identifier) == SECURITY
    assert [(r.threat, r.what) for r in rig.seen(Refused)] == [(threat, "ASAP_DEREGISTRATION")]


@pytest.mark.rfc("RFC 5352 3.2: peers hear of a removal only if there was one")
@pytest.mark.rfc("RFC 5352 3.2: nobody deregisters another element")
def test_an_element_may_not_deregister_another() -> None:
    rig = Rig()
    victim = rig.element(1).register()
    assert refused(rig.element(2), victim.identifier) == SECURITY
    assert refused(rig.element(2, "10.0.0.1"), victim.identifier) == SECURITY  # not even from its address
    assert [r.threat for r in rig.seen(Refused)] == ["2.3", "2.3"]


def test_an_element_may_not_deregister_in_another_pool() -> None:
    rig = Rig()
    element = rig.element(1).register()
    assert refused(element, element.identifier, b"other") == SECURITY
    assert [r.threat for r in rig.seen(Refused)] == ["2.4"]


@pytest.mark.rfc("RFC 5352 3.2: nobody deregisters another element")
def test_a_sibling_whose_certificate_allows_the_same_number_may_not_deregister_it() -> None:
    rig = Rig()
    for name, address in (("first", "10.0.0.1"), ("second", "10.0.0.1")):
        principal = Principal(role=Role.ELEMENT, name=name, pe_identifiers=frozenset({7}))
        far = rig.connect(principal, address, identifier=7)
        if name == "first":
            far.register()
        else:
            assert refused(far, 7) == SECURITY
    assert [r.threat for r in rig.seen(Refused)] == ["2.3"]


def test_without_security_nobody_deregisters_from_another_address() -> None:
    rig = Rig(secure=False)
    rig.element(1).register()
    assert refused(rig.element(2), 1) == SECURITY
    assert rig.element(1).deregister() == ()
    assert rig.elements() == {}


def test_a_pool_handle_that_nobody_may_register_is_not_deregistered_either() -> None:
    rig = Rig(secure=False)
    rig.element(1).register()
    [error] = refused(rig.element(1), rig.element(1).identifier, b"h" * 256)
    assert error.code == CauseCode.INVALID_VALUES
    assert rig.element(1).deregister(b"h" * 255) == ()


# -- another registrar's element


@pytest.mark.rfc("PROTOCOL 10.5: who deregisters away from its home is owned first")
def test_an_element_that_lost_its_home_is_owned_first_and_then_let_go() -> None:
    rig = Rig()
    peer = rig.peer(PEER_ID, foreign(1))
    updates(peer)
    assert rig.element(1).deregister() == ()
    ours = foreign(1, home=SERVER_ID)
    assert updates(peer) == [(UpdateAction.ADD_PE, POOL, ours), (UpdateAction.DEL_PE, POOL, ours)]
    assert rig.space["pools"] == []
    rig.run(400)
    assert rig.connects == []


def test_another_registrars_element_is_let_go_by_nobody_who_speaks_from_elsewhere() -> None:
    rig = Rig()
    rig.peer(PEER_ID, foreign(1))
    stranger = rig.element(1, "10.0.0.9")
    assert refused(stranger, stranger.identifier) == SECURITY


# -- limits and transports


@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_deregistrations_count_with_registrations() -> None:
    rig = Rig(limits=Limits(registrations=Rate(1, 2)))
    element, other = rig.element(1).register(), rig.element(2).register()
    assert element.deregister(identifier=min(element.association.principal.pe_identifiers)) == ()
    assert refused(element, element.identifier) == RESOURCES
    assert other.deregister() == ()
    rig.run(1)
    assert element.deregister() == ()


@pytest.mark.rfc("PROTOCOL 9.2: over TCP a registrar understands users only")
def test_over_tcp_without_the_tcp_profile_nobody_deregisters() -> None:
    """PROTOCOL 9.2: an ASAP_DEREGISTRATION over TCP is answered with cause 0x3."""
    rig = Rig(dialect=RFC_SCTP_ONLY)
    element = rig.element(1, kind=TransportKind.SCTP).register()
    over_tcp = rig.element(1)
    assert [cause.code for cause in refused(over_tcp, element.identifier)] == [CauseCode.INVALID_VALUES]
    assert element.deregister() == ()
