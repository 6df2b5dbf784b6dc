# SPDX-License-Identifier: Apache-2.0
"""Threat 2.1: a flood of (de)registrations for elements that do not exist, by somebody who proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from secrets import randbelow

import pytest

from attacks.kit.attackers import expired, flood, issued_by_leaf, of_impostor, plainly, secured, self_signed
from attacks.kit.figures import figure
from attacks.kit.system import System, host_of, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.wire import RFC, CauseCode, Ppid, asap, encode
from support.rig_refusals import HANDLE, asap_line, causes, registration
from support.rogue import Leaf, Line, Rogue

pytestmark = pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
MESSAGES = 10_000
"""What leaves an attacker in a flood at least: half of what he wants to send, on a machine that is busy."""
BATCH = 50
SECONDS = 2.0
"""How long each flood goes on at most."""
FALSE = 5
"""Elements that a weakened registrar should believe in."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def nobodies(address: str) -> Callable[[], bytes]:
    """Registrations and deregistrations of elements with random identifiers, other ones each time."""

    def batch() -> bytes:
        return b"".join(
            encode(message, RFC)
            for _ in range(BATCH // 2)
            for message in (
                registration(randbelow(0xFFFFFFFF) + 1, address),
                asap.Deregistration(pool_handle=HANDLE, pe_identifier=randbelow(0xFFFFFFFF) + 1),
            )
        )

    return batch


def test_a_flood_without_tls_changes_nothing(system: System) -> None:
    rogue, (target, *_) = system.stranger(), system.a.registrars
    batch = nobodies(rogue.source)
    with undisturbed(system, threat="2.15", peers=[rogue.source], what="2.1 flood without TLS"):
        done = flood(plainly(rogue, target.address, target.asap_port), batch, each=BATCH, seconds=SECONDS)
        assert done.sent >= MESSAGES
        assert not done.answers, "plain octets are never answered"
    figure(f"2.1 flood without TLS: {done.sent} messages at {done.rate:.0f}/s over {done.connections} connections")


def test_a_flood_without_a_certificate_changes_nothing(system: System) -> None:
    rogue, (target, *_) = system.stranger(), system.a.registrars
    batch = nobodies(rogue.source)
    with undisturbed(system, threat="2.1", peers=[rogue.source], what="2.1 flood without a certificate"):
        done = flood(secured(rogue, target.address, target.asap_port), batch, each=BATCH, seconds=SECONDS)
        assert done.sent >= MESSAGES
        assert done.connections > 1, "whoever goes on is cut off"
        assert done.answers
        assert all(causes(answer) == [CauseCode.SECURITY_REJECTION] for answer in done.answers)
    figure(f"2.1 flood without a certificate: {done.sent} messages at {done.rate:.0f}/s over {done.connections} lines")


Maker = Callable[[System], Leaf]
MADE: dict[str, Maker] = {
    "self-signed": lambda s: self_signed(s.a.identity(Role.ELEMENT)),
    "by an authority of the same name": lambda s: of_impostor(s.a.identity(Role.ELEMENT), s.a.authority.bundle),
    "expired": lambda s: expired(s.a.identity(Role.ELEMENT), s.a.authority),
    "issued by an element": lambda s: issued_by_leaf(s.a.identity(Role.ELEMENT), s.a.leaf(Role.ELEMENT)),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_certificate_of_ones_own_making_opens_nothing(system: System, kind: str) -> None:
    leaf = MADE[kind](system)
    rogue = system.stranger(leaf)
    with undisturbed(system, threat="2.1", peers=[rogue.source], what=f"2.1 {kind}"):
        for registrar in system.a.registrars:
            with asap_line(rogue, registrar) as line:
                line.say(registration(leaf.pe_identifier, rogue.source))
                assert "ALERT" in line.fate()


def test_a_flood_of_handshakes_with_such_certificates_changes_nothing(system: System) -> None:
    rogue = system.stranger(of_impostor(system.a.identity(Role.ELEMENT), system.a.authority.bundle))
    target, batch = system.a.registrars[1], nobodies(rogue.source)
    with undisturbed(system, threat="2.1", peers=[rogue.source], what="2.1 flood of false certificates"):
        done = flood(secured(rogue, target.address, target.asap_port), batch, each=BATCH, seconds=SECONDS)
        assert done.connections > 10
        assert not done.answers
    figure(f"2.1 flood of false certificates: {done.connections} handshakes in {done.seconds:.1f} s")


# -- and without the mechanism


def believed(system: System, source: str, count: int) -> bool:
    """Whether every registrar holds that many elements at the attacker's address."""
    return all(sum(host_of(e["transport"]) == source for e in elements) == count for elements in system.held().values())


def invents_elements(system: System, rogue: Rogue, line: Line) -> None:
    """Registers elements that do not exist, and sees all registrars believe in them."""
    line.say(*[registration(0x1000 + i, rogue.source) for i in range(FALSE)])
    answers = line.hear(FALSE)
    assert [a.reject for a in answers if isinstance(a, asap.RegistrationResponse)] == [False] * FALSE
    system.wait("all registrars believe in them", partial(believed, system, rogue.source, FALSE))


def test_it_succeeds_where_nobody_asks_who_is_an_element() -> None:
    with weakened_system("element-role") as system:
        rogue = system.stranger()
        with asap_line(rogue, system.a.registrars[0]) as line:
            invents_elements(system, rogue, line)


def test_it_succeeds_without_tls() -> None:
    with weakened_system(secure=False) as system:
        rogue, target = system.stranger(), system.a.registrars[0]
        with rogue.plain(target.address, target.asap_port, Ppid.ASAP) as line:
            invents_elements(system, rogue, line)


def test_it_succeeds_where_certificates_are_not_verified() -> None:
    with weakened_system("verification", "leaf-expiry") as system:
        for kind, make in MADE.items():
            leaf = make(system)
            rogue = system.stranger(leaf)
            with asap_line(rogue, system.a.registrars[0]) as line:
                line.say(registration(leaf.pe_identifier, rogue.source))
                (answer,) = line.hear()
                assert isinstance(answer, asap.RegistrationResponse), kind
                assert not answer.reject, kind
                system.wait(f"{kind} is believed", partial(believed, system, rogue.source, 1))
