# SPDX-License-Identifier: Apache-2.0
"""The sidecar as its kubelet and its preStop hook see it: alive, ready (latched), drained; and a second one beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rserpool.asap.element import Element
from rserpool.asap.events import ElementState, ElementStateChanged
from rserpool.daemon.control import ControlError, control
from rserpool.daemon.sections import ControlSection, PoolSection, SecuritySection
from rserpool.transport.http import HttpServer, Response, Target, ask
from rserpool_sidecar.config import (
    ApplicationSection,
    HealthSection,
    NetworkSection,
    RegistrarsSection,
    SidecarSettings,
)
from rserpool_sidecar.daemon import SidecarDaemon
from support.rig_health import HERE, Application
from support.rig_identity import quickly

HTTP, ASAP = 8081, 3864


def settings(application: int, path: Path) -> SidecarSettings:
    return SidecarSettings(
        pool=PoolSection(namespace="demo", name="echo"),
        network=NetworkSection(address=HERE, asap_port=ASAP, http_port=HTTP),
        registrars=RegistrarsSection(addresses=((str(HERE), 1),)),
        application=ApplicationSection(port=application),
        health=HealthSection(),
        security=SecuritySection(mode="Insecure"),
        control=ControlSection(socket=path),
    )


async def probe(path: str) -> Response:
    return await ask(Target(host=str(HERE), port=HTTP), "GET", path)


async def ready() -> bool:
    answer = await probe("/readyz")
    assert (await probe("/healthz")).status == 200, "alive whatever happens, or the kubelet kills it"
    assert answer.status in (200, 503)
    return answer.status == 200


def running(path: Path, test: Callable[[SidecarDaemon, Application], Coroutine[Any, Any, None]]) -> int:
    """A sidecar beside a healthy application, with no registrar anywhere."""

    async def run() -> int:
        async with Application().running() as application:
            daemon, stop = SidecarDaemon(settings(application.port, path), None), asyncio.Event()
            life = asyncio.ensure_future(daemon.run(stop))
            await asyncio.sleep(0.5)
            try:
                await test(daemon, application)
            finally:
                stop.set()
            return await life

    return quickly(run())


def became(daemon: SidecarDaemon, state: ElementState) -> None:
    """The machine says so."""
    daemon._observer.event(ElementStateChanged(state=state, pool_handle=b"echo", pe_identifier=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_it_is_alive_but_not_ready_before_the_first_registration_and_says_why(path: Path) -> None:
    async def test(_: SidecarDaemon, __: Application) -> None:
        assert not await ready()
        status = json.loads((await probe("/readyz")).body)
        assert (status["healthy"], status["registered"], status["pool"]) == (True, False, "demo/echo")

    assert running(path, test) == 0


def test_once_registered_it_stays_ready_without_any_registrar(path: Path) -> None:
    """A fault of the control plane must not take applications out of their Services."""

    async def test(daemon: SidecarDaemon, _: Application) -> None:
        became(daemon, ElementState.REGISTERED)
        assert await ready()
        for state in (ElementState.NO_HOME, ElementState.REGISTERING):
            became(daemon, state)
            assert await ready()

    running(path, test)


def test_an_application_that_is_ill_is_not_ready_and_one_that_is_well_again_is(path: Path) -> None:
    async def test(daemon: SidecarDaemon, application: Application) -> None:
        became(daemon, ElementState.REGISTERED)
        await application.down()
        await asyncio.sleep(3)
        assert not await ready()
        assert "connection refused" in (await control(path, "GET", "/status"))["health_reason"]
        await application.up()
        await asyncio.sleep(3)
        assert await ready()

    running(path, test)


def test_a_drained_sidecar_is_never_ready_or_registered_again(path: Path) -> None:
    async def test(daemon: SidecarDaemon, application: Application) -> None:
        became(daemon, ElementState.REGISTERED)
        left = await control(path, "POST", "/drain", timeout=60)
        assert left["draining"] is True
        assert not await ready()
        await application.down()
        await asyncio.sleep(3)
        await application.up()
        await asyncio.sleep(3)
        status = await control(path, "GET", "/status")
        assert (status["healthy"], status["draining"], status["state"]) == (True, True, left["state"])
        assert not await ready()

    running(path, test)


def test_drained_in_vain_it_ends_at_once_when_it_is_told_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without registrars the patience of the two together must fit into one grace period."""

    async def run() -> tuple[float, float]:
        clock = asyncio.get_running_loop().time
        async with Application().running() as application:
            daemon, stop = SidecarDaemon(settings(application.port, path), None), asyncio.Event()
            life = asyncio.ensure_future(daemon.run(stop))
            await asyncio.sleep(0.5)
            monkeypatch.setattr(Element, "leave", lambda *_: [])  # nobody answers
            began = clock()
            await control(path, "POST", "/drain", timeout=60)
            drained = clock()
            stop.set()
            await life
            return drained - began, clock() - drained

    drain, end = quickly(run())
    assert 5.0 <= drain < 5.5
    assert end < 0.5


@pytest.mark.parametrize("body", [None, {}, [], {"load": "x"}, {"load": -0.1}, {"load": 1.1}, {"load": None}, "load"])
def test_a_load_that_is_none_is_refused_with_what_to_write(path: Path, body: Any) -> None:
    async def test(_: SidecarDaemon, __: Application) -> None:
        with pytest.raises(ControlError, match="a number from 0 to 1"):
            await control(path, "POST", "/load", body)
        assert (await control(path, "POST", "/load", {"load": 0.25}))["load"] == 0.25

    running(path, test)


def test_its_metrics_are_there_and_its_socket_goes_with_it(path: Path) -> None:
    async def test(_: SidecarDaemon, __: Application) -> None:
        text = (await probe("/metrics")).body.decode().splitlines()
        assert {"rserpool_element_registered 0.0", "rserpool_application_healthy 1.0"} <= set(text)
        assert path.stat().st_mode & 0o777 == 0o600

    running(path, test)
    assert not path.exists()


def test_a_second_one_that_finds_its_port_taken_leaves_the_firsts_socket_alone(path: Path) -> None:
    """Started twice by mistake: the first goes on, and can still be drained."""

    async def test(_: SidecarDaemon, application: Application) -> None:
        second = SidecarDaemon(settings(application.port, path), None)
        assert await second.run(asyncio.Event()) == 1
        assert (await control(path, "GET", "/status"))["pool"] == "demo/echo"

    running(path, test)


def test_a_second_one_on_another_port_does_not_take_the_firsts_socket(path: Path) -> None:
    async def run() -> None:
        first = HttpServer({})
        await first.listen_unix(path)
        try:
            assert await SidecarDaemon(settings(7, path), None).run(asyncio.Event()) == 1
            with pytest.raises(ControlError, match="404"):
                await control(path, "GET", "/status")
        finally:
            await first.close()

    quickly(asyncio.wait_for(run(), 20))
