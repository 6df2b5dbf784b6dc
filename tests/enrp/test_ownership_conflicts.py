# SPDX-License-Identifier: Apache-2.0
"""Two registrars that own one element: it is kept where it is attached, and of two such by the higher server ID."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rserpool.wire import UpdateAction, asap, enrp
from support.beings import HIGHER, LOWER, US, Being
from support.peers import Line, Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEING = Being(30)
A = BEING.identifier
OURS = enrp.HandleUpdate(sender=US, action=UpdateAction.ADD_PE, pool_handle=POOL, element=BEING.element(US))


def attached(server_id: int = HIGHER, *, lowest: bool = False) -> tuple[Rig, Peer, Peer, Line]:
    """An element is attached to us; a claimant and a bystander."""
    rig = alone(lowest=lowest)
    claimant, bystander = rig.meet(server_id, LOWER - 1)
    line = rig.attach(BEING)
    rig.forget()
    return rig, claimant, bystander, line


def by_update(peer: Peer) -> None:
    peer.own(BEING)


def by_table(peer: Peer) -> None:
    """A table entry, in the re-synchronisation of a new connection."""
    peer.owns[BEING.key] = BEING.element(peer.server_id)
    peer.requests = "ignore"
    peer.dial()
    peer.introduce()
    peer.line.send(peer.table([BEING.element(peer.server_id)]))


CLAIMS = pytest.mark.parametrize("claim", [by_update, by_table])


# -- not attached


@pytest.mark.rfc("PROTOCOL 10.5: an element that is attached is kept against a claim, another one is given up")
@CLAIMS
def test_an_element_that_is_not_attached_is_given_up_at_once(claim: Callable[[Peer], None]) -> None:
    rig, claimant, bystander, line = attached()
    line.lose()
    rig.run(0.001)
    assert rig.dialled() == [str(BEING.listening)]
    claim(claimant)
    assert rig.homes() == {A: HIGHER}
    assert rig.changes() == [("moved", A)]
    assert rig.dialled() == []
    rig.run(1.0)
    assert claimant.line.all(enrp.HandleUpdate) == bystander.line.all(enrp.HandleUpdate) == []


@pytest.mark.rfc("PROTOCOL 10.5: an answer to a probe does not attach")
def test_an_answer_to_a_probe_does_not_attach_an_element() -> None:
    rig, claimant, _, line = attached()
    line.lose()
    rig.run(0.001)
    probe = rig.reached(BEING)
    [question] = probe.all(asap.EndpointKeepAlive)
    assert not question.home
    assert rig.machine.counts()["attached"] == 0
    by_update(claimant)
    assert rig.homes() == {A: HIGHER}
    assert probe.closed is not None


# -- attached


@pytest.mark.rfc("PROTOCOL 10.5: an element that is attached is kept against a claim, another one is given up")
@CLAIMS
@pytest.mark.parametrize("server_id", [LOWER, HIGHER])
def test_a_claim_to_an_attached_element_is_answered_300_ms_later(claim: Callable[[Peer], None], server_id: int) -> None:
    rig, claimant, bystander, line = attached(server_id)
    claim(claimant)
    assert rig.homes() == {A: US}
    rig.run(0.299)
    assert claimant.line.all(enrp.HandleUpdate) == []
    rig.run(0.002)
    assert claimant.line.all(enrp.HandleUpdate) == bystander.line.all(enrp.HandleUpdate) == [OURS]
    assert rig.homes() == {A: US}
    assert line.up
    assert rig.changes() == []


@pytest.mark.rfc("PROTOCOL 10.5: an element that is attached is kept against a claim, another one is given up")
def test_an_element_that_leaves_us_within_the_300_ms_is_given_up_without_a_word() -> None:
    """It has moved: it ends the association to its former home."""
    rig, claimant, bystander, line = attached()
    by_update(claimant)
    rig.run(0.2)
    line.lose()
    rig.run(0.099)
    assert rig.homes() == {A: US}
    rig.run(0.002)
    assert rig.homes() == {A: HIGHER}
    assert rig.changes() == [("moved", A)]
    assert rig.dialled() == []
    rig.run(0.5)
    assert claimant.line.all(enrp.HandleUpdate) == bystander.line.all(enrp.HandleUpdate) == []


def test_many_claims_within_the_300_ms_have_one_answer() -> None:
    rig, claimant, _, _ = attached()
    for _ in range(6):
        by_update(claimant)
        rig.run(0.04)
    assert rig.homes() == {A: US}
    rig.run(0.2)
    assert claimant.line.all(enrp.HandleUpdate) == [OURS]


def test_an_element_that_deregisters_within_the_300_ms_is_not_announced_again() -> None:
    rig, claimant, _, line = attached()
    by_update(claimant)
    line.send(asap.Deregistration(pool_handle=POOL, pe_identifier=A))
    rig.run(0.4)
    actions = [m.action for m in claimant.line.all(enrp.HandleUpdate)]
    assert actions == [UpdateAction.DEL_PE]


@pytest.mark.rfc("PROTOCOL 10.5: an answer to a probe does not attach")
def test_an_element_taken_over_is_attached_by_its_answer_to_our_claim() -> None:
    rig = alone()
    dead, claimant = rig.meet(LOWER, HIGHER)
    dead.own(BEING)
    claimant.acknowledges = True
    dead.line.lose()
    dead.refuse()
    assert rig.homes() == {A: US}
    rig.run(0.001)
    line = rig.reached(BEING)
    [question] = line.all(asap.EndpointKeepAlive)
    assert question.home
    assert rig.machine.counts()["attached"] == 1
    rig.forget()
    by_update(claimant)
    rig.run(0.31)
    assert claimant.line.all(enrp.HandleUpdate) == [OURS]
    assert rig.homes() == {A: US}


# -- attached here and there


RULES = [(HIGHER, False, True), (LOWER, False, False), (HIGHER, True, False), (LOWER, True, True)]


@pytest.mark.rfc("PROTOCOL 10.5: of two that are both attached the higher server ID keeps it")
@pytest.mark.parametrize(("server_id", "lowest", "yields"), RULES)
def test_of_two_that_are_both_attached_the_higher_id_keeps_it_and_by_rsplibs_rule_the_lower(
    server_id: int, *, lowest: bool, yields: bool
) -> None:
    rig, claimant, _, line = attached(server_id, lowest=lowest)
    by_update(claimant)
    rig.run(0.31)
    rig.forget()
    rig.run(0.3)
    by_update(claimant)  # its answer to our answer: attached there as well
    if yields:
        assert rig.homes() == {A: server_id}
        assert line.closed is not None
        assert line.closed.reason == "the element has another home now"
        rig.run(1.0)
        assert claimant.line.all(enrp.HandleUpdate) == []
    else:
        assert rig.homes() == {A: US}
        rig.run(0.31)
        assert claimant.line.all(enrp.HandleUpdate) == [OURS]
        assert line.up


@pytest.mark.rfc("PROTOCOL 10.5: of two that are both attached the higher server ID keeps it")
def test_the_lower_id_never_gets_it_however_often_it_claims() -> None:
    rig, claimant, _, line = attached(LOWER)
    for n in range(1, 11):
        by_update(claimant)
        rig.run(0.35)
        assert claimant.line.all(enrp.HandleUpdate) == [OURS] * n
    assert rig.homes() == {A: US}
    assert line.up


def test_a_claim_long_after_the_last_one_is_answered_first() -> None:
    rig, claimant, _, _ = attached(HIGHER)
    claim = BEING.element(HIGHER)
    claimant.update(claim)
    rig.run(10)
    rig.forget()
    claimant.update(claim)
    assert rig.homes() == {A: US}
    rig.run(0.31)
    assert claimant.line.all(enrp.HandleUpdate) == [OURS]


def test_an_element_that_comes_back_to_us_is_ours_and_a_claim_to_it_a_new_one() -> None:
    rig, claimant, _, _ = attached(HIGHER)
    by_update(claimant)
    rig.run(0.31)
    by_update(claimant)
    assert rig.homes() == {A: HIGHER}
    rig.attach(BEING)
    assert rig.homes() == {A: US}
    by_update(claimant)
    assert rig.homes() == {A: US}


def test_a_removal_by_the_claimant_does_not_touch_the_attached_element() -> None:
    rig, claimant, _, line = attached(HIGHER)
    by_update(claimant)
    claimant.update(BEING.element(HIGHER), UpdateAction.DEL_PE)
    rig.run(0.5)
    assert rig.homes() == {A: US}
    assert line.up
