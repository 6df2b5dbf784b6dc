# SPDX-License-Identifier: Apache-2.0
"""A sidecar on a cluster: it starts with who it is and whom to ask, and is told the rest while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rserpool.daemon.control import control
from rserpool.daemon.enrolment import refusal
from rserpool.transport.http import Target, ask
from support.rig_beside import CA, HTTP, Beside, beside, tables
from support.rig_health import HERE, Application
from support.rig_identity import UID
from support.rig_registrar import RegistrarHere


def test_it_says_in_one_line_for_what_it_waits_and_registers_once_it_is_told(tmp_path: Path) -> None:
    async def test(rig: Beside) -> None:
        rig.server.replies.extend(refusal(403, "NotYet", "pod echo-0 is not\nallowed here") for _ in range(2))
        rig.server.given.extend(refusal(404, "NoPool", "there is no ServerPool demo/echo") for _ in range(2))
        await rig.start()
        waited = [(await rig.until(lambda s: "not allowed" in s["waiting"]))["waiting"]]
        answer = await rig.ready()
        assert answer.status == 503
        assert answer.body.decode().splitlines() == waited
        assert waited == ["waiting for its identity: enrolment was refused: pod echo-0 is not allowed here"]
        waiting = await rig.until(lambda s: "ServerPool" in s["waiting"])
        assert waiting["waiting"] == (
            "waiting for its settings: the operator refuses: there is no ServerPool demo/echo"
        )
        assert (await rig.ready()).body.decode() == waiting["waiting"] + "\n"
        async with RegistrarHere(CA).running() as registrar:
            rig.server.settings("v1", tables(rig.application.port, registrar.place))
            status = await rig.until(lambda s: bool(s["registered"]))
            assert "waiting" not in status
            told = await rig.server.until(lambda q: q["state"]["registered"])
            assert told["loaded"]["settings"] == "v1"
            assert (told["role"], told["wait"], told["transports"]) == ("element", 0, ["TCP"])
            assert told["state"] == {
                "state": "registered",
                "registered": True,
                "healthy": True,
                "draining": False,
                "reason": "",
            }
            assert (await rig.ready()).status == 200
            await control(rig.socket, "POST", "/drain", timeout=60)
            assert (await rig.server.until(lambda q: q["state"]["draining"]))["state"]["state"] == "deregistered"

    beside(tmp_path, test)


@pytest.mark.parametrize("phase", ["identity", "settings"])
def test_told_to_end_while_it_waits_it_ends_at_once(tmp_path: Path, phase: str) -> None:
    async def test(rig: Beside) -> None:
        if phase == "identity":
            rig.server.replies.extend(refusal(403, "No", "no") for _ in range(1000))
        await rig.start()
        await rig.until(lambda s: f"waiting for its {phase}" in s.get("waiting", ""))
        before = asyncio.get_running_loop().time()
        assert await rig.end() == 0
        assert asyncio.get_running_loop().time() - before < 0.5

    beside(tmp_path, test)


def test_started_again_it_registers_within_a_second_while_the_operator_is_away(tmp_path: Path) -> None:
    async def test(rig: Beside) -> None:
        async with RegistrarHere(CA).running() as registrar:
            rig.server.settings("v1", tables(rig.application.port, registrar.place, policy={"weight": 3}))
            await rig.start()
            await rig.until(lambda s: bool(s["registered"]))
            await rig.end()
            enrolled = rig.server.paths
            url, rig.server.url = rig.server.url, f"https://{HERE}:1"
            loop = asyncio.get_running_loop()
            began = loop.time()
            await rig.start()
            await rig.until(lambda s: bool(s["registered"]))
            assert loop.time() - began < 1.5  # the first probe, and the hunt, included
            assert rig.server.paths == enrolled
            rig.server.url = url

    beside(tmp_path, test)


def test_weight_health_registrars_and_life_change_while_it_runs(tmp_path: Path) -> None:
    async def test(rig: Beside) -> None:
        async with RegistrarHere(CA).running() as registrar, Application().running() as other:
            port = rig.application.port
            wrr = {"type": "WeightedRoundRobin", "weight": 1}
            rig.server.settings("v1", tables(port, registrar.place, policy=wrr))
            await rig.start()
            await rig.until(lambda s: bool(s["registered"]))
            assert registrar.elements()[0]["policy"] == "WeightedRoundRobin(weight=1)"
            changed = tables(
                port,
                registrar.place,
                f"{HERE}:2",
                policy={**wrr, "weight": 7},
                timers={"registration_life": 60},
                health={"port": other.port},
            )
            rig.server.settings("v2", changed)
            await rig.server.until(lambda q: q["loaded"]["settings"] == "v2")
            await registrar.until(lambda: registrar.elements()[0]["policy"] == "WeightedRoundRobin(weight=7)")
            await registrar.until(lambda: registrar.elements()[0]["life"] == 60)
            await rig.until(lambda _: other.connections > 1)
            before = rig.application.connections
            await asyncio.sleep(5)
            assert rig.application.connections == before
            assert (await rig.status())["registered"]

    beside(tmp_path, test)


def test_another_port_needs_a_new_pod_and_what_cannot_be_is_not_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(rig: Beside) -> None:
        port = rig.application.port
        slowly = {"period": 50}
        rig.server.settings("v1", tables(port, health=slowly))
        await rig.start()
        await rig.server.until(lambda q: q["loaded"]["settings"] == "v1")
        rig.server.settings("v2", tables(port + 1, health=slowly))
        await asyncio.sleep(100)
        assert caplog.text.count("[application] port: to change that needs a new pod") == 1
        rig.server.settings("v3", tables(port, policy={"weight": -1}, health=slowly))
        await asyncio.sleep(100)
        assert caplog.text.count("[policy] weight = -1: write a whole number") == 1
        assert rig.server.last["loaded"]["settings"] == "v1"
        text = (await ask(Target(host=str(HERE), port=HTTP), "GET", "/metrics")).body.decode()
        assert "rserpool_settings_in_force 0.0" in text
        assert (await rig.status())["healthy"]

    beside(tmp_path, test)


def test_a_pool_without_security_speaks_plainly_but_shows_the_operator_its_leaf(tmp_path: Path) -> None:
    async def test(rig: Beside) -> None:
        async with RegistrarHere(None).running() as registrar:
            rig.server.settings("v1", tables(rig.application.port, registrar.place, security={"mode": "Insecure"}))
            await rig.start()
            await rig.until(lambda s: bool(s["registered"]))
            assert rig.server.showed[-1].pod_uid == UID

    beside(tmp_path, test)


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_a_registrar_that_was_revoked_is_left_and_refused_until_it_is_revoked_no_more(tmp_path: Path) -> None:
    async def test(rig: Beside) -> None:
        async with RegistrarHere(CA).running() as registrar:
            rig.server.settings("v1", tables(rig.application.port, registrar.place))
            await rig.start()
            await rig.until(lambda s: bool(s["registered"]))
            keeper = registrar.daemon._keeper
            assert keeper is not None
            serial = f"{keeper.current.chain[0].serial_number:x}"
            rig.server.say(ended={"version": "e1", "pod_uids": [], "serials": [serial]})
            await rig.server.until(lambda q: q["loaded"]["ended"] == "e1")
            await rig.until(lambda s: s["state"] == "no home registrar")
            text = (await ask(Target(host=str(HERE), port=HTTP), "GET", "/metrics")).body.decode()
            assert 'rserpool_refusals_total{threat="2.6",what="ASAP association"}' in text
            rig.server.say(ended={"version": "e2", "pod_uids": [], "serials": []})
            await rig.until(lambda s: s["state"] == "registered")

    beside(tmp_path, test)
