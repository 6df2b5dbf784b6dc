# SPDX-License-Identifier: Apache-2.0
"""An element goes on with other timers while it is registered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.events import ElementState, Refused
from rserpool.asap.profiles import FAST
from rserpool.asap.profiles import RFC as RFC_TIMERS
from rserpool.identity import Revoking, SecureScope
from rserpool.wire import asap
from support.far_ends import place, registrar
from support.rig_endpoints import element_rig, kept_alive, states

SCOPE = SecureScope(pool_handle=b"echo")


def test_another_life_is_registered_at_once_and_renewed_in_its_own_rhythm() -> None:
    rig = element_rig()
    rig.clear()
    rig.do(rig.machine.reconfigure(rig.now, timers=replace(FAST.endpoint, life=9)))
    (again,) = rig.of(asap.Registration)
    assert again.element.life == 9
    rig.clear()
    kept_alive(rig, rig.at(1), 10)
    assert len(rig.of(asap.Registration)) == 3
    assert rig.machine.registered


def test_the_same_timers_again_change_nothing() -> None:
    rig = element_rig()
    rig.clear()
    before = rig.machine.deadline()
    rig.do(rig.machine.reconfigure(rig.now, timers=FAST.endpoint))
    assert rig.messages == []
    assert rig.machine.deadline() == before


def test_a_home_that_need_not_speak_any_more_is_not_left_for_its_silence_and_one_that_must_is() -> None:
    rig = element_rig()
    rig.do(rig.machine.reconfigure(rig.now, timers=RFC_TIMERS.endpoint))
    rig.clear()
    rig.run(100)
    assert states(rig) == []
    rig.do(rig.machine.reconfigure(rig.now, timers=FAST.endpoint))
    rig.run(2.9)
    assert not any(state.startswith("NO_HOME") for state in states(rig))
    rig.run(0.2)
    assert "NO_HOME: it sent no keep-alive" in states(rig)


def test_an_element_that_is_not_in_the_pool_registers_with_the_new_life_when_it_joins() -> None:
    rig = element_rig(serve=False)
    rig.do(rig.machine.reconfigure(rig.now, timers=replace(FAST.endpoint, life=60)))
    assert rig.messages == []
    rig.do(rig.machine.serve(rig.now))
    (first,) = rig.of(asap.Registration)
    assert first.element.life == 60
    assert rig.machine.state is ElementState.REGISTERED


# -- registrars that were revoked


def without(*numbers: int) -> Revoking:
    """The rules, but for these registrars."""
    return Revoking(SCOPE, frozenset(registrar(n).name for n in numbers))


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_a_home_that_was_revoked_is_left_at_once_and_another_one_is_found() -> None:
    rig = element_rig(registrars=2)
    home = next(n for n in (1, 2) if any(a.peer_addresses == place(n).addresses for a in rig.up.values()))
    rig.clear()
    rig.do(rig.machine.reauthorise(without(home), rig.now))
    assert rig.machine.registered
    assert [a.peer_addresses for a in rig.up.values()] == [place(3 - home).addresses]
    (refused,) = {(e.threat, e.what) for e in rig.of(Refused)}
    assert refused == ("2.6", "ASAP association")


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_a_registrar_that_was_revoked_comes_in_no_more_by_whoever_opens_the_association() -> None:
    rig = element_rig()
    caller = rig.call(registrar(2), "10.0.0.2")
    rig.clear()
    rig.do(rig.machine.reauthorise(without(2), rig.now))
    assert [c.association for c in rig.closed] == [caller]
    again = rig.call(registrar(2), "10.0.0.2")
    assert [c.association for c in rig.closed] == [caller, again]
    assert rig.machine.registered


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_while_the_association_is_being_replaced_both_to_a_revoked_home_end() -> None:
    rig = element_rig()
    rig.script = lambda *_: ()
    rig.do(rig.machine.renewed(rig.now))
    rig.run(0.1)
    assert len(rig.up) == 2
    rig.clear()
    rig.do(rig.machine.reauthorise(without(1), rig.now))
    assert rig.up == {}
    assert rig.of(asap.Registration) == []
    assert rig.machine.state is ElementState.NO_HOME


def test_rules_by_which_nobody_is_refused_change_nothing() -> None:
    rig = element_rig()
    rig.clear()
    rig.do(rig.machine.reauthorise(without(9), rig.now))
    assert (rig.closed, rig.messages, rig.events) == ([], [], [])
