# SPDX-License-Identifier: Apache-2.0
"""An element registers, stays registered with one identifier, and goes elsewhere when nobody answers (RFC 5352 3.1)."""

from __future__ import annotations

import pytest

from rserpool.asap.effects import AssociationId, Endpoint, TransportKind
from rserpool.asap.events import ElementState, ElementStateChanged, HuntChanged, Ignored, Lagged
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.asap.profiles import RFC as RFC_TIMERS
from rserpool.wire import (
    RFC,
    RFC_SCTP_ONLY,
    RSPLIB,
    CauseCode,
    Dialect,
    ErrorCause,
    PoolElement,
    SctpTransport,
    TcpTransport,
    asap,
    encode,
    policies,
)
from support.far_ends import APP_PORT, ASAP_PORT, IDENTIFIERS, OWN, POOL, TRANSPORT, granting, place, registrar, silent
from support.rig_endpoints import START, element_rig, keep_alive, kept_alive, states

ASAP_TCP = TcpTransport(port=ASAP_PORT, address=OWN)


def response(
    identifier: int = IDENTIFIERS[0], *, handle: bytes = POOL, reject: bool = False, causes: tuple[ErrorCause, ...] = ()
) -> asap.RegistrationResponse:
    return asap.RegistrationResponse(pool_handle=handle, pe_identifier=identifier, reject=reject, error=causes)


@pytest.mark.rfc("RFC 5352 3.1: a registration says handle, identifier, life, transport and policy")
@pytest.mark.parametrize(
    ("dialect", "timers", "life", "asap_transport"),
    [
        (RFC, FAST.endpoint, 30, ASAP_TCP),
        (RFC, RFC_TIMERS.endpoint, 300, ASAP_TCP),
        (RFC_SCTP_ONLY, FAST.endpoint, 30, None),
        (RSPLIB, FAST.endpoint, 30_000, None),
        (RSPLIB, RFC_TIMERS.endpoint, 300_000, None),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_the_registration_says_what_the_element_is(
    dialect: Dialect, timers: EndpointTimers, life: int, asap_transport: TcpTransport | None
) -> None:
    weighted = policies.WeightedRoundRobin(7)
    rig = element_rig(dialect=dialect, timers=timers, policy=weighted)
    expected = asap.Registration(
        pool_handle=POOL,
        element=PoolElement(
            identifier=IDENTIFIERS[0],
            home=0,
            life=life,
            transport=TRANSPORT,
            policy=weighted,
            asap_transport=asap_transport,
        ),
    )
    assert rig.messages == [expected]
    assert [e.state for e in rig.of(ElementStateChanged)][-2:] == [ElementState.REGISTERING, ElementState.REGISTERED]


def test_an_element_that_listens_on_sctp_names_all_its_addresses() -> None:
    other = type(OWN)("10.0.2.1")
    rig = element_rig(listening=Endpoint(TransportKind.SCTP, (OWN, other), ASAP_PORT))
    (registration,) = rig.of(asap.Registration)
    assert registration.element.asap_transport == SctpTransport(port=ASAP_PORT, addresses=(OWN, other))


@pytest.mark.rfc("RFC 5352 3.1: a registration says handle, identifier, life, transport and policy")
def test_the_octets_of_a_registration_are_those_of_the_figure() -> None:
    rig = element_rig(dialect=RFC_SCTP_ONLY)
    expected = (
        "01000034 00090008 6563686f 000a0028 11111111 00000000 0000001e"
        f"00050010 {APP_PORT:04x}0000 00010008 0a000101 00080008 00000001"
    )
    assert encode(rig.messages[0], RFC_SCTP_ONLY) == bytes.fromhex(expected)


def test_an_element_says_where_it_stands() -> None:
    rig = element_rig(serve=False, script=silent)
    assert rig.machine.state is ElementState.STOPPED
    assert (rig.machine.registered, rig.machine.home_id, rig.machine.deadline()) == (False, 0, None)
    rig.do(rig.machine.serve(rig.now))
    assert states(rig) == ["NO_HOME", "REGISTERING"]
    assert not rig.machine.registered
    rig.feed(rig.at(1), response())
    rig.feed(rig.at(1), keep_alive(0xABCD))
    assert states(rig)[2:] == ["REGISTERED"]
    assert (rig.machine.registered, rig.machine.home_id) == (True, 0xABCD)
    changed = rig.of(ElementStateChanged)[-1]
    assert (changed.pool_handle, changed.pe_identifier) == (POOL, IDENTIFIERS[0])


def test_to_serve_twice_is_to_serve_once() -> None:
    rig = element_rig(script=silent)
    rig.do(rig.machine.serve(rig.now))
    assert len(rig.of(asap.Registration)) == 1
    assert len(rig.dialled) == 1


def test_a_granted_registration_may_come_with_a_warning() -> None:
    rig = element_rig(script=silent)
    rig.feed(rig.at(1), response(causes=(ErrorCause(CauseCode.INVALID_VALUES),)))
    assert rig.machine.registered
    assert states(rig)[-1] == "REGISTERED: INVALID_VALUES"


@pytest.mark.rfc("RFC 5352 3.1: T4 renews a registration before its life ends, under the same identifier")
@pytest.mark.parametrize(("timers", "t4"), [(FAST.endpoint, 10), (RFC_TIMERS.endpoint, 280)])
def test_the_registration_is_renewed_with_the_same_identifier_well_before_its_life_ends(
    timers: EndpointTimers, t4: float
) -> None:
    rig = element_rig(timers=timers)
    kept_alive(rig, rig.at(1), 3.5 * t4)
    registrations = [s for s in rig.sent if isinstance(s.message, asap.Registration)]
    assert [s.at - START for s in registrations] == pytest.approx([0, t4, 2 * t4, 3 * t4])
    assert len({encode(s.message) for s in registrations}) == 1
    assert rig.machine.state is ElementState.REGISTERED
    assert len(rig.dialled) == 1


def test_renewing_it_is_no_change_of_state() -> None:
    rig = element_rig()
    rig.clear()
    kept_alive(rig, rig.at(1), 25)
    assert len(rig.of(asap.Registration)) == 2
    assert rig.of(ElementStateChanged) == []


@pytest.mark.rfc("RFC 5352 3.1: a registration without an answer within T2 is tried at another registrar")
def test_a_registration_without_an_answer_goes_to_another_registrar_after_t2() -> None:
    rig = element_rig(registrars=2, script=silent)
    (first,) = rig.up.values()
    rig.run(0.99)
    assert rig.closed == []
    rig.script = granting
    rig.run(0.02)
    assert [(c.association, c.abort) for c in rig.closed] == [(first.id, True)]
    second = rig.sent[-1]
    assert second.at == START + 1.0
    assert rig.up[second.association].peer_addresses != first.peer_addresses
    assert states(rig)[2:] == ["NO_HOME: no answer to a registration", "REGISTERING", "REGISTERED"]


@pytest.mark.rfc("RFC 5352 3.1: a registration without an answer within T2 is tried at another registrar")
def test_the_rfcs_t2_is_thirty_seconds() -> None:
    rig = element_rig(timers=RFC_TIMERS.endpoint, script=silent)
    rig.run(29.9)
    assert len(rig.up) == 1
    assert rig.closed == []
    rig.run(0.2)
    assert len(rig.closed) == 1


@pytest.mark.rfc("RFC 5352 7.3: MAX-REG-ATTEMPT failures are reported")
def test_the_registrations_that_failed_are_counted_until_one_is_granted() -> None:
    """MAX-REG-ATTEMPT is reported, and trying goes on (PROTOCOL 14.13)."""
    rig = element_rig(registrars=2, script=silent)
    rig.run(4.5)
    reasons = [e.reason for e in rig.of(ElementStateChanged) if e.state is ElementState.NO_HOME][1:]
    assert reasons == [
        "no answer to a registration",
        "no answer to a registration",
        "no answer to 3 registrations",
        "no answer to 4 registrations",
    ]
    rig.script = granting
    rig.run(0.6)
    assert rig.machine.registered
    rig.script = silent
    rig.clear()
    kept_alive(rig, next(iter(rig.up)), 11.0, every=0.5)
    assert states(rig)[0] == "NO_HOME: no answer to a registration"


def test_a_renewal_without_an_answer_goes_to_another_registrar_too() -> None:
    rig = element_rig(registrars=2)
    (first,) = rig.up
    kept_alive(rig, first, 9.5, every=0.5)
    rig.script = silent
    kept_alive(rig, first, 0.9, every=0.1)
    rig.clear()
    rig.script = granting
    rig.run(0.7)
    assert [c.association for c in rig.closed] == [first]
    assert rig.of(asap.Registration)[0].element.identifier == IDENTIFIERS[0]


@pytest.mark.rfc("RFC 5352 3.1: a registration without an answer within T2 is tried at another registrar")
@pytest.mark.rfc("RFC 5352 3.7.1: what could not be delivered is not sent again on a dead association")
@pytest.mark.parametrize("answered", [True, False])
def test_an_element_whose_association_is_lost_registers_elsewhere(answered: bool) -> None:
    rig = element_rig(registrars=2, script=granting if answered else silent)
    (first,) = rig.up.values()
    rig.script = granting
    rig.clear()
    rig.answers = {e: registrar(5) for e in rig.answers if e.addresses != first.peer_addresses}
    rig.lose(first.id, "data stayed unacknowledged")
    rig.run(0.5)
    assert states(rig) == [
        "NO_HOME: the association to it was lost: data stayed unacknowledged",
        "REGISTERING",
        "REGISTERED",
    ]
    assert len(rig.of(asap.Registration)) == 1
    assert rig.up[rig.sent[0].association].peer_addresses != first.peer_addresses


def test_nobody_is_found_and_the_element_says_why() -> None:
    rig = element_rig(serve=False)
    rig.answers[place(1)] = "certificate verify failed"
    rig.do(rig.machine.serve(rig.now))
    assert states(rig) == ["NO_HOME", "NO_HOME: tcp:10.0.0.1:3864: certificate verify failed"]
    assert rig.of(HuntChanged)[0].reason.endswith("certificate verify failed")


@pytest.mark.rfc("PROTOCOL 6.3: a response counts only from the home and for what was asked")
@pytest.mark.parametrize(
    ("stranger", "what"),
    [
        (response(IDENTIFIERS[1]), "another identifier"),
        (response(handle=b"ech"), "another pool"),
        (response(IDENTIFIERS[1], reject=True, causes=(ErrorCause(CauseCode.SECURITY_REJECTION),)), "a rejection"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_response_for_somebody_else_is_ignored(stranger: asap.RegistrationResponse, what: str) -> None:
    rig = element_rig(script=silent)
    rig.clear()
    due = rig.machine.deadline()
    rig.feed(rig.at(1), stranger)
    assert [e.what for e in rig.of(Ignored)] == ["ASAP_REGISTRATION_RESPONSE"]
    assert rig.machine.state is ElementState.REGISTERING
    assert rig.machine.deadline() == due
    rig.feed(rig.at(1), response())
    assert rig.machine.registered


@pytest.mark.parametrize("reject", [True, False])
def test_a_response_nobody_asked_for_is_ignored(reject: bool) -> None:
    rig = element_rig()
    rig.run(0.5)
    due = rig.machine.deadline()
    rig.clear()
    rig.feed(rig.at(1), response(reject=reject))
    assert [e.what for e in rig.of(Ignored)] == ["ASAP_REGISTRATION_RESPONSE"]
    assert rig.machine.registered
    assert rig.machine.deadline() == due


@pytest.mark.rfc("PROTOCOL 6.3: a response counts only from the home and for what was asked")
def test_a_response_from_a_registrar_that_is_not_home_is_ignored() -> None:
    rig = element_rig(script=silent)
    other = rig.call(registrar(2))
    rig.feed(other, response())
    assert len(rig.of(Ignored)) == 1
    assert not rig.machine.registered


@pytest.mark.rfc("RFC 5352 6.5.2: new policy data is registered at once under the same identifier")
def test_a_new_policy_is_registered_at_once_under_the_same_identifier() -> None:
    rig = element_rig(policy=policies.WeightedRoundRobin(1))
    rig.clear()
    rig.run(1)
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(9), rig.now))
    (again,) = rig.of(asap.Registration)
    assert again.element.policy == policies.WeightedRoundRobin(9)
    assert again.element.identifier == IDENTIFIERS[0]
    kept_alive(rig, rig.at(1), 9.9)
    assert len(rig.of(asap.Registration)) == 1  # T4 has begun anew
    kept_alive(rig, rig.at(1), 0.2, every=0.1)
    assert [r.element.policy for r in rig.of(asap.Registration)] == [policies.WeightedRoundRobin(9)] * 2


def test_the_same_policy_again_is_nothing_new() -> None:
    rig = element_rig(policy=policies.WeightedRoundRobin(1))
    rig.clear()
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(1), rig.now))
    assert rig.messages == []


def test_a_policy_that_changes_while_there_is_no_home_is_registered_with_the_next() -> None:
    rig = element_rig(registrars=0)
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(9), rig.now))
    assert rig.messages == []
    rig.answers[place(1)] = registrar()
    rig.do(rig.machine.set_registrars([place(1)], rig.now))
    assert [r.element.policy for r in rig.of(asap.Registration)] == [policies.WeightedRoundRobin(9)]


@pytest.mark.rfc("RFC 5352 6.5.2: new policy data is registered at once under the same identifier")
def test_a_policy_that_changes_while_the_answer_is_awaited_is_registered_before_t4() -> None:
    rig = element_rig(script=silent, timers=RFC_TIMERS.endpoint)
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(9), rig.now))
    rig.script = granting
    rig.feed(rig.at(1), response())
    rig.run(60)
    assert rig.machine.registered
    assert rig.of(asap.Registration)[-1].element.policy == policies.WeightedRoundRobin(9)


def test_a_policy_that_changes_before_the_element_serves_is_not_sent() -> None:
    rig = element_rig(serve=False)
    rig.do(rig.machine.set_policy(policies.WeightedRoundRobin(9), rig.now))
    assert rig.messages == []
    assert rig.dialled == []


def test_a_frozen_element_does_not_hold_the_frozen_time_against_its_home() -> None:
    """T2 judges the registrar's silence; the answer that lies in the socket is read first."""
    rig = element_rig(script=silent)
    rig.run(0.5)
    rig.freeze(20)
    rig.feed(rig.at(1), response())
    assert rig.machine.registered
    rig.run(0.5)
    assert rig.closed == []
    assert rig.machine.registered


def test_a_frozen_element_gives_its_home_the_time_it_did_not_listen() -> None:
    rig = element_rig()
    kept_alive(rig, rig.at(1), 9.5, every=0.5)  # T4 comes at 10.0, whose answer is the last the home says
    rig.freeze(20)
    rig.clear()
    rig.run(2.4)
    assert [e.seconds for e in rig.of(Lagged)] == pytest.approx([19.5])
    assert len(rig.of(asap.Registration)) == 1
    assert rig.closed == []
    rig.run(1.2)
    assert [c.reason for c in rig.closed] == ["it sent no keep-alive"]


def test_an_answered_registration_is_a_sign_of_life_that_puts_off_the_next_keep_alive() -> None:
    """The home asks anew from there on: up to 1.5 s before it and 1.5 s after it are not silence."""
    rig = element_rig()
    kept_alive(rig, rig.at(1), 8.5, every=0.5)
    rig.run(1.6)
    assert len(rig.of(asap.Registration)) == 2
    rig.run(2.8)
    assert rig.closed == []
    assert rig.machine.registered
    rig.run(0.4)
    assert [c.reason for c in rig.closed] == ["it sent no keep-alive"]


def test_what_comes_on_an_association_that_is_gone_does_nothing() -> None:
    rig = element_rig()
    rig.clear()
    rig.do(rig.machine.received(AssociationId(99), encode(keep_alive()), rig.now))
    rig.do(rig.machine.lost(AssociationId(99), "reset", rig.now))
    assert (rig.messages, rig.events, rig.machine.registered) == ([], [], True)
