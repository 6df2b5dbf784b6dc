# SPDX-License-Identifier: Apache-2.0
"""What all machines do alike: effects in order, one answer to a wish, nothing on what is gone, lag counted once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from rserpool.asap.effects import Abandon, Association, AssociationId, Close, Connect, Effect, Emit, RequestId, Send
from rserpool.asap.events import Lagged
from rserpool.asap.machine import Desk, MachineBase
from rserpool.wire import RFC, RSPLIB, Ppid, asap, encode
from support.far_ends import place
from support.rig_endpoints import element_rig

QUESTION = asap.HandleResolution(pool_handle=b"Pool1")
(SOMEBODY,) = element_rig().up.values()


class Recorder(MachineBase):
    """The least machine: it notes what it is told."""

    def __init__(self) -> None:
        super().__init__(Desk(Random(1), RFC))
        self.told: list[tuple[object, ...]] = []
        self.lags: list[float] = []

    def do(self, now: float, *calls: Callable[[Desk], object]) -> list[Effect]:
        """One input that makes the machine do things."""
        self._enter(now)
        for call in calls:
            call(self.desk)
        return self._leave()

    def dial(self, now: float = 0.0) -> RequestId:
        (effect,) = self.do(now, lambda desk: desk.connect(Ppid.ASAP, place(1), 5.0, self._dialled))
        assert isinstance(effect, Connect)
        return effect.request

    def _dialled(self, association: Association | None, reason: str) -> None:
        self.told.append(("dialled", association, reason))

    def _accepted(self, association: Association) -> None:
        self.told.append(("accepted", association))

    def _received(self, association: Association, octets: bytes) -> None:
        self.told.append(("received", association, octets))

    def _lost(self, association: Association, reason: str, /) -> None:
        self.told.append(("lost", association, reason, association.id in self.desk.associations))

    def _ageing(self, association: Association) -> None:
        self.told.append(("ageing", association))

    def _lagged(self, by: float) -> None:
        self.lags.append(by)


def up(machine: Recorder, number: int = 1, now: float = 0.0) -> Association:
    """An association the far end has opened."""
    association = replace(SOMEBODY, id=AssociationId(number))
    assert machine.connected(association, None, now) == []
    machine.told.clear()
    return association


def test_an_association_that_ages_is_told_only_while_it_is_up() -> None:
    machine = Recorder()
    one = up(machine)
    assert machine.ageing(one.id, 1.0) == []
    assert machine.told == [("ageing", one)]
    machine.lost(one.id, "gone", 2.0)
    machine.told.clear()
    assert machine.ageing(one.id, 3.0) == []
    assert machine.told == []


def test_effects_come_in_the_order_in_which_they_were_wished_and_once() -> None:
    machine = Recorder()
    one, two = up(machine, 1), up(machine, 2)
    effects = machine.do(
        1.0,
        lambda desk: desk.send(one.id, QUESTION),
        lambda desk: desk.emit(Lagged(1.0)),
        lambda desk: desk.send_octets(two.id, b"octets"),
        lambda desk: desk.close(one.id, "enough", abort=True),
        lambda desk: desk.connect(Ppid.ENRP, place(3), 5.0, machine._dialled),
    )
    assert effects == [
        Send(one.id, encode(QUESTION)),
        Emit(Lagged(1.0)),
        Send(two.id, b"octets"),
        Close(one.id, "enough", abort=True),
        Connect(RequestId(1), Ppid.ENRP, place(3), 5.0),
    ]
    assert machine.wake(2.0) == []


def test_messages_are_written_in_the_machines_dialect() -> None:
    desk = Desk(Random(1), RSPLIB)
    desk.associations[SOMEBODY.id] = SOMEBODY
    desk.send(SOMEBODY.id, QUESTION)
    assert desk.leave() == [Send(SOMEBODY.id, encode(QUESTION, RSPLIB))]
    assert encode(QUESTION, RSPLIB) != encode(QUESTION)


def test_nothing_is_sent_on_an_association_that_is_gone() -> None:
    machine = Recorder()
    gone = up(machine)
    machine.lost(gone.id, "reset", 1.0)
    assert (
        machine.do(
            2.0,
            lambda desk: desk.send(gone.id, QUESTION),
            lambda desk: desk.send_octets(gone.id, b"octets"),
            lambda desk: desk.close(gone.id, "again"),
            lambda desk: desk.close(None, "nothing"),
            lambda desk: desk.send(AssociationId(77), QUESTION),
        )
        == []
    )


def test_an_association_is_closed_once_and_not_heard_of_again() -> None:
    machine = Recorder()
    closed = up(machine)
    effects = machine.do(1.0, lambda desk: desk.close(closed.id, "one"), lambda desk: desk.close(closed.id, "two"))
    assert effects == [Close(closed.id, "one")]
    assert machine.received(closed.id, b"late", 2.0) == []
    assert machine.lost(closed.id, "reset", 3.0) == []
    assert machine.told == []


def test_what_comes_in_is_handed_on_with_its_association() -> None:
    machine = Recorder()
    known = up(machine)
    machine.received(known.id, b"octets", 1.0)
    machine.received(AssociationId(99), b"octets", 1.0)
    machine.lost(known.id, "reset", 2.0)
    machine.lost(known.id, "reset", 2.0)
    assert machine.told == [("received", known, b"octets"), ("lost", known, "reset", False)]


def test_an_association_nobody_wished_for_was_opened_by_the_peer() -> None:
    machine = Recorder()
    machine.connected(SOMEBODY, None, 1.0)
    assert machine.told == [("accepted", SOMEBODY)]
    assert SOMEBODY.id in machine.desk.associations


def test_a_wish_to_connect_is_answered_once() -> None:
    machine = Recorder()
    one, two = machine.dial(), machine.dial()
    assert one != two
    machine.connected(SOMEBODY, one, 1.0)
    machine.connect_failed(two, "refused", 1.0)
    machine.connect_failed(two, "refused", 2.0)
    machine.connect_failed(one, "refused", 2.0)
    assert machine.told == [("dialled", SOMEBODY, ""), ("dialled", None, "refused")]
    late = replace(SOMEBODY, id=AssociationId(50))
    assert machine.connected(late, one, 3.0) == [Close(late.id, "not wanted any more")]
    assert len(machine.told) == 2


def test_a_wish_that_was_abandoned_is_not_answered() -> None:
    machine = Recorder()
    request = machine.dial()
    give_up: Callable[[Desk], object] = lambda desk: desk.abandon(request)  # noqa: E731 - beside others that are such
    assert machine.do(1.0, give_up, give_up, lambda desk: desk.abandon(None)) == [Abandon(request)]
    assert machine.connect_failed(request, "timed out", 2.0) == []
    assert machine.connected(SOMEBODY, request, 2.0) == [Close(SOMEBODY.id, "not wanted any more")]
    assert machine.told == []
    assert machine.received(SOMEBODY.id, b"octets", 3.0) == []
    assert machine.told == []


def test_all_timers_that_have_come_are_carried_out_by_one_wake() -> None:
    machine, done = Recorder(), list[str]()
    machine.do(
        10.0,
        lambda desk: desk.after("b", 1.1, lambda: done.append("b")),
        lambda desk: desk.after("a", 1.0, lambda: done.append("a")),
        lambda desk: desk.after("c", 2.1, lambda: done.append("c")),
    )
    assert machine.deadline() == 11.0
    machine.wake(10.9)
    assert done == []
    machine.wake(11.15)
    assert done == ["a", "b"]
    assert machine.deadline() == pytest.approx(12.1)


def test_only_a_wake_carries_out_timers() -> None:
    machine, done = Recorder(), list[str]()
    machine.do(0.0, lambda desk: desk.after("x", 1.0, lambda: done.append("x")))
    machine.received(up(machine, now=1.1).id, b"octets", 1.15)
    assert done == []
    assert machine.deadline() == 1.0


def test_the_clock_of_a_machine_never_goes_back() -> None:
    machine = Recorder()
    machine.wake(10.0)
    machine.do(4.0, lambda desk: desk.after("x", 1.0, lambda: None))
    assert machine.deadline() == 11.0


@pytest.mark.rfc("PROTOCOL 10.6: who was frozen holds nobody's silence against him")
def test_a_frozen_machine_moves_what_judges_others_and_says_so_once() -> None:
    machine, done = Recorder(), list[str]()
    machine.do(
        0.0,
        lambda desk: desk.after("work", 1.0, lambda: done.append("work")),
        lambda desk: desk.after("silence", 1.5, lambda: done.append("silence"), expiry=True),
    )
    assert machine.wake(31.0) == [Emit(Lagged(30.0))]
    assert machine.lags == [30.0]
    assert done == []  # what has come in meanwhile is read first
    assert machine.wake(31.0) == []
    assert done == ["work"]
    assert machine.deadline() == 31.5
    assert machine.wake(31.5) == []
    assert done == ["work", "silence"]
    assert machine.lags == [30.0]


def test_lag_is_counted_by_the_first_input_after_it_whatever_that_is() -> None:
    machine = Recorder()
    known = up(machine)
    machine.do(0.0, lambda desk: desk.after("silence", 1.0, lambda: None, expiry=True))
    assert machine.received(known.id, b"late", 6.0) == [Emit(Lagged(5.0))]
    assert machine.deadline() == 6.0
    assert machine.received(known.id, b"later", 6.1) == []
    assert machine.wake(6.15) == []
    assert machine.lags == [5.0]


@pytest.mark.parametrize("late", [0.0, 0.05, 0.2])
def test_being_a_little_late_is_no_lag(late: float) -> None:
    machine, done = Recorder(), list[str]()
    machine.do(0.0, lambda desk: desk.after("silence", 1.0, lambda: done.append("silence"), expiry=True))
    assert machine.wake(1.0 + late) == []
    assert done == ["silence"]
    assert machine.lags == []


def test_an_idle_machine_has_no_deadline_and_no_lag() -> None:
    machine = Recorder()
    assert machine.deadline() is None
    assert machine.wake(1e6) == []
    assert machine.lags == []


def test_what_two_machines_share_is_nothing() -> None:
    one, two = Recorder(), Recorder()
    up(one)
    assert one.dial() == two.dial()
    assert two.desk.associations == {}


def test_of_very_many_timers_some_are_carried_out_at_once_and_the_deadline_tells_of_the_others() -> None:
    machine, done = Recorder(), list[int]()

    def arm(desk: Desk) -> None:
        for number in range(150):
            desk.after(number, 1.0, partial(done.append, number))

    machine.do(0.0, arm)
    turns = 0
    while machine.deadline() == 1.0:
        before = len(done)
        machine.wake(1.0 + turns * 0.001)
        turns += 1
        assert 0 < len(done) - before <= 64
    assert (turns, done) == (3, list(range(150)))
    assert machine.lags == []
