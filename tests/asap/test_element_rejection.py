# SPDX-License-Identifier: Apache-2.0
"""What was rejected is never sent again unchanged, unless it may pass by itself (RFC 5352 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from rserpool.asap.effects import Association
from rserpool.asap.element import Element
from rserpool.asap.events import ElementState
from rserpool.asap.profiles import RFC
from rserpool.wire import CauseCode, Message, asap, policies
from support.far_ends import IDENTIFIERS, POOL, Script, granting, place, rejecting, silent
from support.rig_endpoints import START, Rig, element_rig, keep_alive, kept_alive, states

TAKEN, RESOURCES, SECURITY = (
    CauseCode.NON_UNIQUE_PE_IDENTIFIER,
    CauseCode.LACK_OF_RESOURCES,
    CauseCode.SECURITY_REJECTION,
)
LASTING = [
    (CauseCode.INVALID_VALUES,),
    (CauseCode.INCONSISTENT_POLICY,),
    (CauseCode.INCONSISTENT_TRANSPORT_TYPE,),
    (CauseCode.INCONSISTENT_DATA_CONTROL,),
    (CauseCode.INCONSISTENT_TRANSPORT_TYPE, CauseCode.INCONSISTENT_POLICY),
    (CauseCode.UNSPECIFIED,),
    (CauseCode.UNKNOWN_POOL_HANDLE,),
    (0xF000,),
    (),
]
DAY = 86400.0


def taken(*identifiers: int) -> Script:
    """A registrar at which these identifiers are in use already."""

    def script(association: Association, message: Message) -> Sequence[Message]:
        if isinstance(message, asap.Registration) and message.element.identifier in identifiers:
            return rejecting(TAKEN)(association, message)
        return granting(association, message)

    return script


def tried(rig: Rig[Element]) -> list[int]:
    """Identifiers in the order in which the element tried to register them."""
    return [r.element.identifier for r in rig.of(asap.Registration)]


def gaps(rig: Rig[Element], kind: type = asap.Registration) -> list[float]:
    at = [s.at for s in rig.sent if isinstance(s.message, kind)]
    return [b - a for a, b in pairwise(at)]


@pytest.mark.rfc("PROTOCOL 11.2: an identifier that is taken makes room for the next")
@pytest.mark.parametrize("number", [1, 2])
def test_an_identifier_that_is_taken_makes_room_for_the_next_at_once(number: int) -> None:
    rig = element_rig(script=taken(*IDENTIFIERS[:number]))
    assert tried(rig) == list(IDENTIFIERS[: number + 1])
    assert rig.now == START
    assert rig.machine.registered
    assert rig.machine.pe_identifier == IDENTIFIERS[number]
    assert len(rig.dialled) == 1


@pytest.mark.rfc("PROTOCOL 11.2: an identifier that is taken makes room for the next")
def test_the_identifier_that_was_free_is_used_from_then_on() -> None:
    rig = element_rig(script=taken(IDENTIFIERS[0]))
    rig.clear()
    kept_alive(rig, rig.at(1), 21)
    assert tried(rig) == [IDENTIFIERS[1]] * 2
    rig.clear()
    rig.do(rig.machine.leave(rig.now))
    assert [d.pe_identifier for d in rig.of(asap.Deregistration)] == [IDENTIFIERS[1]]


def test_when_all_identifiers_are_taken_they_are_tried_again_after_a_while() -> None:
    rig = element_rig(script=taken(*IDENTIFIERS))
    assert tried(rig) == list(IDENTIFIERS)
    assert rig.machine.state is ElementState.REJECTED
    assert states(rig)[-1] == "REJECTED: NON_UNIQUE_PE_IDENTIFIER"
    rig.clear()
    rig.run(0.79)
    assert rig.messages == []
    rig.run(0.42)
    assert tried(rig) == list(IDENTIFIERS)
    rig.script = granting
    rig.run(2.4)
    assert rig.machine.registered
    assert tried(rig)[-1] == IDENTIFIERS[0]


@pytest.mark.rfc("PROTOCOL 11.2: lack of resources is waited out")
@pytest.mark.parametrize(
    ("rejected_by", "expected"),
    [(rejecting(RESOURCES), [1, 2, 4, 8, 16, 30, 30]), (rejecting(RESOURCES, TAKEN), [1, 2, 4, 8])],
    ids=["lack of resources", "with another cause"],
)
def test_lack_of_resources_is_waited_out_longer_each_time(rejected_by: Script, expected: list[float]) -> None:
    rig = element_rig(script=rejected_by, identifiers=IDENTIFIERS[:1])
    assert rig.machine.state is ElementState.REJECTED
    assert not rig.machine.registered
    rig.run(1.2 * sum(expected))
    waited = gaps(rig)
    assert len(waited) >= len(expected)
    for gap, wanted in zip(waited, expected, strict=False):
        assert 0.8 * wanted <= gap <= 1.2 * wanted
    assert len(rig.dialled) == 1
    rig.script = granting
    rig.run(36)
    assert rig.machine.registered


@pytest.mark.rfc("PROTOCOL 11.2: lack of resources is waited out")
def test_elements_that_were_rejected_together_do_not_come_back_together() -> None:
    again = set()
    for seed in range(10):
        rig = element_rig(script=rejecting(RESOURCES), seed=seed)
        rig.run(1.3)
        again.add(gaps(rig)[0])
    assert len(again) == 10


def test_the_rfc_profile_waits_up_to_retran_max() -> None:
    rig = element_rig(script=rejecting(RESOURCES), timers=RFC.endpoint)
    rig.run(1000)
    assert 48 <= max(gaps(rig)) <= 72


def test_the_back_off_begins_anew_after_a_success() -> None:
    rig = element_rig(script=rejecting(RESOURCES))
    rig.run(20)
    rig.script = granting
    rig.run(20)
    assert rig.machine.state is ElementState.REGISTERED
    rig.script = rejecting(RESOURCES)
    rig.clear()
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(2), rig.now))
    rig.run(1.25)
    assert len(tried(rig)) == 2


def rejected_renewal() -> Rig[Element]:
    """An element that is in the pool by its second identifier, and whose home is too busy for its renewal."""
    rig = element_rig(script=taken(IDENTIFIERS[0]))
    kept_alive(rig, rig.at(1), 9.5, every=0.5)
    rig.script = rejecting(RESOURCES)
    kept_alive(rig, rig.at(1), 0.6, every=0.3)
    assert rig.machine.state is ElementState.REJECTED
    rig.script = granting
    rig.clear()
    return rig


def test_a_renewal_that_lacks_resources_is_repeated_under_the_same_identifier() -> None:
    rig = rejected_renewal()
    rig.run(1.5)
    assert tried(rig) == [IDENTIFIERS[1]]


def test_an_element_whose_renewal_lacked_resources_answers_for_the_identifier_it_has() -> None:
    rig = rejected_renewal()
    rig.feed(rig.at(1), keep_alive(identifier=IDENTIFIERS[1]))
    assert [a.pe_identifier for a in rig.of(asap.EndpointKeepAliveAck)] == [IDENTIFIERS[1]]


def test_a_home_that_is_lost_during_the_back_off_is_replaced_when_it_ends() -> None:
    rig = element_rig(registrars=2, script=rejecting(RESOURCES))
    rig.clear()
    rig.script = granting
    rig.lose(next(iter(rig.up)))
    rig.run(0.79)
    assert rig.dialled == []
    rig.run(0.42)
    assert rig.machine.registered


@pytest.mark.rfc("PROTOCOL 11.2: a rejection for security is tried at one other registrar")
def test_a_rejection_for_security_is_tried_at_one_other_registrar_at_once() -> None:
    rig = element_rig(registrars=3, script=rejecting(SECURITY))
    assert len(rig.dialled) == 2
    first, second = (s.association for s in rig.sent)
    assert first != second
    assert [c.association for c in rig.closed] == [first]
    assert rig.machine.state is ElementState.REJECTED
    assert states(rig)[-1] == "REJECTED: SECURITY_REJECTION"
    rig.clear()
    rig.run(0.79)
    assert rig.messages == []
    rig.run(0.42)
    assert {s.association for s in rig.sent} == {second}
    rig.run(60)
    assert rig.dialled == []
    assert all(gap >= 1.6 for gap in gaps(rig))


def test_the_other_registrar_may_grant_what_one_refused_for_security() -> None:
    refusing: list[Association] = []

    def script(association: Association, message: Message) -> Sequence[Message]:
        refusing.append(association)
        return (rejecting(SECURITY) if association is refusing[0] else granting)(association, message)

    rig = element_rig(registrars=2, script=script)
    assert rig.machine.registered
    assert len(rig.dialled) == 2


@pytest.mark.rfc("RFC 5352 3.1: what was rejected is not sent again unchanged")
@pytest.mark.parametrize("codes", LASTING, ids=lambda codes: "+".join(f"{c:#x}" for c in codes) or "none")
def test_what_is_wrong_with_the_registration_itself_is_never_repeated(codes: tuple[int, ...]) -> None:
    rig = element_rig(registrars=3, script=rejecting(*codes))
    assert rig.machine.state is ElementState.REJECTED
    assert not rig.machine.registered
    assert states(rig)[-1].startswith("REJECTED: ")
    rig.run(DAY)
    assert len(tried(rig)) == 1
    assert len(rig.dialled) == 1
    assert rig.machine.deadline() is None
    rig.lose(next(iter(rig.up)))
    rig.run(DAY)
    assert len(tried(rig)) == 1
    assert len(rig.dialled) == 1


@pytest.mark.rfc("PROTOCOL 4: causes nobody knows are accepted")
def test_the_reason_of_a_rejection_names_all_causes() -> None:
    rig = element_rig(script=rejecting(CauseCode.INCONSISTENT_POLICY, 0xF000))
    assert states(rig)[-1] == "REJECTED: INCONSISTENT_POLICY, UNASSIGNED_0xf000"
    assert states(element_rig(script=rejecting()))[-1] == "REJECTED: no reason given"


@pytest.mark.rfc("RFC 5352 3.1: what was rejected is not sent again unchanged")
@pytest.mark.parametrize("lost", [False, True])
def test_after_a_change_it_is_tried_again(lost: bool) -> None:
    rig = element_rig(registrars=2, script=rejecting(CauseCode.INCONSISTENT_POLICY))
    if lost:
        rig.lose(next(iter(rig.up)))
    rig.run(100)
    rig.script = granting
    rig.clear()
    rig.do(rig.machine.changed(rig.now))
    assert len(rig.dialled) == int(lost)
    assert tried(rig) == [IDENTIFIERS[0]]
    assert rig.machine.state is ElementState.REGISTERED


@pytest.mark.rfc("PROTOCOL 11.2: a rejection for security is tried at one other registrar")
def test_after_a_change_a_security_rejection_may_again_be_tried_elsewhere_once() -> None:
    rig = element_rig(registrars=3, script=rejecting(SECURITY))
    rig.clear()
    rig.do(rig.machine.changed(rig.now))
    assert len(tried(rig)) == 2
    assert len(rig.dialled) == 1


def test_who_leaves_during_the_back_off_has_nothing_left_to_do() -> None:
    rig = element_rig(script=rejecting(RESOURCES))
    rig.run(0.5)
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.deadline() is None
    assert rig.machine.state is ElementState.DEREGISTERED


@pytest.mark.parametrize("script", [granting, silent])
def test_a_change_is_nothing_to_an_element_that_was_not_rejected(script: Script) -> None:
    rig = element_rig(script=script)
    rig.clear()
    rig.do(rig.machine.changed(rig.now))
    assert (rig.messages, rig.dialled, rig.events) == ([], [], [])


def test_a_change_does_not_bring_back_an_element_that_left() -> None:
    rig = element_rig(script=rejecting(CauseCode.INCONSISTENT_POLICY))
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.do(rig.machine.changed(rig.now))
    rig.run(100)
    assert rig.messages == []


def test_a_home_that_asks_and_then_falls_silent_does_not_make_a_rejected_element_try_again() -> None:
    """The old registration lives on at the home for a while after its renewal was rejected."""
    rig = element_rig(registrars=2)
    (home,) = rig.up
    kept_alive(rig, home, 9.5, every=0.5)
    rig.script = rejecting(CauseCode.INCONSISTENT_POLICY)
    kept_alive(rig, home, 1)
    assert rig.machine.state is ElementState.REJECTED
    rig.clear()
    kept_alive(rig, home, 5.5)
    rig.run(60)
    assert len(rig.of(asap.EndpointKeepAliveAck)) == 5
    assert tried(rig) == []


@pytest.mark.rfc("RFC 5352 3.1: what was rejected is not sent again unchanged")
def test_a_rejected_policy_is_not_registered_again_when_t4_comes() -> None:
    rig = element_rig()
    kept_alive(rig, rig.at(1), 2)
    rig.script = rejecting(CauseCode.INCONSISTENT_POLICY)
    rig.do(rig.machine.set_policy(policies.Random(), rig.now))
    assert rig.machine.state is ElementState.REJECTED
    rig.clear()
    kept_alive(rig, rig.at(1), 60)
    assert tried(rig) == []


def test_an_expiry_of_the_old_registration_does_not_make_a_rejected_element_try_again() -> None:
    rig = element_rig()
    rig.script = rejecting(CauseCode.INCONSISTENT_POLICY)
    rig.do(rig.machine.set_policy(policies.Random(), rig.now))
    rig.clear()
    rig.feed(rig.at(1), asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]))
    rig.run(5)
    assert tried(rig) == []
    assert rig.machine.state is ElementState.REJECTED


def test_who_is_rejected_still_answers_for_the_registration_it_has() -> None:
    rig = element_rig()
    rig.script = rejecting(RESOURCES)
    rig.do(rig.machine.set_policy(policies.Random(), rig.now))
    rig.clear()
    rig.feed(rig.at(1), keep_alive())
    assert len(rig.of(asap.EndpointKeepAliveAck)) == 1


def test_a_rejection_does_not_make_the_registrars_silence_a_fault() -> None:
    rig = element_rig(registrars=2, script=rejecting(CauseCode.INVALID_VALUES))
    rig.clear()
    rig.run(10)
    assert (rig.closed, rig.dialled) == ([], [])
    assert rig.up
    assert place(1) in rig.answers
