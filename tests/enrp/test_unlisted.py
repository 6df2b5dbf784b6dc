# SPDX-License-Identifier: Apache-2.0
"""What a home's table does not name is gone only if nobody else has it: nobody may be dropped for a moment, either.

Each of these was found by the simulator.
"""

from __future__ import annotations

import pytest

from rserpool.asap.events import ElementChanged
from rserpool.wire import UpdateAction, asap, enrp
from support.beings import HIGHER, HIGHEST, LOWER, LOWEST, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEINGS = [Being(n) for n in (30, 31)]
A, B = (b.identifier for b in BEINGS)
WRONG = 0x1234


def three() -> tuple[Rig, Peer, Peer]:
    """Two peers that say nothing by themselves; the lower one owns A."""
    rig = alone()
    low, high = rig.meet(LOWER, HIGHER)
    low.own(BEINGS[0])
    for peer in (low, high):
        peer.alive = False
    rig.forget()
    return rig, low, high


def audit(peer: Peer) -> None:
    """Have its table read."""
    for _ in range(2):
        peer.line.send(peer.presence(checksum=WRONG))
    assert peer.line.all(enrp.HandleTableRequest)


# -- others are heard first


def test_an_element_is_not_dropped_before_every_other_peer_has_been_heard() -> None:
    """One of them may have it, and not know yet that our association to it has ended."""
    rig, low, high = three()
    audit(low)
    low.line.send(low.table())
    rig.run(0.3)
    assert rig.homes() == {A: LOWER}
    high.introduce()
    assert rig.homes() == {}
    [event] = rig.seen(ElementChanged)
    assert event.reason == f"its home {LOWER:#010x} does not list it"


def test_it_is_kept_where_another_table_that_is_being_read_names_it() -> None:
    rig, low, high = three()
    audit(low)
    audit(high)
    low.line.send(low.table())
    assert rig.homes() == {A: LOWER}
    high.line.send(high.table([BEINGS[0].element(HIGHER)]))
    assert rig.homes() == {A: HIGHER}
    assert rig.changes() == [("moved", A)]
    rig.run(0.5)
    assert ("removed", A) not in rig.changes()


def test_nobody_is_waited_for_longer_than_four_times_the_time_for_an_answer() -> None:
    rig, low, high = three()
    low.alive = True
    low.requests = "ignore"
    high.alive = True
    high.requests = "ignore"
    audit(low)
    low.line.send(low.table())
    for _ in range(4):  # tables are being read all the time
        high.line.send(high.presence(checksum=WRONG))
        high.line.send(high.presence(checksum=WRONG))
        rig.run(0.39)
    rig.run(0.1)
    assert ("removed", A) in rig.changes()


def test_what_the_home_announces_while_others_are_waited_for_stays() -> None:
    rig, low, high = three()
    audit(low)
    low.line.send(low.table())
    low.update(BEINGS[0].element(LOWER))
    high.introduce()
    assert rig.homes() == {A: LOWER}


def test_what_a_home_inherits_after_it_wrote_its_table_stays() -> None:
    rig, low, high = three()
    high.own(BEINGS[1])
    rig.forget()
    audit(low)
    low.line.send(low.table())  # older than what follows
    high.line.lose()
    low.takeover_server(HIGHER)
    assert rig.homes() == {A: LOWER, B: LOWER}
    low.introduce()
    rig.run(1.0)
    assert ("removed", A) not in rig.changes()
    assert ("removed", B) not in rig.changes()


def test_what_is_inherited_while_a_table_is_read_stays() -> None:
    rig, low, high = three()
    audit(low)
    high.line.lose()
    low.takeover_server(HIGHER)
    low.line.send(low.table())
    assert rig.homes() == {A: LOWER}


# -- whose it was before


def claimed_in_vain() -> tuple[Rig, Peer, Peer]:
    """A is low's; high, who was away, says that it is its own, and finds out that it is not."""
    rig, low, high = three()
    high.update(BEINGS[0].element(HIGHER))
    assert rig.homes() == {A: HIGHER}
    audit(high)
    high.line.send(high.table())
    return rig, low, high


def test_an_element_that_was_claimed_in_vain_is_its_former_homes_again_and_that_one_is_asked() -> None:
    rig, low, _ = claimed_in_vain()
    low.introduce()
    assert rig.homes() == {A: LOWER}
    assert low.line.all(enrp.HandleTableRequest)[-1].own_children_only
    assert [change for change, _ in rig.changes()] == ["moved", "moved"]


def test_if_that_one_does_not_have_it_either_it_is_gone_for_good() -> None:
    rig, low, high = claimed_in_vain()
    low.introduce()
    low.line.send(low.table())
    high.introduce()
    assert rig.homes() == {}


def test_a_former_home_that_has_died_gets_nothing_back() -> None:
    rig, low, high = three()
    high.update(BEINGS[0].element(HIGHER))
    low.line.lose()
    low.refuse()
    assert LOWER not in rig.known()
    audit(high)
    high.line.send(high.table())
    assert rig.homes() == {}


def test_it_is_forgotten_after_ten_seconds() -> None:
    rig, low, high = three()
    low.alive = high.alive = True
    high.own(BEINGS[0])
    low.owns.clear()
    rig.run(10.1)
    high.owns.clear()
    rig.run(2.5)
    assert rig.homes() == {}
    assert [change for change, _ in rig.changes()] == ["moved", "removed"]


def test_an_element_that_was_lost_right_after_it_was_claimed_goes_back_too() -> None:
    """A registrar that was away claims it, and then does not reach it: it is where it was."""
    rig, low, high = three()
    high.update(BEINGS[0].element(HIGHER))
    rig.run(0.2)
    high.update(BEINGS[0].element(HIGHER), UpdateAction.DEL_PE)
    assert rig.homes() == {A: LOWER}
    assert low.line.all(enrp.HandleTableRequest)[-1].own_children_only


def test_an_element_that_leaves_a_home_it_has_had_for_a_while_is_gone() -> None:
    rig, _, high = three()
    high.update(BEINGS[0].element(HIGHER))
    rig.run(0.61)
    high.update(BEINGS[0].element(HIGHER), UpdateAction.DEL_PE)
    assert rig.homes() == {}


# -- what was ours


@pytest.mark.parametrize(
    ("claimant", "lowest", "wait"), [(LOWER, False, 0.0), (HIGHER, False, 0.4), (LOWER, True, 0.4)]
)
def test_an_element_that_each_of_two_gave_to_the_other_is_asked_by_the_higher_id_first(
    claimant: int, *, lowest: bool, wait: float
) -> None:
    rig = alone(lowest=lowest)
    [peer] = rig.meet(claimant)
    line = rig.attach(BEINGS[0])
    line.lose()
    peer.update(BEINGS[0].element(claimant))
    peer.alive = False
    rig.forget()
    audit(peer)
    peer.line.send(peer.table())
    if wait:
        rig.run(wait - 0.01)
        assert rig.homes() == {A: claimant}
    rig.run(0.02)
    assert rig.homes() == {A: US}
    [announced] = peer.line.all(enrp.HandleUpdate)
    assert announced.element == BEINGS[0].element(US)
    asked = rig.reached(BEINGS[0])
    assert [m.home for m in asked.all(asap.EndpointKeepAlive)] == [True]
    rig.run(0.1)
    assert rig.machine.counts()["attached"] == 1


def test_the_lower_id_does_not_ask_where_the_higher_one_has_it_after_all() -> None:
    rig = alone()
    [peer] = rig.meet(HIGHER)
    rig.attach(BEINGS[0]).lose()
    peer.update(BEINGS[0].element(HIGHER))
    peer.alive = False
    audit(peer)
    peer.line.send(peer.table())
    rig.run(0.2)
    peer.update(BEINGS[0].element(HIGHER))
    rig.forget()
    rig.run(0.5)
    assert rig.homes() == {A: HIGHER}
    assert rig.dialled() == []


# -- claims that are over


def test_who_claimed_an_element_and_is_gone_does_not_get_it() -> None:
    rig = alone()
    claimant, other = rig.meet(HIGHER, LOWEST)
    line = rig.attach(BEINGS[0])
    claimant.update(BEINGS[0].element(HIGHER))
    claimant.line.lose()
    claimant.refuse()
    assert HIGHER not in rig.known()
    line.lose()
    rig.run(0.001)
    rig.fail(BEINGS[0].listening)
    assert rig.homes() == {}
    assert other.line.all(enrp.HandleUpdate)[-1].action is UpdateAction.DEL_PE


def test_who_was_told_that_an_element_is_ours_does_not_get_it_when_it_is_lost() -> None:
    rig = alone()
    [claimant] = rig.meet(HIGHEST)
    line = rig.attach(BEINGS[0])
    claimant.update(BEINGS[0].element(HIGHEST))
    rig.run(0.31)
    line.lose()
    rig.run(0.001)
    rig.fail(BEINGS[0].listening)
    assert rig.homes() == {}


# -- after a lag


def test_what_an_element_left_unanswered_before_a_lag_is_not_held_against_it() -> None:
    """It was asked twice, then we were frozen; meanwhile it was taken over, and has ended its association to us."""
    rig = alone()
    [peer] = rig.meet(LOWER)
    line = rig.attach(BEINGS[0])
    line.react = None
    rig.run(0.001)
    while len(line.all(asap.EndpointKeepAlive)) < 3:
        rig.run(0.05)
    rig.freeze(5.0)
    rig.wake()
    line.lose()
    rig.run(0.01)
    assert rig.homes() == {A: US}
    assert rig.dialled() == [str(BEINGS[0].listening)]
    assert [m for m in peer.line.all(enrp.HandleUpdate) if m.action is UpdateAction.DEL_PE] == []
    assert POOL.decode() in str(rig.space())


def test_an_element_that_moves_on_while_the_lower_id_waits_is_left_alone() -> None:
    rig = alone()
    claimant, third = rig.meet(HIGHER, LOWEST)
    rig.attach(BEINGS[0]).lose()
    claimant.update(BEINGS[0].element(HIGHER))
    claimant.alive = False
    audit(claimant)
    claimant.line.send(claimant.table())
    third.own(BEINGS[0])
    rig.forget()
    rig.run(0.5)
    assert rig.homes() == {A: LOWEST}
    assert rig.dialled() == []


def test_what_we_gave_up_and_its_new_home_removes_at_once_does_not_come_back() -> None:
    rig = alone()
    [claimant] = rig.meet(HIGHER)
    rig.attach(BEINGS[0]).lose()
    claimant.update(BEINGS[0].element(HIGHER))
    claimant.update(BEINGS[0].element(HIGHER), UpdateAction.DEL_PE)
    assert rig.homes() == {}
    rig.run(1.0)
    assert rig.homes() == {}


def test_an_element_that_is_removed_while_the_lower_id_waits_is_gone() -> None:
    rig = alone()
    [claimant] = rig.meet(HIGHER)
    rig.attach(BEINGS[0]).lose()
    claimant.update(BEINGS[0].element(HIGHER))
    claimant.alive = False
    audit(claimant)
    claimant.line.send(claimant.table())
    claimant.update(BEINGS[0].element(HIGHER), UpdateAction.DEL_PE)
    rig.run(0.5)
    assert rig.homes() == {}
    assert rig.dialled() == []
