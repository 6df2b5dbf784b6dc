# SPDX-License-Identifier: Apache-2.0
"""Leaves that end, with real processes: a stolen one, wrong clocks, and an authority that is away for too long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from rserpool.client import PoolUser, PoolUserError
from rserpool.wire import asap
from support import running
from support.rig_refusals import HANDLE, Refusal, asap_line, refused
from support.rogue import Rogue, stolen
from support.running import RunningPool, manifest, pool_running, started

SKEW = Path(running.__file__).parent / "skew"


def leaves(seconds: int) -> str:
    return f"  security: {{signer: {{type: Embedded}}, leafDuration: {seconds}s}}\n"


def expired(pool: RunningPool, name: str) -> int:
    """How many associations a process has ended because of a leaf."""
    return pool.log(name).count("its leaf has expired")


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
def test_an_association_opened_with_a_stolen_leaf_ends_with_the_leaf_and_those_of_honest_elements_stay() -> None:
    with pool_running(manifest(more=leaves(15)), "--restart", "0") as pool:
        started(pool)
        leaf, registrar = stolen(pool.directory), pool.registrars[0]
        rogue = Rogue(pool.elements[0].address, leaf)
        expected = Refusal("2.1", "association", "its leaf has expired", rogue.source)
        with refused(pool, registrar, expected, secrets=(leaf.key_pem,)), asap_line(rogue, registrar) as line:
            line.say(asap.HandleResolution(pool_handle=HANDLE))
            assert isinstance(line.hear()[0], asap.HandleResolutionResponse)
            line.socket.settimeout(30)
            assert line.fate() == "closed"
            assert 0 <= time.time() - leaf.not_after.timestamp() < 3
        pool.settled_with_all()


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
@pytest.mark.timeout(180)
def test_clocks_that_differ_by_less_than_a_third_of_a_leafs_life_disturb_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SKEW), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    monkeypatch.setenv("SKEWED", "r0=3,s1=-3")
    with pool_running(manifest(more=leaves(24)), "--restart", "0") as pool:
        started(pool)
        for _ in range(40):
            time.sleep(1)  # the rhythm of the look
            for registrar in pool.registrars:
                assert pool.metric(registrar, "rserpool_elements", state="known") == 3
                assert pool.metric(registrar, "rserpool_peers", state="active") == 2
        for registrar in pool.registrars:
            assert pool.metric(registrar, "rserpool_leaf_renewals_total") >= 2
            assert pool.metric(registrar, "rserpool_refusals_total") == 0
        assert abs(pool.metric(pool.registrars[0], "rserpool_leaf_not_after_timestamp_seconds") - time.time()) < 30


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
def test_a_clock_that_is_wrong_by_more_than_a_leafs_life_keeps_its_element_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SKEW), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    monkeypatch.setenv("SKEWED", "s1=7200")
    with pool_running(manifest(more=leaves(3600)), "--restart", "0") as pool:
        running.launched(pool)
        others = [e.transport for e in pool.elements if e.name != "echo-1"]
        pool.wait("it says why", lambda: "it has expired" in pool.log("echo-1/sidecar"))
        assert len(others) == 2
        pool.settled(others)


@pytest.mark.rfc("PROTOCOL 13.3: on expiry of a peer's credential its association ends")
@pytest.mark.timeout(240)
def test_an_authority_away_for_longer_than_a_leaf_lives_stops_the_pool_and_all_comes_back_by_itself() -> None:
    """Who gives the leaves is stopped; what users and elements say to each other goes on all the time."""
    with pool_running(manifest(more=leaves(12)), "--restart", "0") as pool:
        started(pool)
        pool.run(outage(pool))
        pool.settled_with_all(within=90)
        for element in pool.elements:
            assert running.is_alive(element.sidecar_pid)
        assert sum(expired(pool, r.name) for r in pool.registrars) >= 1
        assert pool.run(resolves(pool)) == 3


async def outage(pool: RunningPool) -> None:
    """An application's connection stands; the authority is away until every leaf is over."""
    async with PoolUser(pool.scope) as user, await user.connect("echo") as connection:
        os.kill(pool.process.pid, signal.SIGSTOP)
        try:
            served_until = await first_failure(pool)
            assert served_until > 2, "leaves that are good are good without their authority"
            connection.writer.write(b"still here\n")
            assert b"still here" in await asyncio.wait_for(connection.reader.readline(), 5)
        finally:
            os.kill(pool.process.pid, signal.SIGCONT)


async def first_failure(pool: RunningPool) -> float:
    """Resolve anew, as who comes now, until nobody answers any more; how many seconds that took."""
    began = time.monotonic()
    while time.monotonic() - began < 40:
        try:
            assert await resolves(pool) <= 3
        except PoolUserError:
            return time.monotonic() - began
        await asyncio.sleep(0.2)  # the rhythm of the traffic
    raise AssertionError("a registrar whose leaf is over is believed")


async def resolves(pool: RunningPool) -> int:
    async with PoolUser(pool.scope) as user:
        return len((await user.resolve("echo", fresh=True)).elements)
