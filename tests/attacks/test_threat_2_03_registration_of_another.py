# SPDX-License-Identifier: Apache-2.0
"""Threat 2.3: an element registers, re-registers or deregisters another one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attacks.kit.system import System, host_of, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.identity import pe_identifiers
from rserpool.wire import CauseCode, Message, asap
from support.rig_refusals import HANDLE, asap_line, causes, registration
from support.rogue import Rogue

pytestmark = [
    pytest.mark.rfc("threats 2.3: nobody registers or deregisters another element"),
    pytest.mark.rfc("RFC 5352 3.2: nobody deregisters another element"),
]
SECURITY = [CauseCode.SECURITY_REJECTION]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


class Attack:
    """The first element in an attacker's hands, and the second, which is to suffer."""

    def __init__(self, system: System) -> None:
        identity = system.a.plan.sidecars[1].identity
        assert identity is not None
        self.system = system
        self.victim = pe_identifiers(identity.pod_uid)[0]
        self.victims_address = system.a.elements[1].address
        self.rogue: Rogue = system.compromised(0)
        assert self.rogue.leaf is not None
        self.own = self.rogue.leaf.pe_identifier

    def everywhere(self, *said: Message, threat: str = "2.3") -> None:
        """Say it to each registrar and be refused, message by message."""
        with undisturbed(self.system, threat=threat, peers=[self.rogue.name]):
            for registrar in self.system.a.registrars:
                with asap_line(self.rogue, registrar) as line:
                    line.say(*said)
                    assert [causes(answer) for answer in line.hear(len(said))] == [SECURITY] * len(said)

    def is_at(self, identifier: int, address: str | None) -> bool:
        """Whether every registrar holds that identifier at that address; ``None``: does not hold it."""
        found = [
            {host_of(e["transport"]) for e in elements if e["identifier"] == f"{identifier:#010x}"}
            for elements in self.system.held().values()
        ]
        return all(hosts == ({address} if address else set()) for hosts in found)


def test_it_cannot_register_an_address_of_another(system: System) -> None:
    it = Attack(system)
    it.everywhere(
        registration(it.own, it.victims_address),
        registration(it.own, it.rogue.source, listens=it.victims_address),  # the registrars' keep-alives for it
    )


def test_it_cannot_register_under_the_identifier_of_another(system: System) -> None:
    it = Attack(system)
    it.everywhere(registration(it.victim, it.rogue.source), registration(it.victim, it.victims_address))


def test_it_cannot_deregister_another(system: System) -> None:
    it = Attack(system)
    it.everywhere(asap.Deregistration(pool_handle=HANDLE, pe_identifier=it.victim))


def test_whoever_stole_the_victims_key_cannot_register_its_address_from_elsewhere(system: System) -> None:
    """It may speak for the victim, but an address is registered only by whoever speaks from it."""
    plan = system.a.plan.sidecars[1]
    assert plan.identity is not None
    thief = system.stranger(system.a.leaf(Role.ELEMENT, plan.identity.pod_uid))
    assert thief.leaf is not None
    with undisturbed(system, threat="2.3", peers=[thief.name]):
        for registrar in system.a.registrars:
            with asap_line(thief, registrar) as line:
                line.say(registration(thief.leaf.pe_identifier, str(plan.place.address)))
                assert [causes(answer) for answer in line.hear()] == [SECURITY]


# -- and without the mechanism


def test_it_succeeds_where_addresses_are_not_compared() -> None:
    """Users of the element are sent to somebody who never asked for them."""
    with weakened_system("own-address", elements=2) as system:
        it = Attack(system)
        with asap_line(it.rogue, system.a.registrars[0]) as line:
            line.say(registration(it.own, it.victims_address))
            line.hear()
            system.wait("all registrars send its users to the victim", lambda: it.is_at(it.own, it.victims_address))


def test_it_succeeds_where_identifiers_are_not_compared() -> None:
    """The victim's users come to the attacker; then the victim is gone."""
    with weakened_system("own-identifier", elements=2) as system:
        it = Attack(system)
        system.processes["echo-1/sidecar"].kill()  # else it would come back: that it is there is what must not matter
        with asap_line(it.rogue, system.a.registrars[0]) as line:
            line.say(registration(it.victim, it.rogue.source))
            line.hear()
            system.wait("all registrars send its users to the attacker", lambda: it.is_at(it.victim, it.rogue.source))
            line.say(asap.Deregistration(pool_handle=HANDLE, pe_identifier=it.victim))
            system.wait("the victim is gone everywhere", lambda: it.is_at(it.victim, None))
