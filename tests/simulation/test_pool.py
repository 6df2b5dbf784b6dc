# SPDX-License-Identifier: Apache-2.0
"""A whole pool in the simulator: from cold start through every kind of failure, over several seeds.

Times are those a user of the fast profile relies on; each is the worst over phases and seeds, not an average.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rserpool.asap.effects import Effect
from rserpool.asap.events import Change, ElementChanged, Failure, PoolUpdated, Resolved
from simulation.nodes import Node, dump_of, element_of, registrar, user_of
from simulation.world import World
from support.scope import POOL

SEEDS = range(1, 7)


class Pool:
    """Registrars and elements that have settled."""

    def __init__(self, registrars: int, elements: int, seed: int = 1) -> None:
        self.world = World(seed)
        self.registrars = self.world.registrars(registrars)
        serving = self.world.run_until(lambda: all(registrar(n).serving for n in self.registrars), 5.0)
        assert serving is not None
        self.elements = [self.world.element(f"e{i + 1}") for i in range(elements)]
        assert self.everywhere(within=5.0) is not None
        self.world.run(self.world.rng.uniform(2.0, 4.0))  # failures come at any phase of the timers
        assert self.world.everywhere(*self.elements)

    def everywhere(self, *elements: Node, within: float) -> float | None:
        """How long until exactly these elements (default: all) are at every registrar, with homes that live."""
        wanted = elements or tuple(self.elements)
        return self.world.run_until(lambda: self.world.everywhere(*wanted) and self.world.all_homes_live(), within)

    def stays(self, *elements: Node, seconds: float = 20.0) -> None:
        """Assert that the pool has settled for good."""
        wanted = elements or tuple(self.elements)
        self.world.run(seconds)
        assert self.world.everywhere(*wanted)
        assert self.world.all_homes_live()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_registrars_started_at_once_serve_within_a_second_and_agree(n: int, seed: int) -> None:
    world = World(seed)
    registrars = world.registrars(n)
    assert world.run_until(lambda: all(registrar(r).serving for r in registrars), 1.0) is not None
    elements = [world.element(f"e{i}") for i in range(3)]
    assert world.run_until(lambda: world.everywhere(*elements), 1.0) is not None
    assert all(len(dump_of(r)["peers"]) == n - 1 for r in registrars)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_registrar_that_starts_later_gets_everything_from_the_others(seed: int) -> None:
    world = World(seed)
    registrars = world.registrars(3, start=False)
    for r in registrars[:2]:
        world.start(r)
    elements = [world.element(f"e{i}", at=registrars[:2]) for i in range(300)]
    world.run(8)
    world.start(registrars[2])
    assert world.run_until(lambda: world.everywhere(*elements), 1.0) is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("fault", "most"),
    [(World.kill, 0.3), (World.vanish, 3.0), (World.freeze, 3.0)],
    ids=["killed", "vanished", "frozen"],
)
def test_a_dead_element_is_out_of_every_registrar_in_time(
    fault: Callable[[World, Node], None], most: float, seed: int
) -> None:
    pool = Pool(3, 6, seed)
    dead, *others = pool.elements
    fault(pool.world, dead)
    took = pool.everywhere(*others, within=10.0)
    assert took is not None
    assert took <= most
    pool.stays(*others)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_frozen_element_is_back_soon_after_it_thaws(seed: int) -> None:
    pool = Pool(3, 6, seed)
    pool.world.freeze(pool.elements[0])
    assert pool.everywhere(*pool.elements[1:], within=3.0) is not None
    pool.world.run(10)
    pool.world.thaw(pool.elements[0])
    assert pool.everywhere(within=2.0) is not None
    pool.stays()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("registrars", [2, 3])
@pytest.mark.parametrize("fault", [World.kill, World.vanish, World.freeze], ids=["killed", "vanished", "frozen"])
def test_a_dead_registrars_elements_have_a_new_home_within_3_s_and_none_is_missing_meanwhile(
    fault: Callable[[World, Node], None], registrars: int, seed: int
) -> None:
    pool = Pool(registrars, 40, seed)
    dead = pool.registrars[seed % registrars]
    others = [r for r in pool.registrars if r is not dead]
    fault(pool.world, dead)
    homes = {f"{registrar(r).server_id:#010x}" for r in others}

    def owned_and_answering() -> bool:
        counts = [registrar(r).counts() for r in others]
        own, attached = sum(c["own"] for c in counts), sum(c["attached"] for c in counts)
        return all(set(pool.world.members(r).values()) <= homes for r in others) and own == attached == 40

    assert pool.world.run_until(owned_and_answering, 3.0) is not None
    for r in others:
        gone = [e for t, e in r.events if isinstance(e, ElementChanged) and e.change is Change.REMOVED]
        assert gone == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_thawed_registrar_gives_up_what_others_took_over(seed: int) -> None:
    pool = Pool(3, 20, seed)
    pool.world.freeze(pool.registrars[0])
    pool.world.run(8)
    pool.world.thaw(pool.registrars[0])
    assert pool.everywhere(within=3.0) is not None
    pool.stays()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restarted_registrar_gets_everything_back_from_its_peers(seed: int) -> None:
    pool = Pool(3, 30, seed)
    fresh = pool.world.restart_registrar(pool.registrars[1])
    assert pool.everywhere(within=3.0) is not None
    assert registrar(fresh).serving
    pool.stays()
    peers = [len(dump_of(r)["peers"]) for r in pool.world.live_registrars()]
    assert peers == [2, 2, 2]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [World.kill, World.vanish], ids=["killed", "vanished"])
def test_two_of_three_registrars_may_die_at_once(fault: Callable[[World, Node], None], seed: int) -> None:
    pool = Pool(3, 30, seed)
    for dead in pool.registrars[:2]:
        fault(pool.world, dead)
    assert pool.everywhere(within=6.0) is not None
    pool.stays()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_element_and_its_home_may_vanish_together(seed: int) -> None:
    pool = Pool(2, 10, seed)
    home = pool.registrars[0]
    own = f"{registrar(home).server_id:#010x}"
    victim = next(e for e in pool.elements if pool.world.members(home)[str(e.address)] == own)
    pool.world.vanish(home)
    pool.world.vanish(victim)
    others = [e for e in pool.elements if e is not victim]
    took = pool.everywhere(*others, within=10.0)
    assert took is not None
    assert took <= 3.0


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_minute_without_any_registrar_everybody_is_back_within_5_s(seed: int) -> None:
    pool = Pool(3, 20, seed)
    for r in pool.registrars:
        pool.world.kill(r)
    pool.world.run(60)
    for r in pool.registrars:
        pool.world.restart_registrar(r)
    took = pool.everywhere(within=20.0)
    assert took is not None
    assert took <= 5.0
    pool.stays()


@pytest.mark.rfc("PROTOCOL 18: after a partition all registrars hold the same within two seconds and three heartbeats")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_heals_within_two_seconds_and_three_heartbeats(seed: int) -> None:
    pool = Pool(3, 20, seed)
    left = [pool.registrars[0], *pool.elements[:7]]
    right = [*pool.registrars[1:], *pool.elements[7:]]
    pool.world.partition(left, right)
    pool.world.run(20)
    assert set(pool.world.members(pool.registrars[0])) == {str(e.address) for e in pool.elements[:7]}
    assert set(pool.world.members(pool.registrars[1])) == {str(e.address) for e in pool.elements[7:]}
    pool.world.heal_all()
    assert pool.everywhere(within=2.0 + 3 * 0.4) is not None
    pool.stays()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_between_registrars_alone_takes_no_element_out(seed: int) -> None:
    pool = Pool(3, 20, seed)
    a, b, _ = pool.registrars
    pool.world.cut(a, b)
    pool.world.run(15)
    for r in pool.registrars:
        assert set(pool.world.members(r)) == {str(e.address) for e in pool.elements}
    pool.world.heal_all()
    assert pool.everywhere(within=2.0 + 3 * 0.4) is not None
    pool.stays()


@pytest.mark.parametrize("seed", SEEDS)
def test_elements_come_and_go_and_all_registrars_agree(seed: int) -> None:
    pool = Pool(3, 3, seed)
    more = [pool.world.element(f"m{i}") for i in range(27)]
    assert pool.everywhere(*pool.elements, *more, within=1.0) is not None
    for node in [*more, pool.elements[0]]:
        pool.world.do(node, lambda now, n=node: element_of(n).leave(now))  # type: ignore[misc] # mypy infers no lambda with a default
    assert pool.everywhere(*pool.elements[1:], within=1.0) is not None
    pool.stays(*pool.elements[1:])


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_happens_for_ten_minutes(seed: int) -> None:
    pool = Pool(3, 6, seed)
    for node in [*pool.registrars, *pool.elements]:
        node.events.clear()
    pool.world.run(600)
    changes = [e for n in [*pool.registrars, *pool.elements] for _, e in n.events]
    quiet = [e for e in changes if type(e).__name__ != "ElementStateChanged"]
    assert quiet == []
    assert pool.world.everywhere(*pool.elements)


def test_a_user_gets_answers_while_registrars_die_one_after_the_other() -> None:
    pool = Pool(3, 5)
    world, user = pool.world, pool.world.user("u")
    tokens: list[int] = []

    def ask() -> None:
        def resolve(now: float) -> list[Effect]:
            token, effects = user_of(user).resolve(POOL, now)
            tokens.append(token)
            return effects

        world.do(user, resolve)

    for victim in (None, *pool.registrars[:2]):
        if victim is not None:
            world.freeze(victim)
        for _ in range(20):
            ask()
            world.run(0.1)
    world.run(2.0)
    outcomes = {e.token: e for e in user.seen(Resolved)}
    assert [outcomes[t].failure for t in tokens] == [None] * len(tokens)
    asked = dict(zip(tokens, range(len(tokens)), strict=True))
    assert len(asked) == 60


def test_a_user_is_told_apart_no_registrar_no_such_pool_and_no_answer() -> None:
    pool = Pool(2, 1)
    world, user = pool.world, pool.world.user("u")

    def outcome(handle: bytes) -> Resolved:
        before = len(user.seen(Resolved))
        world.do(user, lambda now: user_of(user).resolve(handle, now)[1])
        assert world.run_until(lambda: len(user.seen(Resolved)) > before, 1.01) is not None
        return user.seen(Resolved)[-1]

    assert [e.identifier for e in outcome(POOL).elements] == [element_of(pool.elements[0]).pe_identifier]
    assert outcome(b"nobody").failure is Failure.UNKNOWN_POOL
    for r in pool.registrars:
        world.freeze(r)
    assert outcome(POOL).failure is Failure.TIMEOUT
    for r in pool.registrars:
        world.kill(r)
    world.run(1)
    assert outcome(POOL).failure is Failure.NO_REGISTRAR


def test_a_watching_user_learns_of_an_elements_removal_within_half_a_second() -> None:
    pool = Pool(3, 4)
    world, user = pool.world, pool.world.user("u")
    world.do(user, lambda now: user_of(user).watch(POOL, now))
    world.run(1)
    assert len(user.seen(PoolUpdated)[-1].elements) == 4
    world.kill(pool.elements[0])
    took = world.run_until(lambda: len(user.seen(PoolUpdated)[-1].elements) == 3, 2.0)
    assert took is not None
    assert took <= 0.5


def test_the_same_seed_gives_the_same_history() -> None:
    def history() -> list[tuple[float, str]]:
        pool = Pool(3, 5, seed=9)
        pool.world.kill(pool.registrars[0])
        pool.world.run(5)
        return [(round(t, 9), repr(e)) for n in pool.world.nodes.values() for t, e in n.events]

    assert history() == history()
