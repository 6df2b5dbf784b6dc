# SPDX-License-Identifier: Apache-2.0
"""What is taken back counts nowhere any more within five seconds: three registrars, told over their control channels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509

from rserpool.asap.authorisation import Role
from rserpool.identity.revoked import serial_text
from rserpool.wire import CauseCode, asap
from support.rig_operated import OperatedPool, operated_pool
from support.rig_refusals import asap_line, causes, registration, stranger
from support.rogue import ENDED
from support.running import elements_of, transports

AT_ONCE = 5.0
"""Seconds within which it must count everywhere."""
BY_ITSELF = 60.0
"""Seconds within which an honest pod is back that may be."""


@pytest.fixture(scope="module")
def pool() -> Iterator[OperatedPool]:
    with operated_pool() as running:
        yield running


def of_members(pool: OperatedPool) -> list[str]:
    return [e.transport for e in pool.elements]


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_a_leaf_taken_back_by_its_serial_number_ends_its_association_and_its_element_is_gone_everywhere(
    pool: OperatedPool,
) -> None:
    leaf = pool.leaf(Role.ELEMENT)
    rogue = stranger(pool, leaf)
    serial = x509.load_pem_x509_certificates(leaf.chain)[0].serial_number
    joins = registration(leaf.pe_identifier, rogue.source)
    with asap_line(rogue, pool.registrars[0]) as line:
        line.say(joins)
        answer = line.hear()[0]
        assert isinstance(answer, asap.RegistrationResponse)
        assert not answer.reject
        pool.settled([*of_members(pool), f"tcp:{rogue.source}:7007"])
        pool.tell(serials=(serial_text(serial),))
        pool.settled(of_members(pool), within=AT_ONCE)
        line.socket.settimeout(AT_ONCE)
        assert line.fate() in ENDED
    number = f"element {leaf.pe_identifier:#010x} of pool echo removed"
    (removed,) = [entry for entry in pool.log(pool.registrars[0].name).splitlines() if number in entry]
    assert "its leaf was revoked" in removed, removed
    for registrar in pool.registrars:
        with asap_line(rogue, registrar) as line:
            line.say(joins)
            assert causes(line.hear()[0]) == [CauseCode.SECURITY_REJECTION]
        told = [entry for entry in pool.log(registrar.name).splitlines() if "its leaf was revoked" in entry]
        assert any(leaf.identity.pod_uid in entry and "threat=2.2" in entry for entry in told)
        assert "PRIVATE KEY" not in pool.log(registrar.name)
    pool.settled_with_all()


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
@pytest.mark.timeout(120)
def test_an_honest_pod_whose_leaf_was_taken_back_obtains_another_one_by_itself_and_is_a_member_again(
    pool: OperatedPool,
) -> None:
    element = pool.elements[1]
    uid = pool.uid(f"{element.name}/sidecar")
    before = pool.serial(uid)
    pool.tell(serials=(serial_text(before),))
    pool.wait("it is out of every registrar", lambda: is_out(pool, element.transport), AT_ONCE)
    pool.settled_with_all(BY_ITSELF)
    assert pool.serial(uid) != before


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
@pytest.mark.timeout(120)
def test_a_pod_that_was_taken_back_stays_out_and_is_given_no_other_leaf_until_it_is_forgiven(
    pool: OperatedPool,
) -> None:
    element = pool.elements[2]
    uid = pool.uid(f"{element.name}/sidecar")
    given = len(pool.served.operator.given)
    pool.tell(revoked=(uid,), serials=())
    pool.settled([t for t in of_members(pool) if t != element.transport], within=AT_ONCE)
    for registrar in pool.registrars:
        assert element.transport not in transports(pool.dumps()[registrar.name]["handlespace"])
    homes = {e["home"] for e in elements_of(pool.dumps()[pool.registrars[0].name]["handlespace"])}
    assert homes <= {d["server_id"] for d in pool.dumps().values()}
    assert len(pool.served.operator.given) == given
    pool.tell(revoked=())
    pool.settled_with_all(BY_ITSELF)


def is_out(pool: OperatedPool, transport: str) -> bool:
    """Whether no registrar has that element."""
    dumps = pool.dumps()
    return len(dumps) == 3 and not any(transport in transports(d["handlespace"]) for d in dumps.values())
