# SPDX-License-Identifier: Apache-2.0
"""Threat 2.13: healthy elements are reported unreachable, again and again, by one and by many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from attacks.kit.attackers import flood, secured
from attacks.kit.figures import figure
from attacks.kit.system import System, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.client import PoolUser
from rserpool.identity import pe_identifiers
from rserpool.wire import RFC as DIALECT
from rserpool.wire import asap, encode
from support.rig_refusals import HANDLE, asap_line

MANY = 5000
"""Reports a second."""
EACH = 50
USERS = 20
WITHIN_LIMIT = 4
"""Reports at once that are none too many."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def report_of(system: System, index: int = 0) -> asap.EndpointUnreachable:
    """A report of one of the healthy elements."""
    identity = system.a.plan.sidecars[index].identity
    assert identity is not None
    return asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=pe_identifiers(identity.pod_uid)[0])


@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("role", [Role.USER, Role.ELEMENT])
def test_a_user_who_reports_without_end_is_cut_off_and_no_healthy_element_goes(
    system: System, role: Role, index: int
) -> None:
    rogue, registrar = system.stranger(system.a.leaf(role)), system.a.registrars[index]
    octets = encode(report_of(system), DIALECT) * EACH
    attack = secured(rogue, registrar.address, registrar.asap_port)
    with undisturbed(system, threat="2.13", peers=[rogue.name], what=f"2.13 {role.value}"):
        done = flood(attack, lambda: octets, each=EACH, seconds=1.5, a_second=MANY)
    figure(f"2.13: {done.sent} reports, {done.rate:.0f}/s, over {done.connections} connections")
    assert done.sent >= MANY / 3, "that was no flood"
    assert done.connections > 1, "nobody cut it off"
    assert not done.answers, "a report is not answered"


@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
def test_many_users_without_certificates_make_registrars_ask_and_remove_nobody(system: System) -> None:
    with undisturbed(system, refused=False, what="2.13 many users"), contextlib.ExitStack() as stack:
        for number in range(USERS):
            line = stack.enter_context(asap_line(system.stranger(), system.a.registrars[number % 3]))
            line.say(*[report_of(system)] * WITHIN_LIMIT, asap.HandleResolution(pool_handle=HANDLE))
            [answer] = line.hear()
            assert isinstance(answer, asap.HandleResolutionResponse)
            assert report_of(system).pe_identifier in {e.identifier for e in answer.elements}


@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
def test_an_application_that_fails_in_a_loop_reports_no_more_by_the_library_than_registrars_take(
    system: System,
) -> None:
    async def fail_on() -> None:
        async with PoolUser(system.a.scope, patience=5) as users:
            found = await users.resolve("echo", fresh=True)
            for _ in range(1000):
                users._directory.report(HANDLE, found.elements[0])
                await asyncio.sleep(0.001)

    with undisturbed(system, refused=False, what="2.13 an application in a loop"):
        asyncio.run(fail_on())


def test_without_the_limits_one_user_takes_a_healthy_element_out() -> None:
    with weakened_system("rates", "report-memory") as system:
        identity = system.a.plan.sidecars[0].identity
        assert identity is not None
        home = system.a.home_of(system.a.elements[0])
        with asap_line(system.stranger(system.a.leaf(Role.USER)), home) as line:
            line.say(*[report_of(system)] * 10)
            system.wait("it is removed", lambda: "users could not reach it" in system.log(home.name))
            line.say(asap.HandleResolution(pool_handle=HANDLE))
            assert line.hear(), "and nobody cut the attacker off"
