# SPDX-License-Identifier: Apache-2.0
"""Keep-alives are answered where they came from, for oneself, to registrars, and not too often (RFC 5352 3.4)."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import AssociationId
from rserpool.asap.element import Element
from rserpool.asap.events import ElementState, Refused
from rserpool.wire import asap, encode
from support.far_ends import IDENTIFIERS, NO_REGISTRARS, POOL, registrar, silent
from support.rig_endpoints import START, Rig, element_rig, keep_alive, kept_alive, states

ACK = asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=IDENTIFIERS[0])


def acks(rig: Rig[Element], association: AssociationId | None = None) -> int:
    return sum(s.message == ACK for s in rig.sent if association in (None, s.association))


@pytest.mark.rfc("RFC 5352 3.4: every keep-alive for the element is acknowledged where it came from")
@pytest.mark.parametrize("identifier", [None, IDENTIFIERS[0]], ids=["by pool", "by identifier"])
@pytest.mark.parametrize("home", [False, True])
def test_a_keep_alive_is_acknowledged_on_the_association_it_came_on(identifier: int | None, home: bool) -> None:
    rig = element_rig()
    other = rig.call(registrar(2))
    for association in (rig.at(1), other):
        rig.clear()
        rig.feed(association, keep_alive(7, home=home, identifier=identifier))
        assert [(s.association, s.message) for s in rig.sent] == [(association, ACK)]
    assert encode(ACK).hex() == "08000014000900086563686f000e000811111111"


@pytest.mark.rfc("RFC 5352 3.4: every keep-alive for the element is acknowledged where it came from")
def test_a_keep_alive_is_acknowledged_while_the_registration_is_unanswered() -> None:
    rig = element_rig(script=silent)
    rig.clear()
    rig.feed(rig.at(1), keep_alive())
    assert rig.messages == [ACK]


@pytest.mark.rfc("RFC 5354 3.9: a pool handle is any octets")
@pytest.mark.rfc("RFC 5352 3.4: a keep-alive for another pool is silently discarded")
@pytest.mark.parametrize(
    "message",
    [
        keep_alive(handle=b"ech"),
        keep_alive(handle=b"echo\0"),
        keep_alive(handle=b"ECHO"),
        keep_alive(handle=b"other", identifier=None),
        keep_alive(identifier=IDENTIFIERS[1]),
        keep_alive(identifier=0),
        keep_alive(9, home=True, handle=b"other"),
        keep_alive(9, home=True, identifier=IDENTIFIERS[1]),
    ],
    ids=lambda m: f"{m.pool_handle!r}-{m.pe_identifier}-{m.home}",
)
def test_a_keep_alive_for_somebody_else_is_silently_discarded(message: asap.EndpointKeepAlive) -> None:
    rig = element_rig()
    other = rig.call(registrar(2))
    rig.run(0.5)
    due = rig.machine.deadline()
    rig.clear()
    rig.feed(rig.at(1), message)
    rig.feed(other, message)
    assert (rig.messages, rig.events, rig.closed) == ([], [], [])
    assert rig.machine.deadline() == due
    assert rig.machine.home_id == 0


@pytest.mark.rfc("RFC 5352 9.3: a keep-alive of who is no registrar is discarded")
@pytest.mark.rfc("threats 2.6: no element uses a malicious registrar")
@pytest.mark.parametrize("impostor", NO_REGISTRARS, ids=lambda p: p.role.value)
def test_who_is_no_registrar_is_refused_and_closed_before_it_can_ask(impostor: Principal) -> None:
    """Threat 2.6: a keep-alive with H = 1 would make it home."""
    rig = element_rig()
    rig.clear()
    caller = rig.call(impostor)
    assert [(e.threat, e.peer) for e in rig.of(Refused)] == [("2.6", f"{impostor.name} at tcp:10.0.0.250:40000")]
    assert impostor.role.value in rig.of(Refused)[0].reason
    assert [(c.association, c.abort) for c in rig.closed] == [(caller, True)]
    rig.feed(caller, keep_alive(66, home=True))
    assert rig.messages == []
    assert rig.machine.home_id == 0
    assert list(rig.up) == [rig.at(1)]


@pytest.mark.rfc("PROTOCOL 9.9: registrars reach an element where it listens")
def test_registrars_may_open_associations_to_an_element_at_any_time() -> None:
    rig = element_rig(registrars=0)
    caller = rig.call(registrar(2))
    rig.feed(caller, keep_alive(2))
    assert rig.messages == [ACK]
    assert rig.up
    assert rig.machine.state is ElementState.NO_HOME


def test_the_homes_keep_alives_say_which_registrar_it_is() -> None:
    rig = element_rig()
    rig.feed(rig.at(1), keep_alive(0xCAFE))
    assert rig.machine.home_id == 0xCAFE
    rig.feed(rig.call(registrar(2)), keep_alive(0xBEEF))
    assert rig.machine.home_id == 0xCAFE


# -- floods (threat 2.14, the second line)


def flood(rig: Rig[Element], association: AssociationId, seconds: float, every: float) -> None:
    for _ in range(round(seconds / every)):
        rig.run(every)
        if association not in rig.up:
            return
        rig.feed(association, keep_alive())


@pytest.mark.rfc("PROTOCOL 11.4: keep-alives are answered within limits, and homes change within limits")
@pytest.mark.rfc("threats 2.14: keep-alives to an element are limited")
def test_a_flood_of_keep_alives_is_answered_within_limits() -> None:
    """At most ten at once and four a second."""
    rig = element_rig()
    rig.clear()
    for _ in range(50):
        rig.feed(rig.at(1), keep_alive())
    assert acks(rig) == 10
    refused = rig.of(Refused)
    assert len(refused) == 40
    assert {(e.threat, e.what) for e in refused} == {("2.14", "ASAP_ENDPOINT_KEEP_ALIVE")}
    assert registrar(1).name in refused[0].peer
    rig.clear()
    flood(rig, rig.at(1), 10, 0.01)
    assert 38 <= acks(rig) <= 41


def test_the_limit_is_the_registrars_not_the_associations() -> None:
    rig = element_rig()
    rig.clear()
    callers = [rig.call(registrar(2)) for _ in range(5)]
    for caller in callers:
        for _ in range(5):
            rig.feed(caller, keep_alive(2))
    assert acks(rig) == 10
    rig.feed(rig.at(1), keep_alive())
    assert acks(rig, rig.at(1)) == 1


def test_the_registrars_own_pace_is_never_limited() -> None:
    rig = element_rig()
    rig.clear()
    kept_alive(rig, rig.at(1), 120, every=0.5)
    assert acks(rig) == 240
    assert rig.of(Refused) == []


def test_a_flood_that_makes_a_registrar_home_is_limited_too() -> None:
    rig = element_rig()
    stranger = rig.call(registrar(2))
    for _ in range(50):
        rig.feed(stranger, keep_alive(2, home=True))
    assert acks(rig, stranger) == 10


@pytest.mark.rfc("PROTOCOL 11.4: keep-alives are answered within limits, and homes change within limits")
def test_a_home_that_goes_on_flooding_is_left_after_a_minute() -> None:
    rig = element_rig(registrars=2)
    (home,) = rig.up
    flood(rig, home, 55, 0.05)
    assert home in rig.up
    flood(rig, home, 15, 0.05)
    assert [c.association for c in rig.closed] == [home]
    assert "NO_HOME: it asks too often" in states(rig)
    assert rig.machine.registered
    assert START + 60 < rig.now < START + 70


def test_another_registrar_that_goes_on_flooding_is_cut_off_after_a_minute() -> None:
    rig = element_rig()
    stranger = rig.call(registrar(2))
    for step in range(70 * 20):
        rig.run(0.05)
        if step % 20 == 0:
            rig.feed(rig.at(1), keep_alive())
        if stranger in rig.up:
            rig.feed(stranger, keep_alive(2))
    assert [(c.association, c.abort) for c in rig.closed] == [(stranger, True)]
    assert rig.machine.state is ElementState.REGISTERED


def test_short_floods_far_apart_are_no_lasting_flood() -> None:
    rig = element_rig()
    for _ in range(8):
        for _ in range(20):
            rig.feed(rig.at(1), keep_alive())
        kept_alive(rig, rig.at(1), 15)
    assert rig.closed == []
    assert len(rig.of(Refused)) >= 8 * 9
