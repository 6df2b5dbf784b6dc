# SPDX-License-Identifier: Apache-2.0
"""Another registrar's element that is reported is asked once, by a call of its own, and never more than forgotten."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Connect, Endpoint, TransportKind
from rserpool.asap.events import Change, ElementChanged, Ignored, Refused
from rserpool.wire import Ppid, SctpTransport, UpdateAction, asap, enrp
from support.rig_asapserver import (
    LISTENING,
    PEER_ID,
    POOL,
    QUIET,
    SERVER_ID,
    Far,
    Rig,
    add,
    foreign,
    keep_alives,
    updates,
)

PE = foreign(1)
PAUSE = max(QUIET.keep_alive_timeout, QUIET.keep_alive_min_interval)
TRIES = QUIET.keep_alive_tries


def reported(rig: Rig) -> tuple[Far, Connect]:
    """A peer's element is reported; returns the peer and the wish to connect."""
    peer = rig.peer(PEER_ID, PE)
    updates(peer)
    assert rig.user().report(PE.identifier) == []
    (connect,) = rig.connects
    rig.seen(ElementChanged)
    return peer, connect


def only_forgotten(rig: Rig, peer: Far, reason: str) -> None:
    """The element has been removed here, and nobody was told."""
    assert rig.elements() == {}
    assert updates(peer) == []
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.reason) == (Change.REMOVED, f"reported unreachable, and {reason}")
    assert rig.machine.counts()["own"] == 0


def kept(rig: Rig) -> bool:
    return {i: e["home"] for i, e in rig.elements().items()} == {PE.identifier: f"{PEER_ID:#010x}"}


@pytest.mark.rfc("PROTOCOL 10.8: another registrar's element that is reported is asked, and at most forgotten here")
def test_it_is_dialled_at_once_where_its_home_says_it_listens() -> None:
    rig = Rig()
    _, connect = reported(rig)
    assert connect.service is Ppid.ASAP
    assert PE.asap_transport is not None
    assert connect.endpoint == Endpoint(TransportKind.TCP, PE.asap_transport.addresses, LISTENING)
    assert connect.deadline == pytest.approx(QUIET.keep_alive_timeout * TRIES)


def test_over_sctp_it_is_dialled_at_all_its_addresses() -> None:
    rig = Rig()
    addresses = (*PE.transport.addresses, *foreign(2).transport.addresses)
    rig.peer(PEER_ID, foreign(1, asap_transport=SctpTransport(port=34127, addresses=addresses)))
    rig.user().report(PE.identifier)
    assert [c.endpoint for c in rig.connects] == [Endpoint(TransportKind.SCTP, addresses, 34127)]


@pytest.mark.rfc("RFC 5352 3.5: an element that is reported is asked at once")
def test_it_is_asked_without_a_claim_and_left_alone_when_it_has_answered() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    probe = rig.element(1, answer_to=connect)
    assert probe.take() == [
        asap.EndpointKeepAlive(server_id=SERVER_ID, pool_handle=POOL, pe_identifier=PE.identifier, home=False)
    ]
    assert probe.acknowledge() == []
    assert probe.closed is not None
    assert not probe.closed.abort
    assert rig.seen(Ignored) == []
    rig.run(100)
    assert kept(rig)
    assert updates(peer) == []
    assert rig.seen(ElementChanged) == []
    assert rig.connects == []


@pytest.mark.rfc("RFC 5352 3.5: an element to which the keep-alive cannot be sent is removed")
def test_if_it_cannot_be_reached_it_is_forgotten_here_and_its_home_is_not_told() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    rig.fail(connect, "connection refused")
    only_forgotten(rig, peer, "connection refused")


@pytest.mark.rfc("PROTOCOL 10.8: another registrar's element that is reported is asked, and at most forgotten here")
def test_if_it_does_not_answer_it_is_forgotten_after_three_tries() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    probe = rig.element(1, answer_to=connect)
    dialled = rig.now
    rig.run(TRIES * PAUSE - 0.001)
    assert kept(rig)
    rig.run(0.002)
    assert keep_alives(probe) == pytest.approx([dialled + n * PAUSE for n in range(TRIES)])
    assert probe.closed is not None
    only_forgotten(rig, peer, "it left 3 keep-alives unanswered")


def test_if_it_hangs_up_it_is_forgotten() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    rig.element(1, answer_to=connect).lose()
    only_forgotten(rig, peer, "it ended the association")


@pytest.mark.parametrize(("role", "threat"), [(Role.ELEMENT, "2.3"), (Role.USER, "2.2"), (Role.ANONYMOUS, "2.1")])
def test_if_somebody_else_is_there_it_is_forgotten_and_the_impostor_left_unasked(role: Role, threat: str) -> None:
    rig = Rig()
    peer, connect = reported(rig)
    impostor = rig.connect(rig.principal(role, 2), "10.0.0.1", answer_to=connect)
    assert impostor.take() == []
    assert impostor.closed is not None
    assert [r.threat for r in rig.seen(Refused)] == [threat]
    only_forgotten(rig, peer, "somebody else is where it should be")


def test_an_answer_over_another_association_is_no_answer_to_the_probe() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    rig.element(1, answer_to=connect)
    other = rig.element(1)
    for _ in range(TRIES):
        other.acknowledge()
        rig.run(PAUSE)
    assert [e.reason for e in rig.seen(Ignored)] == ["nobody asked"] * TRIES
    only_forgotten(rig, peer, "it left 3 keep-alives unanswered")


def test_an_answer_for_another_element_is_no_answer_to_the_probe() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    probe = rig.element(1, answer_to=connect)
    for _ in range(TRIES):
        probe.acknowledge(max(probe.association.principal.pe_identifiers))
        rig.run(PAUSE)
    only_forgotten(rig, peer, "it left 3 keep-alives unanswered")


@pytest.mark.rfc("PROTOCOL 10.8: another registrar's element that is reported is asked, and at most forgotten here")
def test_its_home_brings_back_what_was_forgotten() -> None:
    rig = Rig()
    peer, connect = reported(rig)
    rig.fail(connect)
    peer.send(add(PE))
    assert kept(rig)
    rig.user().report(PE.identifier)
    assert len(rig.connects) == 1


# -- how often


def test_reports_join_a_probe_that_is_under_way() -> None:
    rig = Rig()
    _, connect = reported(rig)
    for number in range(10):
        rig.user(number).report(PE.identifier)
    assert rig.connects == [connect]
    probe = rig.element(1, answer_to=connect)
    for number in range(10):
        rig.user(number).report(PE.identifier)
    assert rig.connects == []
    assert len(keep_alives(probe)) == 1


@pytest.mark.rfc("PROTOCOL 8: an element is never asked more often than KEEP-ALIVE-MIN-INTERVAL allows")
def test_no_flood_of_reports_makes_it_be_asked_more_often_than_the_limit_allows() -> None:
    rig = Rig()
    _, connect = reported(rig)
    dialled = [rig.now]
    rig.element(1, answer_to=connect).acknowledge()
    for turn in range(200):
        rig.user(turn % 40).report(PE.identifier)
        for again in list(rig.connects):
            dialled.append(rig.now)
            rig.element(1, answer_to=again).acknowledge()
        rig.run(0.05)
    seconds = rig.now - dialled[0]
    most = QUIET.keep_alive_burst + seconds / QUIET.keep_alive_min_interval
    assert most / 2 < len(dialled) <= most + 1e-6
    assert dialled[:4] == pytest.approx([dialled[0]] * 4, abs=0.2)


def test_reports_of_another_registrars_element_are_never_counted() -> None:
    rig = Rig()
    _, connect = reported(rig)
    for number in range(20):
        rig.user(number).report(PE.identifier)
    rig.element(1, answer_to=connect).acknowledge()
    assert kept(rig)


# -- what happens meanwhile


@pytest.mark.parametrize("dialled", [True, False])
@pytest.mark.parametrize("how", ["registers here", "deregisters here", "is removed by its home", "expires"])
def test_a_probe_ends_with_the_reason_for_it(how: str, *, dialled: bool) -> None:
    rig = Rig()
    peer, connect = reported(rig)
    peer.send(add(foreign(1, life=1)))
    probe = rig.element(1, answer_to=connect) if dialled else None
    match how:
        case "registers here":
            rig.element(1).register()
        case "deregisters here":
            rig.element(1).deregister()
        case "is removed by its home":
            peer.send(enrp.HandleUpdate(sender=PEER_ID, action=UpdateAction.DEL_PE, pool_handle=POOL, element=PE))
        case _:
            rig.run(1.25)
    assert rig.connects == []
    if probe is not None:
        assert probe.closed is not None
    rig.seen(ElementChanged)
    rig.run(0.4)
    assert rig.seen(ElementChanged) == []
    assert bool(rig.elements()) == (how == "registers here")


def test_losing_other_associations_means_nothing_for_a_probe() -> None:
    rig = Rig()
    _, connect = reported(rig)
    user, other = rig.user(), rig.element(1)
    probe = rig.element(1, answer_to=connect)
    user.lose()
    other.lose()
    assert probe.is_up()
    assert kept(rig)
    probe.acknowledge()
    assert kept(rig)
