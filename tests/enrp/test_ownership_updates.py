# SPDX-License-Identifier: Apache-2.0
"""Only its home announces an element, and only its home removes it; what does not fit is ignored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.events import Change, ElementChanged
from rserpool.asap.server.desk import Limits
from rserpool.wire import PoolElement, UdpTransport, UpdateAction, asap, enrp, policies
from support.beings import HIGHER, LOWER, LOWEST, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEINGS = [Being(n) for n in range(30, 36)]
A, B = (b.identifier for b in BEINGS[:2])
DEL = UpdateAction.DEL_PE
UPDATE = "ENRP_HANDLE_UPDATE"


def two_peers(limits: Limits | None = None) -> tuple[Rig, Peer, Peer]:
    rig = alone(limits=limits)
    low, high = rig.meet(LOWER, HIGHER)
    return rig, low, high


@pytest.mark.rfc("RFC 5353 3.3.1: an announced element is added, and its pool with it")
def test_an_announced_element_is_learned_and_told_to_nobody() -> None:
    rig, low, high = two_peers()
    element = BEINGS[0].element(LOWER, policy=policies.RoundRobin())
    low.update(element)
    assert rig.seen(ElementChanged) == [
        ElementChanged(change=Change.LEARNED, pool_handle=POOL, element=element, reason=f"by {LOWER:#010x}")
    ]
    assert rig.homes() == {A: LOWER}
    assert low.line.sent == high.line.sent == []


@pytest.mark.rfc("RFC 5352 3.3: a resolution is answered by the pool's elements")
def test_an_announced_element_can_be_resolved() -> None:
    rig, low, _ = two_peers()
    low.update(BEINGS[0].element(LOWER))
    user = rig.user()
    user.send(asap.HandleResolution(pool_handle=POOL))
    [answer] = user.all(asap.HandleResolutionResponse)
    assert [e.identifier for e in answer.elements] == [A]
    assert answer.elements[0].asap_transport is None


@pytest.mark.rfc("RFC 5353 3.3.1: an element that is known is replaced")
def test_announced_again_it_is_replaced_and_the_same_again_is_no_change() -> None:
    rig, low, _ = two_peers()
    for life in (300, 77, 77):
        low.update(BEINGS[0].element(LOWER, life=life))
    assert rig.changes() == [("learned", A), ("updated", A)]
    assert rig.space()["pools"][0]["elements"][0]["life"] == 77


@pytest.mark.rfc("RFC 5353 3.3.2: an element its home removes is removed, and the pool with the last")
def test_its_home_removes_it_and_the_pool_with_the_last() -> None:
    rig, low, high = two_peers()
    low.own(*BEINGS[:2])
    low.update(BEINGS[0].element(LOWER), DEL)
    assert rig.homes() == {B: LOWER}
    low.update(BEINGS[1].element(LOWER), DEL)
    assert rig.space() == {"pools": [], "checksums": {}}
    assert rig.changes()[2:] == [("removed", A), ("removed", B)]
    assert high.line.sent == []


@pytest.mark.rfc("RFC 5353 3.3.2: the removal of what nobody knows is no action")
def test_the_removal_of_what_nobody_knows_is_no_action() -> None:
    rig, low, _ = two_peers()
    low.update(BEINGS[0].element(LOWER), DEL)
    low.update(BEINGS[0].element(US), DEL)
    assert rig.events == []
    assert low.line.sent == []


@pytest.mark.rfc("PROTOCOL 14.11: only an element's home announces and removes it")
@pytest.mark.parametrize("says", [LOWER, HIGHER, US])
def test_who_is_not_its_home_cannot_remove_it_whatever_home_it_names(says: int) -> None:
    rig, low, high = two_peers()
    high.own(BEINGS[0])
    line = rig.attach(BEINGS[1])
    before = rig.space()
    rig.forget()
    low.update(BEINGS[0].element(says), DEL)
    low.update(BEINGS[1].element(says), DEL)
    assert rig.space() == before
    assert line.up
    assert rig.ignored() == [
        (UPDATE, f"removes {A:#010x}, whose home is {HIGHER:#010x}"),
        (UPDATE, f"removes {B:#010x}, whose home is {US:#010x}"),
    ]


@pytest.mark.rfc("PROTOCOL 14.11: only an element's home announces and removes it")
@pytest.mark.parametrize("home", [US, HIGHER, LOWEST, 0])
def test_who_is_not_its_home_cannot_announce_it(home: int) -> None:
    rig, low, high = two_peers()
    high.own(BEINGS[0])
    rig.attach(BEINGS[1])
    before = rig.space()
    rig.forget()
    for being in BEINGS[:3]:
        low.update(being.element(home, life=77))
    assert rig.space() == before
    assert rig.ignored() == [
        (UPDATE, f"announces {being.identifier:#010x} as owned by {home:#010x}") for being in BEINGS[:3]
    ]
    rig.run(0.39)
    assert low.line.sent == high.line.sent == []


@pytest.mark.rfc("PROTOCOL 10.2: entries that cannot be are ignored")
@pytest.mark.parametrize(
    "element",
    [
        BEINGS[1].element(LOWER, policy=policies.Random()),
        BEINGS[1].element(LOWER, policy=policies.LeastUsed(0)),
        replace(BEINGS[1].element(LOWER), transport=UdpTransport(port=7, address=BEINGS[1].address)),
        replace(BEINGS[0].element(LOWER), policy=policies.Random()),
    ],
    ids=["another policy", "an adaptive policy", "another transport", "the same element with another policy"],
)
def test_an_element_that_does_not_fit_its_pool_is_ignored(element: PoolElement) -> None:
    rig, low, _ = two_peers()
    low.own(BEINGS[0])
    before = rig.space()
    rig.forget()
    low.update(element)
    assert rig.space() == before
    assert rig.ignored() == [(UPDATE, f"announces {element.identifier:#010x}, which does not fit its pool")]
    assert low.line.sent == []


def test_an_element_without_an_asap_transport_is_ignored() -> None:
    rig, low, _ = two_peers()
    low.update(replace(BEINGS[0].element(LOWER), asap_transport=None))
    assert rig.homes() == {}
    assert rig.ignored() == [(UPDATE, f"announces {A:#010x} without an ASAP transport")]


def test_a_full_handlespace_learns_nothing_new_but_follows_what_it_knows() -> None:
    rig, low, high = two_peers(Limits(elements=2))
    low.own(*BEINGS[:3])
    assert set(rig.homes()) == {A, B}
    assert rig.ignored() == [(UPDATE, "announces more elements than this registrar holds")]
    high.update(BEINGS[0].element(HIGHER))
    assert rig.homes() == {A: HIGHER, B: LOWER}
    low.update(BEINGS[1].element(LOWER), DEL)
    low.update(BEINGS[2].element(LOWER))
    assert rig.homes() == {A: HIGHER, BEINGS[2].identifier: LOWER}


@pytest.mark.rfc("RFC 5353 3.3.1: an element that is known is replaced")
def test_an_element_that_moves_between_two_others_follows_the_newest_word() -> None:
    rig, low, high = two_peers()
    low.own(BEINGS[0])
    high.own(BEINGS[0])
    assert rig.homes() == {A: HIGHER}
    low.update(BEINGS[0].element(LOWER), DEL)  # the former home's removal comes late
    assert rig.homes() == {A: HIGHER}
    assert rig.changes() == [("learned", A), ("moved", A)]


@pytest.mark.rfc("PROTOCOL 10.2: another registrar's element is kept a quarter longer than its life")
def test_anothers_element_outlives_its_life_by_a_quarter_and_goes_silently() -> None:
    rig, low, high = two_peers()
    low.requests = high.requests = "ignore"
    element = BEINGS[0].element(LOWER, life=4)
    low.update(element)
    low.owns[BEINGS[0].key] = element
    rig.run(4.9)
    assert rig.homes() == {A: LOWER}
    rig.run(0.2)
    assert rig.homes() == {}
    assert {type(m) for _, m in [*low.line.sent, *high.line.sent]} == {enrp.Presence}


def test_each_update_starts_its_life_anew() -> None:
    rig, low, _ = two_peers()
    low.owns[BEINGS[0].key] = BEINGS[0].element(LOWER, life=4)
    for _ in range(4):
        low.update(BEINGS[0].element(LOWER, life=4))
        rig.run(4.9)
        assert rig.homes() == {A: LOWER}


@pytest.mark.rfc("RFC 5353 3.3: every granted registration is told to all peers")
def test_our_own_registrations_and_removals_are_told_to_all_peers() -> None:
    rig, low, high = two_peers()
    line = rig.attach(BEINGS[0])
    line.send(asap.Deregistration(pool_handle=POOL, pe_identifier=A))
    element = BEINGS[0].element(US)
    for peer in (low, high):
        assert [m for _, m in peer.line.sent] == [
            enrp.HandleUpdate(sender=US, receiver=0, action=action, pool_handle=POOL, element=element)
            for action in (UpdateAction.ADD_PE, DEL)
        ]
