# SPDX-License-Identifier: Apache-2.0
"""RFC 5355 2.17: a registrar with a good certificate that claims what others have is contradicted, and believed less."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from rserpool.asap.server.desk import Limits
from rserpool.enrp import disputes
from rserpool.wire import PoolElement, TcpTransport, UpdateAction, enrp
from support.beings import HIGHER, HIGHEST, LOWER, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone

BEING, ANOTHER = Being(30), Being(31)
A = BEING.identifier
UPDATE = "ENRP_HANDLE_UPDATE"
ELSEWHERE = IPv4Address("10.9.9.9")
pytestmark = pytest.mark.rfc("PROTOCOL 10.5: a registrar that is contradicted again and again is believed no more")


def false(home: int, being: Being = BEING) -> PoolElement:
    """An element, but somewhere else."""
    element = being.element(home)
    assert isinstance(element.transport, TcpTransport)
    return replace(element, transport=replace(element.transport, address=ELSEWHERE))


def where(rig: Rig, being: Being = BEING) -> str:
    [told] = [e for p in rig.space()["pools"] for e in p["elements"] if int(e["identifier"], 16) == being.identifier]
    return str(told["transport"])


def is_true(rig: Rig) -> bool:
    return str(ELSEWHERE) not in where(rig)


def owned_by_another(limits: Limits | None = None) -> tuple[Rig, Peer, Peer]:
    """An element of a home that is there, and a liar."""
    rig = alone(limits=limits)
    home, liar = rig.meet(LOWER, HIGHER)
    home.own(BEING)
    rig.run(0.1)
    rig.forget()
    return rig, home, liar


def disbelieved() -> tuple[Rig, Peer, Peer]:
    """The home has contradicted the liar three times."""
    rig, home, liar = owned_by_another()
    for _ in range(3):
        contradict(rig, home, liar)
    rig.forget()
    return rig, home, liar


def moved(liar: Peer) -> None:
    """The liar claims the element, and says as its home that it is somewhere else."""
    liar.update(BEING.element(liar.server_id))
    liar.update(false(liar.server_id))


def contradict(rig: Rig, home: Peer, liar: Peer) -> None:
    liar.update(BEING.element(liar.server_id))
    assert rig.homes()[A] == liar.server_id
    home.update(BEING.element(home.server_id))
    assert rig.homes()[A] == home.server_id
    rig.run(0.31)


# -- with another address


def test_a_claim_with_another_address_from_a_home_that_is_there_is_not_believed() -> None:
    rig, _, liar = owned_by_another()
    liar.update(false(HIGHER))
    assert rig.homes() == {A: LOWER}
    assert is_true(rig)
    assert rig.changes() == []
    reason = f"claims {A:#010x} from a home that is there, and with another address"
    assert rig.ignored() == [(UPDATE, reason)]


def test_a_claim_with_another_address_is_believed_of_a_home_that_is_silent_or_gone() -> None:
    rig, home, liar = owned_by_another()
    home.alive = False
    rig.run(0.95)
    liar.update(false(HIGHER))
    assert rig.homes() == {A: HIGHER}
    rig, home, liar = owned_by_another()
    home.line.lose()
    liar.update(false(HIGHER))
    assert rig.homes() == {A: HIGHER}


def test_a_claim_that_waits_counts_when_its_home_removes_the_element() -> None:
    rig, home, liar = owned_by_another()
    liar.update(false(HIGHER))
    home.update(BEING.element(LOWER), UpdateAction.DEL_PE)
    assert rig.homes() == {A: HIGHER}
    assert rig.changes() == [("removed", A), ("learned", A)]


def test_a_claim_that_waits_counts_when_its_home_lists_the_element_no_more() -> None:
    rig, home, honest = owned_by_another()
    moved = false(HIGHER)
    honest.update(moved)
    honest.owns[BEING.key] = moved
    del home.owns[BEING.key]
    rig.run(3.0)
    assert rig.homes() == {A: HIGHER}
    assert not is_true(rig)


def test_a_claim_that_waits_is_not_taken_up_when_there_is_no_room() -> None:
    rig, home, liar = owned_by_another(Limits(elements=1))
    liar.update(false(HIGHER))
    rig.machine.reconfigure(rig.now, limits=Limits(elements=0))
    home.update(BEING.element(LOWER), UpdateAction.DEL_PE)
    assert rig.homes() == {}


def test_a_claim_that_waits_is_forgotten_with_the_claimant_or_when_its_home_names_the_element() -> None:
    rig, home, liar = owned_by_another()
    liar.update(false(HIGHER))
    home.update(BEING.element(LOWER))
    home.update(BEING.element(LOWER), UpdateAction.DEL_PE)
    assert rig.homes() == {}
    rig, home, liar = owned_by_another()
    liar.update(false(HIGHER))
    liar.line.lose()
    liar.refuse()
    assert HIGHER not in rig.known()
    home.update(BEING.element(LOWER), UpdateAction.DEL_PE)
    assert rig.homes() == {}


def test_a_claim_that_waits_is_forgotten_when_the_element_has_another_home() -> None:
    rig, home, liar = owned_by_another()
    liar.update(false(HIGHER))
    rig.attach(BEING)
    assert rig.homes() == {A: US}
    assert is_true(rig)
    assert home.connected


def test_who_claims_an_element_and_then_moves_it_is_contradicted_by_its_home() -> None:
    rig, home, liar = owned_by_another()
    for _ in range(3):
        liar.update(BEING.element(HIGHER))
        liar.update(false(HIGHER))
        assert not is_true(rig)
        home.update(BEING.element(LOWER))
        assert is_true(rig)
        rig.run(0.31)
    for _ in range(10):
        liar.update(BEING.element(HIGHER))
        liar.update(false(HIGHER))
        assert is_true(rig)
        home.update(BEING.element(LOWER))
        rig.run(0.31)


def test_a_third_registrar_with_which_the_element_has_registered_is_believed_at_once() -> None:
    rig = alone()
    home, liar, third = rig.meet(LOWER, HIGHER, HIGHEST)
    home.own(BEING)
    liar.update(BEING.element(HIGHER))
    liar.update(false(HIGHER))
    third.update(BEING.element(HIGHEST))
    assert rig.homes() == {A: HIGHEST}
    assert is_true(rig)


# -- contradicted


def test_who_was_contradicted_three_times_may_be_home_but_not_move_an_element_whose_home_is_there() -> None:
    rig, _, liar = disbelieved()
    liar.update(false(HIGHER))
    assert rig.homes() == {A: LOWER}
    liar.update(BEING.element(HIGHER))
    liar.update(false(HIGHER))
    assert rig.homes() == {A: HIGHER}
    assert is_true(rig)
    assert rig.threats() == [("2.17", "claim")] * 2


def test_it_is_still_believed_about_its_own_elements_and_those_of_the_dead() -> None:
    rig, home, liar = disbelieved()
    liar.update(ANOTHER.element(HIGHER))
    assert rig.homes() == {A: LOWER, ANOTHER.identifier: HIGHER}
    home.line.lose()
    liar.update(BEING.element(HIGHER))
    assert rig.homes() == {A: HIGHER, ANOTHER.identifier: HIGHER}


def test_it_is_believed_again_after_twenty_quiet_seconds() -> None:
    rig, home, liar = disbelieved()
    rig.run(disputes.QUIET - 1)
    moved(liar)
    assert is_true(rig)
    home.update(BEING.element(LOWER))
    rig.run(disputes.QUIET + 0.1)
    moved(liar)
    assert not is_true(rig)


def test_as_long_as_it_is_contradicted_it_is_not_believed() -> None:
    rig, home, liar = disbelieved()
    for _ in range(6):
        moved(liar)
        assert is_true(rig)
        home.update(BEING.element(LOWER))
        rig.run(disputes.QUIET - 1)


def test_one_answer_about_many_elements_is_one_contradiction() -> None:
    rig = alone()
    home, other = rig.meet(LOWER, HIGHER)
    beings = [Being(n) for n in range(30, 60)]
    home.own(*beings)
    for being in beings:
        other.update(being.element(HIGHER))
    home.own(*beings)
    rig.run(0.31)
    moved(other)
    assert not is_true(rig)


def test_the_home_of_an_attached_element_never_yields_to_who_says_that_it_is_somewhere_else() -> None:
    rig = alone()
    [liar] = rig.meet(HIGHER)
    line = rig.attach(BEING)
    for n in range(1, 5):
        liar.update(false(HIGHER))
        rig.run(0.35)
        assert rig.homes() == {A: US}
        assert len(liar.line.all(enrp.HandleUpdate)) == n + 1
    assert line.up


def test_an_element_that_was_claimed_and_moved_registers_under_its_own_identifier() -> None:
    rig, _, liar = owned_by_another()
    liar.update(BEING.element(HIGHER))
    liar.update(false(HIGHER))
    rig.attach(BEING)
    assert rig.homes() == {A: US}
    assert is_true(rig)


# -- takeovers


def takeover(liar: Peer, target: int) -> None:
    liar.init_takeover(target)
    liar.takeover_server(target)


def test_a_takeover_by_one_that_was_contradicted_waits_until_the_target_has_been_asked() -> None:
    rig, home, liar = owned_by_another()
    contradict(rig, home, liar)
    home.alive = False
    takeover(liar, LOWER)
    assert rig.homes() == {A: LOWER}
    assert rig.known()[LOWER] == "probing"
    rig.run(0.41)
    assert rig.homes() == {A: HIGHER}
    assert LOWER not in rig.known()


def test_a_target_that_answers_contradicts_who_took_it_over() -> None:
    rig, home, liar = owned_by_another()
    contradict(rig, home, liar)
    for _ in range(2):
        takeover(liar, LOWER)
        rig.run(0.31)
        assert rig.homes() == {A: LOWER}
        assert rig.known()[LOWER] == "active"
    rig.forget()
    takeover(liar, LOWER)
    assert rig.threats() == [("2.17", "claim")]
    assert rig.homes() == {A: LOWER}


def test_if_the_one_that_took_over_dies_the_target_is_ours_to_judge() -> None:
    rig, home, liar = owned_by_another()
    contradict(rig, home, liar)
    home.alive = False
    takeover(liar, LOWER)
    liar.line.lose()
    liar.refuse()
    rig.run(1.0)
    assert rig.homes() == {A: US}


# -- bounds


def test_no_more_identities_are_counted_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disputes, "MOST_PEERS", 2)
    rig = alone()
    home, *liars = rig.meet(LOWER, HIGHER, HIGHEST, HIGHEST + 1)
    home.own(BEING)
    for liar in liars:
        for _ in range(3):
            contradict(rig, home, liar)
    moved(liars[0])
    assert not is_true(rig), "the first is forgotten"
    home.update(BEING.element(LOWER))
    moved(liars[2])
    assert is_true(rig)


def test_no_more_disputes_are_remembered_than_elements_may_be_held() -> None:
    rig = alone(limits=Limits(elements=3))
    home, liar = rig.meet(LOWER, HIGHER)
    beings = [Being(n) for n in range(30, 60)]
    for being in beings:
        home.update(being.element(LOWER))
        liar.update(being.element(HIGHER))
        rig.run(0.7)
        liar.update(being.element(HIGHER), UpdateAction.DEL_PE)
    held = rig.machine._ownership.disputes._disputed
    assert 1 <= len(held) <= 3
    rig.run(disputes.REMEMBERED)
    home.update(BEING.element(LOWER))
    liar.update(BEING.element(HIGHER))
    assert len(held) <= 2
