# SPDX-License-Identifier: Apache-2.0
"""An association ends with its peer's leaf, and whoever opened it hears of that in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rserpool.asap.authorisation import Role
from rserpool.identity.certificates import read_leaf
from rserpool.transport import tcp
from rserpool.transport.leaves import AGEING, LAST_SECOND, Leaves
from rserpool.transport.tls import Credentials
from rserpool.wire import Ppid
from support.rig_transport import comes, credentials, dial, listening, message, plays, security

DAY = 86400.0
BORN = 1_000_000.0
DIES = BORN + DAY


def leaves(*holders: str, now: float = BORN, seed: int = 1) -> Leaves[str]:
    made: Leaves[str] = Leaves(Random(seed).uniform)
    for holder in holders:
        made.add(holder, (BORN, DIES), now)
    return made


# -- when


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
def test_a_leaf_is_good_to_the_last_second_that_it_names_and_no_longer() -> None:
    found = leaves("somebody")
    found.look(DIES - 1)
    assert found.look(DIES + LAST_SECOND - 0.001)[0] == []
    assert found.look(DIES + LAST_SECOND) == (["somebody"], [])
    assert len(found) == 0
    assert found.look(DIES + 10 * DAY) == ([], [])


@pytest.mark.parametrize("seed", range(20))
def test_a_leaf_ages_when_its_holder_should_have_another_one_and_not_before(seed: int) -> None:
    found = leaves("somebody", seed=seed)
    ages = found.next()
    assert DIES - AGEING[1] * DAY <= ages <= DIES - AGEING[0] * DAY
    assert ages > BORN + DAY * 2 / 3
    assert found.look(ages - 0.001) == ([], [])
    assert found.look(ages) == ([], ["somebody"])


def test_many_leaves_of_one_age_do_not_age_at_once() -> None:
    found = leaves(*(str(n) for n in range(1000)))
    told: set[str] = set()
    firsts = []
    for hour in range(24):
        ageing = set(found.look(BORN + hour * 3600)[1])
        firsts.append(len(ageing - told))
        told |= ageing
    assert len(told) == 1000
    assert max(firsts) < 400


def test_an_association_that_is_not_replaced_is_told_of_again_and_again_but_not_without_end() -> None:
    found, times = leaves("somebody"), []
    while found.next() < DIES:
        times.append(found.next())
        assert found.look(times[-1]) == ([], ["somebody"])
    assert 5 < len(times) < 30
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))
    assert found.look(found.next()) == (["somebody"], [])


def test_an_association_opened_with_a_leaf_that_is_old_already_is_not_told_of_at_once() -> None:
    found = leaves("somebody", now=DIES - 100)
    assert found.look(DIES - 60) == ([], [])
    assert found.look(DIES - 49) == ([], ["somebody"])


def test_who_has_ended_is_told_of_no_more() -> None:
    found = leaves("somebody", "another")
    found.remove("somebody")
    found.remove("somebody")
    found.look(DIES - 1)
    assert found.look(DIES + 2)[0] == ["another"]


def test_a_clock_that_is_set_back_brings_nothing_and_one_set_forward_all_at_once() -> None:
    found = leaves("somebody")
    assert found.look(BORN - DAY) == ([], [])
    assert found.look(DIES + DAY) == (["somebody"], [])


@pytest.mark.parametrize("hours", [-1, 1, 6])
def test_who_opened_it_hears_of_its_own_leaf_too_but_only_the_peers_leaf_ends_it(hours: int) -> None:
    found: Leaves[str] = Leaves(Random(1).uniform)
    over = BORN + hours * 3600
    found.add("somebody", (BORN, DIES), BORN, own=(over - DAY, over))
    if hours < 0:
        assert found.next() == DIES + LAST_SECOND, "there is nothing left to wait for"
    else:
        assert BORN < found.next() <= over - AGEING[0] * DAY or found.next() == BORN + hours * 1800
        assert found.look(found.next()) == ([], ["somebody"])
        while found.next() < over:
            assert found.look(found.next()) == ([], ["somebody"])
    assert found.look(DIES) == ([], [])
    assert found.look(DIES + 2)[0] == ["somebody"]


# -- on associations


@dataclass
class Clock:
    """A wall clock that is set."""

    now: float

    def __call__(self) -> float:
        return self.now


def end_of(shown: Credentials) -> float:
    return read_leaf(shown.chain[0].public_bytes(Encoding.DER)).not_after.timestamp()


def ends_of(role: Role) -> float:
    return end_of(credentials(role))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is looked at all the time."""
    monkeypatch.setattr(tcp, "LOOK", 0.01)


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
@plays
@pytest.mark.parametrize(("service", "threat"), [(Ppid.ASAP, "2.1"), (Ppid.ENRP, "2.5")])
async def test_an_association_somebody_opened_ends_with_its_leaf(service: Ppid, threat: str) -> None:
    role = Role.ELEMENT if service is Ppid.ASAP else Role.REGISTRAR
    clock = Clock(ends_of(role) - 1800)
    there = await listening(security(), service=service, clock=clock)
    _, link = await dial(there.endpoint, security(role, credentials(role)), service=service)
    link.send(message())
    await there.told.until(lambda: there.told.messages)
    assert there.told.downs == []
    clock.now += 1802
    await there.told.until(lambda: there.told.downs)
    assert there.told.downs == ["its leaf has expired"]
    assert there.told.refusals == [(threat, "association", "its leaf has expired")]
    assert there.network.associations == 0


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
@plays
async def test_an_association_that_we_opened_ends_with_the_leaf_of_whom_we_called() -> None:
    clock = Clock(ends_of(Role.REGISTRAR) - 1800)
    there = await listening(security())
    told = type(there.told)()
    network, _ = await dial(there.endpoint, security(Role.ELEMENT), told=told, clock=clock)
    clock.now += 1700
    await told.until(lambda: told.aged)
    assert told.downs == []
    clock.now += 200
    await told.until(lambda: told.downs)
    assert told.refusals == [("2.6", "association", "its leaf has expired")]
    assert network.associations == 0
    await there.told.until(lambda: there.told.downs)


@plays
async def test_an_association_that_we_opened_with_a_leaf_that_is_older_than_the_peers_is_told_of_in_time() -> None:
    old = credentials(Role.ELEMENT, 5, ago=timedelta(minutes=50))
    clock = Clock(end_of(old) - 600)
    there = await listening(security())
    told = type(there.told)()
    _, link = await dial(there.endpoint, security(Role.ELEMENT, old), told=told, clock=clock)
    assert told.aged == []
    clock.now += 9 * 60
    await told.until(lambda: told.aged)
    assert told.aged == [link]
    assert told.downs == []


@plays
async def test_who_showed_no_leaf_stays_whatever_the_clock_says() -> None:
    clock = Clock(ends_of(Role.REGISTRAR))
    there = await listening(security(), clock=clock)
    _, link = await dial(there.endpoint, security(Role.USER))
    await there.told.until(lambda: there.told.ups)
    clock.now += 10 * DAY
    link.send(message())
    await there.told.until(lambda: there.told.messages)
    assert there.network.associations == 1
    assert there.network._looking is None


@plays
async def test_a_network_that_was_closed_looks_at_no_clock() -> None:
    clock = Clock(ends_of(Role.ELEMENT) - 10)
    there = await listening(security(), clock=clock)
    network, _ = await dial(there.endpoint, security(Role.ELEMENT))
    await comes(lambda: there.network.associations)
    await there.network.close()
    assert there.network._looking is None or there.network._looking.cancelled()
    await network.close()
    assert there.told.refusals == []
