# SPDX-License-Identifier: Apache-2.0
"""Threat 2.12: registrars cannot be found, or false ones are found in their place."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from attacks.kit import daemons
from attacks.kit.attackers import FalseRegistrar, false_registrar, issued_by_leaf, of_impostor, self_signed
from attacks.kit.figures import figure
from attacks.kit.middle import Middle, Toward
from attacks.kit.names import FalseNames
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.client import NoRegistrarError, PoolUser
from rserpool.wire import Message, Ppid, asap, enrp
from support.rogue import Leaf

NAME = "registrars.demo.test"
DISCOVERY = 3.0
"""Seconds for which a registrar looks for a mentor, with the Fast profile; a fifth more or less."""
KINDS = ("self-signed", "another authority", "an element", "signed by an element", "another pool")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(elements=1) as running:
        yield running


@pytest.fixture
def names(system: System) -> FalseNames:
    folder = Path(system.a.directory) / f"names-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    return FalseNames(folder)


def false_leaf(system: System, kind: str) -> Leaf:
    """What a false registrar shows."""
    registrar = system.a.identity(Role.REGISTRAR)
    match kind:
        case "self-signed":
            return self_signed(registrar)
        case "another authority":
            return of_impostor(registrar, system.a.authority.bundle)
        case "an element":
            return system.a.leaf(Role.ELEMENT)
        case "signed by an element":
            return issued_by_leaf(registrar, system.a.leaf(Role.ELEMENT))
        case _:
            assert system.b is not None
            return system.b.leaf(Role.REGISTRAR)


def granting(message: Message) -> Sequence[Message]:
    """What a false registrar would say to an element or a user."""
    match message:
        case asap.Registration(pool_handle=handle, element=element):
            return [asap.RegistrationResponse(pool_handle=handle, pe_identifier=element.identifier)]
        case asap.Deregistration(pool_handle=handle, pe_identifier=identifier):
            return [asap.DeregistrationResponse(pool_handle=handle, pe_identifier=identifier)]
        case asap.HandleResolution(pool_handle=handle):
            return [asap.HandleResolutionResponse(pool_handle=handle)]
    return ()


def mentoring(message: Message) -> Sequence[Message]:
    """What a false mentor would say to a starting registrar: that there is nobody and nothing."""
    match message:
        case enrp.Presence(sender=sender):
            return [enrp.Presence(sender=0xFFFFFFFF, receiver=sender, checksum=0xFFFF)]
        case enrp.ListRequest(sender=sender):
            return [enrp.ListResponse(sender=0xFFFFFFFF, receiver=sender)]
        case enrp.HandleTableRequest(sender=sender):
            return [enrp.HandleTableResponse(sender=0xFFFFFFFF, receiver=sender)]
    return ()


@contextlib.contextmanager
def false_ones(system: System, leaves: Sequence[Leaf], port: int, service: Ppid) -> Iterator[list[FalseRegistrar]]:
    """False registrars, each at an address of its own."""
    script = granting if service is Ppid.ASAP else mentoring
    trust = system.a.authority.bundle
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                false_registrar(daemons.place(system), port, leaf, script, service=service, trust=trust)
            )
            for leaf in leaves
        ]


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_an_element_whom_a_false_name_leads_to_false_registrars_tells_them_nothing_and_finds_the_true_one(
    system: System, names: FalseNames
) -> None:
    leaves = [false_leaf(system, kind) for kind in KINDS]
    with (
        undisturbed(system, refused=False, what="2.12 false names"),
        false_ones(system, leaves, daemons.ASAP, Ppid.ASAP) as liars,
    ):
        names.say({NAME: [liar.host for liar in liars]})
        with daemons.sidecar(system, registrars=[(NAME, daemons.ASAP)], before=names.command) as victim:
            victim.wait("it has called them all", lambda: all(liar.calls for liar in liars))
            victim.wait("it says so", lambda: victim.lines("no home registrar", "reason="))
            assert not victim.is_ready()
            assert not [liar for liar in liars if liar.heard], "it spoke before it knew with whom"
            victim.wait("all were refused", lambda: victim.refusals("2.6") >= len(liars))
            names.say({NAME: [*(liar.host for liar in liars), system.a.registrars[1].address]})
            figure(f"2.12: a true address among five false ones is found in {victim.ready():.1f} s")
            assert not [liar for liar in liars if liar.heard]


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_an_element_that_finds_nobody_says_so_and_asks_less_and_less_often(system: System, names: FalseNames) -> None:
    with (
        undisturbed(system, refused=False, what="2.12 nobody is found"),
        Middle((daemons.place(system), daemons.ASAP), (system.a.registrars[0].address, daemons.ASAP)) as path,
        path.silence(*Toward),
    ):
        names.say({})
        with daemons.sidecar(system, registrars=[(NAME, daemons.ASAP)], before=names.command) as victim:
            victim.wait("no name means anything", lambda: victim.lines("cannot be resolved"))
            victim.wait("it says so", lambda: victim.lines("no home registrar", "reason="))
            names.say({NAME: [daemons.place(system), path.at[0]]})  # nobody, and somebody out of reach
            victim.wait("it calls", lambda: path.connections)
            began, calls = time.monotonic(), path.connections
            time.sleep(6)
            often = (path.connections - calls) / (time.monotonic() - began)
            assert not victim.is_ready()
            assert often <= 1.0, f"{often:.1f} attempts a second at an address that does not answer"
            assert len(victim.lines("cannot be resolved")) == 1
            assert len(victim.log) < 8192


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
@pytest.mark.parametrize("kind", KINDS)
def test_a_user_is_told_that_there_is_no_registrar_instead_of_believing_a_false_one(system: System, kind: str) -> None:
    async def resolve(liar: FalseRegistrar) -> None:
        async with PoolUser(replace(system.a.scope, registrars=((liar.host, liar.port),)), patience=1) as users:
            with pytest.raises(NoRegistrarError):
                await users.resolve("echo")

    with (
        undisturbed(system, refused=False, what="2.12 a user"),
        false_ones(system, [false_leaf(system, kind)], daemons.ASAP, Ppid.ASAP) as [liar],
    ):
        asyncio.run(resolve(liar))
        assert liar.calls
        assert not liar.heard


def _looked(registrar: daemons.Victim) -> float:
    """Seconds from its start until it served, as it has logged them."""
    began, served = (registrar.lines(word)[0].split()[0] for word in (" starts", "serving, "))
    return (datetime.fromisoformat(served) - datetime.fromisoformat(began)).total_seconds()


def _told(liars: Sequence[FalseRegistrar]) -> list[Message]:
    """What was said to them; that they are refused does not count (RFC 5353 6.3)."""
    return [message for liar in liars for message in liar.heard if not isinstance(message, enrp.EnrpError)]


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_a_starting_registrar_takes_no_false_mentor_and_begins_with_what_the_true_ones_hold(
    system: System, names: FalseNames
) -> None:
    leaves = [false_leaf(system, kind) for kind in KINDS]
    with (
        undisturbed(system, refused=False, what="2.12 false mentors"),
        false_ones(system, leaves, daemons.ENRP, Ppid.ENRP) as liars,
    ):
        names.say({NAME: [liar.host for liar in liars]})
        with daemons.registrar(system, peers=[(NAME, daemons.ENRP)], before=names.command) as alone:
            alone.ready()
            took = _looked(alone)
            assert took >= 0.8 * DISCOVERY, "it began with an empty handlespace before it had looked for long enough"
            assert not alone.dump()["peers"]
            alone.wait("all were refused", lambda: alone.refusals("2.5") >= len(liars))
            assert not _told(liars), "it spoke before it knew with whom"
    figure(f"2.12: a registrar that finds false mentors only serves alone after {took:.1f} s")
    with false_ones(system, leaves[:2], daemons.ENRP, Ppid.ENRP) as liars:
        names.say({NAME: [*(liar.host for liar in liars), system.a.registrars[2].address]})
        with daemons.registrar(system, peers=[(NAME, daemons.ENRP)], before=names.command) as found:
            found.ready()
            assert system.a.elements[0].address in str(found.dump()["handlespace"])
            assert found.lines("serving, with the handlespace of")
            assert not _told(liars)


def test_an_element_that_does_not_look_registers_at_the_false_registrar(system: System, names: FalseNames) -> None:
    leaf = false_leaf(system, "another authority")
    with false_ones(system, [leaf], daemons.ASAP, Ppid.ASAP) as [liar]:
        names.say({NAME: [liar.host]})
        off = ["verification"]
        with daemons.sidecar(system, registrars=[(NAME, daemons.ASAP)], before=names.command, without=off) as victim:
            victim.ready()
        assert any(isinstance(message, asap.Registration) for message in liar.heard)


def test_a_registrar_that_does_not_look_begins_with_nothing_at_once(system: System) -> None:
    nobody = [(daemons.place(system), daemons.ENRP)]
    with daemons.registrar(system, peers=nobody, without=["mentor-search"]) as alone:
        alone.ready()
        assert _looked(alone) < 0.8 * DISCOVERY
        assert alone.lines("serving, with an empty handlespace")


def test_a_registrar_that_does_not_look_takes_the_false_mentor(system: System) -> None:
    with false_ones(system, [false_leaf(system, "another authority")], daemons.ENRP, Ppid.ENRP) as [liar]:
        off = ["verification"]
        with daemons.registrar(system, peers=[(liar.host, daemons.ENRP)], without=off) as misled:
            misled.ready()
            assert [p["server_id"] for p in misled.dump()["peers"]] == ["0xffffffff"]
        assert any(isinstance(message, enrp.ListRequest) for message in liar.heard)
