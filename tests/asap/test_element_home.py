# SPDX-License-Identifier: Apache-2.0
"""An element follows the registrar that takes it over, and leaves one that is gone or silent (RFC 5352 3.4, 3.6)."""

from __future__ import annotations

import pytest

from rserpool.asap.effects import AssociationId
from rserpool.asap.element import Element
from rserpool.asap.events import ElementState, Ignored
from rserpool.asap.profiles import FAST, RFC, Profile
from rserpool.wire import asap, policies
from support.far_ends import IDENTIFIERS, granting, place, registrar, silent
from support.rig_endpoints import START, Rig, element_rig, keep_alive, kept_alive, states


def takeover(rig: Rig[Element], number: int = 2) -> AssociationId:
    """Registrar ``number`` opens an association and says that it is home."""
    association = rig.call(registrar(number), f"10.0.0.{number}")
    rig.feed(association, keep_alive(number, home=True))
    return association


def homes(rig: Rig[Element]) -> int:
    return sum(s == "REGISTERED: taken over" for s in states(rig))


def settled() -> Rig[Element]:
    """An element that has had its home for long, and heard of it a moment ago."""
    rig = element_rig()
    kept_alive(rig, rig.at(1), 6.5, every=0.5)
    rig.clear()
    return rig


@pytest.mark.rfc("RFC 5352 3.4: H = 1 makes its sender the home")
def test_the_registrar_that_says_so_is_home_from_then_on() -> None:
    rig = settled()
    former = rig.at(1)
    heir = takeover(rig)
    assert [c.association for c in rig.closed] == [former]
    assert rig.machine.home_id == 2
    assert rig.machine.registered
    assert states(rig) == ["REGISTERED: taken over"]
    assert [(s.association, type(s.message)) for s in rig.sent] == [(heir, asap.EndpointKeepAliveAck)]


@pytest.mark.rfc("PROTOCOL 11.4: an adopted element registers with its new home within five seconds")
@pytest.mark.parametrize("profile", [FAST, RFC], ids=lambda p: p.name)
def test_an_element_registers_with_its_new_home_within_one_to_five_seconds(profile: Profile) -> None:
    waits = set()
    for seed in range(12):
        rig = element_rig(timers=profile.endpoint, seed=seed)
        kept_alive(rig, rig.at(1), 6.5, every=0.5)
        rig.clear()
        heir = takeover(rig)
        kept_alive(rig, heir, 6, every=0.5)
        (registration,) = (s for s in rig.sent if isinstance(s.message, asap.Registration))
        assert registration.association == heir
        assert isinstance(registration.message, asap.Registration)
        assert registration.message.element.identifier == IDENTIFIERS[0]
        waits.add(round(registration.at - START - 6.5, 3))
    assert 1 <= min(waits) < 2
    assert 4 < max(waits) <= 5


@pytest.mark.rfc("RFC 5352 3.4: H = 1 makes its sender the home")
def test_a_taken_over_element_renews_at_its_new_home_only() -> None:
    rig = settled()
    heir = takeover(rig)
    kept_alive(rig, heir, 30, every=0.5)
    registered = [s for s in rig.sent if isinstance(s.message, asap.Registration)]
    assert {s.association for s in registered} == {heir}
    assert len(registered) == 3
    assert rig.dialled == []


def test_a_takeover_ends_the_waiting_for_an_answer() -> None:
    rig = element_rig(timers=RFC.endpoint, script=silent)
    rig.run(2)
    rig.clear()
    heir = takeover(rig)
    assert states(rig) == ["REGISTERED: taken over"]
    rig.script = granting
    rig.run(100)  # T2 would have come after 30 s
    assert [s.association for s in rig.sent if isinstance(s.message, asap.Registration)] == [heir]
    assert rig.dialled == []


def test_a_takeover_ends_the_waiting_for_the_former_homes_answer() -> None:
    rig = settled()
    former = rig.at(1)
    rig.run(0.9)
    rig.script = silent
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(2), rig.now))  # T2 comes in a second
    rig.run(0.15)
    heir = takeover(rig)
    rig.run(0.95)
    assert [c.association for c in rig.closed] == [former]
    assert list(rig.up) == [heir]


def test_nothing_is_held_against_a_home_that_is_gone() -> None:
    for script in (granting, silent):
        rig = element_rig(script=script)
        rig.answers = {}
        rig.run(0.5)
        rig.lose(rig.at(1), "reset")
        rig.run(10)
        reasons = [s for s in states(rig) if "it was lost" in s or "no answer" in s or "no keep-alive" in s]
        assert reasons == ["NO_HOME: the association to it was lost: reset"]


def test_the_renewal_at_the_former_home_is_not_due_at_the_new_one() -> None:
    rig = element_rig(registrars=2)
    (home,) = rig.up
    kept_alive(rig, home, 9.5, every=0.5)  # T4 comes at 10.0
    rig.script = silent
    rig.clear()
    rig.lose(home)
    rig.run(0.95)
    assert len(rig.of(asap.Registration)) == 1


def test_a_takeover_ends_the_hunt() -> None:
    rig = settled()
    rig.answers = {}
    rig.lose(rig.at(1))
    assert rig.connecting
    heir = takeover(rig)
    assert rig.connecting == []
    assert rig.abandoned
    assert list(rig.up) == [heir]
    assert states(rig)[-1] == "REGISTERED: taken over"
    kept_alive(rig, heir, 6, every=0.5)
    assert rig.dialled == [(START + 6.5, place(1))]


def test_a_home_lost_at_this_moment_is_replaced_whenever_it_was_found() -> None:
    """Gone is gone: no limit between two changes then."""
    rig = element_rig()
    rig.run(0.2)
    rig.answers = {}
    rig.lose(rig.at(1))
    takeover(rig)
    assert homes(rig) == 1


@pytest.mark.parametrize(("silence", "adopted"), [(0.5, 0), (0.95, 0), (1.05, 1), (2.0, 1)])
def test_a_home_that_was_heard_a_moment_ago_is_kept_for_five_seconds(silence: float, adopted: int) -> None:
    rig = element_rig()
    rig.run(0.3)
    rig.feed(rig.at(1), keep_alive())
    rig.run(silence)
    rig.clear()
    heir = takeover(rig)
    assert homes(rig) == adopted
    assert [s.association for s in rig.sent] == [heir]  # the acknowledgement, in either case
    assert len(rig.closed) == adopted
    assert [e.reason for e in rig.of(Ignored)] == ["the home changes too often"] * (1 - adopted)


@pytest.mark.rfc("PROTOCOL 11.4: keep-alives are answered within limits, and homes change within limits")
def test_homes_change_at_most_once_in_five_seconds() -> None:
    rig = settled()
    one, two = takeover(rig, 2), rig.call(registrar(3))
    for step in range(1, 100):
        rig.run(0.1)
        if rig.machine.home_id == 3:
            break
        if step % 5 == 0:
            rig.feed(one, keep_alive(2))
        if step % 5 == 2:
            rig.feed(two, keep_alive(3, home=True))
    assert 5.0 <= rig.now - START - 6.5 <= 5.5
    assert homes(rig) == 2
    assert len(rig.of(Ignored)) >= 9


def test_two_registrars_that_both_claim_an_element_cannot_make_it_register_without_end() -> None:
    rig = settled()
    claims = [rig.call(registrar(2)), rig.call(registrar(3))]
    for step in range(600):
        rig.run(0.1)
        association = claims[step % 2]
        if step % 5 == 0 and association in rig.up:
            rig.feed(association, keep_alive(2 + step % 2, home=True))
    assert homes(rig) <= 13
    assert len(rig.of(asap.Registration)) <= 20


@pytest.mark.rfc("RFC 5352 3.4: H = 1 makes its sender the home")
def test_without_the_flag_another_registrar_does_not_become_home() -> None:
    rig = settled()
    other = rig.call(registrar(2))
    rig.feed(other, keep_alive(2))
    assert homes(rig) == 0
    assert set(rig.up) == {rig.at(1), other}
    assert rig.machine.home_id == 1


def test_the_home_saying_again_that_it_is_home_changes_nothing() -> None:
    rig = settled()
    rig.feed(rig.at(1), keep_alive(rig.at(1), home=True))
    rig.run(0.5)
    assert len(rig.of(asap.EndpointKeepAliveAck)) == 1
    assert (rig.closed, homes(rig)) == ([], 0)
    assert rig.of(asap.Registration) == []


@pytest.mark.rfc("PROTOCOL 11.5: a home that sends no keep-alive for three seconds is left")
def test_a_home_that_sends_no_keep_alive_for_three_seconds_is_left() -> None:
    rig = element_rig(registrars=2)
    (home,) = rig.up
    rig.run(2.9)
    rig.feed(home, keep_alive())
    rig.run(2.99)
    assert home in rig.up
    assert len(rig.dialled) == 1
    rig.run(0.02)
    assert [(c.association, c.abort) for c in rig.closed] == [(home, True)]
    assert states(rig)[-3:] == ["NO_HOME: it sent no keep-alive", "REGISTERING", "REGISTERED"]
    assert rig.now == pytest.approx(START + 5.91)


def test_other_messages_of_a_silent_home_are_no_keep_alives() -> None:
    rig = element_rig(registrars=2)
    (home,) = rig.up
    other = rig.call(registrar(3))
    for _ in range(6):
        rig.run(0.49)
        rig.feed(home, asap.AsapError(error=()))
        rig.feed(home, keep_alive(handle=b"other"))
        rig.feed(other, keep_alive(3))
    assert home in rig.up
    rig.run(0.1)
    assert home not in rig.up


def test_an_element_that_comes_back_to_its_home_gives_it_time_for_a_keep_alive() -> None:
    rig = settled()
    home = rig.at(1)
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.state is ElementState.DEREGISTERED
    rig.run(2.0)
    rig.do(rig.machine.serve(rig.now))
    rig.run(2.9)
    assert home in rig.up
    assert rig.machine.registered
    rig.run(0.2)
    assert home not in rig.up


@pytest.mark.rfc("PROTOCOL 11.5: a home that sends no keep-alive for three seconds is left")
def test_in_the_rfc_profile_silence_means_nothing() -> None:
    rig = element_rig(registrars=2, timers=RFC.endpoint)
    rig.run(100_000)
    assert len(rig.dialled) == 1
    assert len(rig.up) == 1
    assert rig.machine.state is ElementState.REGISTERED


def test_a_home_found_by_takeover_must_send_keep_alives_too() -> None:
    rig = settled()
    takeover(rig)
    rig.run(2.9)
    rig.script = silent
    rig.run(0.2)
    assert "NO_HOME: it sent no keep-alive" in states(rig)


def test_what_the_home_said_is_forgotten_with_it() -> None:
    rig = settled()
    rig.answers = {}
    rig.lose(rig.at(1))
    assert rig.machine.home_id == 0
    assert rig.machine.registered  # as far as it knows, the pool still has it


def test_a_lost_association_that_is_not_the_homes_means_nothing() -> None:
    rig = settled()
    other = rig.call(registrar(2))
    rig.clear()
    rig.lose(other)
    assert (rig.events, rig.dialled, rig.messages) == ([], [], [])
    assert rig.machine.state is ElementState.REGISTERED


def test_registrars_that_die_one_after_the_other_are_replaced_as_long_as_there_are_any() -> None:
    rig = element_rig(registrars=5)
    for _ in range(4):
        rig.run(0.5)
        (home,) = rig.up.values()
        rig.answers = {e: p for e, p in rig.answers.items() if e.addresses != home.peer_addresses}
        rig.lose(home.id)
        rig.run(1)
        assert rig.machine.state is ElementState.REGISTERED
    rig.clear()
    rig.answers = {}
    rig.lose(next(iter(rig.up)))
    rig.run(20)
    assert states(rig)[0].startswith("NO_HOME")
    assert rig.machine.state is ElementState.NO_HOME
    rig.answers[place(1)] = registrar(1)
    rig.run(9)
    assert len(rig.of(asap.Registration)) >= 1
