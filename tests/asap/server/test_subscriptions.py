# SPDX-License-Identifier: Apache-2.0
"""Whoever wants to be told of a pool is told, not too often, until it is gone or they are (RFC 5352 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import Limits
from rserpool.wire import CauseCode, ErrorCause, OpaqueTransport, Policy, asap, encode, policies
from support.rig_asapserver import PEER_ID, POOL, Far, Rig, add, foreign

INTERVAL = Limits().update_interval
GONE = asap.HandleResolutionResponse(pool_handle=POOL, error=(ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),))


def told(far: Far) -> list[list[int]]:
    """The updates since the last look, as the identifiers in each; every one is marked as an update."""
    updates = []
    for message in far.take():
        assert isinstance(message, asap.HandleResolutionResponse)
        assert message.accept_updates
        assert message.policy is not None
        assert message.error == ()
        assert all(e.asap_transport is None for e in message.elements)
        updates.append([e.identifier for e in message.elements])
    return updates


def subscriber(rig: Rig, number: int = 1, *, items: int | None = None, handle: bytes = POOL) -> Far:
    user = rig.user(number)
    assert user.resolve(handle, updates=True, items=items).accept_updates
    return user


@pytest.mark.rfc("RFC 5352 3.3: a subscriber is told of every change of the pool")
def test_only_who_wants_updates_gets_them() -> None:
    rig = Rig()
    first = rig.element(1).register()
    wants, other = subscriber(rig, 1), rig.user(2)
    assert not other.resolve().accept_updates
    second = rig.element(2).register()
    rig.run(1)
    assert sorted(told(wants)[0]) == sorted([first.identifier, second.identifier])
    assert other.take() == []


@pytest.mark.rfc("RFC 5352 3.3: a subscriber is told of every change of the pool")
def test_an_update_holds_the_whole_pool_as_it_is_then() -> None:
    rig = Rig()
    first = rig.element(1).register(policy=policies.Priority(1))
    user = subscriber(rig)
    first.register(policy=policies.Priority(7), life=60)
    rig.run(1)
    (update,) = user.take()
    assert update == asap.HandleResolutionResponse(
        pool_handle=POOL,
        accept_updates=True,
        policy=policies.Priority(1),
        elements=(first.offer(policy=policies.Priority(7), life=60, home=rig.machine.server_id, asap_transport=None),),
    )


CHANGES: dict[str, Callable[[Rig, Far], object]] = {
    "an element joins": lambda rig, _: rig.element(8).register(),
    "an element leaves": lambda _, element: element.deregister(),
    "an element changes": lambda _, element: element.register(life=30),
    "an element is removed": lambda rig, element: [rig.user(n).report(element.identifier) for n in range(20, 30)],
    "another registrar's joins": lambda rig, _: rig.peer().send(add(foreign(9))),
}


@pytest.mark.rfc("RFC 5352 3.3: a subscriber is told of every change of the pool")
@pytest.mark.rfc("RFC 3237 2.11: changes of a pool are pushed to users")
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_that_a_user_would_see_is_told_once(change: str) -> None:
    rig = Rig()
    element = rig.element(1).register()
    rig.element(2).register()
    user = subscriber(rig)
    CHANGES[change](rig, element)
    rig.run(1)
    assert len(told(user)) == 1


def test_what_changes_nothing_for_a_user_is_not_told() -> None:
    rig = Rig()
    peer = rig.peer(PEER_ID, foreign(1))
    user = subscriber(rig)
    rig.element(1).register()  # the same, at another home
    rig.element(1).register()
    peer.send(add(foreign(1)))
    rig.run(1)
    assert user.take() == []


def test_a_change_of_another_pool_is_not_told() -> None:
    rig = Rig(secure=False)
    rig.element(1).register(b"one")
    rig.element(2).register(b"two")
    one, two = subscriber(rig, 1, handle=b"one"), subscriber(rig, 2, handle=b"two")
    rig.element(3).register(b"two")
    rig.run(1)
    assert told(one) == []
    assert [sorted(update) for update in told(two)] == [[2, 3]]


# -- how often


@pytest.mark.rfc("PROTOCOL 6.6: updates are gathered and subscriptions counted")
def test_changes_are_gathered_so_that_nobody_is_told_twice_within_the_interval() -> None:
    rig = Rig()
    element = rig.element(1).register(policy=policies.Priority(0))
    user = subscriber(rig)
    for number in range(1, 101):
        element.register(policy=policies.Priority(number))
        rig.run(0.01)
    rig.run(1)
    times = [at for at, _ in user.heard]
    assert len(times) == 5
    assert all(b - a >= INTERVAL - 1e-6 for a, b in zip([1000.0, *times], times, strict=False))
    last = user.take()[-1]
    assert isinstance(last, asap.HandleResolutionResponse)
    assert last.elements[0].policy == policies.Priority(100)


def test_a_change_after_a_quiet_time_is_told_at_once() -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    rig.run(INTERVAL)
    element.register(life=60)
    rig.run()
    assert len(told(user)) == 1


def test_the_interval_is_the_one_that_was_configured() -> None:
    rig = Rig(limits=Limits(update_interval=2.0))
    element = rig.element(1).register()
    element.acknowledges = True
    user = subscriber(rig)
    element.register(life=60)
    rig.run(1.99)
    assert told(user) == []
    rig.run(0.02)
    assert len(told(user)) == 1


def test_one_subscriber_does_not_delay_another() -> None:
    rig = Rig()
    element = rig.element(1).register()
    early = subscriber(rig, 1)
    rig.run(INTERVAL)
    late = subscriber(rig, 2)
    element.register(life=60)
    rig.run()
    assert (len(told(early)), len(told(late))) == (1, 0)
    rig.run(INTERVAL)
    assert (len(told(early)), len(told(late))) == (0, 1)


# -- what is in them


@pytest.mark.rfc("PROTOCOL 6.6: an update to a subscriber moves nothing")
def test_updates_do_not_move_the_round() -> None:
    rig = Rig()
    a, b, c = (rig.element(n).register() for n in (1, 2, 3))
    user = rig.user()
    assert user.resolve(updates=True).elements[0].identifier == a.identifier
    for life in range(30, 40):
        a.register(life=life)
        rig.run(INTERVAL)
    assert len(told(user)) == 10
    firsts = [user.resolve(items=1).elements[0].identifier for _ in range(3)]
    assert firsts == [b.identifier, c.identifier, a.identifier]


@pytest.mark.rfc("PROTOCOL 6.6: an update to a subscriber moves nothing")
def test_updates_do_not_count_as_uses() -> None:
    rig = Rig()
    policy = policies.LeastUsedDegradation(0, 10)
    first, second, third = (rig.element(n).register(policy=policy) for n in (1, 2, 3))
    for element in (first, second, third):
        element.acknowledges = True
    user = rig.user()
    assert {e.identifier for e in user.resolve(updates=True, items=2).elements} == {
        first.identifier,
        second.identifier,
    }
    for life in range(30, 40):
        third.register(life=life, policy=policy)
        rig.run(INTERVAL)
    assert [len(update) for update in told(user)] == [2] * 10
    assert user.resolve(items=1).elements[0].identifier == third.identifier  # the only one never given out
    others = [user.resolve(items=1).elements[0].identifier for _ in range(3)]
    assert sorted(others) == sorted([first.identifier, second.identifier, third.identifier])


def test_an_update_holds_as_many_elements_as_the_subscriber_wanted() -> None:
    rig = Rig(limits=Limits(items=3))
    for number in range(1, 6):
        rig.element(number).register()
    two, most = subscriber(rig, 1, items=2), subscriber(rig, 2)
    rig.element(6).register()
    rig.run(1)
    assert [len(update) for update in told(two)] == [2]
    assert [len(update) for update in told(most)] == [3]


@pytest.mark.parametrize("policy", [policies.LeastUsed, policies.Priority])
def test_an_update_is_in_the_order_of_the_policy_as_an_answer_is(policy: Callable[[int], Policy]) -> None:
    """RFC 5356 4.5 and 5.1: the list is sorted; PROTOCOL 6.6: an update is as a fresh resolution."""
    rig = Rig()
    elements = [rig.element(n).register(policy=policy(n)) for n in (3, 1, 2)]
    user, best = subscriber(rig, 1), subscriber(rig, 2, items=1)
    elements.append(rig.element(4).register(policy=policy(0 if policy is policies.LeastUsed else 4)))
    rig.run(1)
    wanted = [e.identifier for e in rig.user(9).resolve().elements]
    assert told(user) == [wanted]
    assert told(best) == [wanted[:1]]


def test_an_update_that_would_be_too_long_leaves_the_last_elements_out() -> None:
    rig = Rig(secure=False, limits=Limits(elements_per_identity=1000, registrations=Rate(1e6, 1e6)))
    far = rig.element(1)
    for identifier in range(1, 81):
        far.register(identifier=identifier, transport=OpaqueTransport(value=bytes(901)))
    user = subscriber(rig)
    far.register(identifier=81, transport=OpaqueTransport(value=bytes(901)))
    rig.run(1)
    (update,) = user.take()
    assert isinstance(update, asap.HandleResolutionResponse)
    assert update.accept_updates
    assert 62_000 < len(encode(update)) <= 65_536


# -- how they end


@pytest.mark.rfc("RFC 5352 3.3: a subscriber is told when the pool is gone")
def test_when_the_pool_goes_the_subscriber_is_told_and_the_subscription_is_over() -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    element.deregister()
    rig.run(1)
    assert user.take() == [GONE]
    element.register()
    rig.run(1)
    assert user.take() == []
    assert user.resolve(updates=True).accept_updates


def test_an_answer_that_the_pool_is_gone_ends_the_subscription_too() -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    element.deregister()
    assert user.resolve(updates=True) == GONE
    rig.run(1)
    element.register()
    rig.run(1)
    assert user.take() == []


def test_a_pool_that_comes_back_before_anybody_was_told_has_never_gone() -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    element.deregister()
    element.register(life=60)
    rig.run(1)
    assert told(user) == [[element.identifier]]


@pytest.mark.rfc("RFC 5352 3.3: a subscriber is told when the pool is gone")
def test_an_unknown_pool_is_no_subscription() -> None:
    rig = Rig()
    user = rig.user()
    assert user.resolve(updates=True) == GONE
    rig.element(1).register()
    rig.run(1)
    assert user.take() == []


@pytest.mark.rfc("RFC 5352 3.3: a subscription ends with its association")
@pytest.mark.parametrize("pending", [True, False])
def test_a_resolution_without_the_flag_cancels_even_what_was_about_to_be_told(*, pending: bool) -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    if pending:
        element.register(life=60)
    assert not user.resolve().accept_updates
    element.register(life=61)
    rig.run(1)
    assert user.take() == []


def test_who_cancels_and_subscribes_again_is_told_of_later_changes_only() -> None:
    rig = Rig()
    element = rig.element(1).register()
    user = subscriber(rig)
    element.register(life=60)
    user.resolve()
    assert user.resolve(updates=True).elements[0].life == 60
    rig.run(1)
    assert user.take() == []
    element.register(life=61)
    rig.run(1)
    assert len(told(user)) == 1


def test_a_resolution_on_another_association_cancels_nothing() -> None:
    rig = Rig()
    rig.element(1).register()
    user = subscriber(rig, 1)
    rig.user(1).resolve()
    rig.element(2).register()
    rig.run(1)
    assert len(told(user)) == 1


@pytest.mark.rfc("RFC 5352 3.3: a subscription ends with its association")
@pytest.mark.parametrize("pending", [True, False])
def test_a_subscription_ends_with_its_association(*, pending: bool) -> None:
    rig = Rig()
    element = rig.element(1).register()
    user, other = subscriber(rig, 1), subscriber(rig, 2)
    if pending:
        element.register(life=60)
    user.lose()
    element.register(life=61)
    rig.run(1)
    assert user.take() == []
    assert len(told(other)) == 1


@pytest.mark.rfc("RFC 3237 2.12: the number of users and pools is not limited by the protocol")
def test_subscribers_that_come_and_go_leave_nothing_behind() -> None:
    rig = Rig()
    rig.element(1).register()
    for _ in range(10):
        subscriber(rig).lose()
    resolutions = rig.machine._front.resolutions
    assert not resolutions._subscribers
    assert not resolutions._pools_of


@pytest.mark.rfc("PROTOCOL 6.6: updates are gathered and subscriptions counted")
def test_an_association_is_kept_informed_of_so_many_pools_and_of_the_rest_on_request() -> None:
    rig = Rig(secure=False, limits=Limits(subscriptions=2))
    handles = [b"one", b"two", b"three"]
    elements = [rig.element(n + 1).register(handle) for n, handle in enumerate(handles)]
    user = rig.user()
    answers = [user.resolve(handle, updates=True) for handle in handles]
    assert [a.accept_updates for a in answers] == [True, True, False]
    assert [len(a.elements) for a in answers] == [1, 1, 1]
    assert user.resolve(b"one", updates=True).accept_updates  # again is not one more
    assert rig.user(2).resolve(b"three", updates=True).accept_updates
    elements[2].register(b"three", life=60)
    rig.run(1)
    assert user.take() == []
    assert not user.resolve(b"two").accept_updates  # makes room
    assert user.resolve(b"three", updates=True).accept_updates
    elements[0].deregister(b"one")  # so does a pool that has gone
    rig.run(1)
    user.take()
    assert user.resolve(b"two", updates=True).accept_updates
