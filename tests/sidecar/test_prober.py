# SPDX-License-Identifier: Apache-2.0
"""When an application is healthy: thresholds, pauses, and verdicts over its falls and returns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool_sidecar.config import HealthSection
from rserpool_sidecar.health import Probe, Prober, http_get, tcp_socket
from support.rig_health import HERE, Application
from support.rig_identity import quickly

Verdict = tuple[bool, str]


async def _never() -> str:
    pytest.fail("it is probed")


def judged(outcomes: Sequence[str], **section: Any) -> list[tuple[int, bool]]:
    """At which outcome which verdict was told."""
    prober, told = Prober(_never, HealthSection(**section)), list[tuple[int, bool]]()
    at = 0
    prober.on_change = lambda healthy, _: told.append((at, healthy))
    for at, outcome in enumerate(outcomes):  # noqa: B007 - the verdict's place
        prober.judge(outcome)
    return told


GOOD, BAD = "", "down"


@pytest.mark.parametrize(
    ("outcomes", "verdicts"),
    [
        ([GOOD], [(0, True)]),
        ([GOOD] * 5, [(0, True)]),
        ([BAD], []),
        ([BAD, BAD], [(1, False)]),
        ([BAD] * 9, [(1, False)]),
        ([GOOD, BAD, GOOD, BAD, GOOD], [(0, True)]),
        ([GOOD, BAD, BAD, GOOD], [(0, True), (2, False), (3, True)]),
        ([BAD, GOOD, BAD, BAD], [(1, True), (3, False)]),
    ],
)
def test_two_failures_in_a_row_are_a_verdict_and_one_success_is(
    outcomes: list[str], verdicts: list[tuple[int, bool]]
) -> None:
    assert judged(outcomes) == verdicts


def test_the_thresholds_are_the_sections() -> None:
    assert judged([GOOD] * 3, success_threshold=3) == [(2, True)]
    assert judged([GOOD, GOOD, BAD, GOOD, GOOD, GOOD], success_threshold=3) == [(5, True)]
    assert judged([GOOD, *[BAD] * 4, GOOD], failure_threshold=4) == [(0, True), (4, False), (5, True)]
    assert judged([BAD], failure_threshold=1) == [(0, False)]


def test_the_reason_is_that_of_the_verdict_and_none_while_healthy() -> None:
    prober, told = Prober(_never, HealthSection()), []
    assert (prober.healthy, prober.reason) == (None, "not probed yet")
    prober.on_change = lambda healthy, reason: told.append((healthy, reason))
    for outcome in (GOOD, "port 7: refused", "no answer within 1 s", GOOD):
        prober.judge(outcome)
    assert told == [(True, ""), (False, "no answer within 1 s"), (True, "")]
    assert (prober.healthy, prober.reason) == (True, "")


@given(outcomes=st.lists(st.sampled_from([GOOD, BAD, "other"]), max_size=40), failures=st.integers(1, 4))
def test_verdicts_alternate_and_follow_a_row_of_their_kind(outcomes: list[str], failures: int) -> None:
    told = judged(outcomes, failure_threshold=failures)
    assert all(one[1] is not other[1] for one, other in pairwise(told))
    for at, healthy in told:
        row = outcomes[max(0, at + 1 - (1 if healthy else failures)) : at + 1]
        assert all(bool(outcome) is not healthy for outcome in row)


# -- in time, against real ports


async def watch(
    application: Application, probe: Probe, section: HealthSection, script: Sequence[float]
) -> list[tuple[float, bool]]:
    """Probe while the application goes down and comes up in turn, after so many seconds each."""
    loop = asyncio.get_running_loop()
    began, told = loop.time(), []
    prober = Prober(probe, section)
    prober.on_change = lambda healthy, _: told.append((loop.time() - began, healthy))
    probing = asyncio.ensure_future(prober.run())
    for n, pause in enumerate(script):
        await asyncio.sleep(pause)
        await (application.up() if n % 2 else application.down())
    await asyncio.sleep(5)
    assert not probing.done()
    probing.cancel()
    await application.down()
    return told


@pytest.mark.parametrize("kind", ["tcpSocket", "httpGet"])
def test_a_fall_is_noticed_within_a_period_and_a_half_and_a_return_within_half_of_one(kind: str) -> None:
    """Down at 3.25 s: failures at 4.0 and 4.5; up again at 10.25 s: success at 10.5."""
    section, application = HealthSection(probe=kind), Application()

    async def run() -> list[tuple[float, bool]]:
        await application.up()
        probe = (
            tcp_socket(HERE, application.port, 1.0)
            if kind == "tcpSocket"
            else http_get(HERE, application.port, section)
        )
        return await watch(application, probe, section, [3.25, 7.0])

    (first, up), (fall, down), (back, again) = quickly(run())
    assert (up, down, again) == (True, False, True)
    assert first < 0.1
    assert fall == pytest.approx(4.5, abs=0.05)
    assert back == pytest.approx(10.5, abs=0.05)


def test_a_hung_application_is_out_after_two_timeouts_and_back_with_its_first_answer() -> None:
    application, section = Application(), HealthSection(probe="httpGet", timeout=0.5)

    async def run() -> list[tuple[float, bool]]:
        told: list[tuple[float, bool]] = []
        async with application.running():
            loop = asyncio.get_running_loop()
            prober, began = Prober(http_get(HERE, application.port, section), section), loop.time()
            prober.on_change = lambda healthy, _: told.append((loop.time() - began, healthy))
            probing = asyncio.ensure_future(prober.run())
            await asyncio.sleep(2.5)
            answer, application.answer = application.answer, None
            await asyncio.sleep(4)
            application.answer = answer
            await asyncio.sleep(3)
            probing.cancel()
        return told

    (_, _), (out, healthy), (back, again) = quickly(run())
    assert (healthy, again) == (False, True)
    assert 3.9 < out < 4.2
    assert 6.5 <= back < 7.6


def test_nothing_is_probed_before_the_initial_delay_and_then_once_a_period() -> None:
    times: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def probe() -> str:
            times.append(loop.time() - began)
            await asyncio.sleep(0.3)
            return BAD if len(times) in (3, 4) else GOOD

        probing = asyncio.ensure_future(Prober(probe, HealthSection(initial_delay=5.0, period=2.0)).run())
        await asyncio.sleep(14.5)
        probing.cancel()

    quickly(run())
    assert times == pytest.approx([5.0, 7.0, 9.0, 10.0, 11.0, 13.0], abs=0.01)


def test_a_probe_that_takes_longer_than_a_period_is_not_overtaken_by_the_next() -> None:
    running = most = 0

    async def run() -> int:
        count = 0

        async def probe() -> str:
            nonlocal running, most, count
            running, count = running + 1, count + 1
            most = max(most, running)
            await asyncio.sleep(3.0)
            running -= 1
            return GOOD

        probing = asyncio.ensure_future(Prober(probe, HealthSection()).run())
        await asyncio.sleep(31.0)
        probing.cancel()
        return count

    assert quickly(run()) == 11
    assert most == 1


# -- probing in another way


def test_a_verdict_stands_until_the_new_way_of_probing_has_come_to_one() -> None:
    async def run() -> None:
        loop, asked, told = asyncio.get_running_loop(), list[tuple[float, str]](), list[tuple[float, bool]]()

        def way(name: str, outcome: str) -> Probe:
            async def probe() -> str:
                asked.append((loop.time(), name))
                return outcome

            return probe

        prober = Prober(way("old", GOOD), HealthSection(period=100))
        prober.on_change = lambda healthy, _: told.append((loop.time(), healthy))
        probing = asyncio.ensure_future(prober.run())
        await asyncio.sleep(10)
        assert prober.healthy is True
        changed = loop.time()
        prober.replace(way("new", BAD), HealthSection(period=4, failure_threshold=3))
        assert prober.healthy is True
        await asyncio.sleep(20)
        at, verdict = told[-1]
        assert not verdict
        assert [name for _, name in asked[:2]] == ["old", "new"]
        assert asked[1][0] - changed < 0.2, "it does not wait for the old way's period"
        assert 3.9 < at - changed < 4.5, "three failures, half a period apart"
        probing.cancel()

    quickly(run())


def test_an_outcome_of_the_old_way_that_comes_late_counts_for_nothing() -> None:
    async def run() -> None:
        async def slow() -> str:
            await asyncio.sleep(5)
            return BAD

        async def good() -> str:
            return GOOD

        prober = Prober(slow, HealthSection(failure_threshold=1))
        probing = asyncio.ensure_future(prober.run())
        await asyncio.sleep(1)
        prober.replace(good, HealthSection())
        await asyncio.sleep(10)
        assert prober.healthy is True
        probing.cancel()

    quickly(run())
