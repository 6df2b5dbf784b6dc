# SPDX-License-Identifier: Apache-2.0
"""The folder of a pool that runs here: for its owner's eyes only, complete at every moment, gone at the end."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rserpool.client.scope import running_pools
from rserpool_cli.errors import CommandError
from rserpool_cli.up.loopback import Subnet
from rserpool_cli.up.plan import UpOptions, UpPlan, make_plan
from rserpool_cli.up.state import pool_directory, remove_process, write_private, write_process, write_state
from rserpool_cli.up.supervisor import Supervised
from support.rig_model import runtime_folder, server_pool


@pytest.fixture
def runtime() -> Iterator[Path]:
    with runtime_folder() as folder:
        yield folder / "rserpool"


def plan_in(directory: Path) -> UpPlan:
    options = UpOptions(elements=2, command=("serve",))
    return make_plan(server_pool(), options, Subnet(20), directory, directory, "https://127.20.129.1:8443")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ended() -> int:
    """A process that is no more."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def test_folders_are_for_their_owner_only_and_removed_at_the_end(runtime: Path) -> None:
    before = os.umask(0)
    try:
        with pool_directory(server_pool()) as directory:
            assert directory == runtime / f"{os.getpid()}.echo"
            assert (mode(runtime), mode(directory)) == (0o700, 0o700)
            (directory / "file").touch()
    finally:
        os.umask(before)
    assert not runtime.exists()


def test_a_failure_leaves_no_folder_either(runtime: Path) -> None:
    with pytest.raises(RuntimeError), pool_directory(server_pool()):
        raise RuntimeError
    assert not runtime.exists()


def test_a_common_folder_that_others_could_read_is_closed_to_them(runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    with pool_directory(server_pool()):
        assert mode(runtime) == 0o700


def test_what_killed_processes_left_is_removed_and_nothing_else(runtime: Path) -> None:
    gone, lives, other = (runtime / name for name in (f"{ended()}.dead", f"{os.getpid()}.lives", "notes"))
    for folder in (gone, lives, other):
        folder.mkdir(parents=True)
        (folder / "state.json").touch()
    with pool_directory(server_pool()):
        assert not gone.exists()
        assert lives.exists()
    assert (lives.exists(), other.exists(), runtime.exists()) == (True, True, True)


def test_a_folder_of_somebody_else_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.mkdir()
    stranger = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: stranger)
    with (
        pytest.raises(CommandError, match="belongs to somebody else; set XDG_RUNTIME_DIR"),
        pool_directory(server_pool()),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named(runtime: Path) -> None:
    runtime.write_text("a file")
    with pytest.raises(CommandError, match=f"{runtime} cannot be made: File exists"), pool_directory(server_pool()):
        pass


def test_a_folder_too_deep_for_sockets_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("d" * 100)))
    with (
        pytest.raises(CommandError, match=r"too long a path for sockets.*set XDG_RUNTIME_DIR"),
        pool_directory(server_pool()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_configuration_and_token_are_for_their_owner_only_and_can_be_removed(tmp_path: Path) -> None:
    for process in plan_in(tmp_path).processes:
        write_process(process, "secret" if process.identity else None)
    assert {p.name for p in tmp_path.iterdir()} == {f"{n}.{s}" for n in ("r0", "s0", "s1") for s in ("toml", "token")}
    assert {mode(p) for p in tmp_path.iterdir()} == {0o600}
    assert "secret" not in "".join(p.read_text() for p in tmp_path.glob("*.toml"))
    for process in plan_in(tmp_path).sidecars:
        remove_process(process)
        remove_process(process)
    assert {p.name for p in tmp_path.iterdir()} == {"r0.toml", "r0.token"}


def test_a_file_that_is_written_again_holds_the_new_and_stays_private(tmp_path: Path) -> None:
    for content in (b"first and long", b"second"):
        write_private(tmp_path / "f", content)
    assert (tmp_path / "f").read_bytes() == b"second"
    assert mode(tmp_path / "f") == 0o600


def test_others_find_the_pool_by_what_is_written_and_nothing_in_it_is_secret(runtime: Path) -> None:
    with pool_directory(server_pool()) as directory:
        plan = plan_in(directory)
        lives = Supervised(plan.applications[0], None, 0)
        lives.pid = 4711
        for bundle in (None, b"PEM"):
            write_state(directory, plan, [lives], bundle, Subnet(20))
        assert [p.name for p in directory.iterdir()] == ["state.json"]
        assert mode(directory / "state.json") == 0o600
        state = json.loads((directory / "state.json").read_text())
        [scope] = running_pools()
    assert (scope.registrars, scope.bundle, str(scope.local)) == ((("127.20.1.1", 3864),), b"PEM", "127.20.254.1")
    assert (scope.namespace, scope.pool, scope.trust_domain) == ("demo", "echo", "up.local")
    assert scope.sockets == {"echo-registrar-0": directory / "r0.sock"}
    assert [(e["name"], e["pid"], e["address"], e["port"]) for e in state["elements"]] == [
        ("echo-0", 4711, "127.20.65.1", 7007), ("echo-1", None, "127.20.65.2", 7007),
    ]  # fmt: skip
    assert "token" not in json.dumps(state)
