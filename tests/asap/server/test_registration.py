# SPDX-License-Identifier: Apache-2.0
"""A granted registration: what is recorded, answered, announced, and what registering again keeps and replaces."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from random import Random
from typing import Any

import pytest

from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Change, ElementChanged
from rserpool.asap.server.desk import Limits
from rserpool.handlespace import Handlespace, dump
from rserpool.wire import (
    RSPLIB,
    OpaqueTransport,
    Policy,
    SctpTransport,
    TcpTransport,
    TransportUse,
    UnrecognizedParameter,
    UpdateAction,
    asap,
    encode,
    invalid_values,
    policies,
)
from rserpool.wire.elements import encode_element
from support.rig_asapserver import (
    APP_PORT,
    LISTENING,
    PEER_ID,
    POOL,
    QUIET,
    SCTP_PORT,
    SERVER_ID,
    Far,
    Rig,
    add,
    codes,
    foreign,
    keep_alives,
    updates,
)

OURS = f"{SERVER_ID:#010x}"


def dump_of_a_peer_that_heard(peer: Far) -> dict[str, Any]:
    space = Handlespace(Random(0))
    for _, handle, element in updates(peer):
        space.put(handle, element)
    return dump(space)


def changes(rig: Rig) -> list[tuple[Change, int]]:
    return [(e.change, e.element.identifier) for e in rig.seen(ElementChanged)]


@pytest.mark.rfc("RFC 5352 3.1: every registration is answered")
@pytest.mark.rfc("PROTOCOL 9.9: over TCP an element says where it listens")
def test_a_registration_over_tcp_is_recorded_with_its_listening_port_answered_and_announced() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    assert element.ask_to_register() == asap.RegistrationResponse(pool_handle=POOL, pe_identifier=element.identifier)
    assert rig.elements() == {
        element.identifier: {
            "identifier": f"{element.identifier:#010x}",
            "home": OURS,
            "life": 300,
            "transport": f"tcp:10.0.0.1:{APP_PORT}",
            "policy": "RoundRobin()",
            "asap": f"tcp:10.0.0.1:{LISTENING}",
        }
    }
    assert updates(peer) == [(UpdateAction.ADD_PE, POOL, element.offer(home=SERVER_ID))]
    assert changes(rig) == [(Change.REGISTERED, element.identifier)]


@pytest.mark.rfc("RFC 5352 3.1: the registrar records from where an element registered")
@pytest.mark.parametrize(
    "named",
    [
        None,
        SctpTransport(port=1, addresses=(ip_address("10.0.0.1"),)),
        SctpTransport(port=9, addresses=(ip_address("10.9.9.9"),), use=TransportUse.DATA_PLUS_CONTROL),
        TcpTransport(port=LISTENING, address=ip_address("10.0.0.1")),
    ],
)
def test_over_sctp_the_asap_transport_is_the_association_whatever_the_element_says(
    named: SctpTransport | TcpTransport | None,
) -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1, "10.0.0.1", "fd00::1", kind=TransportKind.SCTP)
    element.register(asap_transport=named)
    assert rig.elements()[element.identifier]["asap"] == f"sctp:10.0.0.1+[fd00::1]:{SCTP_PORT}"
    recorded = SctpTransport(port=SCTP_PORT, addresses=element.association.peer_addresses)
    assert [e.asap_transport for _, _, e in updates(peer)] == [recorded]


@pytest.mark.rfc("RFC 5352 2.2.1: an element registers the addresses of its association only")
def test_over_sctp_any_addresses_of_the_association_may_be_registered() -> None:
    rig = Rig()
    element = rig.element(1, "10.0.0.1", "fd00::1", "10.0.0.9", kind=TransportKind.SCTP)
    some = (ip_address("10.0.0.9"), ip_address("fd00::1"))
    element.register(transport=SctpTransport(port=7, addresses=some, use=TransportUse.DATA_PLUS_CONTROL))
    assert rig.elements()[element.identifier]["transport"] == "sctp:10.0.0.9+[fd00::1]:7/control"


@pytest.mark.rfc("RFC 5352 3.1: an element that registers belongs to the registrar that granted it")
def test_the_home_an_element_names_is_ignored() -> None:
    rig = Rig()
    element = rig.element(1).register(home=0xDEAD)
    assert rig.elements()[element.identifier]["home"] == OURS


def test_an_opaque_transport_has_no_address_to_check() -> None:
    rig = Rig()
    element = rig.element(1).register(transport=OpaqueTransport(value=b"unix"))
    assert rig.elements()[element.identifier]["transport"] == "opaque:756e6978"


def test_what_an_element_adds_beyond_the_rfc_is_not_spread() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    extra = (UnrecognizedParameter(1, bytes.fromhex("81230004")),)
    transport = TcpTransport(port=APP_PORT, address=element.address, unrecognized=extra)
    listening = TcpTransport(port=LISTENING, address=element.address, unrecognized=extra)
    element.register(transport=transport, asap_transport=listening, unrecognized=extra)
    assert [e for _, _, e in updates(peer)] == [element.offer(home=SERVER_ID)]


def test_an_address_in_its_ipv6_form_is_the_ipv4_address_it_stands_for_in_every_registrars_dump() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    placeholder = IPv6Address("2001:db8::1")
    offer = element.offer(transport=TcpTransport(port=7, address=placeholder))
    octets = encode(asap.Registration(pool_handle=POOL, element=offer))
    (answer,) = element.send_octets(octets.replace(placeholder.packed, IPv6Address("::ffff:10.0.0.1").packed))
    assert answer == asap.RegistrationResponse(pool_handle=POOL, pe_identifier=element.identifier)
    assert rig.space == dump_of_a_peer_that_heard(peer)


def test_an_association_seen_under_the_ipv6_form_of_its_address_gives_every_registrar_the_same_dump() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1, "::ffff:10.0.0.1", kind=TransportKind.SCTP)
    element.register(transport=TcpTransport(port=7, address=ip_address("10.0.0.1")))
    assert rig.space == dump_of_a_peer_that_heard(peer)


@pytest.mark.rfc("RFC 5352 3.1: a new pool takes policy and transport of its first element")
def test_a_pool_takes_its_policy_and_transport_from_its_first_element_and_any_policy_data_after_that() -> None:
    rig = Rig()
    first = rig.element(1).register(policy=policies.WeightedRoundRobin(3))
    second = rig.element(2).register(policy=policies.WeightedRoundRobin(1))
    (pool,) = rig.space["pools"]
    assert (pool["policy"], pool["transport"]) == ("WEIGHTED_ROUND_ROBIN", "TCP")
    assert rig.elements()[first.identifier]["policy"] == "WeightedRoundRobin(weight=3)"
    assert rig.elements()[second.identifier]["policy"] == "WeightedRoundRobin(weight=1)"


# -- life


@pytest.mark.rfc("PROTOCOL 10.4: a life that is too long is cut with a warning")
@pytest.mark.parametrize("asked", [-1, 61, 2**31 - 1])
def test_a_life_beyond_the_longest_is_capped_with_a_warning_that_shows_the_element(asked: int) -> None:
    rig = Rig(timers=replace(QUIET, max_life=60.0))
    peer, element = rig.peer(), rig.element(1)
    answer = element.ask_to_register(element.offer(life=asked))
    granted = element.offer(life=60, home=SERVER_ID)
    warning = (invalid_values(encode_element(granted, rig.dialect)),)
    assert answer == asap.RegistrationResponse(pool_handle=POOL, pe_identifier=element.identifier, error=warning)
    assert rig.elements()[element.identifier]["life"] == 60
    assert [e.life for _, _, e in updates(peer)] == [60]


@pytest.mark.parametrize("asked", [1, 60])
def test_a_life_within_the_limit_is_granted_as_it_is(asked: int) -> None:
    rig = Rig(timers=replace(QUIET, max_life=60.0))
    element = rig.element(1)
    assert element.ask_to_register(element.offer(life=asked)).error == ()
    assert rig.elements()[element.identifier]["life"] == asked


def test_a_day_is_the_longest_life() -> None:
    rig = Rig()
    element = rig.element(1).register(life=-1)
    assert rig.elements()[element.identifier]["life"] == 86400


@pytest.mark.rfc("PROTOCOL 10.4: a life that is too long is cut with a warning")
def test_rsplibs_milliseconds_are_capped_in_milliseconds() -> None:
    rig = Rig(secure=False, dialect=RSPLIB, timers=replace(QUIET, max_life=60.0))
    element = rig.element(1, kind=TransportKind.SCTP)
    assert element.ask_to_register(element.offer(life=59_999)).error == ()
    assert codes(element.ask_to_register(element.offer(life=60_001)).error) == [0x3]
    assert rig.elements()[1]["life"] == 60_000


# -- registering again


@pytest.mark.rfc("RFC 5352 3.1: registering again replaces all attributes and begins a new life")
def test_registering_again_replaces_every_attribute_and_is_announced_again() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    element.register(policy=policies.LeastUsed(1))
    rig.seen(ElementChanged)
    updates(peer)
    changed = element.offer(
        life=77,
        transport=TcpTransport(port=8, address=element.address),
        policy=policies.LeastUsed(2),
        asap_transport=TcpTransport(port=9, address=element.address),
    )
    assert element.ask_to_register(changed).error == ()
    assert rig.elements() == {
        element.identifier: {
            "identifier": f"{element.identifier:#010x}",
            "home": OURS,
            "life": 77,
            "transport": "tcp:10.0.0.1:8",
            "policy": "LeastUsed(load=2)",
            "asap": "tcp:10.0.0.1:9",
        }
    }
    assert updates(peer) == [(UpdateAction.ADD_PE, POOL, replace(changed, home=SERVER_ID))]
    assert changes(rig) == [(Change.UPDATED, element.identifier)]


@pytest.mark.rfc("RFC 5353 3.3: every granted registration is told to all peers")
def test_registering_again_unchanged_is_answered_and_announced_without_an_event() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1).register()
    rig.seen(ElementChanged)
    before = rig.space
    updates(peer)
    element.register()
    assert rig.space == before
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.ADD_PE]
    assert changes(rig) == []


@pytest.mark.rfc("RFC 5352 3.1: registering again replaces all attributes and begins a new life")
def test_registering_again_begins_a_new_life_of_the_new_length() -> None:
    rig = Rig()
    element = rig.element(1).register(life=10)
    element.acknowledges = True
    rig.run(8)
    element.register(life=20)
    rig.run(19.9)
    assert list(rig.elements()) == [element.identifier]
    rig.run(0.2)
    assert rig.elements() == {}


def firsts(rig: Rig, user: Far, times: int) -> list[int]:
    return [user.resolve(items=1).elements[0].identifier for _ in range(times)]


@pytest.mark.parametrize("changed", [{}, {"life": 30}])
def test_the_round_robin_goes_on_where_it_was_when_an_element_registers_again(changed: dict[str, Any]) -> None:
    rig = Rig()
    a, b, c = (rig.element(n).register() for n in (1, 2, 3))
    user = rig.user()
    assert firsts(rig, user, 1) == [a.identifier]
    a.register(**changed)
    b.register(**changed)
    assert firsts(rig, user, 3) == [b.identifier, c.identifier, a.identifier]


def test_a_weighted_schedule_survives_registering_again_with_the_same_weight() -> None:
    rig = Rig()
    heavy = rig.element(1).register(policy=policies.WeightedRoundRobin(3))
    light = rig.element(2).register(policy=policies.WeightedRoundRobin(1))
    user, given = rig.user(), []
    for _ in range(40):
        given += firsts(rig, user, 1)
        heavy.register(policy=policies.WeightedRoundRobin(3))
    assert given.count(heavy.identifier) == 30
    assert given.count(light.identifier) == 10


@pytest.mark.rfc("RFC 5356 5.2.2: degradation is added for each time an element was given out")
def test_degradation_begins_anew_for_the_element_that_registers_again_and_for_no_other() -> None:
    rig = Rig()
    policy: Policy = policies.LeastUsedDegradation(0, 10)
    a, b = rig.element(1).register(policy=policy), rig.element(2).register(policy=policy)
    user = rig.user()
    for _ in range(3):
        assert len(user.resolve().elements) == 2  # each has been given out three times
    a.register(policy=policy)
    assert firsts(rig, user, 3) == [a.identifier] * 3
    b.register(policy=policy)
    assert firsts(rig, user, 1) == [b.identifier]


def test_an_element_that_registers_over_another_association_leaves_the_first_one_in_peace() -> None:
    rig = Rig()
    old, new = rig.element(1).register(), rig.element(1)
    new.register()
    assert old.closed is not None
    assert not old.closed.abort
    rig.run(3)
    assert len(keep_alives(new)) >= 1
    assert rig.connects == []


def test_an_association_that_other_elements_use_stays_when_one_of_them_takes_another() -> None:
    rig = Rig(secure=False)
    shared, own = rig.element(1), rig.element(1)
    shared.register(identifier=1)
    shared.register(identifier=2)
    own.register(identifier=2)
    assert shared.is_up()
    rig.run(2)
    assert keep_alives(shared)
    assert keep_alives(own)


def test_a_pod_that_got_another_address_is_still_the_same_element() -> None:
    rig = Rig()
    rig.element(1).register()
    moved = rig.element(1, "10.0.7.7").register()
    assert rig.elements()[moved.identifier]["transport"] == f"tcp:10.0.7.7:{APP_PORT}"


@pytest.mark.rfc("RFC 5352 3.1: an element that registers belongs to the registrar that granted it")
def test_an_element_that_lost_its_home_becomes_ours() -> None:
    rig = Rig()
    peer = rig.peer(PEER_ID, foreign(1))
    updates(peer)
    rig.seen(ElementChanged)
    element = rig.element(1).register()
    assert rig.elements()[element.identifier]["home"] == OURS
    assert updates(peer) == [(UpdateAction.ADD_PE, POOL, element.offer(home=SERVER_ID))]
    assert changes(rig) == [(Change.MOVED, element.identifier)]


def test_an_element_that_registers_elsewhere_is_asked_no_more_and_not_removed() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1).register()
    element.lose()  # it is not attached any more, so the claim is believed
    updates(peer)
    peer.send(add(foreign(1)))
    assert rig.elements()[element.identifier]["home"] == f"{PEER_ID:#010x}"
    rig.run(5)
    assert rig.connects == []
    assert updates(peer) == []


def test_the_limit_of_an_identity_does_not_stand_in_the_way_of_registering_again() -> None:
    rig = Rig(limits=Limits(elements=1, elements_per_identity=1, pools=1))
    element = rig.element(1).register()
    element.register(life=60)
    assert rig.elements()[element.identifier]["life"] == 60
