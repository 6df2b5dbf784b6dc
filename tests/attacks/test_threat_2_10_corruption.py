# SPDX-License-Identifier: Apache-2.0
"""Threat 2.10: somebody on the way changes what is said, or lets some of it vanish."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from attacks.kit import daemons
from attacks.kit.middle import Middle, Record, Toward, Unit, flipped
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import undisturbed
from rserpool.client import PoolUser

LONG = 80
"""Octets that a record has at least in which there is a registration, or a part of a handshake."""
PORT, WRONG = daemons.APPLICATION.to_bytes(2), (6666).to_bytes(2)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(elements=1) as running:
        yield running


@contextlib.contextmanager
def before_registrar(system: System, *, enrp: bool = False, unit: Unit = Unit.RECORD) -> Iterator[Middle]:
    """Somebody between a registrar and all who believe it to be at his address."""
    to = system.a.registrars[0]
    here, there = (daemons.ENRP, to.enrp_port) if enrp else (daemons.ASAP, to.asap_port)
    with Middle((daemons.place(system), here), (to.address, there), unit) as middle:
        yield middle


@pytest.fixture
def led(system: System) -> Iterator[tuple[Middle, daemons.Victim, int]]:
    """A sidecar that reaches its registrar by somebody else, and which of its records is the registration."""
    with before_registrar(system) as middle, daemons.sidecar(system, registrars=[middle.at]) as victim:
        victim.ready()
        said = [r for r in list(middle.records) if r.toward is Toward.SERVER and len(r.octets) > LONG]
        yield middle, victim, said[-1].number


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@pytest.mark.parametrize("toward", Toward)
@pytest.mark.parametrize("how", ["flip", "drop"])
def test_an_element_whose_octets_are_changed_on_the_way_registers_again_and_nothing_false_is_believed(
    system: System, led: tuple[Middle, daemons.Victim, int], how: str, toward: Toward
) -> None:
    middle, victim, _ = led
    connections = middle.connections
    with undisturbed(system, threat="2.10", peers=[str(victim.identity)], what=f"2.10 {how} {toward.value}"):
        (middle.flip if how == "flip" else middle.drop)(toward).await_done()
        victim.wait("another connection", lambda: middle.connections > connections)
        victim.ready()
    assert victim.refusals("2.10") >= 1
    assert victim.lines("threat=2.10", "registrar/")


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@pytest.mark.parametrize("octet", [6, -30, -1])
def test_a_registration_that_is_changed_on_the_way_is_none(
    system: System, led: tuple[Middle, daemons.Victim, int], octet: int
) -> None:
    middle, victim, number = led

    def is_registration(record: Record) -> bool:
        return record.number == number

    def change(record: Record) -> bytes:
        time.sleep(0.1)  # a moment after the handshake, and not in one segment with its end
        return flipped(record.octets, octet)

    with undisturbed(system, threat="2.10", peers=[str(victim.identity)], what="2.10 registration"):
        done = middle.interfere(change, Toward.SERVER, only=is_registration)
        middle.cut()
        [changed] = done.await_done()
        victim.wait("another connection", lambda: middle.connections > changed.connection + 1)
        victim.ready()
    assert len(changed.octets) > LONG, "it was no registration"


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@pytest.mark.parametrize("toward", Toward)
def test_an_update_between_registrars_that_is_changed_on_the_way_changes_nothing(
    system: System, toward: Toward
) -> None:
    with before_registrar(system, enrp=True) as middle, daemons.registrar(system, peers=[middle.at]) as joined:
        joined.ready()
        everybody = [d["server_id"] for d in system.a.dumps().values()]
        own = joined.dump()["server_id"]
        system.wait("all know it", lambda: all(own in _peers(d) for d in system.a.dumps().values()))
        with undisturbed(system, threat="2.10", peers=[str(joined.identity)], what=f"2.10 ENRP {toward.value}"):
            middle.flip(toward).await_done()
            joined.wait("it counts it", lambda: joined.refusals("2.10") >= 1)
        joined.wait("they speak again", lambda: sorted(_peers(joined.dump())) == sorted(everybody))
        held = {e["identifier"] for pool in joined.dump()["handlespace"]["pools"] for e in pool["elements"]}
        assert {e["identifier"] for e in system.held()[system.a.registrars[0].name]} <= held


def _peers(dump: dict[str, Any]) -> list[str]:
    """The registrars it speaks with."""
    return [p["server_id"] for p in dump["peers"] if p["connected"] and p["state"] == "active"]


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
def test_a_users_answer_that_is_changed_on_the_way_is_asked_for_again(system: System) -> None:
    async def resolve(middle: Middle) -> set[str]:
        async with PoolUser(replace(system.a.scope, registrars=(middle.at,)), patience=5) as users:
            await users.resolve("echo", fresh=True)
            done = middle.flip(Toward.CLIENT, octet=-20)
            answer = await users.resolve("echo", fresh=True)
            assert done.done, "the answer did not come this way"
            return {str(a) for e in answer.elements for a in e.transport.addresses}

    with before_registrar(system) as middle, undisturbed(system, threat="2.10", what="2.10 a user"):
        found = asyncio.run(resolve(middle))
    known = {str(p.place.address) for p in system.a.plan.sidecars} | set(system.driven_at)
    assert found <= known
    assert {str(p.place.address) for p in system.a.plan.sidecars} <= found


def test_without_integrity_the_same_man_in_the_middle_succeeds() -> None:
    plain = running_system(secure=False, foreign=False, driven=False, elements=1)
    with plain as system, before_registrar(system, unit=Unit.MESSAGE) as middle:
        done = middle.interfere(lambda r: r.octets.replace(PORT, WRONG), Toward.SERVER, only=lambda r: PORT in r.octets)
        with daemons.sidecar(system, registrars=[middle.at]) as victim:
            done.await_done()
            place = f"tcp:{victim.address}:6666"
            system.wait(
                "all registrars believe it",
                lambda: all(place in {e["transport"] for e in held} for held in system.held().values()),
            )
