# SPDX-License-Identifier: Apache-2.0
"""Refusals are answered so often and no oftener; whoever goes on is met with silence, and then left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Ignored, Malformed, Refused
from rserpool.asap.limits import Rate
from rserpool.asap.server.desk import ANSWERS_BEFORE_CLOSING, Limits
from rserpool.enrp import Registrar
from rserpool.wire import ErrorCause, asap, encode
from support.rig_asapserver import POOL, Far, Rig, raw, tlv

UNKNOWN: Final = raw(0x4F, tlv(0x0009, POOL))
ERROR: Final = encode(asap.AsapError(error=(ErrorCause(0xA),)))
BURST: Final = 10


def register(far: Far) -> bytes:
    return encode(asap.Registration(pool_handle=POOL, element=far.offer(identifier=7)))


def deregister(_: Far) -> bytes:
    return encode(asap.Deregistration(pool_handle=POOL, pe_identifier=7))


def malformed(_: Far) -> bytes:
    return raw(0x05)


ANSWERED: dict[str, Callable[[Far], bytes]] = {
    "unknown messages": lambda _: UNKNOWN,
    "malformed messages": malformed,
    "forbidden registrations": register,
    "forbidden deregistrations": deregister,
}
SILENT: dict[str, Callable[[Far], bytes]] = {
    "no messages": lambda _: b"\5",
    "messages that are dropped": lambda _: raw(0x0F),
    "messages for somebody else": lambda _: encode(asap.Cookie(cookie=b"c")),
    "forbidden acknowledgements": lambda _: encode(asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=7)),
}


@pytest.mark.rfc("PROTOCOL 13.8: error answers are few and hardly longer than what they answer")
@pytest.mark.parametrize("kind", ANSWERED)
def test_ten_refusals_are_answered_at_once_then_ten_a_second_and_no_more(kind: str) -> None:
    rig = Rig()
    user = rig.user()
    octets = ANSWERED[kind](user)
    assert len(user.send_octets(*[octets] * 30)) == BURST
    assert user.send_octets(octets) == []
    rig.run(0.35)
    assert len(user.send_octets(*[octets] * 10)) == 3
    rig.run(0.94)
    assert len(user.send_octets(*[octets] * 20)) == 9
    rig.run(60)
    assert len(user.send_octets(*[octets] * 30)) == BURST
    assert user.is_up()


@pytest.mark.rfc("PROTOCOL 13.6: who goes on beyond a limit is met with silence and then left")
@pytest.mark.parametrize("kind", [*ANSWERED, *SILENT])
def test_whoever_goes_on_is_left(kind: str) -> None:
    rig = Rig()
    user = rig.user()
    octets = (ANSWERED | SILENT)[kind](user)
    user.send_octets(*[octets] * (BURST + ANSWERS_BEFORE_CLOSING - 1))
    assert user.is_up()
    user.send_octets(octets)
    assert user.closed is not None
    assert user.closed.abort
    assert user.closed.reason == "too many bad or forbidden messages"


def test_what_comes_from_an_association_that_was_left_is_not_even_looked_at() -> None:
    rig = Rig()
    user = rig.user()
    user.send_octets(*[UNKNOWN] * 200)
    rig.events.clear()
    assert user.send_octets(UNKNOWN) == []
    assert rig.events == []


def test_messages_that_are_allowed_are_answered_while_refusals_are_not() -> None:
    rig = Rig()
    element = rig.element(1)
    element.send_octets(*[UNKNOWN] * 50)
    element.register()
    for _ in range(50):
        assert element.resolve().elements
    assert element.deregister() == ()
    assert element.is_up()


def test_an_error_that_an_association_reports_is_no_offence() -> None:
    rig = Rig()
    user = rig.user()
    assert user.send_octets(*[ERROR] * 500) == []
    assert user.is_up()
    assert len(rig.seen(Ignored)) == 500


def test_each_association_has_its_own_allowance() -> None:
    rig = Rig()
    flood, other = rig.user(1), rig.user(1)
    flood.send_octets(*[UNKNOWN] * 50)
    assert len(other.send_octets(*[UNKNOWN] * 3)) == 3
    flood.send_octets(*[UNKNOWN] * 100)
    assert flood.closed is not None
    assert other.is_up()
    assert len(other.send_octets(UNKNOWN)) == 1


def test_leaving_an_element_that_misbehaves_is_like_losing_it_it_is_asked_elsewhere() -> None:
    rig = Rig()
    element = rig.element(1).register()
    element.send_octets(*[UNKNOWN] * 200)
    assert element.closed is not None
    rig.run()
    (connect,) = rig.connects
    assert rig.elements().keys() == {element.identifier}
    rig.element(1, answer_to=connect).acknowledges = True
    rig.run(3)
    assert rig.elements().keys() == {element.identifier}


def test_leaving_a_subscriber_that_misbehaves_ends_its_subscription() -> None:
    rig = Rig()
    rig.element(1).register()
    user = rig.user()
    assert user.resolve(updates=True).accept_updates
    user.send_octets(*[UNKNOWN] * 200)
    user.take()
    rig.element(2).register()
    rig.run(1)
    assert user.take() == []


def test_the_limit_is_the_one_that_was_configured() -> None:
    rig = Rig(limits=Limits(refusals=Rate(1, 2)))
    assert len(rig.user().send_octets(*[UNKNOWN] * 10)) == 2


def test_every_refusal_is_reported_to_the_operator_even_those_not_answered() -> None:
    rig = Rig()
    user = rig.user()
    user.send_octets(*[register(user)] * 30)
    (refused,) = set(rig.seen(Refused))
    assert (refused.threat, refused.what) == ("2.2", "ASAP_REGISTRATION")
    assert refused.peer == str(user.association)
    user.send_octets(malformed(user))
    assert [e.peer for e in rig.seen(Malformed)] == [str(user.association)]


@pytest.mark.rfc("RFC 3237 2.12: the number of users and pools is not limited by the protocol")
def test_many_short_associations_leave_nothing_behind() -> None:
    rig = Rig()
    for _ in range(500):
        user = rig.user()
        user.send_octets(UNKNOWN)
        user.lose()
    assert isinstance(rig.machine, Registrar)
    assert len(rig.machine._desk._refusals) < 50


def test_a_flood_of_forbidden_registrations_keeps_no_element_from_registering() -> None:
    rig = Rig()
    floods = [rig.user(n, Role.ANONYMOUS) for n in range(20)]
    for flood in floods:
        flood.send_octets(*[register(flood)] * 100)
    element = rig.element(1).register()
    assert rig.elements().keys() == {element.identifier}


def test_after_a_minute_without_a_refusal_they_are_counted_anew() -> None:
    rig = Rig()
    user = rig.user()
    user.send_octets(*[UNKNOWN] * (BURST + ANSWERS_BEFORE_CLOSING - 1))
    assert user.is_up()
    rig.run(61.0)
    user.send_octets(*[UNKNOWN] * (BURST + ANSWERS_BEFORE_CLOSING - 1))
    assert user.is_up()
    user.send_octets(UNKNOWN)
    assert not user.is_up()
