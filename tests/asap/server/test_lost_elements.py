# SPDX-License-Identifier: Apache-2.0
"""An element whose association is lost is asked over another one at once: it is kept, or known to be gone."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Connect, Endpoint, TransportKind
from rserpool.asap.events import Change, ElementChanged, Refused
from rserpool.wire import OpaqueTransport, Ppid, TcpTransport, UpdateAction, asap
from support.rig_asapserver import (
    LISTENING,
    POOL,
    QUIET,
    SCTP_PORT,
    SERVER_ID,
    Far,
    Rig,
    add,
    foreign,
    keep_alives,
    updates,
)

TIMEOUT, TRIES = QUIET.keep_alive_timeout, QUIET.keep_alive_tries


def lost(rig: Rig, far: Far) -> Connect:
    """Lose an element's association; returns the wish for another one, which comes at once."""
    far.lose()
    rig.run()
    (connect,) = rig.connects
    return connect


@pytest.mark.rfc("PROTOCOL 10.8: an element whose association is lost is probed at once over another")
def test_a_lost_element_is_dialled_at_once_where_it_said_it_listens() -> None:
    rig = Rig()
    element = rig.element(1)
    element.register(asap_transport=TcpTransport(port=4444, address=element.address))
    connect = lost(rig, element)
    assert connect.service is Ppid.ASAP
    assert connect.endpoint == Endpoint(TransportKind.TCP, (element.address,), 4444)
    assert connect.deadline == pytest.approx(TIMEOUT * TRIES)
    assert rig.elements().keys() == {element.identifier}


def test_an_element_of_sctp_is_dialled_at_all_addresses_it_spoke_from() -> None:
    rig = Rig()
    element = rig.element(1, "10.0.0.1", "fd00::1", kind=TransportKind.SCTP).register()
    connect = lost(rig, element)
    addresses = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert connect.endpoint == Endpoint(TransportKind.SCTP, addresses, SCTP_PORT)


@pytest.mark.rfc("RFC 5352 3.5: an element to which the keep-alive cannot be sent is removed")
def test_an_element_that_cannot_be_reached_is_removed_and_its_removal_announced() -> None:
    rig = Rig()
    element = rig.element(1).register()
    peer = rig.witness
    rig.seen(ElementChanged)
    rig.fail(lost(rig, element), "connection refused")
    assert rig.elements() == {}
    assert updates(peer) == [(UpdateAction.DEL_PE, POOL, element.offer(home=SERVER_ID))]
    (event,) = rig.seen(ElementChanged)
    assert (event.change, event.reason) == (Change.REMOVED, "it cannot be reached: connection refused")
    assert rig.machine.counts()["own"] == 0


@pytest.mark.rfc("PROTOCOL 10.8: an element whose association is lost is probed at once over another")
def test_an_element_that_answers_the_probe_is_kept_and_asked_there_from_then_on() -> None:
    rig = Rig()
    element = rig.element(1).register()
    peer = rig.witness
    probe = rig.element(1, answer_to=lost(rig, element))
    (question,) = probe.take()
    assert question == asap.EndpointKeepAlive(
        server_id=SERVER_ID, pool_handle=POOL, pe_identifier=element.identifier, home=False
    )
    probe.acknowledge()
    probe.acknowledges = True
    rig.run(20)
    assert len(keep_alives(probe)) > 10
    assert rig.elements().keys() == {element.identifier}
    assert updates(peer) == []
    assert probe.is_up()


@pytest.mark.rfc("PROTOCOL 10.5: an answer to a probe does not attach")
def test_an_answer_to_a_probe_does_not_attach_an_element_so_that_its_new_home_may_have_it() -> None:
    """PROTOCOL 10.5: only the association it registered on attaches."""
    rig = Rig()
    peer, element = rig.peer(), rig.element(1).register()
    assert rig.machine.counts()["attached"] == 1
    probe = rig.element(1, answer_to=lost(rig, element))
    probe.acknowledge()
    assert rig.machine.counts()["attached"] == 0
    peer.send(add(foreign(1)))
    assert rig.elements()[element.identifier]["home"] == "0x0000beef"
    assert probe.closed is not None
    assert not probe.closed.abort


def test_an_element_that_lets_itself_be_reached_but_does_not_answer_is_removed_after_three_tries() -> None:
    rig = Rig()
    element = rig.element(1).register()
    peer = rig.witness
    probe = rig.element(1, answer_to=lost(rig, element))
    rig.run(TIMEOUT * TRIES - 0.001)
    assert len(rig.elements()) == 1
    rig.run(0.002)
    assert len(keep_alives(probe)) == TRIES
    assert rig.elements() == {}
    assert probe.closed is not None
    assert probe.closed.abort
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.DEL_PE]


@pytest.mark.parametrize(
    ("role", "number", "threat"),
    [
        (Role.ELEMENT, 2, "2.3"),
        (Role.USER, 1, "2.2"),
        (Role.REGISTRAR, 1, "2.2"),
        (Role.ANONYMOUS, 1, "2.1"),
    ],
)
def test_an_impostor_where_the_element_should_be_means_that_it_is_gone(role: Role, number: int, threat: str) -> None:
    rig = Rig()
    element = rig.element(1).register()
    peer = rig.witness
    connect = lost(rig, element)
    impostor = rig.connect(rig.principal(role, number), "10.0.0.1", answer_to=connect)
    assert impostor.take() == []
    assert impostor.closed is not None
    assert impostor.closed.abort
    assert [r.threat for r in rig.seen(Refused)] == [threat]
    assert rig.elements() == {}
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.DEL_PE]


def test_an_element_that_comes_back_by_itself_is_dialled_no_more() -> None:
    rig = Rig()
    element = rig.element(1).register()
    connect = lost(rig, element)
    back = rig.element(1).register()
    assert rig.connects == []
    rig.connects.append(connect)  # it had been opened already when the wish was abandoned
    late = rig.element(1, answer_to=connect)
    assert late.closed is not None
    assert late.take() == []
    back.acknowledges = True
    rig.run(5)
    assert rig.elements().keys() == {element.identifier}


def test_an_element_that_registers_again_takes_the_place_of_the_probe() -> None:
    rig = Rig()
    element = rig.element(1).register()
    probe = rig.element(1, answer_to=lost(rig, element))
    probe.acknowledge()
    back = rig.element(1).register()
    assert probe.closed is not None
    back.acknowledges = True
    rig.run(3)
    assert rig.elements().keys() == {element.identifier}
    assert keep_alives(back)


def test_an_element_may_register_again_over_the_very_association_it_was_probed_on() -> None:
    rig = Rig()
    element = rig.element(1).register()
    probe = rig.element(1, answer_to=lost(rig, element))
    probe.acknowledge()
    probe.register()
    assert probe.is_up()
    assert rig.machine.counts()["attached"] == 1
    probe.acknowledges = True
    rig.run(3)
    assert len(keep_alives(probe)) >= 2


@pytest.mark.parametrize("how", ["deregisters", "expires", "is registered elsewhere"])
def test_an_element_that_leaves_meanwhile_is_dialled_no_more(how: str) -> None:
    rig = Rig()
    peer = rig.peer()
    element = rig.element(1).register(life=1)
    lost(rig, element)
    if how == "deregisters":
        assert rig.element(1).deregister() == ()
    elif how == "expires":
        rig.run(1)
    else:
        peer.send(add(foreign(1)))
    assert rig.connects == []
    assert bool(rig.elements()) == (how == "is registered elsewhere")


def test_an_element_that_hangs_up_on_every_question_is_removed() -> None:
    rig = Rig()
    far = rig.element(1).register()
    rig.seen(ElementChanged)
    connects = 0
    while rig.elements():
        far.lose()
        rig.run()
        if rig.connects:
            connects += 1
            far = rig.element(1, answer_to=rig.connects[0])
        assert connects < 10
    assert connects == TRIES
    assert [e.reason for e in rig.seen(ElementChanged)] == ["it ends every association"]
    assert rig.connects == []


def test_an_association_that_breaks_under_a_question_costs_the_element_one_try() -> None:
    rig = Rig()
    element = rig.element(1).register()
    while not element.heard:
        rig.run(0.05)
    probe = rig.element(1, answer_to=lost(rig, element))
    rig.run(TIMEOUT * (TRIES - 1) - 0.01)
    assert len(rig.elements()) == 1
    rig.run(0.02)
    assert rig.elements() == {}
    assert len(keep_alives(probe)) == TRIES - 1


def test_elements_behind_one_association_are_dialled_each_for_itself() -> None:
    rig = Rig()
    far = rig.element(1)
    low, high = sorted(far.association.principal.pe_identifiers)[:2]
    for identifier, port in ((low, 5001), (high, 5002)):
        far.register(identifier=identifier, asap_transport=TcpTransport(port=port, address=far.address))
    far.lose()
    rig.run()
    assert [c.endpoint.port for c in rig.connects] == [5001, 5002]
    rig.fail(rig.connects[0])
    assert rig.elements().keys() == {high}


def test_a_report_does_not_dial_a_second_time() -> None:
    rig = Rig()
    element = rig.element(1).register()
    lost(rig, element)
    rig.user().report(element.identifier)
    rig.run(0.3)
    assert len(rig.connects) == 1


def test_losing_users_and_elements_that_left_dials_nobody() -> None:
    rig = Rig()
    element = rig.element(1).register()
    element.deregister()
    user, nobody = rig.user(), rig.element(2)
    for far in (element, user, nobody):
        far.lose()
    rig.run(5)
    assert rig.connects == []


def test_an_element_without_addresses_is_dialled_where_it_listens() -> None:
    rig = Rig()
    element = rig.element(1).register(transport=OpaqueTransport(value=b"unix"))
    assert lost(rig, element).endpoint == Endpoint(TransportKind.TCP, (element.address,), LISTENING)


# -- many at once


def dialled_when(rig: Rig, elements: list[Far], pause: float) -> list[float]:
    """Lose all these, one after another; returns how long after its loss each was dialled."""
    at: dict[object, float] = {}
    delays: list[float] = []

    def look() -> None:
        delays.extend(rig.now - at[connect.endpoint.addresses[0]] for connect in rig.connects)
        rig.connects.clear()

    for element in elements:
        at[element.address] = rig.now
        element.lose()
        if pause:
            rig.run(pause)
            look()
    for _ in range(1200):
        rig.run()
        look()
        rig.run(0.001)
    assert len(delays) == len(elements)
    return delays


def test_twenty_elements_lost_at_once_are_all_dialled_at_once() -> None:
    rig = Rig()
    elements = [rig.element(n).register() for n in range(1, 21)]
    assert max(dialled_when(rig, elements, 0.0)) == 0


@pytest.mark.rfc("PROTOCOL 10.8: an element whose association is lost is probed at once over another")
def test_when_more_are_lost_at_once_the_rest_is_dialled_over_a_second() -> None:
    rig = Rig()
    elements = [rig.element(n).register() for n in range(1, 121)]
    delays = dialled_when(rig, elements, 0.0)
    assert delays.count(0) == pytest.approx(20, abs=1)
    late = [d for d in delays if d > 0]
    assert max(late) <= 1.001
    tenths = Counter(int(d * 10) for d in late)
    assert all(2 <= tenths[i] <= 20 for i in range(10))


def test_elements_lost_one_by_one_are_each_dialled_at_once() -> None:
    rig = Rig()
    elements = [rig.element(n).register() for n in range(1, 41)]
    delays = dialled_when(rig, elements, 0.0101)  # fewer than twenty in a tenth of a second
    assert max(delays) <= 0.0102
