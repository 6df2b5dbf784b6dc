# SPDX-License-Identifier: Apache-2.0
"""Every resolution has an answer that says what the pool is, in an order users may follow, within limits."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server import resolution
from rserpool.asap.server.desk import Limits, RegistrarConfig, RegistrarDesk
from rserpool.handlespace import Increment
from rserpool.identity import InsecureScope, SecureScope
from rserpool.wire import CauseCode, ErrorCause, OpaqueTransport, Policy, asap, encode, policies
from support import samples
from support.rig_asapserver import PEER_ID, POOL, SERVER_ID, Far, Rig, foreign, table

UNKNOWN_POOL = asap.HandleResolutionResponse(pool_handle=POOL, error=(ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),))
RESOURCES = asap.HandleResolutionResponse(pool_handle=POOL, error=(ErrorCause(CauseCode.LACK_OF_RESOURCES),))
BARRED = asap.HandleResolutionResponse(pool_handle=POOL, error=(ErrorCause(CauseCode.SECURITY_REJECTION),))


def identifiers(answer: asap.HandleResolutionResponse) -> list[int]:
    return [element.identifier for element in answer.elements]


def pool(rig: Rig, number: int, policy: Policy | None = None) -> list[int]:
    """So many elements, in the order in which they registered."""
    elements = [rig.element(n) for n in range(1, number + 1)]
    return [e.register(policy=policy or policies.RoundRobin()).identifier for e in elements]


@pytest.mark.rfc("RFC 5352 2.2.6: an answer says the pool's policy")
def test_an_answer_has_the_policy_even_if_it_is_round_robin_and_no_asap_transports() -> None:
    rig = Rig()
    element = rig.element(1).register()
    assert rig.user().resolve() == asap.HandleResolutionResponse(
        pool_handle=POOL,
        policy=policies.RoundRobin(),
        elements=(element.offer(home=SERVER_ID, asap_transport=None),),
    )


@pytest.mark.rfc("RFC 5352 2.2.6: an answer says the pool's policy")
def test_the_policy_of_the_pool_is_given_beside_each_elements_own() -> None:
    rig = Rig()
    rig.element(1).register(policy=policies.LeastUsed(5))
    rig.element(2).register(policy=policies.LeastUsed(3))
    answer = rig.user().resolve()
    assert isinstance(answer.policy, policies.LeastUsed)
    assert [e.policy for e in answer.elements] == [policies.LeastUsed(3), policies.LeastUsed(5)]


@pytest.mark.rfc("RFC 5352 3.3: a resolution is answered by the pool's elements")
def test_other_registrars_elements_are_given_too() -> None:
    rig = Rig()
    rig.peer(PEER_ID, foreign(1), foreign(2))
    own = rig.element(3).register()
    homes = {e.identifier: e.home for e in rig.user().resolve().elements}
    assert homes == {foreign(1).identifier: PEER_ID, foreign(2).identifier: PEER_ID, own.identifier: SERVER_ID}


@pytest.mark.rfc("RFC 5352 3.3: an unknown pool is answered by cause 0x9")
def test_an_unknown_pool_is_cause_9_and_nothing_else() -> None:
    rig = Rig()
    user = rig.user()
    assert user.resolve() == UNKNOWN_POOL
    element = rig.element(1).register()
    assert user.resolve().elements
    element.deregister()
    assert user.resolve() == UNKNOWN_POOL


@pytest.mark.rfc("RFC 3237 2.9: a resolution returns no element that is known to be dead")
def test_a_removed_element_is_not_given_any_more() -> None:
    rig = Rig()
    stays, goes = rig.element(1).register(), rig.element(2).register()
    stays.acknowledges = True
    rig.run(3)
    assert goes.closed is not None
    assert identifiers(rig.user().resolve()) == [stays.identifier]


# -- how many


@pytest.mark.rfc("PROTOCOL 14.9: a user may say how many elements it wants")
@pytest.mark.rfc("RFC 5352 3.3: a resolution is answered by the pool's elements")
@pytest.mark.parametrize(
    ("most", "wanted", "given"),
    [
        (0, None, 5),
        (0, 0, 5),
        (0, 0xFFFFFFFF, 5),
        (0, 1, 1),
        (0, 4, 4),
        (0, 9, 5),
        (3, None, 3),
        (3, 0, 3),
        (3, 0xFFFFFFFF, 3),
        (3, 2, 2),
        (3, 4, 3),
    ],
)
def test_as_many_elements_are_given_as_the_user_wants_and_the_registrar_allows(
    most: int, wanted: int | None, given: int
) -> None:
    rig = Rig(limits=Limits(items=most))
    members = pool(rig, 5)
    assert identifiers(rig.user().resolve(items=wanted)) == members[:given]


def test_a_registrar_without_a_limit_of_its_own_chooses_no_more_than_an_answer_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolution, "MOST", 3)
    rig = Rig(limits=Limits(items=0))
    members = pool(rig, 5, policies.LeastUsedDegradation(0, 1))
    assert identifiers(rig.user().resolve(items=4)) == members[:3]
    assert identifiers(rig.user(2).resolve()) == [*members[3:], members[1]]  # who was not given out counts as idle


@pytest.mark.parametrize(("increment", "next_one"), [(Increment.ALL, 1), (Increment.FIRST, 2)])
def test_whose_degradation_counters_an_answer_raises_is_configured(increment: Increment, next_one: int) -> None:
    config = RegistrarConfig(server_id=1, enrp=(), lud_increment=increment)
    desk = RegistrarDesk(config, InsecureScope(), Random(1))
    for identifier, load in enumerate((0, 1, 2), 1):
        desk.space.put(b"echo", samples.element(identifier, policy=policies.LeastUsedDegradation(load, 10)))
    found = desk.space.pools[b"echo"]
    assert [e.identifier for e in found.select(2)] == [1, 2]
    assert [e.identifier for e in found.select()][next_one] == 1


@pytest.mark.rfc("RFC 5356 4.1.2: round robin lists everybody from the head on, which advances by one")
def test_the_round_goes_on_by_one_with_each_resolution_whoever_asks_and_for_however_many() -> None:
    rig = Rig()
    a, b, c = pool(rig, 3)
    user, other = rig.user(1), rig.user(2)
    assert identifiers(user.resolve()) == [a, b, c]
    assert identifiers(other.resolve(items=2)) == [b, c]
    assert identifiers(user.resolve(items=1)) == [c]
    assert identifiers(user.resolve()) == [a, b, c]


# -- who may ask, and how often


@pytest.mark.parametrize("role", [Role.USER, Role.ANONYMOUS, Role.REGISTRAR, Role.ELEMENT])
def test_everybody_may_resolve_where_anonymous_users_may(role: Role) -> None:
    rig = Rig()
    rig.element(1).register()
    assert rig.user(2, role).resolve().elements


@pytest.mark.rfc("PROTOCOL 10.9: who may not resolve gets cause 0xa")
def test_where_users_need_a_certificate_anonymous_ones_get_cause_10() -> None:
    rig = Rig(scope=SecureScope(pool_handle=POOL, anonymous=False))
    element = rig.element(1).register()
    user = rig.user(1, Role.ANONYMOUS)
    assert user.resolve(updates=True) == BARRED
    assert [(r.threat, r.what) for r in rig.seen(Refused)] == [("2.7", "ASAP_HANDLE_RESOLUTION")]
    rig.element(2).register()
    rig.run(1)
    assert user.take() == []
    assert rig.user(1).resolve().elements
    assert element.resolve().elements


@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_whoever_resolves_too_often_gets_cause_6_and_others_are_not_affected() -> None:
    rig = Rig(limits=Limits(resolutions=Rate(2, 3)))
    rig.element(1).register()
    user = rig.user(1)
    assert all(user.resolve().elements for _ in range(3))
    assert user.resolve() == RESOURCES
    assert rig.user(1).resolve() == RESOURCES  # over another association
    assert rig.user(2).resolve().elements
    assert rig.user(1, Role.ANONYMOUS).resolve().elements
    rig.run(0.5)
    assert user.resolve().elements
    assert user.resolve(updates=True) == RESOURCES
    rig.element(2).register()
    rig.run(1)
    assert user.take() == []  # what was refused is no subscription


def test_anonymous_users_are_counted_by_their_addresses() -> None:
    rig = Rig(limits=Limits(resolutions=Rate(1 / 1000, 1)))
    rig.element(1).register()
    assert rig.user(1, Role.ANONYMOUS).resolve().elements
    assert rig.user(1, Role.ANONYMOUS).resolve() == RESOURCES
    assert rig.user(2, Role.ANONYMOUS).resolve().elements


@pytest.mark.rfc("PROTOCOL 13.6: who goes on beyond a limit is met with silence and then left")
def test_a_flood_of_resolutions_is_answered_ten_times_then_met_with_silence_and_then_left() -> None:
    rig = Rig(limits=Limits(resolutions=Rate(1 / 1000, 1)))
    rig.element(1).register()
    user = rig.user()
    octets = encode(asap.HandleResolution(pool_handle=POOL))
    assert len(user.send_octets(*[octets] * 50)) == 1 + 10
    assert user.is_up()
    user.send_octets(*[octets] * 100)
    assert user.closed is not None


# -- what does not fit


ROOMY = Limits(elements_per_identity=10_000, registrations=Rate(1e6, 1e6))


def crowd(rig: Rig, number: int, octets: int, handle: bytes = POOL) -> list[int]:
    """A pool of elements that are long on the wire; returns their identifiers in order."""
    far, members = rig.element(1), list(range(1, number + 1))
    policy, transport = policies.LeastUsedDegradation(1, 2), OpaqueTransport(value=bytes(octets))
    for identifier in members:
        far.register(handle, identifier=identifier, transport=transport, policy=policy)
    return members


@pytest.mark.rfc("RFC 5352 6.5.2.1: an answer that would be too long leaves the last elements out")
@pytest.mark.parametrize("octets", [900, 901, 902, 903, 13, 20])
@pytest.mark.parametrize("updates", [True, False])
def test_an_answer_that_would_be_too_long_leaves_the_last_elements_out(octets: int, *, updates: bool) -> None:
    rig = Rig(secure=False, limits=ROOMY)
    handle = b"h" * 255
    members = crowd(rig, 65_536 // (36 + octets) + 20, octets, handle)
    answer = rig.user().resolve(handle, updates=updates)
    given = identifiers(answer)
    assert answer.accept_updates == updates
    assert answer.policy == policies.LeastUsedDegradation(1, 2)
    assert given == members[: len(given)]
    assert 60_000 < len(encode(answer)) <= 65_536


@pytest.mark.rfc("RFC 5352 6.5.2.1: an answer that would be too long leaves the last elements out")
def test_an_answer_that_just_fits_is_complete_and_so_are_those_that_were_asked_to_be_short() -> None:
    rig = Rig(secure=False, limits=ROOMY)
    members = crowd(rig, 69, 900 + 12)
    answer = rig.user().resolve()
    assert identifiers(answer) == members
    assert len(encode(answer)) > 65_400
    assert len(identifiers(rig.user().resolve(items=10))) == 10


# -- while the handlespace is read


def waiting(rig: Rig) -> tuple[Far, Far]:
    """The first peer is met, and a user asks for a pool that is not known yet; nothing is answered."""
    peer, user = rig.peer(welcome=False), rig.user()
    assert user.send(asap.HandleResolution(pool_handle=POOL)) == []
    rig.run(0.1)
    assert user.take() == []
    return peer, user


def test_a_pool_that_the_first_peer_may_know_is_not_denied_before_it_was_asked() -> None:
    rig = Rig()
    peer, user = waiting(rig)
    peer.send(table(PEER_ID, foreign(1)))
    (answer,) = user.take()
    assert isinstance(answer, asap.HandleResolutionResponse)
    assert identifiers(answer) == [foreign(1).identifier]


def test_a_pool_that_nobody_knows_is_denied_when_the_first_peer_has_answered() -> None:
    rig = Rig()
    peer, user = waiting(rig)
    peer.send(table(PEER_ID))
    assert user.take() == [UNKNOWN_POOL]
    assert user.resolve() == UNKNOWN_POOL


def test_nobody_waits_longer_than_a_second_for_a_peer_that_does_not_answer() -> None:
    rig = Rig()
    _, user = waiting(rig)
    rig.run(0.91)
    assert user.take() == [UNKNOWN_POOL]
    assert user.resolve() == UNKNOWN_POOL


def test_nobody_waits_longer_than_a_second_for_a_peer_that_never_comes_to_an_end() -> None:
    rig = Rig()
    peer, user = waiting(rig)
    for _ in range(4):
        rig.run(0.22)
        peer.send(replace(table(PEER_ID), more=True))
        assert user.take() == []
    rig.run(0.03)
    assert user.take() == [UNKNOWN_POOL]


def test_a_pool_that_is_known_is_given_while_others_wait() -> None:
    rig = Rig()
    rig.element(1).register()
    rig.peer(welcome=False)
    assert rig.user().resolve().elements


def test_who_left_while_waiting_is_answered_no_more_and_all_others_are() -> None:
    rig = Rig()
    peer, user = waiting(rig)
    other = rig.user(2)
    assert other.send(asap.HandleResolution(pool_handle=POOL, send_updates=True)) == []
    user.lose()
    peer.send(table(PEER_ID, foreign(1)))
    assert len(other.take()) == 1
    rig.element(2).register()
    rig.run(1)
    assert len(other.take()) == 1
