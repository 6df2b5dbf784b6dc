# SPDX-License-Identifier: Apache-2.0
"""The server hunt: few attempts at once, other addresses first, and nobody believed who is no registrar (RFC 5352 3.6)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.element import Element
from rserpool.asap.events import ElementState, HuntChanged, Refused
from rserpool.asap.profiles import FAST, RFC, EndpointTimers
from rserpool.wire import asap
from support.far_ends import NO_REGISTRARS, granting, place, places, registrar, silent
from support.rig_endpoints import START, Rig, element_rig, keep_alive, resolve, user_rig


def hunting(
    number: int, answer: Principal | str | None, *, timers: EndpointTimers = FAST.endpoint, seed: int = 1
) -> Rig[Element]:
    """An element that hunts among so many places, at which there is somebody, a refusal or silence."""
    rig = element_rig(registrars=number, timers=timers, seed=seed, serve=False)
    rig.answers = dict.fromkeys(places(number), answer)
    rig.do(rig.machine.serve(rig.now))
    return rig


def times(rig: Rig[Element]) -> list[float]:
    return [round(at - START, 6) for at, _ in rig.dialled]


@pytest.mark.rfc("RFC 5352 3.6: at most three registrars are tried at once")
def test_attempts_are_staggered_and_never_more_than_three_at_once() -> None:
    rig = hunting(5, None)
    rig.run(0.85)
    assert times(rig) == [0, 0.2, 0.4]
    assert len(set(rig.connecting)) == 3


@pytest.mark.rfc("RFC 5352 3.6: an attempt that fails makes room for another address")
def test_an_attempt_that_fails_makes_room_for_another_address_at_once() -> None:
    rig = hunting(5, None)
    rig.run(0.5)
    first = rig.connecting[0]
    rig.refuse(first)
    assert times(rig) == [0, 0.2, 0.4, 0.5]
    assert first not in rig.connecting
    assert len(set(rig.connecting)) == 3


def test_addresses_that_refuse_are_all_tried_within_one_instant() -> None:
    rig = hunting(7, "connection refused")
    assert sorted(str(e) for _, e in rig.dialled) == sorted(map(str, places(7)))
    assert rig.now == START
    (failed,) = rig.of(HuntChanged)
    assert not failed.found
    assert failed.reason.endswith(":3864: connection refused")


@pytest.mark.rfc("RFC 5352 3.6: T5 ends a round, doubles up to RETRAN-MAX, and other addresses follow")
@pytest.mark.parametrize(("timers", "rounds"), [(FAST.endpoint, [1, 2, 4, 4, 4]), (RFC.endpoint, [10, 20, 40, 60, 60])])
def test_t5_doubles_up_to_retran_max_while_nobody_is_found(timers: EndpointTimers, rounds: list[float]) -> None:
    rig = hunting(1, "connection refused", timers=timers)
    rig.run(1.1 * sum(rounds))
    gaps = [b - a for a, b in pairwise(times(rig))]
    assert len(gaps) >= len(rounds)
    for gap, expected in zip(gaps, rounds, strict=False):
        assert 0.9 * expected <= gap <= 1.1 * expected
    assert len(rig.of(HuntChanged)) == len(rig.dialled)


def test_the_rounds_of_many_elements_do_not_fall_together() -> None:
    second_rounds = set()
    for seed in range(20):
        rig = hunting(1, "connection refused", seed=seed)
        rig.run(1.2)
        second_rounds.add(times(rig)[1])
    assert len(second_rounds) > 15


@pytest.mark.rfc("RFC 5352 3.6: T5 ends a round, doubles up to RETRAN-MAX, and other addresses follow")
def test_t5_ends_the_attempts_and_other_addresses_come_first_in_the_next_round() -> None:
    rig = hunting(7, None, timers=replace(FAST.endpoint, connect=60.0))
    rig.run(0.85)
    first = set(rig.connecting)
    rig.run(0.3)
    assert len(rig.abandoned) == 3
    rig.run(0.6)
    second = set(rig.connecting)
    rig.run(1.6)
    assert len(rig.abandoned) == 6
    assert len(first | second) == 6
    assert rig.dialled[6][1] in set(places(7)) - first - second


@pytest.mark.rfc("RFC 5352 3.6: T5 ends a round, doubles up to RETRAN-MAX, and other addresses follow")
@pytest.mark.parametrize(("speaks", "shortest", "longest"), [(True, 0.9, 1.1), (False, 3.5, 4.4)])
def test_t5_begins_anew_only_when_a_registrar_has_spoken(speaks: bool, shortest: float, longest: float) -> None:
    rig = hunting(1, "connection refused")
    rig.run(7.8)  # rounds of 1, 2 and 4 s
    rig.answers[place(1)] = registrar()
    rig.script = silent
    assert rig.machine.state is ElementState.NO_HOME
    while not rig.up:
        rig.run(0.1)
    if speaks:
        rig.feed(rig.at(1), keep_alive())
    rig.answers[place(1)] = "connection refused"
    rig.clear()
    rig.lose(next(iter(rig.up)))
    rig.run(10)
    (first, _), (second, _) = rig.dialled[:2]
    assert shortest <= second - first <= longest


def test_registrars_that_take_an_element_and_leave_it_without_a_word_are_asked_again_by_rounds() -> None:
    """One that is not secure, or not wanted: it must not open thousands of associations."""
    rig = hunting(3, registrar())
    rig.script = silent
    moments = []
    while rig.now < START + 20:
        for association in list(rig.up):
            moments.append(rig.now - START)
            rig.lose(association)
        rig.run(0.05)
    assert moments[2] < 0.5, "each is tried, one after the other"
    assert 10 <= len(moments) <= 3 * 8, "rounds of 1, 2, 4, 4, 4 and 4 s"
    assert any("before it says anything" in e.reason for e in rig.of(HuntChanged))


def test_a_registrar_that_was_there_for_longer_than_a_round_is_looked_for_at_once() -> None:
    rig = element_rig(script=silent)
    rig.run(0.9)
    assert len(rig.dialled) == 1
    rig.now += 0.15  # T2 comes a little late
    rig.lose(next(iter(rig.up)))
    assert len(rig.dialled) == 2


@pytest.mark.rfc("RFC 5352 9.2: a client verifies that it has met its registrar")
@pytest.mark.rfc("RFC 5352 3.6: an attempt that fails makes room for another address")
@pytest.mark.rfc("RFC 5352 9.2: an identity check that fails closes the connection")
@pytest.mark.rfc("threats 2.6: no element uses a malicious registrar")
@pytest.mark.parametrize("impostor", NO_REGISTRARS, ids=lambda p: p.role.value)
def test_an_impostor_at_a_registrars_address_is_refused_and_the_next_one_tried(impostor: Principal) -> None:
    """Threat 2.6: not one octet goes to it."""
    rig = hunting(2, None)
    first = rig.connecting[0]
    bad = rig.accept(first, impostor)
    (refused,) = rig.of(Refused)
    assert refused.threat == "2.6"
    assert impostor.role.value in refused.reason
    assert impostor.name in refused.peer
    assert [(c.association, c.abort) for c in rig.closed] == [(bad, True)]
    assert rig.messages == []
    (other,) = rig.connecting
    assert other != first
    good = rig.accept(other, registrar())
    assert {s.association for s in rig.sent} == {good}
    assert rig.machine.registered


@pytest.mark.rfc("RFC 5352 9.2: a client verifies that it has met its registrar")
@pytest.mark.rfc("RFC 5352 9.2: a user authenticates its registrar by certificate")
@pytest.mark.rfc("threats 2.7: no malicious registrar answers a user")
@pytest.mark.parametrize("impostor", NO_REGISTRARS, ids=lambda p: p.role.value)
def test_a_user_refuses_an_impostor_too(impostor: Principal) -> None:
    """Threat 2.7."""
    rig = user_rig(registrars=2)
    rig.answers[place(1)] = rig.answers[place(2)] = impostor
    resolve(rig)
    assert [e.threat for e in rig.of(Refused)] == ["2.7", "2.7"]
    assert rig.messages == []
    assert rig.up == {}


def test_where_only_impostors_are_the_hunt_fails_and_says_why() -> None:
    rig = hunting(2, NO_REGISTRARS[0])
    (failed,) = rig.of(HuntChanged)
    assert not failed.found
    assert "no registrar" in failed.reason
    assert rig.machine.state is ElementState.NO_HOME


def test_where_nobody_answers_each_round_fails_and_names_somebody() -> None:
    rig = hunting(1, None, timers=replace(FAST.endpoint, connect=60.0))
    rig.run(5.0)
    failures = rig.of(HuntChanged)
    assert len(failures) > 1
    assert {failed.reason for failed in failures} == {f"{places(1)[0]}: no answer"}


@pytest.mark.rfc("RFC 5352 3.6: one registrar becomes home, the other attempts end")
def test_the_first_registrar_found_ends_the_hunt() -> None:
    rig = hunting(5, None)
    rig.run(0.5)
    chosen, *others = rig.connecting
    rig.accept(chosen, registrar(3))
    assert rig.connecting == []
    assert len(rig.abandoned) == len(others)
    assert [e.found for e in rig.of(HuntChanged)] == [True]
    assert registrar(3).name in rig.of(HuntChanged)[0].registrar
    count = len(rig.dialled)
    rig.run(2.5)
    assert len(rig.dialled) == count


@pytest.mark.rfc("RFC 5352 3.6: one registrar becomes home, the other attempts end")
def test_a_connection_that_comes_although_it_was_abandoned_is_closed() -> None:
    rig = hunting(2, None)
    rig.run(0.5)
    first, second = rig.connecting
    late = next(r for r, (_, c) in rig.open.items() if c.endpoint == second)
    home = rig.accept(first, registrar(1))
    stray = rig._associate(registrar(2), second.addresses, second.port, outbound=True)
    rig.do(rig.machine.connected(stray, late, rig.now))
    assert [c.association for c in rig.closed] == [stray.id]
    assert list(rig.up) == [home]
    assert {s.association for s in rig.sent} == {home}


@pytest.mark.rfc("RFC 5352 3.6: registrars come from configuration, names and announcements")
def test_new_addresses_are_used_at_once() -> None:
    rig = hunting(1, "connection refused")
    rig.answers[place(2)] = registrar(2)
    rig.run(0.3)
    rig.do(rig.machine.set_registrars(places(2), rig.now))
    assert rig.machine.registered
    assert rig.now == START + 0.3


@pytest.mark.parametrize(("after", "attempts"), [(0.0, 1), (0.85, 3)])
def test_addresses_said_again_change_nothing(after: float, attempts: int) -> None:
    rig = hunting(3, None)
    rig.run(after)
    rig.do(rig.machine.set_registrars(reversed(places(3)), rig.now))
    assert len(rig.dialled) == attempts
    assert len(rig.connecting) == attempts


@pytest.mark.rfc("RFC 5352 3.6: at most three registrars are tried at once")
def test_new_addresses_do_not_exceed_three_attempts() -> None:
    rig = hunting(3, None)
    rig.run(0.5)
    rig.do(rig.machine.set_registrars(places(9), rig.now))
    assert len(rig.connecting) == 3
    rig.refuse(rig.connecting[0])
    assert len(rig.dialled) == 4
    assert rig.dialled[-1][1] in places(9)[3:]


def test_addresses_are_only_noted_while_nobody_is_sought() -> None:
    rig = element_rig(registrars=1)
    rig.clear()
    rig.do(rig.machine.set_registrars(places(3), rig.now))
    assert rig.dialled == []
    for number in (2, 3):
        rig.answers[place(number)] = registrar(number)
    rig.answers[place(1)] = "connection refused"
    rig.lose(rig.at(1))
    assert rig.machine.registered


def test_an_address_given_twice_is_one_address() -> None:
    rig = element_rig(registrars=0)
    rig.do(rig.machine.set_registrars((place(1), place(1)), rig.now))
    rig.run(0.85)
    assert rig.connecting == [place(1)]


def test_without_any_address_the_hunt_says_so_and_goes_on() -> None:
    rig = element_rig(registrars=0)
    rig.run(3.5)
    reasons = [e.reason for e in rig.of(HuntChanged)]
    assert len(reasons) == 2
    assert set(reasons) == {"no registrar's address is known"}
    rig.answers[place(1)] = registrar()
    rig.do(rig.machine.set_registrars([place(1)], rig.now))
    assert rig.machine.registered


def test_giving_up_abandons_all_attempts_and_all_timers() -> None:
    rig = hunting(3, None)
    rig.run(0.5)
    assert len(rig.open) == 3
    rig.do(rig.machine.leave(rig.now))
    assert rig.open == {}
    assert len(rig.abandoned) == 3
    assert rig.machine.deadline() is None


@pytest.mark.parametrize("how", ["its association is lost", "it is silent", "it leaves a registration unanswered"])
def test_the_registrar_that_failed_is_tried_last(how: str) -> None:
    for seed in range(10):
        rig = element_rig(registrars=4, seed=seed, script=silent if "unanswered" in how else granting)
        (home,) = rig.up.values()
        rig.answers = dict.fromkeys(places(4), "connection refused")
        rig.clear()
        if "lost" in how:
            rig.lose(home.id)
        rig.run(3.05)
        assert rig.dialled[3][1].addresses == home.peer_addresses, seed


@pytest.mark.parametrize("failing", range(3))
def test_registrars_on_one_host_are_told_apart_by_their_ports(failing: int) -> None:
    """As where a pool runs on one machine without 127/8."""
    here = tuple(Endpoint(TransportKind.TCP, place(1).addresses, port) for port in (4001, 4002, 4003))
    rig = element_rig(registrars=0, script=silent)
    rig.answers[here[failing]] = registrar(1)
    rig.do(rig.machine.set_registrars([here[failing]], rig.now))
    rig.do(rig.machine.set_registrars(here, rig.now))
    rig.answers = dict.fromkeys(here, "connection refused")
    rig.clear()
    rig.run(1.1)
    assert rig.dialled[2][1] == here[failing]


def test_elements_spread_over_the_registrars() -> None:
    first = [hunting(3, None, seed=seed).connecting[0] for seed in range(60)]
    assert min(first.count(e) for e in places(3)) >= 8


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
@given(
    others=st.lists(st.sampled_from([None, "connection refused", *NO_REGISTRARS]), max_size=9),
    seed=st.integers(0, 2**32),
)
def test_a_registrar_that_is_there_is_found_whatever_is_at_the_other_addresses(
    others: list[Principal | str | None], seed: int
) -> None:
    rig = element_rig(registrars=len(others) + 1, seed=seed, serve=False)
    rig.answers.update(dict(zip(places(len(others)), others, strict=True)))
    rig.do(rig.machine.serve(rig.now))
    while not rig.machine.registered and rig.now < START + 12:
        rig.run(0.1)
    assert [a.principal for a in rig.up.values()] == [registrar(len(others) + 1)]
    assert len(rig.of(asap.Registration)) >= 1
