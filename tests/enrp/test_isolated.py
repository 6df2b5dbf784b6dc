# SPDX-License-Identifier: Apache-2.0
"""A registrar that was cut off from all others says "no such pool" only when it has read what they own."""

from __future__ import annotations

import pytest

from rserpool.wire import asap, enrp
from support.beings import HIGHER, LOWER, US, Being
from support.peers import Peer
from support.rig_enrp import Rig, alone
from support.scope import POOL

BEINGS = [Being(n) for n in range(30, 34)]
REJECTION = enrp.HandleTableResponse(sender=LOWER, receiver=US, reject=True)


RESOLUTION = asap.HandleResolution(pool_handle=POOL)


def answers(rig: Rig) -> list[tuple[float, bool]]:
    """When resolutions were answered, and whether there was such a pool."""
    return [(at, not m.error) for at, m in rig.times(asap.HandleResolutionResponse)]


def met_again() -> tuple[Rig, Peer]:
    """A registrar whose only peer died, and that meets one again which is slow to tell what it owns."""
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.alive = False
    rig.run(1.5)
    assert rig.known() == {}
    peer.alive, peer.requests = True, "ignore"
    peer.owns[BEINGS[0].key] = BEINGS[0].element(LOWER)
    rig.forget()
    rig.began = rig.now
    peer.dial()
    peer.introduce()
    return rig, peer


@pytest.mark.rfc('PROTOCOL 10.6: who was cut off from all reads tables before it says "no such pool"')
def test_no_such_pool_is_not_said_before_the_table_of_a_peer_met_again_was_read() -> None:
    rig, peer = met_again()
    user = rig.user()
    user.send(RESOLUTION)
    rig.run(0.3)
    assert answers(rig) == []
    peer.line.send(peer.table(peer.owns.values()))
    assert answers(rig) == [(0.3, True)]


def test_no_such_pool_is_said_as_soon_as_the_table_does_not_have_it() -> None:
    rig, peer = met_again()
    user = rig.user()
    user.send(RESOLUTION)
    rig.run(0.3)
    peer.line.send(peer.table())
    assert answers(rig) == [(0.3, False)]
    user.send(RESOLUTION)
    assert answers(rig) == [(0.3, False), (0.3, False)]


@pytest.mark.parametrize("how", ["rejected", "not answered"])
def test_a_table_that_cannot_be_read_holds_nobody_up(how: str) -> None:
    rig, peer = met_again()
    user = rig.user()
    user.send(RESOLUTION)
    if how == "rejected":
        peer.line.send(REJECTION)
        assert answers(rig) == [(0.0, False)]
    else:
        rig.run(0.39)
        assert answers(rig) == []
        rig.run(0.02)
        assert answers(rig) == [(0.4, False)]


@pytest.mark.rfc('PROTOCOL 10.6: who was cut off from all reads tables before it says "no such pool"')
def test_a_long_table_holds_up_nobody_for_more_than_a_second() -> None:
    rig, peer = met_again()
    user = rig.user()
    user.send(RESOLUTION)
    while rig.clock < 1.4:
        rig.run(0.2)
        peer.line.send(peer.table(more=True))
    assert answers(rig) == [(1.0, False)]


def test_who_has_another_peer_all_the_time_is_not_cut_off() -> None:
    rig = alone()
    rig.meet(HIGHER)
    late = rig.peer(LOWER)
    late.requests = "ignore"
    late.dial()
    late.introduce()
    user = rig.user()
    user.send(RESOLUTION)
    assert [b for _, b in answers(rig)] == [False]


def test_who_has_read_a_mentors_handlespace_is_not_cut_off() -> None:
    rig = Rig(expects=(2,)).start()
    rig.peer(HIGHER, 2).answer()
    assert rig.machine.serving
    late = rig.peer(LOWER, 3)
    late.requests = "ignore"
    late.dial()
    late.introduce()
    user = rig.user()
    user.send(RESOLUTION)
    assert answers(rig) == [(0.0, False)]


def test_a_pool_that_is_known_is_told_at_once_even_then() -> None:
    rig, _ = met_again()
    rig.attach(BEINGS[3])
    user = rig.user()
    user.send(RESOLUTION)
    assert answers(rig) == [(0.0, True)]


def test_who_serves_alone_and_meets_its_first_peer_was_cut_off_as_well() -> None:
    rig = alone()
    peer = rig.peer(LOWER)
    peer.requests = "ignore"
    peer.dial()
    peer.introduce()
    user = rig.user()
    user.send(RESOLUTION)
    assert answers(rig) == []
    peer.line.send(peer.table([BEINGS[0].element(LOWER)]))
    assert answers(rig) == [(0.0, True)]


def test_with_several_peers_met_again_the_last_table_counts() -> None:
    rig, first = met_again()
    second = rig.peer(HIGHER)
    second.requests = "ignore"
    second.dial()
    second.introduce()
    user = rig.user()
    user.send(RESOLUTION)
    first.line.send(first.table())
    assert answers(rig) == []
    second.line.send(second.table([BEINGS[1].element(HIGHER)]))
    assert answers(rig) == [(0.0, True)]


def test_when_the_only_other_peer_dies_in_the_middle_nobody_waits_for_it() -> None:
    rig, peer = met_again()
    user = rig.user()
    user.send(RESOLUTION)
    peer.line.lose()
    peer.refuse()
    assert answers(rig) == [(0.0, False)]


def test_once_all_tables_were_read_or_failed_nobody_waits_any_more() -> None:
    rig, first = met_again()
    second = rig.peer(HIGHER)
    second.requests = "ignore"
    second.dial()
    second.introduce()
    first.line.send(REJECTION)
    for _ in range(2):  # the audit reads the first one's table after all
        first.line.send(first.presence(checksum=0x1234))
    second.line.send(second.table())
    first.line.send(first.table())
    user = rig.user()
    user.send(RESOLUTION)
    assert answers(rig) == [(0.0, False)]
