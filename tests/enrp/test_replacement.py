# SPDX-License-Identifier: Apache-2.0
"""Associations between registrars that end with a leaf are replaced first, and nobody is held for dead or taken over."""

from __future__ import annotations

import pytest

from rserpool.asap.events import PeerChanged
from rserpool.wire import Ppid, enrp
from support.beings import HIGHER, LOWER, US, Being, endpoint
from support.peers import Peer
from support.rig_enrp import Rig, alone


def called(server_id: int = LOWER) -> tuple[Rig, Peer]:
    """A registrar that has called a peer."""
    rig = alone()
    peer = rig.peer(server_id, 2)
    rig.do(lambda m, now: m.look_for([endpoint(2)], now))
    peer.answer()
    peer.introduce()
    rig.run(1.0)
    rig.forget()
    return rig, peer


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
@pytest.mark.parametrize("server_id", [LOWER, HIGHER])
@pytest.mark.parametrize("why", ["its own leaf was renewed", "the peer's leaf ages"])
def test_who_has_called_a_peer_calls_it_again_and_then_ends_the_former_association(server_id: int, why: str) -> None:
    rig, peer = called(server_id)
    before = peer.line
    if why == "its own leaf was renewed":
        rig.do(lambda m, now: m.renewed(now))
        rig.run(0.0)
    else:
        rig.do(lambda m, now: m.ageing(before.association.id, now))
    assert rig.dialled() == [str(endpoint(2))]
    newer = peer.answer()
    assert before.up
    peer.introduce()
    rig.run(5.0)
    assert [line.up for line in (newer, before)] == [True, False]
    peer.update(Being(30).element(server_id))
    assert rig.machine.counts()["elements"] == 1
    assert not [e for _, e in rig.events if isinstance(e, PeerChanged)]
    assert rig.dialled() == []


@pytest.mark.rfc("PROTOCOL 13.3: associations are replaced before a credential ends, and nothing is lost")
def test_what_is_said_before_the_peer_has_spoken_on_the_newer_association_takes_the_former_one() -> None:
    rig, peer = called()
    before = peer.line
    rig.do(lambda m, now: m.ageing(before.association.id, now))
    peer.alive = False
    newer = peer.answer()
    count = len(before.all(enrp.Presence))
    rig.run(0.5)
    assert len(before.all(enrp.Presence)) > count
    assert [m.receiver for m in newer.all(enrp.Presence)] == [0]


def test_a_peer_that_cannot_be_called_again_keeps_the_former_association() -> None:
    rig, peer = called()
    before = peer.line
    rig.do(lambda m, now: m.ageing(before.association.id, now))
    peer.refuse()
    rig.run(5.0)
    assert before.up
    assert not [e for _, e in rig.events if isinstance(e, PeerChanged)]
    rig.do(lambda m, now: m.ageing(before.association.id, now))
    assert rig.dialled() == [str(endpoint(2))]


def test_who_was_called_leaves_it_to_the_caller() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    rig.do(lambda m, now: m.ageing(peer.line.association.id, now))
    rig.do(lambda m, now: m.renewed(now))
    rig.run(1.0)
    assert rig.dialled() == []
    newer = peer.dial()
    peer.introduce()
    rig.run(5.0)
    assert [line.up for line in rig.lines.values()] == [False, True]
    assert newer.up
    assert not [e for _, e in rig.events if isinstance(e, PeerChanged)]


def test_the_calls_of_a_renewed_registrar_come_within_the_time_it_is_given_and_one_at_a_time() -> None:
    rig, peer = called()
    rig.do(lambda m, now: m.renewed(now, 10.0))
    rig.do(lambda m, now: m.renewed(now, 10.0))
    for _ in range(100):
        rig.run(0.1)
        if rig.dialled():
            break
    assert rig.dialled() == [str(endpoint(2))]
    rig.do(lambda m, now: m.ageing(peer.line.association.id, now))
    assert rig.dialled() == [str(endpoint(2))]
    assert rig.machine.server_id == US


def test_a_renewed_registrar_calls_no_peer_twice_whose_association_was_lost_meanwhile() -> None:
    rig, peer = called()
    rig.do(lambda m, now: m.renewed(now, 0.01))
    peer.line.lose()
    assert rig.dialled() == [str(endpoint(2))]
    rig.run(0.1)
    assert rig.dialled() == [str(endpoint(2))]


def test_an_element_s_association_that_ages_is_its_own_affair() -> None:
    rig = alone()
    being = Being(30)
    line = rig.accept(Ppid.ASAP, being.principal, (being.address,))
    rig.do(lambda m, now: m.ageing(line.association.id, now))
    rig.run(1.0)
    assert rig.dialled() == []
