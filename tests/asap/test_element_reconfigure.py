# SPDX-License-Identifier: Apache-2.0
"""An element goes on with other timers while it is registered."""

from __future__ import annotations

from dataclasses import replace

from rserpool.asap.events import ElementState
from rserpool.asap.profiles import FAST
from rserpool.asap.profiles import RFC as RFC_TIMERS
from rserpool.wire import asap
from support.rig_endpoints import element_rig, kept_alive, states


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
