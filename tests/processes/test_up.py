# SPDX-License-Identifier: Apache-2.0
"""`rserpool up` with other programs, other manifests, bad ones, and an impatient user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.running import ECHO, RunningPool, is_alive, launched, manifest, pool_running, started

HTTP_SERVER = ("python3", "-m", "http.server", "{port}", "--bind", "{address}")


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rsp-") as folder:
        yield Path(folder)


def up(runtime: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`rserpool up` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "rserpool_cli", "up", *words],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_any_program_is_run_and_a_port_below_1024_is_mapped_and_said_once(runtime: Path) -> None:
    text = manifest(name="web", port=80, health="{httpGet: {path: /}}")
    with pool_running(text, "--elements", "2", program=HTTP_SERVER) as pool:
        started(pool)
        assert len([line for line in pool.lines if "port 80 " in line]) == 1
        for element in pool.elements:
            assert element.port == 8080
            with urllib.request.urlopen(f"http://{element.address}:{element.port}/", timeout=5) as answer:
                assert answer.status == 200


def test_where_everybody_shares_one_address_ports_differ() -> None:
    with pool_running(ECHO, "--single-address", "--elements", "2") as pool:
        started(pool)
        places = [(e.address, e.port) for e in pool.elements]
        assert {address for address, _ in places} == {"127.0.0.1"}
        assert len(set(places)) == 2
        assert pool.command("resolve", "echo").returncode == 0


def test_a_pool_without_security_works_and_says_so() -> None:
    with pool_running(manifest(more="  security: {mode: Insecure}\n")) as pool:
        started(pool)
        assert any("nobody is verified" in line for line in pool.lines)
        assert pool.command("resolve", "echo").returncode == 0


def test_a_program_that_cannot_be_started_is_named_and_the_pool_is_empty(runtime: Path) -> None:
    with pool_running(manifest(command="/nowhere/to/be/found")) as pool:
        pool.wait("it was said", lambda: any("/nowhere/to/be/found" in line for line in pool.lines))
        launched(pool)
        pool.settled([])


def test_ctrl_c_while_everything_starts_leaves_nothing() -> None:
    with pool_running(ECHO) as pool:
        pool.wait("registrars are being started", lambda: any("registrars" in line for line in pool.lines))
        # its end is that of the `with`: interrupted, and nothing may be left


def test_processes_end_even_if_up_is_killed() -> None:
    pool: RunningPool
    with pool_running(ECHO) as pool:
        started(pool)
        pids = [r.pid for r in pool.registrars] + [p for e in pool.elements for p in (e.pid, e.sidecar_pid)]
        pool.process.send_signal(signal.SIGKILL)
        pool.process.wait()
        pool.wait("all its processes have ended", lambda: not any(is_alive(pid) for pid in pids if pid is not None))
        pool.process.returncode = 0  # as far as the end of the `with` is concerned
        left = pool.directory
        with pool_running(ECHO, runtime=pool.runtime) as following:
            started(following)
            assert not left.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "pool.yaml"),
        ("apiVersion: v1\nkind: ConfigMap\n", "no ServerPool"),
        (manifest(policy="{type: RoundRobbin}"), "RoundRobin"),
        (manifest(port=70000), "65535"),
        (manifest(more="  tranport: {order: [TCP]}\n"), "transport"),
        (manifest(more="  transport: {order: [SCTP]}\n"), "TCP"),
        (manifest(health="{exec: {command: [true]}}"), "httpGet"),
    ],
)
def test_a_bad_manifest_is_refused_with_what_to_write_and_nothing_is_started(
    text: str, said: str, runtime: Path
) -> None:
    file = runtime / "pool.yaml"
    file.write_text(text)
    done = up(runtime, str(file))
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("rserpool up: ") for line in done.stderr.splitlines())
    assert not (runtime / "rserpool").exists()


def test_a_runtime_folder_whose_path_is_too_long_for_sockets_is_refused_before_anything_starts(runtime: Path) -> None:
    deep = runtime / ("x" * 90)
    deep.mkdir()
    done = up(deep, str(ECHO))
    assert done.returncode == 1
    assert "XDG_RUNTIME_DIR" in done.stderr
    assert list(deep.iterdir()) == []


def test_a_manifest_that_is_not_there_is_said_in_one_line(runtime: Path) -> None:
    done = up(runtime, "nowhere.yaml")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "nowhere.yaml" in done.stderr
