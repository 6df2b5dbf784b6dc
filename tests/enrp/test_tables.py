# SPDX-License-Identifier: Apache-2.0
"""The handlespace is served in parts of bounded size, to so many at once, as it is when each part is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.server.desk import Limits
from rserpool.identity import InsecureScope
from rserpool.identity.decisions import unverified
from rserpool.wire import RFC_SCTP_ONLY, PoolElement, Ppid, SctpTransport, TcpTransport, UpdateAction, encode, enrp
from support.beings import HIGHER, LOWER, LOWEST, US, Being, endpoint
from support.peers import Line, Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL


def request(peer: Peer, *, own: bool = False) -> None:
    peer.line.send(enrp.HandleTableRequest(sender=peer.server_id, receiver=US, own_children_only=own))


def part(peer: Peer, *, own: bool = False) -> enrp.HandleTableResponse:
    """Ask for a part, and what is answered."""
    peer.line.sent.clear()
    request(peer, own=own)
    [response] = peer.line.all(enrp.HandleTableResponse)
    return response


def whole(peer: Peer, *, own: bool = False) -> list[enrp.HandleTableResponse]:
    parts = [part(peer, own=own)]
    while parts[-1].more:
        parts.append(part(peer, own=own))
    return parts


def listed(parts: Iterable[enrp.HandleTableResponse]) -> list[tuple[bytes, int]]:
    return [(p.pool_handle, e.identifier) for r in parts for p in r.pools for e in p.elements]


def numbered(identifier: int, *, home: int = LOWER, v6: bool = False) -> PoolElement:
    address = IPv6Address("fd00::3") if v6 else IPv4Address("10.1.2.3")
    return replace(
        Being(1).element(home),
        identifier=identifier,
        transport=TcpTransport(port=7, address=address),
        asap_transport=TcpTransport(port=8, address=address),
    )


def filled(n: int, *, v6: bool = False, handle: bytes = POOL, rig: Rig | None = None) -> tuple[Rig, Peer, Peer]:
    """A registrar that knows ``n`` elements of its first peer; the second asks."""
    rig = rig or alone()
    owner, reader = rig.meet(LOWER, HIGHER) if not rig.peers else rig.peers[:2]
    for identifier in range(1, n + 1):
        element = numbered(identifier, v6=v6)
        owner.owns[handle, identifier] = element
        owner.line.send(
            enrp.HandleUpdate(sender=LOWER, action=UpdateAction.ADD_PE, pool_handle=handle, element=element)
        )
    rig.forget()
    return rig, owner, reader


@pytest.mark.rfc("PROTOCOL 14.12: an empty handlespace is answered without entries")
def test_an_empty_handlespace_is_answered_without_entries() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    for own in (False, True):
        response = part(peer, own=own)
        assert response == enrp.HandleTableResponse(sender=US, receiver=LOWER)
        assert encode(response).hex() == f"0300000c{US:08x}{LOWER:08x}"


@pytest.mark.rfc("RFC 5353 2.2: W = 1 asks for what a registrar owns, W = 0 for all it knows")
def test_all_elements_or_those_we_own_complete_with_asap_transport() -> None:
    rig = alone()
    reader, other = rig.meet(LOWER, HIGHER)
    ours, theirs = Being(30), Being(31)
    rig.attach(ours)
    other.own(theirs)
    elements = sorted([ours.element(US), theirs.element(HIGHER)], key=lambda e: e.identifier)
    [everything], [own] = whole(reader), whole(reader, own=True)
    assert [(p.pool_handle, p.elements) for p in everything.pools] == [(POOL, tuple(elements))]
    assert [(p.pool_handle, p.elements) for p in own.pools] == [(POOL, (ours.element(US),))]


@pytest.mark.rfc("PROTOCOL 14.22: a registrar is served by its first message")
def test_a_stranger_is_served_by_its_first_message() -> None:
    rig, _, _ = filled(3)
    stranger = rig.peer(LOWEST, alive=False)
    stranger.dial()
    request(stranger)
    assert listed(stranger.line.all(enrp.HandleTableResponse)) == [(POOL, 1), (POOL, 2), (POOL, 3)]


# -- parts


@pytest.mark.rfc("PROTOCOL 7: a part of a table is short")
def test_a_part_has_at_most_128_elements() -> None:
    _, _, reader = filled(300)
    parts = whole(reader)
    assert [sum(len(p.elements) for p in r.pools) for r in parts] == [128, 128, 44]
    assert [r.more for r in parts] == [True, True, False]
    assert listed(parts) == [(POOL, n) for n in range(1, 301)]
    assert all(r.pools[0].pool_handle == POOL for r in parts)
    assert not any(r.reject for r in parts)


def test_a_handlespace_that_just_fills_a_part_has_no_empty_one_behind_it() -> None:
    _, _, reader = filled(128)
    assert [r.more for r in whole(reader)] == [False]


@pytest.mark.rfc("PROTOCOL 7: a part of a table is short")
def test_a_part_has_at_most_8_kib() -> None:
    _, _, reader = filled(300, v6=True)
    parts = whole(reader)
    sizes = [len(encode(r)) for r in parts]
    assert max(sizes) <= 8192
    assert min(sizes[:-1]) > 7500
    assert listed(parts) == [(POOL, n) for n in range(1, 301)]


def test_long_pool_handles_count() -> None:
    rig = alone()
    handles = [bytes([n]) * 255 for n in range(1, 61)]
    for handle in handles:
        filled(1, handle=handle, rig=rig)
    parts = whole(rig.peers[1])
    assert len(parts) > 1
    assert max(len(encode(r)) for r in parts) <= 8192
    assert listed(parts) == [(handle, 1) for handle in handles]


@pytest.mark.rfc("RFC 5353 2.3: a pool's entry begins with its handle, also in the next part")
def test_a_pool_that_goes_on_in_the_next_part_starts_there_with_its_handle() -> None:
    rig, _, _ = filled(100, handle=b"a")
    _, _, reader = filled(100, handle=b"b", rig=rig)
    first, second = whole(reader)
    assert [(p.pool_handle, len(p.elements)) for p in first.pools] == [(b"a", 100), (b"b", 28)]
    assert [(p.pool_handle, len(p.elements)) for p in second.pools] == [(b"b", 72)]


@pytest.mark.rfc("PROTOCOL 7: a part of a table is short")
def test_without_tls_over_sctp_a_part_fits_into_a_packet() -> None:
    own = Endpoint(TransportKind.SCTP, endpoint(1).addresses, 9901)
    rig = Rig(scope=InsecureScope(), secure=False, dialect=RFC_SCTP_ONLY, enrp_endpoint=own).start()
    line = rig.accept(Ppid.ENRP, unverified("10.0.0.2"), endpoint(2).addresses)
    for identifier in range(1, 101):
        transport = SctpTransport(port=8, addresses=(IPv4Address("10.1.2.3"),))
        element = replace(numbered(identifier), asap_transport=transport)
        line.send(enrp.HandleUpdate(sender=LOWER, action=UpdateAction.ADD_PE, pool_handle=POOL, element=element))
    more = True
    while more:
        line.send(enrp.HandleTableRequest(sender=LOWER))
        more = line.all(enrp.HandleTableResponse)[-1].more
    parts = line.all(enrp.HandleTableResponse)
    assert 1300 < max(len(encode(r, RFC_SCTP_ONLY)) for r in parts) <= 1412
    assert listed(parts) == [(POOL, n) for n in range(1, 101)]


# -- what changes between two parts


@pytest.mark.rfc("RFC 5353 3.2.3: a download is served as a session with a timer")
def test_a_part_shows_elements_as_they_are_when_it_is_asked_for() -> None:
    _, owner, reader = filled(300)
    first = part(reader)
    changed = replace(numbered(200), life=17)
    owner.update(changed)
    owner.update(numbered(201), UpdateAction.DEL_PE)
    owner.update(numbered(1), UpdateAction.DEL_PE)
    parts = [first, *whole(reader)]
    assert listed(parts) == [(POOL, n) for n in range(1, 301) if n != 201]
    assert changed in [e for r in parts for p in r.pools for e in p.elements]


def test_when_the_rest_is_gone_the_last_part_is_empty() -> None:
    _, owner, reader = filled(130)
    assert part(reader).more
    for identifier in (129, 130):
        owner.update(numbered(identifier), UpdateAction.DEL_PE)
    assert part(reader) == enrp.HandleTableResponse(sender=US, receiver=HIGHER)


def test_an_element_that_has_left_us_is_not_listed_as_our_own() -> None:
    rig = alone()
    [reader] = rig.meet(HIGHER)
    beings = [Being(n) for n in range(30, 170)]
    for being in beings:
        rig.attach(being)
    last = max(beings, key=lambda b: b.identifier)
    first = part(reader, own=True)
    assert first.more
    reader.update(last.element(HIGHER))
    reader.update(last.element(HIGHER))
    rig.run(0.3)  # attached here, so it is ours until the claim is repeated
    reader.update(last.element(HIGHER))
    assert rig.homes()[last.identifier] == HIGHER
    request(reader, own=True)
    parts = [first, reader.line.all(enrp.HandleTableResponse)[-1]]
    assert sorted(i for _, i in listed(parts)) == sorted(b.identifier for b in beings if b is not last)


# -- sessions


def test_another_w_starts_a_new_walk() -> None:
    _, _, reader = filled(300)
    assert listed([part(reader)])[0] == (POOL, 1)
    assert part(reader, own=True) == enrp.HandleTableResponse(sender=US, receiver=HIGHER)
    assert listed([part(reader)])[0] == (POOL, 1)
    assert listed([part(reader)])[0] == (POOL, 129)


def test_each_association_walks_by_itself() -> None:
    rig, owner, reader = filled(300)
    part(reader)
    assert listed([part(owner)])[0] == (POOL, 1)
    assert listed([part(reader)])[0] == (POOL, 129)
    reader.dial()
    assert listed([part(reader)])[0] == (POOL, 1)
    assert len(rig.known()) == 2


@pytest.mark.rfc("RFC 5353 3.2.3: a download is served as a session with a timer")
def test_after_the_last_part_the_next_request_begins_anew() -> None:
    _, _, reader = filled(130)
    assert [len(listed([r])) for r in whole(reader)] == [128, 2]
    assert [len(listed([r])) for r in whole(reader)] == [128, 2]


@pytest.mark.rfc("RFC 5353 3.2.3: a download is served as a session with a timer")
def test_a_walk_waits_400_ms_after_each_part_for_the_next_request() -> None:
    rig, _, reader = filled(500)
    part(reader)
    rig.run(0.39)
    assert listed([part(reader)])[0] == (POOL, 129)
    rig.run(0.39)
    assert listed([part(reader)])[0] == (POOL, 257)
    rig.run(0.41)
    assert listed([part(reader)])[0] == (POOL, 1)


FREED = ["the last part", "the session timer", "the end of its association"]


@pytest.mark.rfc("RFC 5353 3.2.3: too many downloads at once are rejected")
@pytest.mark.parametrize("by", FREED)
def test_more_walks_than_the_limit_are_rejected_until_one_is_freed(by: str) -> None:
    rig, owner, reader = filled(130, rig=alone(limits=Limits(table_sessions=2)))
    third = rig.meet(LOWEST)[0]
    part(owner)
    part(reader)
    assert part(third) == enrp.HandleTableResponse(sender=US, receiver=LOWEST, reject=True)
    if by == FREED[0]:
        part(reader)
    elif by == FREED[1]:
        rig.run(0.41)
    else:
        reader.line.lose()
    assert listed([part(third)])[0] == (POOL, 1)


def test_who_has_a_session_already_may_go_on_and_begin_anew_at_the_limit() -> None:
    _, owner, reader = filled(130, rig=alone(limits=Limits(table_sessions=2)))
    part(owner)
    part(reader)
    assert not part(reader, own=True).reject
    assert not part(owner).reject


def test_a_walk_of_one_part_leaves_no_session_behind() -> None:
    rig, _, _ = filled(3, rig=alone(limits=Limits(table_sessions=1)))
    lines: list[Line] = []
    for number in range(4, 8):
        peer = rig.peer(LOWEST + number, alive=False)
        lines.append(peer.dial())
        assert not part(peer).reject
