# SPDX-License-Identifier: Apache-2.0
"""What is not well formed, or not for a registrar, changes nothing; whether its sender hears of it is the RFC's word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import TransportKind
from rserpool.asap.events import Ignored, Malformed, Refused
from rserpool.identity import SecureScope
from rserpool.wire import (
    RFC_SCTP_ONLY,
    CauseCode,
    ErrorCause,
    Message,
    PoolElement,
    asap,
    encode,
    invalid_values,
    policies,
    unrecognized_message,
    unrecognized_parameter,
)
from support.rig_asapserver import POOL, Far, Rig, raw, tlv, updates

REGISTRATION, DEREGISTRATION, RESOLUTION, ACK, REPORT, ERROR = 0x01, 0x02, 0x05, 0x08, 0x09, 0x0E
HANDLE = tlv(0x0009, POOL)
TCP, PORT_0 = (tlv(0x0005, bytes.fromhex(port + "0000 00010008 0a000001")) for port in ("1b5f", "0000"))
USE_2 = tlv(0x0004, bytes.fromhex("1b5f0002 00010008 0a000001"))
LISTENING = tlv(0x0005, bytes.fromhex("0f180000 00010008 0a000001"))
RR, POLICY_0 = tlv(0x0008, bytes.fromhex("00000001")), tlv(0x0008, bytes(4))
UNKNOWN = {kind: tlv(kind, b"abcd") for kind in (0x0123, 0x4123, 0x8123, 0xC123)}
SECURITY = (ErrorCause(CauseCode.SECURITY_REJECTION),)


def pool_element(identifier: int, *parts: bytes, life: int = 300) -> bytes:
    numbers = identifier.to_bytes(4) + bytes(4) + life.to_bytes(4)
    return tlv(0x000A, numbers, *parts)


def number(identifier: int) -> bytes:
    return tlv(0x000E, identifier.to_bytes(4))


def unmoved(far: Far, *octets: bytes) -> list[Message]:
    """Send what must have no effect; returns what is answered."""
    rig, peer = far.rig, far.rig.witness
    before = rig.space
    answers = far.send_octets(*octets)
    assert rig.space == before
    assert updates(peer) == []
    assert far.is_up()
    return answers


# -- malformed requests

BROKEN: dict[str, tuple[tuple[bytes, ...], dict[str, Any], bytes | None]] = {
    "port 0": ((PORT_0, RR, LISTENING), {}, PORT_0),
    "no such Transport Use": ((USE_2, RR, LISTENING), {}, USE_2),
    "policy type 0": ((TCP, POLICY_0, LISTENING), {}, POLICY_0),
    "life 0": ((TCP, RR, LISTENING), {"life": 0}, None),
    "two user transports": ((TCP, TCP, RR, LISTENING), {}, None),
    "no policy": ((TCP,), {}, None),
}


@pytest.mark.rfc("RFC 5354 3.12.4: an invalid value is reported with its parameter")
@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_registration_is_refused_by_its_own_response_with_the_offending_parameter(name: str) -> None:
    parts, changes, offending = BROKEN[name]
    rig = Rig()
    far = rig.element(1)
    element = pool_element(far.identifier, *parts, **changes)
    assert unmoved(far, raw(REGISTRATION, HANDLE, element)) == [
        asap.RegistrationResponse(
            pool_handle=POOL, pe_identifier=far.identifier, reject=True, error=(invalid_values(offending or element),)
        )
    ]
    (event,) = rig.seen(Malformed)
    assert event.offset >= 12
    assert event.reason


@pytest.mark.rfc("PROTOCOL 2.2: nothing changes before the whole message was read")
def test_a_malformed_registration_leaves_the_registered_element_as_it_was() -> None:
    far = Rig().element(1).register()
    (answer,) = unmoved(far, raw(REGISTRATION, HANDLE, pool_element(far.identifier, TCP, RR, LISTENING, life=0)))
    assert isinstance(answer, asap.RegistrationResponse)
    assert answer.reject


@pytest.mark.rfc("PROTOCOL 2.2: nothing changes before the whole message was read")
def test_a_malformed_deregistration_is_refused_by_its_own_response() -> None:
    far = Rig().element(1).register()
    long = tlv(0x000E, far.identifier.to_bytes(4) + b"12345678")
    assert unmoved(far, raw(DEREGISTRATION, HANDLE, long)) == [
        asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=far.identifier, error=(invalid_values(long),))
    ]


@pytest.mark.parametrize(("role", "threat"), [(Role.ANONYMOUS, "2.1"), (Role.USER, "2.2")])
def test_who_may_not_register_is_not_told_what_is_wrong_with_the_registration(role: Role, threat: str) -> None:
    rig = Rig()
    user = rig.user(1, role)
    registration = raw(REGISTRATION, HANDLE, pool_element(7, PORT_0, RR))
    deregistration = raw(DEREGISTRATION, HANDLE, tlv(0x000E, bytes([0, 0, 0, 7]) + b"1234"))
    assert unmoved(user, registration, deregistration) == [
        asap.RegistrationResponse(pool_handle=POOL, pe_identifier=7, reject=True, error=SECURITY),
        asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=7, error=SECURITY),
    ]
    assert [r.threat for r in rig.seen(Refused)] == [threat, threat]


@pytest.mark.parametrize(
    "octets",
    [
        raw(REGISTRATION, HANDLE),
        raw(REGISTRATION, pool_element(7, TCP, RR)),
        raw(DEREGISTRATION, HANDLE),
        raw(DEREGISTRATION, number(7)),
        raw(RESOLUTION),
        raw(RESOLUTION, HANDLE, HANDLE),
        raw(RESOLUTION, bytes.fromhex("00090003")),
        raw(RESOLUTION, bytes.fromhex("00090004")),
        raw(REPORT, HANDLE),
        raw(ACK, number(7)),
    ],
    ids=lambda o: o.hex(),
)
def test_a_malformed_message_that_has_no_response_is_answered_by_an_error_with_cause_3(octets: bytes) -> None:
    rig = Rig()
    (answer,) = unmoved(rig.element(1), octets)
    assert isinstance(answer, asap.AsapError)
    assert [cause.code for cause in answer.error] == [CauseCode.INVALID_VALUES]
    assert len(rig.seen(Malformed)) == 1


@pytest.mark.parametrize("octets", [b"", b"\5", b"\5\0\0", bytes.fromhex("05000003"), bytes.fromhex("05000010 0009")])
def test_what_is_no_message_at_all_is_dropped_and_reported_to_the_operator(octets: bytes) -> None:
    rig = Rig()
    assert unmoved(rig.user(), octets) == []
    assert len(rig.seen(Malformed)) == 1


# -- unknown parameters and messages


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize(("kind", "stops", "reported"), [
    (0x0123, True, False), (0x4123, True, True), (0x8123, False, False), (0xC123, False, True),
])  # fmt: skip
def test_an_unknown_parameter_is_skipped_or_not_and_reported_or_not(kind: int, *, stops: bool, reported: bool) -> None:
    rig = Rig()
    element, user = rig.element(1).register(), rig.user()
    report = asap.AsapError(error=(unrecognized_parameter(UNKNOWN[kind]),))
    answers = unmoved(user, raw(RESOLUTION, HANDLE, UNKNOWN[kind]))
    resolved = [m for m in answers if isinstance(m, asap.HandleResolutionResponse)]
    assert [m for m in answers if m not in resolved] == ([report] if reported else [])
    assert [len(m.elements) for m in resolved] == ([] if stops else [1])

    left = element.send_octets(raw(DEREGISTRATION, HANDLE, UNKNOWN[kind], number(element.identifier)))
    assert (rig.elements() == {}) == (not stops)
    causes = [cause for m in left if isinstance(m, asap.AsapError | asap.DeregistrationResponse) for cause in m.error]
    assert causes == list(report.error if reported else ())


@pytest.mark.rfc("RFC 5354 3: an unknown parameter does what its top bits say")
@pytest.mark.parametrize(("kind", "joins"), [(0x0123, False), (0x4123, False), (0x8123, True), (0xC123, True)])
@pytest.mark.parametrize("inside", [False, True])
def test_an_unknown_parameter_in_a_registration_keeps_the_element_out_if_it_says_stop(
    kind: int, *, joins: bool, inside: bool
) -> None:
    rig = Rig()
    far = rig.element(1)
    unknown = UNKNOWN[kind]
    element = pool_element(far.identifier, TCP, *([unknown] if inside else []), RR, LISTENING)
    answers = far.send_octets(raw(REGISTRATION, HANDLE, element, *([] if inside else [unknown])))
    assert bool(rig.elements()) == joins
    causes = [c for m in answers if isinstance(m, asap.AsapError | asap.RegistrationResponse) for c in m.error]
    assert causes == ([unrecognized_parameter(unknown)] if kind & 0x4000 else [])
    granted = [m for m in answers if isinstance(m, asap.RegistrationResponse) and not m.reject]
    assert bool(granted) == joins
    if kind == 0x0123:
        assert answers == []


@pytest.mark.rfc("RFC 5354 3.12.2: several unknown parameters are reported in one error")
def test_several_unknown_parameters_are_reported_in_one_error() -> None:
    first, second = tlv(0xC123, b"abcd"), tlv(0xC124)
    answers = unmoved(Rig().user(), raw(RESOLUTION, first, HANDLE, second))
    assert [m for m in answers if isinstance(m, asap.AsapError)] == [
        asap.AsapError(error=(unrecognized_parameter(first), unrecognized_parameter(second)))
    ]


@pytest.mark.rfc("RFC 5354 4: an unknown message does what its top bits say")
@pytest.mark.parametrize(("kind", "reported"), [(0x0F, False), (0x4F, True), (0x8F, False), (0xCF, False)])
def test_an_unknown_message_is_reported_only_if_it_wants_to_be(kind: int, *, reported: bool) -> None:
    octets = raw(kind, HANDLE)
    report = asap.AsapError(error=(unrecognized_message(octets),))
    assert unmoved(Rig().user(), octets) == ([report] if reported else [])


@pytest.mark.rfc("PROTOCOL 2.2: an error is never answered by an error")
@pytest.mark.parametrize(
    "octets",
    [
        encode(asap.AsapError(error=SECURITY)),
        raw(ERROR),
        raw(ERROR, tlv(0x000C)),
        raw(ERROR, bytes.fromhex("000c0003")),
        raw(ERROR, UNKNOWN[0x4123], tlv(0x000C, tlv(0x000A))),
        raw(ERROR, tlv(0x000C, tlv(0x000A)), UNKNOWN[0xC123]),
    ],
    ids=lambda o: o.hex(),
)
def test_an_error_is_never_answered_by_an_error(octets: bytes) -> None:
    rig = Rig()
    assert unmoved(rig.user(), octets) == []
    assert len(rig.seen(Ignored)) + len(rig.seen(Malformed)) == 1


# -- messages that a registrar sends, or users and elements say to each other


def element_of(far: Far) -> PoolElement:
    return replace(far.offer(), asap_transport=None)


@pytest.mark.parametrize(
    "kind",
    ["granted", "deregistered", "resolved", "keep-alive", "announce", "cookie", "echo", "business card"],
)
def test_what_is_not_for_a_registrar_is_ignored_in_silence(kind: str) -> None:
    rig = Rig()
    far = rig.element(1).register()
    messages: dict[str, Message] = {
        "granted": asap.RegistrationResponse(pool_handle=POOL, pe_identifier=far.identifier),
        "deregistered": asap.DeregistrationResponse(pool_handle=POOL, pe_identifier=far.identifier),
        "resolved": asap.HandleResolutionResponse(
            pool_handle=POOL, policy=policies.RoundRobin(), elements=(element_of(far),)
        ),
        "keep-alive": asap.EndpointKeepAlive(server_id=7, pool_handle=POOL, home=True, pe_identifier=far.identifier),
        "announce": asap.ServerAnnounce(server_id=7),
        "cookie": asap.Cookie(cookie=b"c"),
        "echo": asap.CookieEcho(cookie=b"c"),
        "business card": asap.BusinessCard(pool_handle=POOL, elements=(element_of(far),)),
    }
    assert unmoved(far, encode(messages[kind])) == []
    assert [e.reason for e in rig.seen(Ignored)] == ["not for a registrar"]


@pytest.mark.rfc("PROTOCOL 9.2: over TCP a registrar understands users only")
def test_over_tcp_without_the_tcp_profile_an_acknowledgement_is_an_unknown_message() -> None:
    """PROTOCOL 9.2: over TCP a registrar understands resolutions, reports and errors only."""
    rig = Rig(dialect=RFC_SCTP_ONLY)
    rig.element(1, kind=TransportKind.SCTP).register()
    far = rig.element(1)
    octets = encode(asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=far.identifier))
    assert unmoved(far, octets) == [asap.AsapError(error=(unrecognized_message(octets),))]


# -- the size of answers

LONG = {
    "a resolution": raw(RESOLUTION, tlv(0x0009, b"h" * 65524)),
    "a registration with a long handle": raw(
        REGISTRATION, tlv(0x0009, b"h" * 65464), pool_element(7, TCP, RR, LISTENING)
    ),
    "a deregistration": raw(DEREGISTRATION, tlv(0x0009, b"h" * 65516), number(7)),
    "a broken registration": raw(
        REGISTRATION, tlv(0x0009, b"h" * 30000), pool_element(7, tlv(0x0010, bytes(35484)), RR, life=0)
    ),
    "an unknown message": raw(0x4F, bytes(65528)),
    "a long unknown parameter": raw(RESOLUTION, HANDLE, tlv(0xC123, bytes(65516))),
    "short unknown parameters": raw(RESOLUTION, HANDLE, *[tlv(0xC123)] * 16378),
    "short unknown parameters in a registration": raw(
        REGISTRATION, HANDLE, pool_element(7, TCP, *[tlv(0xC123)] * 16360, RR, LISTENING)
    ),
}


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("name", LONG)
def test_the_longest_messages_are_survived_by_those_who_answer_them(name: str, *, secure: bool) -> None:
    rig = Rig(secure=secure, scope=SecureScope(pool_handle=POOL, anonymous=False) if secure else None)
    far = rig.user(1, Role.ANONYMOUS)
    assert len(LONG[name]) > 65500
    unmoved(far, LONG[name])
    assert rig.element(2).register().resolve().elements


@pytest.mark.rfc("PROTOCOL 13.8: error answers are few and hardly longer than what they answer")
@pytest.mark.parametrize("count", [1, 8, 100])
def test_an_error_is_hardly_longer_than_what_it_answers(count: int) -> None:
    """PROTOCOL 13.8: at most 64 octets longer, so that nobody can be made to send more than is sent to him."""
    rig = Rig()
    user, element = rig.user(), rig.element(1)
    requests = {
        "resolution": raw(RESOLUTION, HANDLE, *[tlv(0xC123)] * count),
        "unknown message": raw(0x4F, *[tlv(0xC123)] * count),
        "registration": raw(REGISTRATION, HANDLE, pool_element(element.identifier, TCP, *[tlv(0xC123)] * count)),
        "forbidden": raw(REGISTRATION, HANDLE, pool_element(1, TCP, RR), *[tlv(0xC123)] * count),
    }
    for name, octets in requests.items():
        far = element if name == "registration" else user
        answers = unmoved(far, octets)
        errors = [m for m in answers if not isinstance(m, asap.HandleResolutionResponse)]
        assert errors
        assert sum(len(encode(m)) for m in errors) <= len(octets) + 64, name
