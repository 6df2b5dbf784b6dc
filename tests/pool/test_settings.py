# SPDX-License-Identifier: Apache-2.0
"""What a ServerPool tells the daemons: every manifest that is accepted makes configuration they accept, and mean."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.daemon.settings import load, render
from rserpool.pool import ServerPool, read_manifests
from rserpool.pool.settings import Tables, registrar_tables, sidecar_tables
from rserpool.transport.http import HttpServer, Request, Response
from rserpool.wire import RFC, RSPLIB, policies
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.health import http_get
from support.rig_model import server_pool

GOOD = sorted((Path(__file__).parent / "manifests" / "good").iterdir())
ADDRESS: dict[str, object] = {"address": "10.0.0.7"}


def loaded(root: type[Any], tables: Tables, folder: Path) -> Any:
    file = folder / "daemon.toml"
    file.write_text(render(tables))
    return load(root, file, {})


def registrar(pool: ServerPool, folder: Path) -> RegistrarSettings:
    settings = loaded(RegistrarSettings, {**registrar_tables(pool, "td"), "network": ADDRESS}, folder)
    assert isinstance(settings, RegistrarSettings)
    return settings


def sidecar(pool: ServerPool, folder: Path) -> SidecarSettings:
    more: Tables = {"network": ADDRESS, "registrars": {"addresses": ["10.0.0.1:3864"]}}
    settings = loaded(SidecarSettings, {**sidecar_tables(pool, "td"), **more}, folder)
    assert isinstance(settings, SidecarSettings)
    return settings


@pytest.mark.parametrize("file", GOOD, ids=lambda f: f.stem)
def test_every_good_manifest_makes_daemons_that_start(file: Path, tmp_path: Path) -> None:
    for manifest in read_manifests(file):
        pool, spec = manifest.pool, manifest.pool.spec
        one, other = registrar(pool, tmp_path), sidecar(pool, tmp_path)
        assert one.pool == other.pool
        assert (one.pool.namespace, one.pool.name) == (pool.metadata.namespace, pool.metadata.name)
        assert (one.pool.pool_handle, one.pool.trust_domain) == (pool.handle, "td")
        assert one.security.secure == other.security.secure == (spec.security.mode == "Secure")
        assert one.timers.profile == other.timers.profile == spec.timers.profile
        assert one.users.anonymous == spec.users.anonymous
        assert one.timers.timers().last_heard > 2 * one.timers.timers().heartbeat
        assert (other.application.port, other.application.protocol) == (spec.elements.port, spec.elements.protocol)
        assert (other.policy.type, other.policy.weight) == (spec.policy.type, spec.elements.weight)
        assert type(other.policy.policy(0.0)).__name__ == spec.policy.type


def test_a_registrar_is_told_timers_and_limits(tmp_path: Path) -> None:
    timers = {
        "heartbeatCycle": "1s", "maxTimeLastHeard": "2001ms", "maxTimeNoResponse": "750ms", "takeoverTimeout": "1.5s",
        "keepAliveInterval": "1m30s", "keepAliveTimeout": "2s",
    }  # fmt: skip
    limits = {
        "endpointUnreachablePerSecond": 0.5, "registrationsPerSecond": 7, "resolutionsPerSecond": 20000, "elements": 9,
    }  # fmt: skip
    settings = registrar(server_pool(timers=timers, limits=limits, users={"anonymous": False}), tmp_path)
    told = settings.timers.timers()
    assert (told.heartbeat, told.last_heard, told.no_response) == (1, 2.001, 0.75)
    assert (told.takeover, told.keep_alive, told.keep_alive_timeout) == (1.5, 90, 2)
    found = settings.limits
    assert (found.reports_per_second, found.registrations_per_second) == (0.5, 7)
    assert (found.resolutions_per_second, found.elements) == (20000, 9)
    assert settings.users.anonymous is False


def test_a_sidecar_is_told_its_share_its_health_and_its_life(tmp_path: Path) -> None:
    health = {
        "httpGet": {"path": "/livez?a=1", "port": 8080, "httpHeaders": [{"name": "X-A", "value": 'b "c" \\d: e'}]},
        "initialDelaySeconds": 5, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4, "successThreshold": 6,
    }  # fmt: skip
    elements = {"port": 7007, "loadDegradation": 0.25, "priority": 9, "health": health}
    policy = {"type": "PriorityLeastUsed"}
    found = sidecar(server_pool(elements=elements, policy=policy, timers={"registrationLife": "45s"}), tmp_path)
    assert (found.health.probe, found.health.port, found.health.path) == ("httpGet", 8080, "/livez?a=1")
    assert found.health.headers == ('X-A: b "c" \\d: e',)
    assert (found.health.initial_delay, found.health.period, found.health.timeout) == (5, 2, 3)
    assert (found.health.failure_threshold, found.health.success_threshold) == (4, 6)
    assert found.policy.policy(0.5) == policies.PriorityLeastUsed(0x7FFFFFFF + 1, 0x3FFFFFFF + 1)
    assert (found.policy.priority, found.timers.timers().life) == (9, 45)


def test_without_health_the_applications_own_port_is_probed(tmp_path: Path) -> None:
    found = sidecar(server_pool(elements={"port": 7007}), tmp_path).health
    assert (found.probe, found.port, found.period, found.timeout, found.failure_threshold) == ("tcpSocket", 0, 1, 1, 2)


def test_the_probed_port_may_be_another(tmp_path: Path) -> None:
    health = {"tcpSocket": {"port": 5061}}
    assert sidecar(server_pool(elements={"port": 1, "health": health}), tmp_path).health.port == 5061


@pytest.mark.parametrize(("dialect", "spoken"), [("RFC", RFC), ("RSPLIB", RSPLIB)])
def test_the_dialect_is_told_to_both(dialect: str, spoken: object, tmp_path: Path) -> None:
    pool = server_pool(dialect=dialect, security={"mode": "Insecure"}, transport={"order": ["SCTP"]})
    assert registrar(pool, tmp_path).pool.dialect is spoken
    assert sidecar(pool, tmp_path).pool.dialect is spoken


@given(handle=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_handle_a_pool_may_have_reaches_the_daemons(handle: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pool = server_pool(poolHandle=handle)
    assert registrar(pool, tmp_path_factory.getbasetemp()).pool.pool_handle == handle.encode()


@given(heartbeat=st.integers(1, 10**8), more=st.integers(1, 10**4), degradation=st.floats(0, 1))
def test_numbers_reach_the_daemons_as_they_were_written(
    heartbeat: int, more: int, degradation: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    timers = {"heartbeatCycle": f"{heartbeat}ms", "maxTimeLastHeard": f"{2 * heartbeat + more}ms"}
    pool = server_pool(timers=timers, elements={"port": 1, "loadDegradation": degradation})
    told = registrar(pool, tmp_path_factory.getbasetemp()).timers
    assert (told.heartbeat, told.last_heard) == (heartbeat / 1000, (2 * heartbeat + more) / 1000)
    assert sidecar(pool, tmp_path_factory.getbasetemp()).policy.degradation == degradation


@pytest.mark.parametrize(
    "headers", [[], [{"name": "Host", "value": "app.example"}], [{"name": "Accept", "value": ""}]], ids=str
)
def test_a_probe_with_headers_of_ones_own_is_asked_and_answered(headers: list[dict[str, str]], tmp_path: Path) -> None:
    health = {"httpGet": {"path": "/livez?verbose=1", "httpHeaders": headers}}
    section = sidecar(server_pool(elements={"port": 7007, "health": health}), tmp_path).health
    asked: list[Request] = []

    async def answer(request: Request) -> Response:
        asked.append(request)
        return Response()

    async def probe() -> str:
        server = HttpServer({("GET", "/livez"): answer})
        port = await server.listen(IPv4Address("127.0.0.1"), 0)
        try:
            return await http_get(IPv4Address("127.0.0.1"), port, section)()
        finally:
            await server.close()

    assert asyncio.run(probe()) == ""
    sent = {name.lower(): value for name, value in asked[0].headers.items()}
    assert {h["name"].lower(): h["value"] for h in headers}.items() <= sent.items()


def test_a_sidecar_is_told_where_its_load_comes_from_if_the_policy_goes_by_it(tmp_path: Path) -> None:
    load = {
        "source": "prometheus", "path": "/m", "port": 9090, "metric": 'busy{a="b"}', "smoothing": "0s",
        "minimumInterval": "500ms", "minimumChange": 0.25,
    }  # fmt: skip
    elements = {"port": 7007, "load": load}
    for policy in ("LeastUsed", "LeastUsedDegradation", "PriorityLeastUsed", "RandomizedLeastUsed"):
        told = sidecar(server_pool(elements=elements, policy={"type": policy}), tmp_path).load
        assert (told.source, told.path, told.port, told.metric) == ("prometheus", "/m", 9090, 'busy{a="b"}')
        assert (told.smoothing, told.minimum_interval, told.minimum_change) == (0.0, 0.5, 0.25)
    assert sidecar(server_pool(elements=elements), tmp_path).load.source == "told"
    assert sidecar(server_pool(policy={"type": "LeastUsed"}), tmp_path).load.source == "cpu"


def test_a_pool_with_a_control_channel_says_so_to_its_sidecars_and_to_nobody_else(tmp_path: Path) -> None:
    plain = server_pool()
    assert "channel" not in sidecar_tables(plain, "td")
    pool = server_pool(controlChannel=True, users={"anonymous": False}, elements={"port": 7007, "drain": "25s"})
    section = sidecar(pool, tmp_path).channel
    assert (section.enabled, section.anonymous, section.drain, section.keys) == (True, False, 25.0, None)
    assert "channel" not in registrar_tables(pool, "td")
