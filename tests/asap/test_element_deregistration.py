# SPDX-License-Identifier: Apache-2.0
"""An element leaves in good order whatever it was doing, and stays away; who is thrown out comes back (RFC 5352 3.2)."""

from __future__ import annotations

import pytest

from rserpool.asap.events import ElementState, Ignored
from rserpool.asap.profiles import RFC
from rserpool.wire import CauseCode, ErrorCause, asap, encode, policies
from support.far_ends import IDENTIFIERS, POOL, granting, place, registrar, rejecting, silent
from support.rig_endpoints import START, element_rig, keep_alive, kept_alive, states

LEAVING = asap.Deregistration(pool_handle=POOL, pe_identifier=IDENTIFIERS[0])


def left(identifier: int = IDENTIFIERS[0], handle: bytes = POOL, *codes: int) -> asap.DeregistrationResponse:
    causes = tuple(ErrorCause(code) for code in codes)
    return asap.DeregistrationResponse(pool_handle=handle, pe_identifier=identifier, error=causes)


@pytest.mark.rfc("RFC 5352 3.2: an element deregisters on the association it registered on")
def test_an_element_deregisters_on_the_association_it_registered_on() -> None:
    rig = element_rig(script=silent)
    rig.feed(rig.at(1), asap.RegistrationResponse(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]))
    rig.clear()
    rig.do(rig.machine.leave(rig.now, "drained"))
    assert [(s.association, s.message) for s in rig.sent] == [(rig.at(1), LEAVING)]
    assert encode(LEAVING).hex() == "02000014000900086563686f000e000811111111"
    assert states(rig) == ["DEREGISTERING: drained"]
    assert rig.machine.registered
    rig.feed(rig.at(1), left())
    assert states(rig)[1:] == ["DEREGISTERED"]
    assert not rig.machine.registered


def test_an_element_that_left_stays_away() -> None:
    rig = element_rig(registrars=2)
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.run(3600)
    rig.do(rig.machine.set_policy(policies.Random(), rig.now))
    rig.do(rig.machine.changed(rig.now))
    rig.run(3600)
    assert (rig.messages, rig.dialled) == ([], [])
    assert rig.machine.state is ElementState.DEREGISTERED
    assert rig.machine.deadline() is None


def test_an_element_that_left_lets_go_of_its_registrar() -> None:
    rig = element_rig()
    rig.do(rig.machine.leave(rig.now))
    rig.run(5)
    assert rig.up == {}


def test_a_lost_association_does_not_bring_back_an_element_that_left() -> None:
    rig = element_rig(registrars=2)
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.lose(next(iter(rig.up)))
    rig.run(100)
    assert (rig.dialled, rig.events) == ([], [])


@pytest.mark.rfc("RFC 5352 3.2: a deregistration without an answer within T3 is repeated elsewhere")
@pytest.mark.parametrize("timers", [None, RFC.endpoint])
def test_without_an_answer_within_t3_it_deregisters_elsewhere(timers: object) -> None:
    rig = element_rig(registrars=2) if timers is None else element_rig(registrars=2, timers=RFC.endpoint)
    t3 = 1.0 if timers is None else 30.0
    (first,) = rig.up.values()
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.run(t3 - 0.01)
    assert rig.closed == []
    rig.run(0.02)
    assert [(c.association, c.abort) for c in rig.closed] == [(first.id, True)]
    assert rig.dialled[0][1].addresses != first.peer_addresses
    assert rig.messages == [LEAVING]
    assert rig.machine.state is ElementState.DEREGISTERING
    rig.feed(rig.sent[-1].association, left())
    assert states(rig) == ["DEREGISTERED"]


@pytest.mark.rfc("RFC 5352 3.2: a deregistration without an answer within T3 is repeated elsewhere")
def test_a_home_that_is_lost_before_it_answers_is_replaced() -> None:
    rig = element_rig(registrars=2)
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    rig.script = granting
    rig.clear()
    rig.lose(next(iter(rig.up)))
    assert rig.messages == [LEAVING]
    assert states(rig) == ["DEREGISTERED"]


def test_an_element_without_a_home_seeks_one_to_deregister() -> None:
    rig = element_rig()
    rig.answers[place(1)] = "connection refused"
    rig.lose(rig.at(1))
    rig.clear()
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.state is ElementState.DEREGISTERING
    rig.run(0.5)
    assert rig.messages == []
    rig.answers[place(1)] = registrar()
    rig.run(1)
    assert rig.messages == [LEAVING]
    assert states(rig) == ["DEREGISTERING", "DEREGISTERED"]


def test_an_element_whose_registration_is_unanswered_deregisters_it() -> None:
    rig = element_rig(script=silent)
    rig.clear()
    rig.do(rig.machine.leave(rig.now))
    assert rig.messages == [LEAVING]
    rig.feed(rig.at(1), asap.RegistrationResponse(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]))
    assert not rig.machine.registered
    assert len(rig.of(Ignored)) == 1
    rig.feed(rig.at(1), left())
    assert states(rig) == ["DEREGISTERING", "DEREGISTERED"]


@pytest.mark.parametrize("code", [CauseCode.LACK_OF_RESOURCES, CauseCode.INCONSISTENT_POLICY], ids=lambda c: c.name)
def test_an_element_whose_renewal_was_rejected_deregisters_what_it_has(code: CauseCode) -> None:
    """The registration that was granted before is still in the pool."""
    rig = element_rig()
    rig.script = rejecting(code)
    rig.do(rig.machine.set_policy(policies.Random(), rig.now))
    rig.script = granting
    rig.clear()
    rig.do(rig.machine.leave(rig.now))
    assert rig.messages == [LEAVING]
    assert rig.machine.state is ElementState.DEREGISTERED


@pytest.mark.parametrize("reachable", [True, False], ids=["rejected", "without a registrar"])
def test_an_element_that_is_in_no_pool_has_left_at_once(reachable: bool) -> None:
    rig = element_rig(registrars=int(reachable), script=rejecting(CauseCode.INVALID_VALUES))
    rig.run(2)
    rig.clear()
    rig.do(rig.machine.leave(rig.now, "the application is ill"))
    assert states(rig) == ["DEREGISTERED: the application is ill"]
    rig.run(100)
    assert (rig.messages, rig.dialled) == ([], [])


def test_to_leave_without_having_served_is_no_fault() -> None:
    rig = element_rig(serve=False)
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.state is ElementState.DEREGISTERED
    assert (rig.messages, rig.dialled) == ([], [])


def test_to_leave_again_while_it_seeks_a_home_changes_nothing() -> None:
    rig = element_rig(script=silent)
    rig.do(rig.machine.leave(rig.now))
    rig.answers[place(1)] = "connection refused"
    rig.lose(rig.at(1))
    rig.clear()
    rig.do(rig.machine.leave(rig.now))
    assert rig.machine.state is ElementState.DEREGISTERING
    assert (rig.messages, rig.abandoned) == ([], [])


def test_an_element_that_left_may_come_back() -> None:
    rig = element_rig()
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.do(rig.machine.serve(rig.now))
    assert rig.machine.registered
    assert len(rig.of(asap.Registration)) == 1
    rig.clear()
    kept_alive(rig, rig.at(1), 15)
    assert len(rig.of(asap.Registration)) == 1


def test_who_comes_back_before_it_has_left_ends_in_the_pool() -> None:
    rig = element_rig()
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    rig.do(rig.machine.serve(rig.now))
    assert rig.messages[-1] == rig.messages[0]
    rig.script = granting
    rig.feed(rig.at(1), left())
    rig.feed(rig.at(1), asap.RegistrationResponse(pool_handle=POOL, pe_identifier=IDENTIFIERS[0]))
    kept_alive(rig, rig.at(1), 3)
    assert rig.machine.state is ElementState.REGISTERED
    assert rig.machine.registered
    assert rig.closed == []


@pytest.mark.parametrize(
    "answer", [left(IDENTIFIERS[1]), left(handle=b"other")], ids=["another identifier", "another pool"]
)
def test_an_answer_for_somebody_else_does_not_end_the_leaving(answer: asap.DeregistrationResponse) -> None:
    rig = element_rig()
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    due = rig.machine.deadline()
    rig.feed(rig.at(1), answer)
    assert len(rig.of(Ignored)) == 1
    assert rig.machine.state is ElementState.DEREGISTERING
    assert rig.machine.deadline() == due


def test_an_answer_from_another_registrar_does_not_end_the_leaving() -> None:
    rig = element_rig()
    other = rig.call(registrar(2))
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    rig.feed(other, left())
    assert rig.machine.state is ElementState.DEREGISTERING


@pytest.mark.rfc("PROTOCOL 14.26: an error in a deregistration response is a refusal")
def test_a_deregistration_that_is_refused_is_reported_with_its_causes() -> None:
    """PROTOCOL 14.26: the message has no flag for it, an error is a rejection."""
    rig = element_rig()
    rig.script = silent
    rig.do(rig.machine.leave(rig.now))
    rig.feed(rig.at(1), left(IDENTIFIERS[0], POOL, CauseCode.SECURITY_REJECTION))
    assert "SECURITY_REJECTION" in states(rig)[-1]


@pytest.mark.rfc("RFC 5352 2.2.4: an element whose registration expired may register again")
@pytest.mark.parametrize("quiet", [0.0, 0.5])
def test_an_element_whose_registration_expired_registers_again(quiet: float) -> None:
    """RFC 5352 2.2.4: an unsolicited response tells it."""
    rig = element_rig()
    rig.run(quiet)
    rig.clear()
    rig.feed(rig.at(1), left())
    assert [r.element.identifier for r in rig.of(asap.Registration)] == [IDENTIFIERS[0]]
    assert rig.machine.registered
    assert rig.now == START + quiet
    assert len(rig.up) == 1


@pytest.mark.rfc("RFC 5352 2.2.4: an element whose registration expired may register again")
@pytest.mark.parametrize(
    ("answer", "by_home"),
    [
        (left(), False),
        (left(IDENTIFIERS[1]), True),
        (left(handle=b"ech"), True),
        (left(IDENTIFIERS[0], POOL, CauseCode.UNSPECIFIED), True),
    ],
    ids=["not from the home", "another identifier", "another pool", "with an error"],
)
def test_an_expiry_is_believed_from_the_home_only_and_only_about_oneself(
    answer: asap.DeregistrationResponse, by_home: bool
) -> None:
    rig = element_rig()
    other = rig.call(registrar(2))
    rig.run(0.5)
    rig.clear()
    rig.feed(rig.at(1) if by_home else other, answer)
    assert rig.messages == []
    assert rig.machine.registered
    assert rig.machine.state is ElementState.REGISTERED


def test_an_expiry_that_nobody_could_have_meant_changes_nothing() -> None:
    rig = element_rig(script=silent)
    rig.clear()
    rig.feed(rig.at(1), left())
    assert rig.messages == []
    assert rig.machine.state is ElementState.REGISTERING


@pytest.mark.parametrize("answered", [False, True])
def test_who_left_answers_no_keep_alive(answered: bool) -> None:
    rig = element_rig()
    rig.script = granting if answered else silent
    rig.do(rig.machine.leave(rig.now))
    rig.clear()
    rig.feed(rig.at(1), keep_alive())
    rig.feed(rig.call(registrar(2)), keep_alive(2, home=True))
    assert rig.messages == []
    assert rig.machine.state is (ElementState.DEREGISTERED if answered else ElementState.DEREGISTERING)
