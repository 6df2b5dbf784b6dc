# SPDX-License-Identifier: Apache-2.0
"""Registrars that die, hang and come back: their elements have another home in time, and nothing is lost.

The limits are three times what the benchmarks hold us to: machines of CI are slow.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from rserpool.client import PoolUser
from support.goals import TIMES
from support.running import (
    RegistrarProcess,
    RunningPool,
    elements_of,
    is_alive,
    manifest,
    pool_running,
    started,
)

TAKEN_OVER = TIMES * 3.0
"""Seconds."""


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(), "--restart", "1") as running:
        started(running)
        yield running


def everybody(pool: RunningPool) -> list[str]:
    return [e.transport for e in pool.elements]


def server_ids(pool: RunningPool) -> dict[str, str]:
    return {name: dump["server_id"] for name, dump in pool.dumps().items()}


def is_served(pool: RunningPool) -> bool:
    """A pool user that starts now finds all elements."""

    async def ask() -> int:
        async with PoolUser(pool.scope) as users:
            return len((await users.resolve("echo", fresh=True)).elements)

    return bool(pool.run(ask()) == len(pool.elements))


@pytest.mark.rfc("RFC 3237 2.1: every registrar of a scope can be replaced while it runs")
@pytest.mark.rfc("RFC 5353 3.2.1: the server ID is random, not 0, and new at each start")
@pytest.mark.rfc("PROTOCOL 9.9: registrars reach an element where it listens")
@pytest.mark.rfc("RFC 3237 2.1: no single point of failure")
@pytest.mark.rfc("RFC 3237 2.2: failures of registrars are noticed and their elements taken over")
def test_a_killed_home_is_taken_over_and_its_next_life_has_everything_and_a_new_id(pool: RunningPool) -> None:
    victim = pool.home_of(pool.elements[0])
    before = server_ids(pool)[victim.name]
    send(victim, signal.SIGKILL)
    pool.settled(everybody(pool), without=[victim.name], within=TAKEN_OVER)
    assert is_served(pool)
    pool.settled_with_all()
    after = server_ids(pool)
    assert after[victim.name] != before
    for dump in pool.dumps().values():
        assert before not in {e["home"] for e in elements_of(dump["handlespace"])}
        assert before not in dump["handlespace"]["checksums"]


@pytest.mark.rfc("RFC 3237 2.2: failures of registrars are noticed and their elements taken over")
def test_a_stopped_home_is_taken_over_and_gives_way_when_it_goes_on(pool: RunningPool) -> None:
    victim = pool.home_of(pool.elements[0])
    send(victim, signal.SIGSTOP)
    try:
        pool.settled(everybody(pool), without=[victim.name], within=TAKEN_OVER)
        assert is_served(pool)
    finally:
        send(victim, signal.SIGCONT)
    pool.settled_with_all()


@pytest.mark.rfc("RFC 3237 2.1: no single point of failure")
def test_two_of_three_killed_at_once_leave_one_that_owns_everything(pool: RunningPool) -> None:
    *victims, left = pool.registrars
    for victim in victims:
        send(victim, signal.SIGKILL)
    pool.settled(everybody(pool), without=[victim.name for victim in victims], within=TAKEN_OVER)
    assert is_served(pool)
    own = pool.dump(left)
    assert own is not None
    assert {e["home"] for e in elements_of(own["handlespace"])} == {own["server_id"]}
    pool.settled_with_all()


def test_a_registrar_told_to_end_says_goodbye_and_nobody_notices(pool: RunningPool) -> None:
    victim = pool.home_of(pool.elements[1])
    judged = f"registrar {server_ids(pool)[victim.name]} is "
    before = {other.name: len(pool.log(other.name)) for other in pool.registrars}  # it may have been frozen earlier
    send(victim, signal.SIGTERM)
    pool.wait("it has ended", lambda: victim.pid is not None and not is_alive(victim.pid))
    pool.settled(everybody(pool), without=[victim.name], within=TAKEN_OVER)
    first = []
    for other in pool.registrars:
        if other.name != victim.name:
            lines = pool.log(other.name)[before[other.name] :].splitlines()
            first.append(next(line for line in lines if judged in line))
    # No timer had to run out: they were told, the second one possibly by the first one's takeover.
    assert all("its association ended" in line or "takes it over" in line for line in first)
    assert any("its association ended" in line for line in first)
    pool.settled_with_all()


@pytest.fixture(scope="module")
def quick() -> Iterator[RunningPool]:
    """A pool of two registrars whose dead processes are started again at once."""
    with pool_running(manifest(replicas=2), "--restart", "0.01") as running:
        started(running)
        yield running


@pytest.mark.rfc("RFC 5353 3.2.1: the server ID is random, not 0, and new at each start")
def test_a_home_restarted_at_once_has_a_new_id_and_its_elements_a_home(quick: RunningPool) -> None:
    victim = quick.home_of(quick.elements[0])
    before = server_ids(quick)[victim.name]
    send(victim, signal.SIGKILL)
    quick.wait("it lives again", lambda: lives_again(quick, victim))
    quick.settled_with_all()
    assert server_ids(quick)[victim.name] != before


@pytest.mark.rfc("PROTOCOL 18: after a minute without any registrar everything comes back by itself")
def test_both_of_two_killed_at_once_and_restarted_at_once_get_all_elements_back(quick: RunningPool) -> None:
    before = server_ids(quick)
    for victim in quick.registrars:
        send(victim, signal.SIGKILL)
    quick.wait("both live again", lambda: all(now != before.get(name) for name, now in server_ids(quick).items()))
    quick.settled_with_all()


def send(registrar: RegistrarProcess, number: signal.Signals) -> None:
    assert registrar.pid is not None
    os.kill(registrar.pid, number)


def lives_again(pool: RunningPool, victim: RegistrarProcess) -> bool:
    now = next(r for r in pool.registrars if r.name == victim.name)
    return now.pid is not None and now.pid != victim.pid
