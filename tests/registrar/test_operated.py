# SPDX-License-Identifier: Apache-2.0
"""A registrar on a cluster: it starts with who it is and whom to ask, and is told the rest while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rserpool.asap.authorisation import Action, Authoriser, Role
from rserpool.daemon.control import control
from rserpool.daemon.enrolment import refusal
from rserpool.daemon.identity import keeper_of, operator_of
from rserpool.daemon.sections import PoolSection, SecuritySection
from rserpool.daemon.settings import load
from rserpool.identity import pe_identifiers
from rserpool.identity.certificates import leaf_of, proven_by
from rserpool.pool.settings import registrar_tables
from rserpool.transport.http import Target, ask
from rserpool_registrar.config import NetworkSection as RegistrarNetwork
from rserpool_registrar.config import RegistrarSettings
from rserpool_registrar.daemon import RegistrarDaemon
from rserpool_sidecar.config import (
    ApplicationSection,
    HealthSection,
    NetworkSection,
    RegistrarsSection,
    SidecarSettings,
)
from rserpool_sidecar.daemon import SidecarDaemon
from support.rig_health import HERE, Application
from support.rig_identity import TOKEN, UID, authority, credentials, identity, quickly
from support.rig_operator import OperatorServer, environment, server_pool
from support.rig_registrar import THERE, RegistrarHere, keeper

CA = authority()
MEMBER = str(uuid4())
"""UID of an element's pod."""


def tables(**changes: Any) -> dict[str, dict[str, object]]:
    """What the operator says to a registrar."""
    made = registrar_tables(server_pool(), "cluster.local")
    made = {name: {**made.get(name, {}), **changes.get(name, {})} for name in {*made, *changes}}
    return made if "peers" in made else {**made, "peers": {"addresses": [f"{HERE}:9902"]}}


class Rig:
    """A registrar that is started and ended."""

    def __init__(self, server: OperatorServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        server.tokens[TOKEN] = identity(Role.REGISTRAR)

    def start(self) -> None:
        settings = load(
            RegistrarSettings, None, environment(self.server, self.directory, HERE, UID, network_loopback="true")
        )
        operator = operator_of(settings.operator, settings.security, HERE)
        made = keeper_of(settings.pool, settings.security, Role.REGISTRAR, HERE, operated=True)
        self.stop = asyncio.Event()
        self.daemon = RegistrarDaemon(settings, made, operator)
        self.life = asyncio.ensure_future(self.daemon.run(self.stop))

    async def end(self) -> int:
        self.stop.set()
        return await self.life

    async def ready(self) -> tuple[int, str]:
        answer = await ask(Target(host=str(HERE), port=8080), "GET", "/readyz")
        return answer.status, answer.body.decode()

    async def has_refused(self) -> bool:
        """Whether a registration was refused since the pod ended."""
        metrics = (await ask(Target(host=str(HERE), port=8080), "GET", "/metrics")).body.decode()
        return 'rserpool_refusals_total{threat="2.2",what="ASAP_REGISTRATION"}' in metrics

    async def until(self, wanted: Callable[[], bool]) -> None:
        while not wanted():  # noqa: ASYNC110 - as somebody outside would look
            await asyncio.sleep(0.1)

    async def serving(self) -> None:
        await asyncio.sleep(0.05)
        while (await self.ready())[0] != 200:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.1)


Test = Callable[[Rig], Coroutine[Any, Any, None]]


def with_rig(directory: Path, test: Test, before: Callable[[OperatorServer], None] = lambda _: None) -> None:
    async def run() -> None:
        async with OperatorServer(CA).running() as server:
            rig = Rig(server, directory)
            before(server)
            rig.start()
            await asyncio.sleep(0.05)
            try:
                await test(rig)
            finally:
                assert await rig.end() == 0

    quickly(asyncio.wait_for(run(), 10_000))


async def element(rig: Rig, application: Application) -> tuple[SidecarDaemon, asyncio.Event, asyncio.Task[int]]:
    """A sidecar of another pod, which registers here."""
    settings = SidecarSettings(
        pool=rig.daemon._settings.pool,
        network=NetworkSection(address=THERE, http_port=0),
        registrars=RegistrarsSection(addresses=((str(HERE), 3864),)),
        application=ApplicationSection(port=application.port),
        health=HealthSection(),
    )
    daemon = SidecarDaemon(settings, keeper(credentials(CA, identity(uid=MEMBER)), Role.ELEMENT))
    stop = asyncio.Event()
    life = asyncio.ensure_future(daemon.run(stop))
    await rig.until(lambda: bool(daemon._status()["registered"]))
    return daemon, stop, life


def test_it_waits_for_identity_and_settings_says_so_and_serves(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        await rig.until(lambda: bool(rig.server.asked))
        await asyncio.sleep(0.5)
        assert await rig.ready() == (
            503, "waiting for its settings: the operator refuses: its pool is being deleted\n"
        )  # fmt: skip
        waiting = await control(tmp_path / "identity" / "control.sock", "GET", "/status")
        assert waiting["waiting"].startswith("waiting for its settings")
        state = rig.server.last["state"]
        assert (state["serving"], state["phase"], state["elements"]) == (False, "starting", 0)
        rig.server.settings("v1", tables())
        await rig.serving()
        told = await rig.server.until(lambda q: q["state"]["serving"])
        assert (told["role"], told["wait"], told["loaded"]["settings"]) == ("registrar", 2.0, "v1")
        assert told["state"] == {
            "server_id": f"{rig.daemon._machine.server_id:#010x}" if rig.daemon._machine else "",
            "serving": True, "phase": "serving",
            "pools": 0, "elements": 0, "own": 0, "attached": 0, "peers": 0,
        }  # fmt: skip
        status = await control(tmp_path / "identity" / "control.sock", "GET", "/status")
        assert "waiting" not in status

    def before(server: OperatorServer) -> None:
        server.given.extend(refusal(409, "NotYet", "its pool is being deleted") for _ in range(3))

    with_rig(tmp_path, test, before)


@pytest.mark.parametrize("phase", ["identity", "settings"])
def test_told_to_end_while_it_waits_it_ends_at_once(tmp_path: Path, phase: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.until(lambda: f"waiting for its {phase}" in rig.daemon._phase())
        await asyncio.sleep(1.3)
        before = asyncio.get_running_loop().time()
        assert await rig.end() == 0
        assert asyncio.get_running_loop().time() - before < 0.5

    with_rig(tmp_path, test, lambda server: server.tokens.clear() if phase == "identity" else None)


def test_started_again_it_serves_while_the_operator_is_away_and_what_was_kept_is_in_force(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.server.settings("v1", tables(users={"anonymous": False}))
        await rig.serving()
        await rig.end()
        rig.server.url = f"https://{HERE}:1"
        loop = asyncio.get_running_loop()
        began = loop.time()
        rig.start()
        await rig.serving()
        assert loop.time() - began < 1.0
        assert not rig.daemon._settings.users.anonymous
        assert rig.server.paths == ["/v1/enrol"]

    with_rig(tmp_path, test)


@pytest.mark.rfc("RFC 3237 2.11: timers can be set one by one")
def test_timers_limits_users_and_peers_change_while_it_runs(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.server.settings("v1", tables())
        await rig.serving()
        machine = rig.daemon._machine
        assert machine is not None
        async with RegistrarHere(CA).running():
            changed = tables(
                timers={"keep_alive": 7.0}, limits={"elements": 5}, users={"anonymous": False},
                peers={"addresses": [f"{HERE}:9902", f"{THERE}:9902", "no..name:9902"]},
            )  # fmt: skip
            rig.server.settings("v2", changed)
            await rig.server.until(lambda q: q["loaded"]["settings"] == "v2")
            config = machine._desk.config
            assert (config.timers.keep_alive, config.limits.elements) == (7.0, 5)
            told = await rig.server.until(lambda q: q["state"]["peers"] == 1)
            assert told["state"]["serving"]

    with_rig(tmp_path, test)


def test_an_element_whose_pod_ended_is_out_at_once_and_does_not_come_in_again(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.server.settings("v1", tables())
        await rig.serving()
        async with Application(host=str(THERE)).running() as application:
            daemon, stop, life = await element(rig, application)
            assert len(rig.daemon._elements()) == 1
            await rig.server.until(lambda q: q["state"]["own"] == 1)
            rig.server.say(ended={"version": "e1", "pod_uids": [MEMBER]})
            await rig.server.until(lambda q: q["loaded"]["ended"] == "e1")
            await rig.until(lambda: not rig.daemon._elements())
            await rig.until(lambda: daemon._status()["state"] == "rejected")
            assert await rig.has_refused()
            assert not set(pe_identifiers(MEMBER)) & {int(e["identifier"], 16) for e in rig.daemon._elements()}
            stop.set()
            await life

    with_rig(tmp_path, test)


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_an_element_whose_leaf_was_revoked_is_out_at_once_and_does_not_come_in_again(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.server.settings("v1", tables())
        await rig.serving()
        async with Application(host=str(THERE)).running() as application:
            daemon, stop, life = await element(rig, application)
            assert daemon._keeper is not None
            serial = f"{daemon._keeper.current.chain[0].serial_number:x}"
            await rig.server.until(lambda q: q["state"]["own"] == 1)
            rig.server.say(ended={"version": "e1", "pod_uids": [], "serials": [serial]})
            await rig.server.until(lambda q: q["loaded"]["ended"] == "e1")
            await rig.until(lambda: not rig.daemon._elements())
            await rig.until(lambda: daemon._status()["state"] == "rejected")
            assert await rig.has_refused()
            rig.server.say(ended={"version": "e2", "pod_uids": [], "serials": []})
            await rig.until(lambda: len(rig.daemon._elements()) == 1)
            stop.set()
            await life

    with_rig(tmp_path, test)


def test_pods_that_ended_before_it_began_are_refused_from_the_first_moment(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        rig.server.settings("v1", tables())
        await rig.serving()
        async with Application(host=str(THERE)).running() as application:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await element(rig, application)
        assert rig.daemon._elements() == []
        assert await rig.has_refused()

    with_rig(tmp_path, test, lambda server: server.say(ended={"version": "e1", "pod_uids": [MEMBER]}))


@pytest.mark.parametrize("entry", ["its leaf", "its pod", "another leaf"])
def test_a_registrar_with_files_refuses_what_its_own_configuration_takes_back(entry: str) -> None:
    leaf = credentials(CA, identity(uid=MEMBER))
    serial = leaf.chain[0].serial_number
    revoked = {"its leaf": f"serial:{serial:x}", "its pod": MEMBER, "another leaf": f"serial:{serial + 1:x}"}
    settings = RegistrarSettings(
        pool=PoolSection(namespace="demo", name="echo"),
        network=RegistrarNetwork(address=HERE),
        security=SecuritySection(revoked=(revoked[entry],)),
    )

    async def rules() -> Authoriser:
        return RegistrarDaemon(settings, None)._scope()

    principal = proven_by(leaf_of(leaf.chain[0]))
    denial = asyncio.run(rules()).may(principal, Action.REGISTER, b"echo", pe_identifiers(MEMBER)[0])
    assert (denial is None) is (entry == "another leaf")
    assert denial is None or denial.threat == "2.2"
