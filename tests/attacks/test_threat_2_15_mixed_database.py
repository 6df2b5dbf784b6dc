# SPDX-License-Identifier: Apache-2.0
"""Threat 2.15: something without security gets into a secure pool's database."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from attacks.kit import daemons
from attacks.kit.system import System, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.wire import Message, Ppid, asap, enrp
from support.rig_refusals import HANDLE, registration, usurping
from support.rogue import ENDED

WHO, SERVER = 0x0BADF00D, 0xFFFFFFFE


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def _said(system: System, source: str) -> dict[str, list[Message]]:
    victim = system.a.elements[0]
    return {
        "a registration": [registration(WHO, source)],
        "another's registration": [registration(WHO, victim.address)],
        "a deregistration": [asap.Deregistration(pool_handle=HANDLE, pe_identifier=WHO)],
        "a report": [asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=WHO)],
        "a resolution": [asap.HandleResolution(pool_handle=HANDLE)],
    }


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
@pytest.mark.parametrize("index", range(3))
def test_what_is_said_without_tls_is_refused_by_every_registrar_whatever_it_is(system: System, index: int) -> None:
    rogue, registrar = system.stranger(), system.a.registrars[index]
    with undisturbed(system, threat="2.15", peers=[rogue.source], what="2.15 ASAP"):
        for what, messages in _said(system, rogue.source).items():
            with rogue.plain(registrar.address, registrar.asap_port, Ppid.ASAP) as line:
                line.say(*messages)
                assert line.fate() in ENDED, what
    with (
        undisturbed(system, threat="2.15", what="2.15 ENRP"),
        rogue.plain(registrar.address, registrar.enrp_port, Ppid.ENRP) as line,
    ):
        line.say(*usurping(SERVER, 1, WHO, rogue.source), enrp.ListRequest(sender=SERVER))
        assert line.fate() in ENDED


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
def test_a_registrar_of_the_pool_that_is_configured_insecure_takes_no_part(system: System) -> None:
    with (
        undisturbed(system, threat="2.15", what="2.15 an insecure registrar"),
        daemons.registrar(system, secure=False) as plain,
    ):
        plain.wait("it has called the others", lambda: system.refusals().get("2.15", 0) >= 1)
        plain.wait("it serves alone in the end", plain.is_ready)
        dump = plain.dump()
        assert not dump["peers"]
        assert not dump["handlespace"]["pools"]
        with daemons.sidecar(system, registrars=[(plain.address, daemons.ASAP)]) as honest:
            honest.wait("it finds no registrar", lambda: honest.lines("no home registrar"))
            time.sleep(1)
            assert not honest.is_ready(), "a secure element registers where there is no TLS"
        assert not plain.dump()["handlespace"]["pools"]


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
def test_an_element_that_is_configured_insecure_finds_no_registrar(system: System) -> None:
    with (
        undisturbed(system, threat="2.15", what="2.15 an insecure element"),
        daemons.sidecar(system, secure=False) as plain,
    ):
        plain.wait("it has been refused", lambda: plain.lines("no home registrar", "reason="))
        assert not plain.is_ready()


def test_where_plain_octets_are_taken_as_well_the_database_is_mixed() -> None:
    with weakened_system("tls-only") as system:
        rogue, registrar = system.stranger(), system.a.registrars[0]
        with rogue.plain(registrar.address, registrar.asap_port, Ppid.ASAP) as line:
            line.say(registration(WHO, rogue.source))
            [granted] = line.hear()
            assert isinstance(granted, asap.RegistrationResponse)
            assert not granted.reject
            place = f"tcp:{rogue.source}:7007"
            system.wait(
                "every registrar holds it",
                lambda: all(place in {e["transport"] for e in held} for held in system.held().values()),
            )
