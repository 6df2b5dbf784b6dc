# SPDX-License-Identifier: Apache-2.0
"""A registrar goes on with other timers, limits and rules, and without the elements of pods that ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Change, ElementChanged, Refused
from rserpool.asap.limits import Buckets, Rate
from rserpool.asap.profiles import FAST, RFC
from rserpool.asap.server.desk import Limits
from rserpool.identity import Revoking, SecureScope, pe_identifiers
from rserpool.wire import CauseCode, Ppid, UpdateAction, enrp
from support.rig_asapserver import POOL, QUIET, Far, Rig, add, codes, foreign, keep_alives, updates
from support.scope import identity

SCOPE = SecureScope(pool_handle=POOL)


def uid(number: int, role: Role = Role.ELEMENT) -> str:
    return identity(role, number).pod_uid


def remove(rig: Rig, *uids: str, names: tuple[str, ...] = ()) -> None:
    """Pods with these UIDs have ended; or those of these names."""
    numbers = frozenset(number for each in uids for number in pe_identifiers(each))
    who = frozenset(names)
    rig.apply(rig.machine.reconfigure(rig.now, authoriser=Revoking(SCOPE, who)))
    rig.apply(rig.machine.remove_pods(numbers, who, rig.now))


def named(*fars: Far) -> tuple[str, ...]:
    return tuple(far.association.principal.name for far in fars)


# -- other timers


def test_elements_are_asked_in_the_new_rhythm_at_once() -> None:
    rig = Rig(timers=replace(QUIET, keep_alive=1000.0))
    element = rig.element(1).register(life=86400)
    element.acknowledges = True
    rig.run(10)
    assert keep_alives(element) == []
    rig.apply(rig.machine.reconfigure(rig.now, timers=replace(QUIET, keep_alive=1.0)))
    rig.run(30)
    assert 20 < len(keep_alives(element)) < 60


def test_a_registrar_with_the_slow_profile_that_gets_the_fast_one_is_heard_by_its_peers_at_once() -> None:
    rig = Rig(timers=RFC.registrar)
    peer = rig.peer()
    peer.take()
    rig.run(1)
    rig.apply(rig.machine.reconfigure(rig.now, timers=FAST.registrar))
    rig.run(0.5)
    presences = [m for m in peer.take() if isinstance(m, enrp.Presence)]
    assert len(presences) >= 2
    before = rig.machine.deadline()
    rig.apply(rig.machine.reconfigure(rig.now, timers=FAST.registrar))
    assert rig.machine.deadline() == before
    assert peer.take() == [], "the same again changes nothing"


def test_other_rules_change_no_rhythm() -> None:
    rig = Rig()
    rig.element(1).register()
    before = rig.machine.deadline()
    rig.apply(rig.machine.reconfigure(rig.now, authoriser=SCOPE))
    assert rig.machine.deadline() == before


# -- other limits and rules


@pytest.mark.rfc("PROTOCOL 13.6: what one identity costs is bounded, and more is refused with cause 0x6")
def test_an_identity_that_used_its_rate_up_may_go_on_with_a_higher_one_and_not_with_a_lower() -> None:
    rig = Rig(limits=Limits(registrations=Rate(0.001, 1)))
    element = rig.element(1).register()
    assert codes(element.ask_to_register().error) == [CauseCode.LACK_OF_RESOURCES]
    rig.apply(rig.machine.reconfigure(rig.now, limits=Limits(registrations=Rate(100, 100))))
    rig.run(0.1)
    element.register()
    rig.apply(rig.machine.reconfigure(rig.now, limits=Limits(registrations=Rate(0.001, 1))))
    element.register()
    assert codes(element.ask_to_register().error) == [CauseCode.LACK_OF_RESOURCES]


def test_buckets_keep_what_was_saved_up_as_far_as_the_new_burst_allows() -> None:
    buckets = Buckets(Rate(1, 10))
    assert buckets.take("a", 0.0)
    buckets.change(Rate(1, 3), 0.0)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    buckets.change(Rate(1, 10), 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)


def test_anonymous_users_are_let_in_and_turned_away_as_the_rules_have_it() -> None:
    rig = Rig()
    rig.element(1).register()
    user = rig.user(1, Role.ANONYMOUS)
    assert len(user.resolve().elements) == 1
    rig.apply(rig.machine.reconfigure(rig.now, authoriser=SecureScope(pool_handle=POOL, anonymous=False)))
    assert user.resolve().error is not None
    rig.apply(rig.machine.reconfigure(rig.now, authoriser=SCOPE))
    assert len(user.resolve().elements) == 1


# -- pods that ended


def test_an_own_element_of_a_pod_that_ended_is_removed_announced_and_its_association_closed() -> None:
    rig = Rig()
    gone, stays = rig.element(1).register(), rig.element(2).register()
    witness = rig.witness
    rig.seen(ElementChanged)
    remove(rig, uid(1), names=named(gone))
    assert set(rig.elements()) == {stays.identifier}
    assert [(action, element.identifier) for action, _, element in updates(witness)] == [
        (UpdateAction.DEL_PE, gone.identifier)
    ]
    (change,) = rig.seen(ElementChanged)
    assert (change.change, change.reason) == (Change.REMOVED, "its pod is gone or was revoked")
    assert not gone.is_up()
    assert stays.is_up()
    rig.run(5)


def test_who_ended_is_refused_when_it_comes_again() -> None:
    rig = Rig()
    gone = rig.element(1).register()
    remove(rig, uid(1), names=named(gone))
    rig.seen(Refused)
    answer = rig.element(1).ask_to_register()
    assert answer.reject
    (refused,) = rig.seen(Refused)
    assert (refused.threat, refused.reason) == ("2.2", "its pod is gone or was revoked, and it may not register")
    assert rig.elements() == {}


def test_an_element_of_another_home_is_left_to_that_one() -> None:
    rig = Rig()
    peer = rig.peer()
    theirs = foreign(1)
    peer.send(add(theirs))
    assert set(rig.elements()) == {theirs.identifier}
    remove(rig, uid(1))
    assert set(rig.elements()) == {theirs.identifier}


def test_an_identifier_that_another_pod_came_to_share_is_no_reason_to_remove_it() -> None:
    """32 bits are few for thousands of pods that ended."""
    rig = Rig()
    element = rig.element(1).register()
    rig.apply(rig.machine.remove_pods({element.identifier}, {"spiffe://somebody/else"}, rig.now))
    assert set(rig.elements()) == {element.identifier}
    assert element.is_up()


def test_in_an_insecure_scope_the_identifier_decides() -> None:
    rig = Rig(secure=False)
    element = rig.element(1).register()
    rig.apply(rig.machine.remove_pods({element.identifier}, {"spiffe://somebody/else"}, rig.now))
    assert rig.elements() == {}


@pytest.mark.parametrize("role", [Role.USER, Role.REGISTRAR])
def test_associations_of_users_and_registrars_that_ended_are_closed_and_what_hung_on_them_is_over(role: Role) -> None:
    rig = Rig()
    rig.element(1).register().acknowledges = True
    if role is Role.USER:
        gone = rig.user()
        gone.resolve(updates=True)
    else:
        gone = rig.peer()
    remove(rig, names=named(gone))
    assert not gone.is_up()
    rig.element(2).register().acknowledges = True
    rig.run(5)  # nothing is sent where nobody is
    assert len(rig.elements()) == 2


# -- leaves that were revoked


def revoke(rig: Rig, *serials: int) -> None:
    """These leaves count no longer."""
    revoked = frozenset(serials)
    rig.apply(rig.machine.reconfigure(rig.now, authoriser=Revoking(SCOPE, frozenset(), revoked)))
    rig.apply(rig.machine.remove_pods((), (), rig.now, serials=revoked))


def holding(rig: Rig, number: int, serial: int) -> Far:
    """An element that shows a leaf of that serial number."""
    principal = replace(rig.principal(Role.ELEMENT, number), serial=serial)
    return rig.connect(principal, f"10.0.0.{number}", identifier=min(principal.pe_identifiers))


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_an_element_whose_leaf_was_revoked_is_removed_everywhere_and_its_association_ends() -> None:
    rig = Rig()
    witness = rig.peer()
    gone, stays = holding(rig, 1, 0xA).register(), holding(rig, 2, 0xB).register()
    witness.take()
    rig.seen(ElementChanged)
    revoke(rig, 0xA)
    assert set(rig.elements()) == {stays.identifier}
    assert [(action, element.identifier) for action, _, element in updates(witness)] == [
        (UpdateAction.DEL_PE, gone.identifier)
    ]
    (change,) = rig.seen(ElementChanged)
    assert (change.change, change.reason) == (Change.REMOVED, "its leaf was revoked")
    assert not gone.is_up()
    assert stays.is_up()


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_with_the_leaf_that_was_revoked_it_does_not_come_in_again_and_with_another_one_it_does() -> None:
    rig = Rig()
    holding(rig, 1, 0xA).register()
    revoke(rig, 0xA)
    rig.seen(Refused)
    assert holding(rig, 1, 0xA).ask_to_register().reject
    (refused,) = rig.seen(Refused)
    assert (refused.threat, refused.reason) == ("2.2", "its leaf was revoked, and it may not register")
    assert rig.elements() == {}
    again = holding(rig, 1, 0xC).register()
    assert set(rig.elements()) == {again.identifier}


def test_a_registrar_whose_leaf_was_revoked_is_a_peer_no_longer() -> None:
    rig = Rig()
    principal = replace(rig.principal(Role.REGISTRAR, 7), serial=0xA)
    rogue = rig.connect(principal, "10.0.255.7", service=Ppid.ENRP)
    rogue.send(enrp.Presence(sender=7))
    assert rig.machine.counts()["peers active"] == 1
    revoke(rig, 0xA)
    assert not rogue.is_up()
    rig.seen(Refused)
    again = rig.connect(principal, "10.0.255.7", service=Ppid.ENRP)
    assert not again.is_up()
    assert [r.threat for r in rig.seen(Refused)] == ["2.5"]


def test_what_no_longer_stands_in_the_list_may_come_in_again() -> None:
    rig = Rig()
    revoke(rig, 0xA)
    assert holding(rig, 1, 0xA).ask_to_register().reject
    revoke(rig)
    holding(rig, 1, 0xA).register()
    assert len(rig.elements()) == 1
