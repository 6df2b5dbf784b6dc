# SPDX-License-Identifier: Apache-2.0
"""An element's load over its life, in virtual time: one measurement at a time, failures said once, changes followed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rserpool.asap.events import ElementState
from rserpool.daemon.control import control
from rserpool.daemon.sections import PoolSection, SecuritySection
from rserpool.transport.http import HttpServer, Request, Response
from rserpool.wire import policies
from rserpool.wire.policies import MAX_LOAD
from rserpool_sidecar.config import (
    ApplicationSection,
    HealthSection,
    NetworkSection,
    PolicySection,
    RegistrarsSection,
    SidecarSettings,
)
from rserpool_sidecar.daemon import SidecarDaemon
from rserpool_sidecar.load.asking import UnmeasuredError
from rserpool_sidecar.load.measuring import Loading
from rserpool_sidecar.load.section import LoadSection
from support.rig_health import HERE
from support.rig_identity import quickly
from support.rig_virtual import virtually

Answer = float | str | None


def settings(policy: str = "LeastUsed", **load: Any) -> SidecarSettings:
    section: dict[str, Any] = {"source": "cpu", "smoothing": 0.0, **load}
    return SidecarSettings(
        pool=PoolSection(namespace="demo", name="echo"),
        network=NetworkSection(address=HERE, http_port=0),
        registrars=RegistrarsSection(addresses=((str(HERE), 1),)),
        application=ApplicationSection(port=7007),
        security=SecuritySection(mode="Insecure"),
        policy=PolicySection(type=policy),
        load=LoadSection(**section),
    )


class Rig:
    """A load that is measured by a function of time, in virtual time from 0."""

    def __init__(self, measure: Callable[[float], Answer], given: SidecarSettings, takes: float = 0.0) -> None:
        self.loading = Loading(given)
        self.began = asyncio.get_running_loop().time()
        self.registered: list[tuple[float, float]] = []
        self.asked: list[float] = []
        self.at_once = 0
        self.loading.on_change = lambda load: self.registered.append((round(self.now, 3), load))

        async def measuring() -> float | None:
            self.asked.append(round(self.now, 3))
            self.at_once += 1
            assert self.at_once == 1, "never more than one at a time"
            await asyncio.sleep(takes)
            self.at_once -= 1
            found = measure(self.now)
            if isinstance(found, str):
                raise UnmeasuredError(found)
            return found

        if self.loading._measure is not None:
            self.loading._measure = measuring

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    async def run(self, seconds: float, meanwhile: Callable[[Loading], Awaitable[None]] | None = None) -> None:
        life = asyncio.ensure_future(self.loading.run())
        try:
            if meanwhile is not None:
                await meanwhile(self.loading)
            await asyncio.sleep(seconds - self.now)
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


def play(
    measure: Callable[[float], Answer],
    seconds: float,
    meanwhile: Callable[[Loading], Awaitable[None]] | None = None,
    *,
    takes: float = 0.0,
    policy: str = "LeastUsed",
    **load: Any,
) -> Rig:
    async def scenario() -> Rig:
        rig = Rig(measure, settings(policy, **load), takes)
        await rig.run(seconds, meanwhile)
        return rig

    return virtually(scenario())


def test_it_is_measured_every_interval_and_a_slow_answer_is_waited_for() -> None:
    assert play(lambda _: 0.5, 5.5).asked == [0, 1, 2, 3, 4, 5]
    assert play(lambda _: 0.5, 5.5, takes=1.5).asked == [0, 1.5, 3, 4.5]


def test_a_load_that_goes_up_and_down_is_registered_as_it_goes() -> None:
    rig = play(lambda now: 0.25 if 10 <= now < 20 else 0.75, 30.5)
    assert rig.registered == [(1.0, 0.75), (10.0, 0.25), (20.0, 0.75)]


def test_a_failure_is_said_once_and_the_element_counts_as_full_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rserpool.sidecar")
    rig = play(lambda now: "it is away" if 3 <= now < 25 else 0.25, 40.0, keep=10.0)
    assert rig.registered == [(1.0, 0.25), (13.0, 1.0), (25.0, 0.25)]
    assert [r.message.partition(";")[0] for r in caplog.records] == [
        "the load is not measured",
        "the load is measured again",
    ]
    status, gauges = rig.loading.status(), rig.loading.gauges()
    assert (status["load"], status["load_registered"], status["load_source"]) == (0.25, 0.25, "cpu")
    assert "load_reason" not in status
    assert gauges["rserpool_load_measurements_total|outcome=failed"][1] == 22
    assert gauges["rserpool_load_measurements_total|outcome=measured"][1] == 18


def test_a_measurement_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rserpool.sidecar")
    rig = play(lambda now: "it stumbles" if round(now) % 2 else 0.25, 600.0)
    assert 10 <= len(caplog.records) <= 22  # one failure a minute, and its end
    assert rig.loading.gauges()["rserpool_load_measurements_total|outcome=failed"][1] == 300
    assert rig.registered == [(1.0, 0.25)]


def test_what_cannot_be_measured_at_all_is_told_in_the_status() -> None:
    rig = play(lambda _: "nobody can see it", 60.0)
    assert rig.registered == []  # it has registered as full
    assert rig.loading.registered == 1.0
    status = rig.loading.status()
    assert (status["load"], status["load_known"], status["load_reason"]) == (1.0, False, "nobody can see it")


@pytest.mark.parametrize("policy", ["RoundRobin", "WeightedRandom", "Priority"])
def test_a_policy_that_goes_by_no_load_measures_nothing(policy: str) -> None:
    rig = play(lambda _: 0.5, 10.0, policy=policy)
    assert (rig.asked, rig.registered) == ([], [])


def test_what_is_told_is_registered_at_once_but_not_more_often_than_the_minimum_interval() -> None:
    async def tell(loading: Loading) -> None:
        for at in range(10):
            await asyncio.sleep(0.25)
            loading.tell(at / 10)

    rig = play(lambda _: None, 20.0, tell, source="told", minimum_interval=1.0)
    assert [load for _, load in rig.registered] == [0.3, 0.7, 0.9]
    assert [at for at, _ in rig.registered] == [1.0, 2.0, 3.0]


def test_what_is_told_counts_until_it_is_to_be_measured_again() -> None:
    async def tell(loading: Loading) -> None:
        await asyncio.sleep(5)
        loading.tell(0.1)
        await asyncio.sleep(5)
        loading.tell(None)

    rig = play(lambda _: 0.5, 20.0, tell)
    assert rig.registered == [(1.0, 0.5), (5.0, 0.1), (10.0, 0.5)]


def test_other_rules_come_into_force_while_it_runs() -> None:
    async def change(loading: Loading) -> None:
        await asyncio.sleep(4.5)
        changed = loading._settings
        loading.reconfigure(replace(changed, load=replace(changed.load, minimum_change=0.5)))

    rig = play(lambda now: 0.5 - now / 100, 12.0, change)
    assert [at for at, _ in rig.registered] == [1.0, 3.0]


def test_another_source_is_measured_by_from_then_on() -> None:
    async def scenario() -> tuple[float, object]:
        async def busy(_: Request) -> Response:
            return Response(body=b"0.5")

        server = HttpServer({("GET", "/load"): busy})
        port = await server.listen(HERE, 0)
        loading = Loading(settings(interval=0.02, minimum_interval=0.02))
        life = asyncio.ensure_future(loading.run())
        try:
            await asyncio.sleep(0.1)
            unknown = loading.status().get("load_reason")
            loading.reconfigure(settings(source="http", port=port, interval=0.02, minimum_interval=0.02))
            async with asyncio.timeout(5):
                while loading.registered != 0.5:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
            return loading.registered, unknown
        finally:
            life.cancel()
            await server.close()

    registered, unknown = quickly(scenario())
    assert registered == 0.5
    assert "cannot see" in str(unknown)


def test_the_sidecar_registers_with_what_its_application_says(tmp_path: Path) -> None:
    """The machine of a whole sidecar, a real application; no registrar is needed to see what it would register."""

    async def scenario() -> None:
        answers = iter([b"0.5"])

        async def load(_: Request) -> Response:
            return Response(body=next(answers, b'{"load": 0.75}'))

        application = HttpServer({("GET", "/busy"): load})
        port = await application.listen(HERE, 0)
        path = tmp_path / "s"
        given = replace(
            settings(source="http", path="/busy", interval=0.05, minimum_interval=0.05, smoothing=0.0),
            application=ApplicationSection(port=port),
            health=HealthSection(),
        )
        given = replace(given, control=replace(given.control, socket=path))
        daemon, stop = SidecarDaemon(given, None), asyncio.Event()
        assert daemon._load.registered == 1.0
        life = asyncio.ensure_future(daemon.run(stop))
        try:
            async with asyncio.timeout(10):
                wanted = policies.LeastUsed(round(MAX_LOAD * 0.75))
                while daemon._machine is None or daemon._machine._policy != wanted:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
            status = await control(path, "GET", "/status")
            assert (status["load"], status["load_source"], status["load_known"]) == (0.75, "http", True)
            assert status["state"] != ElementState.STOPPED.value
            told = await control(path, "POST", "/load", {"load": 0.125})
            assert told["load"] == 0.125
            again = json.loads(json.dumps(await control(path, "POST", "/load", {"load": "measured"})))
            assert again["load"] == 0.75
        finally:
            stop.set()
            await life
            await application.close()

    quickly(scenario())
