# SPDX-License-Identifier: Apache-2.0
"""What a user reports is limited, what it is sent changes nothing it should not (threats 2.7, 2.13)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Principal
from rserpool.asap.events import Ignored, Malformed, PoolUpdated, Resolved
from rserpool.asap.user import User
from rserpool.wire import CauseCode, ErrorCause, Message, asap, encode
from rserpool.wire.tlv import UnrecognizedParameter
from support import strategies
from support.far_ends import NO_REGISTRARS, POOL, answer, place, registrar, silent
from support.rig_endpoints import Rig, keep_alive, outcome, resolve, user_rig
from support.samples import element

SKIP_AND_REPORT = UnrecognizedParameter(1, bytes.fromhex("c1230004"))


def at_home() -> Rig[User]:
    """A user that has a home."""
    rig = user_rig()
    resolve(rig)
    rig.run(1)
    rig.clear()
    return rig


def report(rig: Rig[User], identifier: int, handle: bytes = POOL) -> None:
    rig.do(rig.machine.report(handle, identifier, rig.now))


def reported(rig: Rig[User]) -> list[int]:
    return [m.pe_identifier for m in rig.of(asap.EndpointUnreachable)]


# -- reports of unreachable elements (RFC 5352 3.5; PROTOCOL 12.5)


@pytest.mark.rfc("RFC 3237 2.10: users tell what they experience")
def test_an_element_out_of_reach_is_reported_to_the_home() -> None:
    rig = at_home()
    report(rig, 5)
    assert [(s.association, s.message) for s in rig.sent] == [
        (rig.at(1), asap.EndpointUnreachable(pool_handle=POOL, pe_identifier=5))
    ]
    assert encode(rig.messages[0]).hex() == "09000014000900086563686f000e000800000005"


@pytest.mark.rfc("RFC 5352 6.9.2: at most one report of an event")
@pytest.mark.rfc("PROTOCOL 12.5: reports are limited at their source")
def test_one_element_is_reported_once_in_ten_seconds() -> None:
    rig = at_home()
    for _ in range(205):
        report(rig, 5)
        rig.run(0.1)
    assert reported(rig) == [5, 5, 5]
    gaps = [b.at - a.at for a, b in pairwise(rig.sent)]
    assert all(10 <= gap <= 10.2 for gap in gaps)


def test_elements_are_told_apart_by_pool_and_identifier() -> None:
    rig = at_home()
    report(rig, 5, b"one")
    report(rig, 5, b"two")
    report(rig, 6, b"one")
    report(rig, 5, b"one")
    assert reported(rig) == [5, 5, 6]


@pytest.mark.rfc("PROTOCOL 12.5: reports are limited at their source")
@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
def test_a_flood_of_reports_is_cut_to_five_at_once_and_one_a_second() -> None:
    """Threat 2.13 (a): an application that loops."""
    rig = at_home()
    for identifier in range(1000):
        report(rig, identifier)
    assert reported(rig) == [0, 1, 2, 3, 4]
    rig.clear()
    for identifier in range(1000, 21_000):
        rig.run(0.001)
        report(rig, identifier)
    assert 19 <= len(rig.messages) <= 20


def test_after_a_pause_five_may_be_reported_at_once_again() -> None:
    rig = at_home()
    for start in (0, 100):
        for identifier in range(start, start + 10):
            report(rig, identifier)
        rig.run(1000)
    assert reported(rig) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_without_a_home_nothing_is_reported_and_nobody_sought() -> None:
    rig = user_rig()
    report(rig, 5)
    assert (rig.messages, rig.dialled) == ([], [])
    resolve(rig)
    rig.clear()
    report(rig, 5)
    assert reported(rig) == [5]


def test_who_was_reported_does_not_make_memory_grow_without_end() -> None:
    rig = at_home()
    for identifier in range(20_000):
        report(rig, identifier)
    assert len(rig.machine._reported) <= 4096


# -- what comes in


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@given(octets=st.binary(max_size=80))
def test_arbitrary_octets_change_nothing(octets: bytes) -> None:
    rig = at_home()
    before = (dict(rig.up), rig.machine.deadline())
    rig.feed(rig.at(1), octets)
    assert (dict(rig.up), rig.machine.deadline()) == before
    assert all(isinstance(m, asap.AsapError) for m in rig.messages)


@given(octets=st.binary(max_size=80), flags=st.integers(0, 255))
def test_a_broken_answer_is_no_answer(octets: bytes, flags: int) -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    broken = b"\0\x09\0\3" + octets  # a pool handle of Length 3
    rig.feed(rig.at(1), bytes([6, flags]) + (4 + len(broken)).to_bytes(2) + broken)
    assert len(rig.of(Malformed)) == 1
    assert outcome(rig, token) is None
    rig.feed(rig.at(1), answer(POOL, 1))
    assert outcome(rig, token) is not None


@given(messages=st.lists(strategies.messages, max_size=6))
def test_no_message_whatever_makes_a_user_fail(messages: list[Message]) -> None:
    rig = at_home()
    rig.do(rig.machine.watch(POOL, rig.now))
    for message in messages:
        rig.feed(rig.at(1), encode(message))
    token = resolve(rig)
    rig.run(5)
    assert outcome(rig, token) is not None


def test_a_malformed_message_is_reported_with_its_sender_and_place() -> None:
    rig = at_home()
    rig.feed(rig.at(1), b"\x06\0\0\3")
    (malformed,) = rig.of(Malformed)
    assert (malformed.peer, malformed.offset) == (f"{registrar(1).name} at {place(1)}", 2)


@pytest.mark.parametrize(
    "message",
    [
        keep_alive(home=True),
        asap.RegistrationResponse(pool_handle=POOL, pe_identifier=1),
        asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=1),
        asap.HandleResolution(pool_handle=POOL),
        asap.ServerAnnounce(server_id=1),
        asap.BusinessCard(pool_handle=POOL, elements=(element(),)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_message_that_is_not_for_users_is_ignored(message: Message) -> None:
    rig = at_home()
    rig.feed(rig.at(1), message)
    assert [e.reason for e in rig.of(Ignored)] == ["not for a pool user"]
    assert rig.messages == []
    assert len(rig.up) == 1


@pytest.mark.parametrize("handle", [b"ech", b"ECHO", b"echo\0", b"other"])
def test_an_answer_about_another_pool_is_no_answer(handle: bytes) -> None:
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.feed(rig.at(1), answer(handle, 66))
    assert outcome(rig, token) is None
    assert rig.of(PoolUpdated) == []


def test_an_answer_nobody_asked_for_is_believed_by_nobody() -> None:
    rig = at_home()
    rig.feed(rig.at(1), answer(POOL, 66, updates=True))
    assert rig.of(Resolved) == []
    assert rig.of(PoolUpdated) == []


@pytest.mark.rfc("RFC 5352 9.2: a user authenticates its registrar by certificate")
@pytest.mark.parametrize("caller", [registrar(2), *NO_REGISTRARS], ids=lambda p: p.role.value)
def test_nobody_calls_a_user(caller: Principal) -> None:
    """Threat 2.7: answers come from registrars the user has chosen."""
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.clear()
    association = rig.call(caller)
    assert [(c.association, c.abort) for c in rig.closed] == [(association, True)]
    rig.feed(association, answer(POOL, 66))
    assert outcome(rig, token) is None


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize(
    ("unrecognized", "errors"), [((), 0), ((SKIP_AND_REPORT,), 1)], ids=["as it should be", "with an unknown parameter"]
)
def test_an_unknown_parameter_in_an_answer_is_reported(
    unrecognized: tuple[UnrecognizedParameter, ...], errors: int
) -> None:
    """RFC 5354 3: skipped and reported; the answer is good."""
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.clear()
    good = answer(POOL, 1)
    rig.feed(
        rig.at(1),
        asap.HandleResolutionResponse(
            pool_handle=POOL, policy=good.policy, elements=good.elements, unrecognized=unrecognized
        ),
    )
    assert outcome(rig, token) is not None
    causes = (ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, SKIP_AND_REPORT.raw),)
    assert rig.messages == [asap.AsapError(error=causes)] * errors


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
def test_an_answer_with_a_parameter_that_says_stop_is_no_answer_and_reported() -> None:
    """RFC 5354 3: stop and report."""
    rig = user_rig(script=silent)
    token = resolve(rig)
    rig.clear()
    raw = bytes.fromhex("41230004")
    octets = encode(answer(POOL, 1)) + raw
    rig.feed(rig.at(1), octets[:2] + len(octets).to_bytes(2) + octets[4:])
    assert outcome(rig, token) is None
    assert rig.messages == [asap.AsapError(error=(ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, raw),))]


@pytest.mark.rfc("PROTOCOL 2.2: an error is never answered by an error")
def test_an_error_is_noted_and_never_answered() -> None:
    rig = at_home()
    rig.feed(
        rig.at(1),
        asap.AsapError(error=(ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE),), unrecognized=(SKIP_AND_REPORT,)),
    )
    assert [(e.what, e.reason) for e in rig.of(Ignored)] == [("ASAP_ERROR", "UNRECOGNIZED_MESSAGE")]
    assert rig.messages == []
