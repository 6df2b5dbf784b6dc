# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - these are the inputs that all machines, or watchers, are given
"""The simulated network does to associations what kernels and wires do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import Association, AssociationId, Close, Connect, Effect, Endpoint, RequestId, Send
from rserpool.wire import Ppid
from simulation.nodes import Node
from simulation.world import World
from support.scope import ASAP_PORT


@dataclass
class Plain:
    """A machine that only keeps what it is told."""

    heard: list[tuple[str, float]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    up: list[Association] = field(default_factory=list)

    def connected(self, association: Association, request: RequestId | None, now: float) -> list[Effect]:
        self.up.append(association)
        return []

    def connect_failed(self, request: RequestId, reason: str, now: float) -> list[Effect]:
        self.said.append(reason)
        return []

    def received(self, association: AssociationId, octets: bytes, now: float) -> list[Effect]:
        self.heard.append((octets.decode(), now))
        return []

    def lost(self, association: AssociationId, reason: str, now: float) -> list[Effect]:
        self.said.append(reason)
        return []

    def ageing(self, association: AssociationId, now: float) -> list[Effect]:
        return []

    def wake(self, now: float) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return None


class Two:
    """A client and a server."""

    def __init__(self, *, connect: bool = True) -> None:
        self.world = World(1)
        self.near, self.far = Plain(), Plain()
        self.client = self.world.other("a", self.near, Role.USER)
        self.server = self.world.other("b", self.far, Role.REGISTRAR)
        self.place = self.world._endpoint(self.server, ASAP_PORT)
        self.server.listening[self.place] = Ppid.ASAP
        if connect:
            self.dial()
            self.world.run(0.1)
            assert len(self.near.up) == len(self.far.up) == 1

    def dial(self, place: Endpoint | None = None, request: int = 1) -> None:
        self.do(self.client, Connect(RequestId(request), Ppid.ASAP, place or self.place, 1.0))

    def do(self, node: Node, *effects: Effect) -> None:
        self.world.do(node, lambda _: list(effects))

    def send(self, *words: str) -> None:
        self.do(self.client, *(Send(self.near.up[-1].id, w.encode()) for w in words))

    def answer(self, *words: str) -> None:
        self.do(self.server, *(Send(self.far.up[-1].id, w.encode()) for w in words))

    @property
    def heard(self) -> list[str]:
        return [word for word, _ in self.far.heard]


WORDS = [str(n) for n in range(50)]


def test_what_is_sent_arrives_in_order_a_little_later() -> None:
    two = Two()
    two.send(*WORDS)
    assert two.heard == []
    two.world.run(0.1)
    assert two.heard == WORDS


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.7, 1.1])
def test_what_is_sent_while_the_path_is_cut_arrives_when_it_is_healed(seconds: float) -> None:
    two = Two()
    two.world.cut(two.client, two.server)
    two.send(*WORDS)
    two.world.run(seconds)
    assert two.heard == []
    two.world.heal(two.client, two.server)
    two.send("last")
    two.world.run(1.0)
    assert two.heard == [*WORDS, "last"] or two.near.said == ["data stayed unacknowledged"]
    assert seconds > 0.6 or two.near.said == []


@pytest.mark.parametrize("one_way", [False, True])
def test_data_that_stays_unacknowledged_ends_the_senders_side_alone(*, one_way: bool) -> None:
    two = Two()
    cut = (two.server, two.client) if one_way else (two.client, two.server)
    two.world.cut(*cut, back=not one_way)
    two.send("hello")
    two.world.run(5.0)
    assert two.near.said == ["data stayed unacknowledged"]
    assert two.far.said == []  # half-open
    assert two.heard == (["hello"] if one_way else [])  # it has arrived, its acknowledgement has not
    two.world.heal_all()
    two.answer("still there?")
    two.world.run(0.1)
    assert two.far.said == ["connection reset by the peer"]


def test_a_message_whose_acknowledgements_are_lost_is_handed_over_once() -> None:
    two = Two()
    two.world.cut(two.server, two.client, back=False)
    two.send("hello")
    two.world.run(0.5)
    two.world.heal_all()
    two.send("again")
    two.world.run(1.0)
    assert two.heard == ["hello", "again"]
    assert two.near.said == []


def test_a_killed_process_closes_and_a_vanished_host_does_not() -> None:
    for fault, said in ((World.kill, ["closed by the peer"]), (World.vanish, [])):
        two = Two()
        two.answer("bye")
        fault(two.world, two.server)
        two.world.run(5.0)
        assert two.near.said == said


def test_a_host_that_started_anew_answers_an_older_association_by_a_reset() -> None:
    two = Two()
    two.world.vanish(two.server)
    two.server.present = True
    fresh = Plain()
    node = Node("b", two.server.number, two.server.address, fresh, two.server.principal)
    two.world._add(node)
    two.world.run(1.0)
    assert two.near.said == []
    two.send("hello")
    two.world.run(0.1)
    assert two.near.said == ["connection reset by the peer"]
    assert fresh.heard == []


def test_the_kernel_of_a_frozen_process_acknowledges_until_its_window_is_full() -> None:
    two = Two()
    two.world.network.window = 100
    two.world.freeze(two.server)
    two.send("x" * 60)
    two.world.run(3.0)
    assert two.near.said == []
    two.send("y" * 60)
    two.world.run(1.1)
    assert two.near.said == []
    two.world.run(0.2)
    assert two.near.said == ["data stayed unacknowledged"]
    two.world.thaw(two.server)
    assert two.heard == ["x" * 60]


def test_a_frozen_process_handles_everything_when_it_runs_again() -> None:
    two = Two()
    two.world.freeze(two.server)
    two.send(*WORDS)
    two.world.run(30.0)
    two.do(two.client, Close(two.near.up[0].id, "", abort=False))
    two.world.run(0.1)
    assert (two.heard, two.far.said) == ([], [])
    two.world.thaw(two.server)
    assert two.heard == WORDS
    assert two.far.said == ["closed by the peer"]


def test_an_aborted_association_is_reset_and_a_reset_that_is_lost_is_not_sent_again() -> None:
    for cut in (False, True):
        two = Two()
        if cut:
            two.world.cut(two.client, two.server)
        two.do(two.client, Close(two.near.up[0].id, "", abort=True))
        two.world.run(0.1)
        two.world.heal_all()
        two.world.run(10.0)
        assert two.far.said == ([] if cut else ["connection reset by the peer"])


def absent(two: Two) -> None:
    two.world.vanish(two.server)


def ended(two: Two) -> None:
    two.world.kill(two.server)


def frozen(two: Two) -> None:
    two.world.freeze(two.server)


def another_authority(two: Two) -> None:
    two.server.ca = "another"


def cut_off(two: Two) -> None:
    two.world.cut(two.client, two.server)


def deaf(two: Two) -> None:
    two.world.cut(two.server, two.client, back=False)


@pytest.mark.parametrize(
    ("fault", "reason", "after"),
    [
        (absent, "timed out", 1.0),
        (frozen, "timed out", 1.0),
        (cut_off, "timed out", 1.0),
        (deaf, "timed out", 1.0),
        (ended, "connection refused", 0.01),
        (another_authority, "certificate verify failed", 0.01),
    ],
)
def test_dialling_fails_as_it_does(fault: Callable[[Two], None], reason: str, after: float) -> None:
    two = Two(connect=False)
    fault(two)
    two.dial()
    two.world.run(after - 0.008)
    assert two.near.said == []
    two.world.run(0.02)
    assert two.near.said == [reason]
    assert two.near.up == two.far.up == []


def test_a_process_that_runs_again_in_time_takes_the_association_its_kernel_has_accepted() -> None:
    two = Two(connect=False)
    two.world.freeze(two.server)
    two.dial()
    two.world.run(0.8)
    two.world.thaw(two.server)
    two.world.run(0.1)
    assert len(two.near.up) == len(two.far.up) == 1


def test_a_slow_path_takes_its_time_and_a_peer_that_takes_too_long_is_left() -> None:
    two = Two()
    two.world.network.write_limit = 5000
    two.world.slow(two.client, two.server, 1000, 60.0)
    two.send("x" * 440)
    two.world.run(0.49)
    assert two.heard == []
    two.world.run(0.02)
    assert two.heard == ["x" * 440]
    two.send(*["y" * 2000] * 4)
    assert two.near.said == ["it does not read what it is sent"]


def test_of_two_directions_one_may_be_cut() -> None:
    two = Two()
    two.world.cut(two.client, two.server, back=False)
    two.answer("hello")
    two.world.run(0.1)
    assert [word for word, _ in two.near.heard] == ["hello"]
    two.world.run(2.0)
    assert two.far.said == ["data stayed unacknowledged"]


def test_a_clock_that_counted_a_suspension_has_jumped_and_another_has_not() -> None:
    for counted in (True, False):
        two = Two()
        began = two.world.now + two.server.offset
        two.world.suspend(two.server, 0.5, counted=counted)
        two.send("before")
        two.world.run(0.45)
        assert two.heard == []
        two.world.run(0.5)
        [(word, at)] = two.far.heard
        assert word == "before"
        assert at - began == pytest.approx(0.6 if counted else 0.1, abs=0.01)  # it was sent again after 0.2 and 0.6 s
