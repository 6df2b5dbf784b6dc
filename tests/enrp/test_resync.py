# SPDX-License-Identifier: Apache-2.0
"""Two checksums that differ have a peer's table read: what it does not list is gone, silently, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from rserpool.asap.events import Change, ElementChanged
from rserpool.wire import UpdateAction, enrp
from support.beings import HIGHER, LOWER, LOWEST, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEINGS = [Being(n) for n in range(30, 40)]
A, B, C, D = (b.identifier for b in BEINGS[:4])
WRONG = 0x1234
OWN_CHILDREN = enrp.HandleTableRequest(sender=US, receiver=LOWER, own_children_only=True)
REJECTION = enrp.HandleTableResponse(sender=LOWER, receiver=US, reject=True)


def audited(*owned: Being) -> tuple[Rig, Peer, Peer]:
    """Two peers; the first owns some elements and from now on answers table requests as it is told."""
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    low.own(*owned)
    low.requests = "ignore"
    rig.forget()
    return rig, low, high


def differ(peer: Peer, times: int = 2) -> None:
    for _ in range(times):
        peer.line.send(peer.presence(checksum=WRONG))


def requests(peer: Peer) -> list[enrp.HandleTableRequest]:
    return peer.line.all(enrp.HandleTableRequest)


# -- when


@pytest.mark.rfc("RFC 5353 3.6.1: a checksum that differs starts a re-synchronisation")
def test_two_presences_in_a_row_that_differ_start_a_resynchronisation() -> None:
    _, low, high = audited(*BEINGS[:2])
    differ(low, 1)
    assert requests(low) == []
    differ(low, 1)
    assert requests(low) == [OWN_CHILDREN]
    assert requests(high) == []


def test_one_that_agrees_between_two_that_differ_stops_it() -> None:
    _, low, _ = audited(*BEINGS[:2])
    for _ in range(5):
        differ(low, 1)
        low.introduce()
    assert requests(low) == []


def test_peers_whose_checksum_differs_and_presences_that_did_are_counted() -> None:
    rig, low, high = audited(*BEINGS[:2])
    said = rig.machine.counts()
    assert (said["checksums differ"], said["checksum mismatches"]) == (0, 0)
    differ(low, 3)
    differ(high, 1)
    high.introduce()
    said = rig.machine.counts()
    assert (said["checksums differ"], said["checksum mismatches"]) == (1, 4)
    low.introduce()
    assert rig.machine.counts()["checksums differ"] == 0


def test_each_peer_is_counted_for_itself() -> None:
    _, low, high = audited(*BEINGS[:2])
    differ(low, 1)
    differ(high, 1)
    assert requests(low) == requests(high) == []


def test_a_checksum_is_compared_with_what_the_updates_before_it_made() -> None:
    _, low, _ = audited(BEINGS[0])
    for n in range(1, 5):
        low.own(BEINGS[n])
        low.introduce()
    assert requests(low) == []
    for n in range(1, 5):  # the peer tells of a removal only after the presence that counts it
        element = low.owns.pop(BEINGS[n].key)
        low.introduce()
        low.update(element, UpdateAction.DEL_PE)
        low.introduce()
    assert requests(low) == []


@pytest.mark.rfc("PROTOCOL 10.6: a peer is re-synchronised with at most three times at once, then every 2 s")
def test_one_resynchronisation_with_a_peer_at_a_time() -> None:
    _, low, _ = audited(BEINGS[0])
    differ(low, 7)
    assert requests(low) == [OWN_CHILDREN]


@pytest.mark.rfc("PROTOCOL 10.6: a peer is re-synchronised with at most three times at once, then every 2 s")
def test_a_lying_peer_is_read_three_times_at_once_and_then_every_two_seconds() -> None:
    rig, low, _ = audited(BEINGS[0])
    low.requests = "serve"
    low.alive = True
    rig.run(5.0)  # the connection's own resynchronisation does not count any more
    rig.forget()
    for _ in range(30):
        differ(low, 10)
    assert len(requests(low)) == 3
    began = rig.clock
    for _ in range(400):
        rig.run(0.05)
        differ(low, 2)
    times = [at - began for at in low.line.times(enrp.HandleTableRequest)[3:]]
    assert len(times) in (9, 10)
    assert min(b - a for a, b in pairwise(times)) > 1.9
    assert rig.homes() == {A: LOWER}


# -- what it does


@pytest.mark.rfc("RFC 5353 3.6.3: what is still marked after the last part is removed, silently")
def test_what_is_not_listed_is_removed_and_nobody_is_told() -> None:
    rig, low, high = audited(*BEINGS[:3])
    differ(low)
    low.line.send(low.table([BEINGS[1].element(LOWER)]))
    high.introduce()
    assert rig.homes() == {B: LOWER}
    assert sorted(rig.changes()) == sorted([("removed", A), ("removed", C)])
    assert all(e.reason == f"its home {LOWER:#010x} does not list it" for e in rig.seen(ElementChanged))
    assert low.line.all(enrp.HandleUpdate) == high.line.all(enrp.HandleUpdate) == []


@pytest.mark.rfc("RFC 5353 3.6.3: what the peer lists is inserted or replaced, and its mark removed")
def test_what_is_listed_is_added_or_replaced() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    changed = BEINGS[0].element(LOWER, life=77)
    low.line.send(low.table([changed, BEINGS[1].element(LOWER), BEINGS[2].element(LOWER)]))
    assert rig.homes() == {A: LOWER, B: LOWER, C: LOWER}
    assert sorted(rig.changes()) == sorted([("updated", A), ("learned", C)])
    lives = {e["life"] for e in rig.space()["pools"][0]["elements"]}
    assert lives == {77, 300}


def test_an_empty_table_removes_all_and_the_pool_with_them() -> None:
    rig, low, high = audited(*BEINGS[:2])
    differ(low)
    low.line.send(low.table())
    high.introduce()
    assert rig.space() == {"pools": [], "checksums": {}}


@pytest.mark.rfc("RFC 5353 3.6.3: what the peer lists is inserted or replaced, and its mark removed")
def test_nothing_is_removed_before_the_last_part() -> None:
    rig, low, high = audited(*BEINGS[:3])
    differ(low)
    low.line.send(low.table([BEINGS[0].element(LOWER)], more=True))
    high.introduce()
    assert requests(low) == [OWN_CHILDREN] * 2
    low.line.send(low.table(more=True))
    assert requests(low) == [OWN_CHILDREN] * 3
    assert rig.homes() == {A: LOWER, B: LOWER, C: LOWER}
    low.line.send(low.table([BEINGS[2].element(LOWER)]))
    high.introduce()
    assert rig.homes() == {A: LOWER, C: LOWER}


@pytest.mark.rfc("RFC 5353 3.6.3: what is still marked after the last part is removed, silently")
def test_elements_of_others_and_our_own_are_not_touched() -> None:
    rig, low, high = audited(BEINGS[0])
    high.own(BEINGS[1])
    rig.attach(BEINGS[2])
    before = rig.space()
    differ(low)
    low.line.send(low.table([BEINGS[0].element(LOWER)]))
    assert rig.space() == before
    differ(low)
    low.line.send(low.table())
    high.introduce()
    assert rig.homes() == {B: HIGHER, C: US}


@pytest.mark.parametrize("home", [US, HIGHER, LOWEST])
def test_a_peer_can_list_as_its_own_only_what_says_so(home: int) -> None:
    rig, low, high = audited()
    high.own(BEINGS[0])
    before = rig.space()
    rig.forget()
    differ(low)
    low.line.send(low.table([BEINGS[0].element(home), BEINGS[1].element(home)]))
    assert rig.space() == before
    reason = "announces {:#010x} as owned by {:#010x}"
    assert rig.ignored() == [("ENRP_HANDLE_TABLE_RESPONSE", reason.format(i, home)) for i in (A, B)]


@pytest.mark.rfc("RFC 5353 3.6.1: a checksum that differs starts a re-synchronisation")
def test_after_it_the_checksums_agree_and_it_is_quiet() -> None:
    rig, low, _ = audited(*BEINGS[:3])
    del low.owns[BEINGS[0].key]
    low.owns[BEINGS[5].key] = BEINGS[5].element(LOWER)
    low.requests = "serve"
    rig.run(3.0)
    assert len(requests(low)) == 1
    assert rig.homes() == {B: LOWER, C: LOWER, BEINGS[5].identifier: LOWER}


# -- what happens meanwhile


def meanwhile_new(low: Peer) -> None:
    low.update(BEINGS[0].element(LOWER, life=77))


def meanwhile_the_same(low: Peer) -> None:
    low.update(BEINGS[0].element(LOWER))


def meanwhile_removed_and_back(low: Peer) -> None:
    low.update(BEINGS[0].element(LOWER), UpdateAction.DEL_PE)
    low.update(BEINGS[0].element(LOWER))


@pytest.mark.rfc("PROTOCOL 10.6: an element that is announced or registered meanwhile is not removed")
@pytest.mark.parametrize("announce", [meanwhile_new, meanwhile_the_same, meanwhile_removed_and_back])
def test_what_the_peer_announces_while_its_table_is_read_stays(announce: Callable[[Peer], None]) -> None:
    """It may have come to the peer behind the cursor of the walk."""
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    announce(low)
    low.line.send(low.table([BEINGS[1].element(LOWER)]))
    assert rig.homes() == {A: LOWER, B: LOWER}


@pytest.mark.rfc("PROTOCOL 10.6: an element that is announced or registered meanwhile is not removed")
def test_an_element_that_registers_with_us_meanwhile_is_ours() -> None:
    rig, low, high = audited(*BEINGS[:2])
    differ(low)
    rig.attach(BEINGS[0])
    low.line.send(low.table())
    high.introduce()
    assert rig.homes() == {A: US}


def test_an_element_that_moves_to_a_third_registrar_meanwhile_stays_there() -> None:
    rig, low, high = audited(*BEINGS[:2])
    differ(low)
    high.own(BEINGS[0])
    low.line.send(low.table())
    high.introduce()
    assert rig.homes() == {A: HIGHER}


def test_an_element_its_peer_removes_meanwhile_is_gone() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    low.line.send(low.table([BEINGS[0].element(LOWER)], more=True))
    low.update(BEINGS[0].element(LOWER), UpdateAction.DEL_PE)
    low.line.send(low.table([BEINGS[1].element(LOWER)]))
    assert rig.homes() == {B: LOWER}


# -- when it fails


@pytest.mark.rfc("PROTOCOL 10.6: a re-synchronisation that fails changes nothing and is tried again")
def test_a_rejected_one_changes_nothing() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    low.line.send(low.table([BEINGS[2].element(LOWER)], more=True), REJECTION)
    assert rig.homes() == {A: LOWER, B: LOWER, C: LOWER}
    low.line.send(low.table())  # too late
    assert rig.ignored() == [("ENRP_HANDLE_TABLE_RESPONSE", "nobody asked")]
    assert rig.homes() == {A: LOWER, B: LOWER, C: LOWER}


def test_one_that_takes_too_long_changes_nothing() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    low.line.send(low.table([BEINGS[0].element(LOWER)], more=True))
    rig.run(0.41)
    low.line.send(low.table([BEINGS[0].element(LOWER)]))
    assert ("ENRP_HANDLE_TABLE_RESPONSE", "it is too late") in rig.ignored()
    assert rig.homes() == {A: LOWER, B: LOWER}


def test_each_part_has_400_ms_of_its_own() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    for _ in range(4):
        rig.run(0.39)
        low.line.send(low.table(more=True))
    low.line.send(low.table([BEINGS[0].element(LOWER)]))
    rig.run(0.4)
    assert rig.homes() == {A: LOWER}


@pytest.mark.rfc("PROTOCOL 10.6: a re-synchronisation that fails changes nothing and is tried again")
@pytest.mark.parametrize("how", ["rejected", "not answered"])
def test_one_that_failed_is_tried_again_at_the_next_presence_that_differs(how: str) -> None:
    """PROTOCOL 10.6: R = 1 or timeout: clear marks, retry at the next PRESENCE."""
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    if how == "rejected":
        low.line.send(REJECTION)
    else:
        low.alive = False
        rig.run(0.41)
    differ(low, 1)
    assert requests(low) == [OWN_CHILDREN] * 2


def test_a_peer_that_dies_while_its_table_is_read_leaves_all_its_elements_to_its_heir() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    low.line.send(low.table([BEINGS[0].element(LOWER)], more=True))
    low.line.lose()
    low.refuse()
    assert rig.homes() == {A: US, B: US}


def test_a_connection_replaced_while_a_table_is_read_has_it_read_anew() -> None:
    """PROTOCOL 10.6: a new or replaced ENRP connection starts one at once, whatever the checksum says."""
    rig, low, high = audited(*BEINGS[:2])
    differ(low)
    low.line.lose()
    rig.run(0.1)
    low.answer()
    low.introduce()
    assert requests(low) == [OWN_CHILDREN]
    changed = replace(BEINGS[0].element(LOWER), life=77)
    low.line.send(low.table([changed]))
    high.introduce()
    assert rig.homes() == {A: LOWER}
    assert rig.space()["pools"][0]["elements"][0]["life"] == 77


def test_the_rest_of_a_table_that_comes_over_the_replaced_connection_removes_nothing() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    older = low.line
    differ(low)
    older.send(low.table([BEINGS[0].element(LOWER)], more=True))
    newer = low.dial()
    low.introduce()
    assert older.up
    older.send(low.table([BEINGS[1].element(LOWER)]))
    assert rig.homes() == {A: LOWER, B: LOWER}
    newer.send(low.table([BEINGS[0].element(LOWER), BEINGS[1].element(LOWER)]))
    assert rig.homes() == {A: LOWER, B: LOWER}


def test_a_peer_that_never_ends_its_table_is_given_up() -> None:
    rig, low, _ = audited(*BEINGS[:2])
    differ(low)
    octets = low.table(more=True)
    for _ in range(10_001):
        low.line.send(octets)
    assert len(requests(low)) == 10_001
    assert rig.homes() == {A: LOWER, B: LOWER}


@pytest.mark.rfc("PROTOCOL 10.6: a new connection to a peer has its table read")
def test_a_new_connection_reads_what_no_checksum_shows() -> None:
    rig, low, _ = audited(BEINGS[0])
    low.line.lose()
    low.answer()
    low.introduce()
    rig.forget()
    changed = low.owns[BEINGS[0].key] = BEINGS[0].element(LOWER, life=77)
    low.line.send(low.table([changed]))
    assert rig.seen(ElementChanged) == [
        ElementChanged(change=Change.UPDATED, pool_handle=POOL, element=changed, reason=f"by {LOWER:#010x}")
    ]
