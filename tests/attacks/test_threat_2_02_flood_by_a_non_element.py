# SPDX-License-Identifier: Apache-2.0
"""Threat 2.2: a flood by somebody who is authenticated and may not be an element, and crowds of idle handshakes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from attacks.kit.attackers import crowd, drip, flood, secured
from attacks.kit.figures import figure
from attacks.kit.system import System, host_of, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.wire import RFC, CauseCode, Message, asap, encode
from support.rig_refusals import HANDLE, asap_line, causes, registration
from support.rogue import ENDED, Rogue, end_of
from support.running import RegistrarProcess

pytestmark = pytest.mark.rfc("threats 2.2: floods of those who are no elements change nothing")
MESSAGES = 10_000
"""What leaves an attacker in a flood at least: half of what he wants to send, on a machine that is busy."""
BATCH = 50
SECONDS = 2.0
CROWD = 1000
HALF_OPEN = 256
"""Connections a registrar keeps of those who have proved nothing."""
HANDSHAKE = 5.0
"""Seconds in which a handshake must be done."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def repeated(*messages: Message) -> Callable[[], bytes]:
    octets = b"".join(encode(message, RFC) for message in messages) * (BATCH // len(messages))
    return lambda: octets


def stale(rogue: Rogue) -> Message:
    """Deregistration of what was never registered: allowed, without effect, and a flood if it does not end."""
    assert rogue.leaf is not None
    return asap.Deregistration(pool_handle=HANDLE, pe_identifier=rogue.leaf.pe_identifier)


def lack(answers: list[Message]) -> int:
    """How many answers say that it was too often."""
    return sum(causes(answer) == [CauseCode.LACK_OF_RESOURCES] for answer in answers)


@pytest.mark.parametrize("role", [Role.USER, Role.REGISTRAR])
def test_a_flood_of_registrations_by_another_role_changes_nothing(system: System, role: Role) -> None:
    leaf = system.a.leaf(role)
    rogue, target = system.stranger(leaf), system.a.registrars[0]
    batch = repeated(registration(leaf.pe_identifier, rogue.source), stale(rogue))
    with undisturbed(system, threat="2.2", peers=[rogue.name], what=f"2.2 flood by a {role.value}"):
        done = flood(secured(rogue, target.address, target.asap_port), batch, each=BATCH, seconds=SECONDS)
        assert done.sent >= MESSAGES
        assert done.connections > 1, "whoever goes on is cut off"
        assert done.answers
        assert all(causes(answer) == [CauseCode.SECURITY_REJECTION] for answer in done.answers)
    figure(f"2.2 flood by a {role.value}: {done.sent} messages at {done.rate:.0f}/s over {done.connections} lines")


def test_an_element_that_floods_is_refused_above_its_rate(system: System) -> None:
    rogue, target = system.compromised(0), system.a.registrars[0]
    with undisturbed(system, threat="2.2", peers=[rogue.name], what="2.2 flood by an element"):
        done = flood(
            secured(rogue, target.address, target.asap_port),
            repeated(stale(rogue)),
            each=BATCH,
            seconds=SECONDS,
            keep=400,
        )
        assert lack(done.answers) > 0
    figure(f"2.2 flood by an element: {done.sent} messages at {done.rate:.0f}/s over {done.connections} lines")


def test_a_flood_with_another_pools_certificate_does_not_get_through_the_handshake(system: System) -> None:
    assert system.b is not None
    rogue, target = system.stranger(system.b.leaf(Role.ELEMENT)), system.a.registrars[2]
    with undisturbed(system, threat="2.1", peers=[rogue.source], what="2.2 flood by another pool"):
        done = flood(
            secured(rogue, target.address, target.asap_port),
            repeated(stale(rogue)),
            each=BATCH,
            seconds=1.0,
        )
        assert done.connections > 1
        assert not done.answers


def test_a_thousand_idle_handshakes_are_bounded_and_end(system: System) -> None:
    rogue, target = system.stranger(), system.a.registrars[0]
    with (
        undisturbed(system, threat="2.1", peers=[rogue.source], what="2.2 idle handshakes"),
        crowd(rogue, target.address, target.asap_port, CROWD, octets=rogue.hello()[:100]) as sockets,
    ):
        began = time.monotonic()
        assert half_open(system, target) <= HALF_OPEN
        assert end_of(sockets[0]) in ENDED, "the oldest made room"
        system.wait("the others have ended too", lambda: not half_open(system, target), 3 * HANDSHAKE)
        assert all(end_of(sock) in ENDED for sock in sockets)
    figure(f"2.2 idle handshakes: {CROWD} connections ended within {time.monotonic() - began:.1f} s")


def test_a_handshake_in_drops_is_not_waited_for(system: System) -> None:
    rogue, target = system.stranger(), system.a.registrars[1]
    with (
        undisturbed(system, threat="2.1", peers=[rogue.source], what="2.2 slow-loris"),
        crowd(rogue, target.address, target.asap_port, 50) as sockets,
    ):
        began = time.monotonic()
        fates = drip(sockets, rogue.hello(), 3 * HANDSHAKE)
        assert len(fates) == len(sockets)
        assert set(fates) <= set(ENDED)
        assert time.monotonic() - began >= HANDSHAKE - 1, "they were cut off for another reason"


def half_open(system: System, registrar: RegistrarProcess) -> float:
    return system.a.metric(registrar, "rserpool_half_open")


# -- and without the mechanism


def test_it_succeeds_where_nobody_asks_for_the_role() -> None:
    with weakened_system("element-role") as system:
        leaf = system.a.leaf(Role.USER)
        rogue = system.stranger(leaf)
        with asap_line(rogue, system.a.registrars[0]) as line:
            line.say(registration(leaf.pe_identifier, rogue.source))
            line.hear()
            system.wait("all registrars hold a user as an element", partial(is_held, system, rogue.source))


def is_held(system: System, source: str) -> bool:
    return all(source in {host_of(e["transport"]) for e in elements} for elements in system.held().values())


def test_it_succeeds_where_nothing_is_too_often() -> None:
    with weakened_system("rates", registrars=1) as system:
        rogue, target = system.compromised(0), system.a.registrars[0]
        done = flood(
            secured(rogue, target.address, target.asap_port),
            repeated(stale(rogue)),
            each=BATCH,
            keep=1000,
        )
        assert done.connections == 1
        assert done.answers
        assert not lack(done.answers)


def test_it_succeeds_where_handshakes_are_not_bounded() -> None:
    with weakened_system("half-open", registrars=1) as system:
        rogue, target = system.stranger(), system.a.registrars[0]
        with crowd(rogue, target.address, target.asap_port, CROWD, octets=rogue.hello()[:100]):
            system.wait("all of the crowd is kept", lambda: half_open(system, target) == CROWD)
            time.sleep(HANDSHAKE + 1)  # that nothing ends takes as long as it would have taken to end
            assert half_open(system, target) == CROWD
