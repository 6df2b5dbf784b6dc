# SPDX-License-Identifier: Apache-2.0
"""Threat 2.4: an authenticated element registers in a pool it is not authorised for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attacks.kit.system import ECHO, OTHER, System, host_of, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.wire import CauseCode, asap
from support.rig_refusals import asap_line, causes, registration
from support.rogue import ENDED, Rogue

pytestmark = pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
SECURITY = [CauseCode.SECURITY_REJECTION]
FORBIDDEN = (OTHER.encode(), b"z", b"Echo", b"echo\0")
"""The other pool, one that is not there, and two that only look like the element's own."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def test_at_its_own_registrars_it_can_neither_join_nor_create_another_pool(system: System) -> None:
    rogue = system.compromised(0)
    identifier = own(rogue)
    with undisturbed(system, threat="2.4", peers=[rogue.name]):
        for registrar in system.a.registrars:
            with asap_line(rogue, registrar) as line:
                line.say(*[registration(identifier, rogue.source, handle) for handle in FORBIDDEN])
                assert [causes(answer) for answer in line.hear(len(FORBIDDEN))] == [SECURITY] * len(FORBIDDEN)


def test_it_can_deregister_nobody_from_another_pool(system: System) -> None:
    rogue = system.compromised(0)
    with undisturbed(system, threat="2.4", peers=[rogue.name]):
        for registrar in system.a.registrars:
            with asap_line(rogue, registrar) as line:
                line.say(asap.Deregistration(pool_handle=OTHER.encode(), pe_identifier=own(rogue)))
                assert [causes(answer) for answer in line.hear()] == [SECURITY]


def test_the_other_pools_registrar_does_not_even_finish_the_handshake(system: System) -> None:
    assert system.b is not None
    rogue = system.compromised(0)
    (target,) = system.b.registrars
    with undisturbed(system, threat="2.1", peers=[rogue.source]), asap_line(rogue, target) as line:
        line.say(registration(own(rogue), rogue.source, OTHER.encode()))
        assert line.fate() == "TLSV1_ALERT_UNKNOWN_CA"


def test_a_certificate_for_another_pool_is_refused_even_if_our_own_authority_signed_it(system: System) -> None:
    rogue = system.stranger(system.a.leaf(Role.ELEMENT, pool=OTHER))
    with undisturbed(system, threat="2.1", peers=[rogue.source]):
        for registrar in system.a.registrars:
            with asap_line(rogue, registrar) as line:
                line.say(registration(own(rogue), rogue.source))
                assert line.fate() in ENDED


def own(rogue: Rogue) -> int:
    assert rogue.leaf is not None
    return rogue.leaf.pe_identifier


# -- and without the mechanism


def test_it_succeeds_where_the_pool_handle_is_not_compared() -> None:
    with weakened_system("own-pool") as system:
        rogue = system.compromised(0)
        with asap_line(rogue, system.a.registrars[0]) as line:
            line.say(registration(own(rogue), rogue.source, b"z"))
            line.hear()
            system.wait("every registrar has a pool that should not exist", lambda: is_in(system, "z", rogue.source))


def test_it_succeeds_where_neither_authority_nor_pool_of_a_certificate_matter() -> None:
    with weakened_system("verification", "pool-of-certificate", foreign=True) as system:
        assert system.b is not None
        rogue = system.stranger(system.b.leaf(Role.ELEMENT))
        with asap_line(rogue, system.a.registrars[0]) as line:
            line.say(registration(own(rogue), rogue.source))
            line.hear()
            system.wait("an element of the other pool is in", lambda: is_in(system, ECHO, rogue.source))


def test_it_succeeds_where_only_the_authority_of_a_certificate_matters() -> None:
    with weakened_system("pool-of-certificate") as system:
        rogue = system.stranger(system.a.leaf(Role.ELEMENT, pool=OTHER))
        with asap_line(rogue, system.a.registrars[0]) as line:
            line.say(registration(own(rogue), rogue.source))
            line.hear()
            system.wait("an element of the other pool is in", lambda: is_in(system, ECHO, rogue.source))


def is_in(system: System, handle: str, source: str) -> bool:
    """Whether every registrar holds an element at that address in that pool."""
    return all(source in {host_of(e["transport"]) for e in elements} for elements in system.held(handle).values())
