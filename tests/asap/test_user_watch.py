# SPDX-License-Identifier: Apache-2.0
"""A user that watches a pool hears of each change, wherever its registrar goes (RFC 5352 3.3; PROTOCOL 12.4)."""

from __future__ import annotations

import pytest

from rserpool.asap.effects import AssociationId
from rserpool.asap.events import PoolUpdated
from rserpool.asap.profiles import RFC
from rserpool.asap.user import User
from rserpool.wire import asap, policies
from support.far_ends import POOL, UNKNOWN_POOL, answer, place, registrar, resolving, silent
from support.rig_endpoints import START, Rig, outcome, resolve, user_rig

SUBSCRIPTION = asap.HandleResolution(pool_handle=POOL, send_updates=True)


def watching(*handles: bytes, registrars: int = 1) -> Rig[User]:
    """A user that watches pools, at a home that has accepted it."""
    rig = user_rig(registrars=registrars)
    for handle in handles or (POOL,):
        rig.do(rig.machine.watch(handle, rig.now))
    rig.clear()
    return rig


def members(rig: Rig[User], handle: bytes = POOL) -> list[list[int]]:
    """The updates of a pool, in order."""
    return [[e.identifier for e in u.elements] for u in rig.of(PoolUpdated) if u.pool_handle == handle]


def asked(rig: Rig[User]) -> list[bytes]:
    return [m.pool_handle for m in rig.of(asap.HandleResolution)]


def test_a_user_subscribes_as_soon_as_it_has_a_registrar() -> None:
    rig = user_rig()
    rig.answers = {}
    rig.do(rig.machine.watch(POOL, rig.now))
    assert rig.connecting == [place(1)]
    rig.run(0.5)
    rig.accept(place(1), registrar())
    assert rig.messages[0] == SUBSCRIPTION
    assert members(rig) == [[1, 2]]
    assert rig.of(PoolUpdated)[0].policy == policies.RoundRobin()


def test_a_user_that_has_a_registrar_subscribes_at_once() -> None:
    rig = user_rig()
    resolve(rig)
    rig.clear()
    rig.do(rig.machine.watch(POOL, rig.now))
    assert rig.messages == [SUBSCRIPTION]
    assert rig.dialled == []


@pytest.mark.rfc("RFC 5352 3.3: a subscriber takes each new answer as the pool")
@pytest.mark.rfc("RFC 3237 2.11: changes of a pool are pushed to users")
def test_each_update_is_passed_on() -> None:
    rig = watching()
    rig.feed(rig.at(1), answer(POOL, 1, 2, 3, updates=True))
    rig.feed(rig.at(1), answer(POOL, 3, updates=True))
    rig.feed(rig.at(1), answer(b"other", 9, updates=True))
    assert members(rig) == [[1, 2, 3], [3]]
    assert rig.messages == []
    assert len(rig.of(PoolUpdated)) == 2


def test_a_resolution_of_a_watched_pool_keeps_the_subscription() -> None:
    """S = 0 on the same association would end it."""
    rig = watching()
    token = resolve(rig)
    assert rig.messages == [SUBSCRIPTION]
    assert outcome(rig, token) is not None
    assert members(rig) == [[1, 2]]
    resolve(rig, b"other")
    assert rig.of(asap.HandleResolution)[-1] == asap.HandleResolution(pool_handle=b"other")


@pytest.mark.rfc("RFC 5352 3.3: a subscription is repeated at a new home")
@pytest.mark.parametrize("how", ["lost", "replaced"])
def test_subscriptions_are_repeated_at_a_new_home(how: str) -> None:
    rig = watching(b"one", b"two", registrars=2)
    (home,) = rig.up
    if how == "lost":
        rig.lose(home)
    else:
        rig.script = silent
        resolve(rig, b"three")
        rig.run(0.6)
        rig.clear()
        other = next(a for a in rig.up if a != home)
        rig.feed(other, answer(b"three", 1))
    assert home not in rig.up
    (new,) = rig.up
    subscribed = [s.message for s in rig.sent if s.association == new]
    assert {m.pool_handle for m in subscribed if isinstance(m, asap.HandleResolution) and m.send_updates} == {
        b"one",
        b"two",
    }


@pytest.mark.rfc("RFC 5352 3.3: a subscription is repeated at a new home")
def test_a_watching_user_seeks_a_new_home_by_itself() -> None:
    rig = watching(registrars=2)
    rig.answers = {}
    rig.lose(next(iter(rig.up)))
    assert rig.connecting
    rig.run(20)
    rig.answers[place(1)] = registrar()
    rig.run(5)
    assert len(rig.up) == 1
    assert SUBSCRIPTION in rig.messages


@pytest.mark.rfc("RFC 5352 3.3: a subscriber takes each new answer as the pool")
def test_a_pool_that_goes_is_an_update_without_elements_and_is_asked_for_again() -> None:
    rig = watching()
    rig.script = silent
    rig.feed(rig.at(1), answer(POOL, error=[UNKNOWN_POOL]))
    assert members(rig) == [[]]
    rig.run(0.49)
    assert rig.messages == []
    rig.run(0.02)
    assert rig.messages == [SUBSCRIPTION]
    rig.feed(rig.at(1), answer(POOL, 7, updates=True))
    assert members(rig) == [[], [7]]
    rig.run(1)
    assert rig.messages == [SUBSCRIPTION]


def test_a_pool_that_is_not_there_yet_is_asked_for_until_it_comes() -> None:
    rig = user_rig(script=resolving(error=[UNKNOWN_POOL]))
    rig.do(rig.machine.watch(POOL, rig.now))
    rig.run(2.4)
    assert [s.at - START for s in rig.sent] == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
    rig.script = resolving(4)
    rig.run(0.2)
    assert members(rig)[-1] == [4]


def test_a_registrar_that_takes_no_subscriptions_is_asked_again_and_again() -> None:
    rig = user_rig(script=silent)
    rig.do(rig.machine.watch(POOL, rig.now))
    rig.feed(rig.at(1), answer(POOL, 1))  # A = 0
    rig.clear()
    rig.run(0.6)
    assert rig.messages == [SUBSCRIPTION]


def test_what_is_not_watched_any_more_is_not_reported() -> None:
    rig = watching(b"one", b"two")
    rig.do(rig.machine.unwatch(b"one", rig.now))
    rig.feed(rig.at(1), answer(b"one", 5, updates=True))
    rig.feed(rig.at(1), answer(b"two", 6, updates=True))
    assert members(rig, b"one") == []
    assert members(rig, b"two") == [[6]]


def test_what_is_not_watched_any_more_is_not_asked_for() -> None:
    rig = user_rig(script=resolving(error=[UNKNOWN_POOL]))
    rig.do(rig.machine.watch(POOL, rig.now))
    rig.run(0.7)
    rig.clear()
    rig.do(rig.machine.unwatch(POOL, rig.now))
    rig.run(60)
    assert asked(rig) == []
    assert rig.machine.deadline() is None
    assert rig.of(PoolUpdated) == []


def test_a_user_that_watches_nothing_seeks_no_new_home() -> None:
    rig = watching()
    rig.do(rig.machine.unwatch(POOL, rig.now))
    rig.do(rig.machine.unwatch(b"never watched", rig.now))
    rig.lose(rig.at(1))
    rig.run(60)
    assert rig.dialled == []


def test_a_frozen_home_is_noticed_and_replaced() -> None:
    """It closes nothing and says nothing; its silence is the same as that of a pool that does not change."""
    rig = watching(registrars=2)
    (frozen,) = rig.up
    healthy = resolving(8)
    rig.script = lambda association, message: [] if association.id == frozen else healthy(association, message)
    rig.run(3 + 0.5 + 0.1)
    assert frozen not in rig.up
    (new,) = rig.up
    assert SUBSCRIPTION in [s.message for s in rig.sent if s.association == new]
    assert members(rig)[-1] == [8]
    assert rig.now <= START + 4


def test_a_frozen_home_is_left_even_if_there_is_no_other() -> None:
    rig = watching()
    (frozen,) = rig.up
    rig.script = silent
    rig.answers = {}
    rig.run(3 + 1.01)
    assert [(c.association, c.abort) for c in rig.closed] == [(frozen, True)]
    rig.script = resolving(8)
    rig.answers[place(1)] = registrar()
    rig.run(8)
    assert members(rig)[-1:] == [[8]]


def test_a_watching_user_that_leaves_a_frozen_home_seeks_another_at_once() -> None:
    rig = user_rig(registrars=2, patience=0.3)
    rig.do(rig.machine.watch(POOL, rig.now))
    (frozen,) = rig.up
    rig.script = lambda association, message: [] if association.id == frozen else resolving(8)(association, message)
    rig.run(3 + 0.35)
    assert frozen not in rig.up
    assert members(rig)[-1] == [8]


def test_a_home_that_answers_is_kept_however_long_nothing_changes() -> None:
    rig = watching(registrars=3)
    (home,) = rig.up
    rig.run(600)
    assert list(rig.up) == [home]
    assert rig.dialled == []
    assert 190 <= len(rig.sent) <= 200
    assert all(m == SUBSCRIPTION for m in rig.messages)


def test_in_the_rfc_profile_a_frozen_home_is_noticed_too() -> None:
    rig = user_rig(registrars=2, timers=RFC.endpoint)
    rig.do(rig.machine.watch(POOL, rig.now))
    (frozen,) = rig.up
    rig.script = lambda association, message: [] if association.id == frozen else resolving(8)(association, message)
    rig.run(15 + 15 + 2)
    assert frozen not in rig.up
    assert len(rig.up) == 1


def test_a_home_lost_between_two_questions_does_not_end_the_watching() -> None:
    rig = watching()
    rig.answers = {}
    rig.run(3.1)
    rig.lose(rig.at(1))
    rig.run(30)
    rig.answers[place(1)] = registrar()
    rig.clear()
    rig.run(5)
    assert members(rig)
    rig.clear()
    rig.script = silent
    rig.run(4.2)
    assert len(rig.closed) >= 1


# -- what a cache may rely on


def test_a_subscription_is_known_from_the_answer_that_accepts_it_to_the_loss_of_its_association() -> None:
    rig = user_rig(registrars=2, script=silent)
    rig.do(rig.machine.watch(POOL, rig.now))
    (home,) = rig.up
    assert rig.machine.subscription(POOL) is None
    rig.feed(home, answer(POOL, 1, updates=True))
    assert rig.machine.subscription(POOL) == home
    assert rig.machine.subscription(b"other") is None
    rig.lose(home)
    assert rig.machine.subscription(POOL) is None
    (new,) = rig.up
    rig.feed(new, answer(POOL, 1, updates=True))
    assert rig.machine.subscription(POOL) == new != home


@pytest.mark.parametrize("how", ["refused", "gone", "not watched", "another home"])
def test_a_subscription_ends_with_whatever_ends_it(how: str) -> None:
    rig = user_rig(registrars=2, script=silent)
    rig.do(rig.machine.watch(POOL, rig.now))
    (home,) = rig.up
    rig.feed(home, answer(POOL, 1, updates=True))
    if how == "refused":
        rig.feed(home, answer(POOL, 1))
    elif how == "gone":
        rig.feed(home, answer(POOL, updates=True, error=[UNKNOWN_POOL]))
    elif how == "not watched":
        rig.do(rig.machine.unwatch(POOL, rig.now))
    else:
        resolve(rig, b"three")
        rig.run(0.6)
        rig.feed(next(a for a in rig.up if a != home), answer(b"three", 1))
        assert home not in rig.up
    assert rig.machine.subscription(POOL) is None


def test_what_a_pool_consists_of_is_told_when_the_subscription_is_known_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a cache would take what is kept up to date for what grows old."""
    rig = user_rig(script=silent)
    rig.do(rig.machine.watch(POOL, rig.now))
    (home,) = rig.up
    seen: list[AssociationId | None] = []
    monkeypatch.setattr(rig.machine.desk, "emit", lambda _: seen.append(rig.machine.subscription(POOL)))
    rig.feed(home, answer(POOL, 1, updates=True))
    assert seen == [home]


def test_no_element_of_a_negative_update_is_told() -> None:
    rig = watching()
    rig.feed(rig.at(1), answer(POOL, 5, error=[UNKNOWN_POOL]))
    assert members(rig) == [[]]
