# SPDX-License-Identifier: Apache-2.0
"""A compromised element, with its real leaf and from its real address, can speak for itself and for nobody else.

Each element launches one attack of each threat, at every registrar: a registrar logs a peer and threat once a minute.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rserpool.identity import pe_identifiers
from rserpool.wire import CauseCode, Message, asap
from support.rig_refusals import (
    HANDLE,
    MOST_LINES,
    Refusal,
    asap_line,
    causes,
    refused,
    registration,
    told,
    unmoved,
    usurping,
)
from support.rogue import Leaf, Rogue, stolen
from support.running import RunningPool, manifest, pool_running, started

ELEMENTS = 6
SECURITY = [CauseCode.SECURITY_REJECTION]


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(), "--elements", str(ELEMENTS)) as running:
        started(running)
        yield running


@pytest.fixture(scope="module")
def leaves(pool: RunningPool) -> list[Leaf]:
    return [stolen(pool.directory, number) for number in range(ELEMENTS)]


class Compromised:
    """An element in a rogue's hands, and the sibling that is to suffer."""

    def __init__(self, pool: RunningPool, leaves: list[Leaf], number: int) -> None:
        self.leaf = leaves[number]
        self.address = pool.elements[number].address
        self.identifier = self.leaf.pe_identifier
        self.rogue = Rogue(self.address, self.leaf)
        sibling = (number + 1) % ELEMENTS
        self.sibling = leaves[sibling].pe_identifier
        self.siblings_address = pool.elements[sibling].address

    def attacks_everywhere(self, pool: RunningPool, *said: Message, threat: str, what: str, reason: str) -> None:
        """Say that to every registrar, and be refused by each, message by message."""
        for registrar in pool.registrars:
            expected = Refusal(threat, what, reason, self.rogue.name, len(said))
            with (
                refused(pool, registrar, expected, secrets=(self.leaf.key_pem,)),
                asap_line(self.rogue, registrar) as line,
            ):
                line.say(*said)
                assert [causes(answer) for answer in line.hear(len(said))] == [SECURITY] * len(said)


@pytest.mark.rfc("threats 2.3: nobody registers or deregisters another element")
def test_it_cannot_register_under_a_siblings_identifier(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 0)
    it.attacks_everywhere(
        pool,
        registration(it.sibling, it.address),  # the sibling's users would come here
        registration(it.sibling, it.siblings_address),
        threat="2.3",
        what="ASAP_REGISTRATION",
        reason=f"PE identifier {it.sibling:#010x} is not its own",
    )


@pytest.mark.rfc("threats 2.3: nobody registers or deregisters another element")
def test_it_cannot_register_a_siblings_address(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 1)
    spare = pe_identifiers(it.leaf.identity.pod_uid)[1]
    it.attacks_everywhere(
        pool,
        registration(it.identifier, it.siblings_address),
        registration(spare, it.siblings_address),  # an identifier that is its own, and free
        registration(it.identifier, it.address, listens=it.siblings_address),  # the registrars' keep-alives for it
        threat="2.3",
        what="ASAP_REGISTRATION",
        reason=f"registers {it.siblings_address}, which is not its own address",
    )


@pytest.mark.rfc("RFC 5352 3.2: nobody deregisters another element")
@pytest.mark.rfc("threats 2.3: nobody registers or deregisters another element")
def test_it_cannot_deregister_a_sibling(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 2)
    it.attacks_everywhere(
        pool,
        asap.Deregistration(pool_handle=HANDLE, pe_identifier=it.sibling),
        threat="2.3",
        what="ASAP_DEREGISTRATION",
        reason=f"PE identifier {it.sibling:#010x} is not its own",
    )


@pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
@pytest.mark.parametrize(("number", "handle"), [(0, b"other"), (1, b"Echo"), (2, b"echo\0")])
def test_it_cannot_register_another_handle(pool: RunningPool, leaves: list[Leaf], number: int, handle: bytes) -> None:
    it = Compromised(pool, leaves, number)
    it.attacks_everywhere(
        pool,
        registration(it.identifier, it.address, handle),
        threat="2.4",
        what="ASAP_REGISTRATION",
        reason="it may not register in another pool than its own",
    )


def test_it_cannot_deregister_itself_from_another_handle(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 4)
    it.attacks_everywhere(
        pool,
        asap.Deregistration(pool_handle=b"other", pe_identifier=it.identifier),
        threat="2.4",
        what="ASAP_DEREGISTRATION",
        reason="it may not deregister in another pool than its own",
    )


def test_it_cannot_answer_a_keep_alive_for_a_sibling(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 3)
    for registrar in pool.registrars:
        reason = f"PE identifier {it.sibling:#010x} is not its own"
        expected = Refusal("2.3", "ASAP_ENDPOINT_KEEP_ALIVE_ACK", reason, it.rogue.name)
        with refused(pool, registrar, expected), asap_line(it.rogue, registrar) as line:
            line.say(asap.EndpointKeepAliveAck(pool_handle=HANDLE, pe_identifier=it.sibling))
            line.say(asap.HandleResolution(pool_handle=HANDLE))  # the acknowledgement itself has no answer
            assert isinstance(line.hear()[0], asap.HandleResolutionResponse)


def test_what_registrars_say_to_each_other_means_nothing_here(pool: RunningPool, leaves: list[Leaf]) -> None:
    """ASAP and ENRP number their messages alike; by its port an association carries one of them."""
    it = Compromised(pool, leaves, 4)
    for registrar in pool.registrars:
        dump = pool.dump(registrar)
        assert dump is not None
        victim = int(dump["peers"][0]["server_id"], 16)
        said = usurping(victim, victim, it.sibling, it.address)
        with unmoved(pool, registrar), asap_line(it.rogue, registrar) as line:
            before = pool.metric(registrar, "rserpool_malformed_total")
            seen = len(pool.log(registrar.name))
            line.say(*said, asap.HandleResolution(pool_handle=HANDLE))
            *errors, last = line.hear(len(said) + 1)
            assert [causes(error) for error in errors] == [[CauseCode.INVALID_VALUES]] * len(said)
            assert isinstance(last, asap.HandleResolutionResponse)
            assert pool.metric(registrar, "rserpool_malformed_total") - before == len(said)
            told(pool.log(registrar.name)[seen:].splitlines(), "not a message: offset ", it.rogue.name)


def test_five_hundred_refusals_are_counted_and_hardly_logged(pool: RunningPool, leaves: list[Leaf]) -> None:
    it = Compromised(pool, leaves, 5)
    registrar = pool.registrars[0]
    before = pool.log(registrar.name)
    expected = Refusal("2.3", "ASAP_REGISTRATION", "is not its own", it.rogue.name, 500)
    with refused(pool, registrar, expected):
        for _ in range(5):  # an association is ended after a hundred and ten
            with asap_line(it.rogue, registrar) as line:
                line.say(*[registration(it.sibling, it.address)] * 100)
                assert len(line.hear(10)) == 10
    assert len(pool.log(registrar.name).splitlines()) - len(before.splitlines()) <= MOST_LINES
