# SPDX-License-Identifier: Apache-2.0
"""A report of daemons that really run: no secret of theirs comes near it, even with the redaction switched off."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cli.cluster_samples import pod, server_pool
from cli.fake_kubectl import FakeCluster
from rserpool.authority import KeyAndRequest, make_request
from rserpool.daemon.control import control
from rserpool.identity import LeafIdentity
from rserpool.transport.http import Target, ask
from rserpool_cli.main import main
from rserpool_cli.up.plan import ProcessPlan
from support.rig_model import COOKIE_KEY, RunningPool, in_background, runtime_folder
from support.rig_model import server_pool as local_pool

REDACTION = "rserpool_cli.cluster.report.archive.redact"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[KeyAndRequest]:
    """The keys that daemons make, as they make them."""
    made: list[KeyAndRequest] = []

    def remember(identity: LeafIdentity, dns_names: Sequence[str] = ()) -> KeyAndRequest:
        made.append(make_request(identity, dns_names))
        return made[-1]

    monkeypatch.setattr("rserpool.daemon.credentials.make_request", remember)
    return made


@pytest.fixture
def running(
    keys: list[KeyAndRequest], cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[RunningPool]:
    """A secure pool with a control channel, that a cluster's kubectl tells of; all of its log is kept."""
    cluster.answer_in_process(monkeypatch)
    caplog.set_level(logging.DEBUG)
    pool = local_pool(controlChannel=True, registrars={"replicas": 2})
    with runtime_folder(), in_background(pool, 2) as (found, _):
        assert len(keys) >= 4
        yield found


def needles(running: RunningPool, keys: list[KeyAndRequest]) -> set[str]:
    """Every secret that this pool has, in the spellings in which it could be written."""
    processes = (*running.plan.registrars, *running.plan.sidecars)
    tokens = {Path(p.command[-1]).with_suffix(".token").read_text() for p in processes}
    assert len(tokens) == len(processes)
    found = {*tokens, COOKIE_KEY, base64.b64decode(COOKIE_KEY).hex()}
    for made in keys:
        der = made.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        secret = f"{made.key.private_numbers().private_value:064x}"
        found |= {secret, str(int(secret, 16)), der.hex()[-80:], base64.b64encode(der).decode()[60:100]}
    return found


def test_nothing_that_daemons_tell_has_a_secret_in_it(
    running: RunningPool,
    keys: list[KeyAndRequest],
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(REDACTION, lambda text: text)
    monkeypatch.setattr(f"{REDACTION}_object", lambda value: value)
    cluster.says("", error="error: not in this test")
    cluster.says("get serverpools.rserpool.io echo", server_pool())
    registrars = [_pod(cluster, p, "registrar", 8080) for p in running.plan.registrars]
    members = [_pod(cluster, p, "rserpool-sidecar", 8081) for p in running.plan.sidecars]
    cluster.says("component=registrar", registrars)
    cluster.says("get pods -l rserpool.io/pool=echo", members)
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    lines = [f"{record.getMessage()} {vars(record)}" for record in records]
    assert any("of pool echo registered" in line for line in lines), "the daemons' log is among them"
    cluster.says("^-n demo logs ", "\n".join(lines))
    assert main(["report", "demo/echo", "-o", str(tmp_path / "r.tar.gz")]) == 0
    with tarfile.open(tmp_path / "r.tar.gz") as archive:
        files = {e.name.partition("/")[2]: archive.extractfile(e) for e in archive.getmembers()}
        everything = {name: file.read().decode() for name, file in files.items() if file is not None}
    for name in ("logs/registrar/echo-registrar-0.log", "dumps/registrar/echo-registrar-1.json"):
        assert len(everything[name]) > 500
    assert "rserpool_cookies_total" in "".join(
        t for n, t in everything.items() if n.startswith("metrics/rserpool-sidecar/")
    )
    assert json.loads(next(t for n, t in everything.items() if n.startswith("dumps/rserpool-sidecar/")))
    text = "\n".join([*everything, *everything.values()])
    wanted = needles(running, keys)
    assert len(wanted) > 15
    assert [needle[:8] for needle in wanted if needle in text] == []


def _pod(cluster: FakeCluster, process: ProcessPlan, container: str, port: int) -> dict[str, object]:
    """A pod of that process; what kubectl tells of it is what the process itself tells."""

    async def told() -> tuple[object, str]:
        target = Target(host=str(process.place.address), port=process.place.ports["http"])
        socket = Path(process.command[-1]).with_suffix(".sock")
        path = "/dump" if container == "registrar" else "/status"
        return await control(socket, "GET", path), (await ask(target, "GET", "/metrics")).body.decode()

    held, metrics = asyncio.run(told())
    name = process.name.replace("/", "-")
    cluster.says(f"exec {name} .* rserpool dump", {"control.sock": held})
    cluster.says(f"get --raw .*/pods/{name}:{port}/proxy/metrics", metrics)
    sidecar = container != "registrar"
    made = pod(name, str(process.place.address), sidecar=sidecar)
    group = made["spec"]["initContainers" if sidecar else "containers"]
    group[:] = [{"name": container, "image": "node:1", "ports": [{"name": "http", "containerPort": port}]}]
    if sidecar:
        group[0]["ports"][0]["name"] = "rserpool-http"
    else:
        made["status"]["containerStatuses"][0]["name"] = container
    return made
