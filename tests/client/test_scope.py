# SPDX-License-Identifier: Apache-2.0
"""How a pool user finds its pool: given, in the environment, mounted into its pod, or running on this machine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from rserpool.client import Scope, ScopeError, find_scope
from rserpool.client.scope import make_scope, running_pools, runtime_directory
from support.rig_model import authority, runtime_folder

BUNDLE = authority().bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "bundle.pem"
    file.write_bytes(BUNDLE)
    return file


@pytest.fixture
def runtime() -> Iterator[Path]:
    with runtime_folder() as folder:
        yield folder / "rserpool"


def mount(folder: Path, registrars: str | bytes) -> Path:
    """What a pool user's pod finds in its file system."""
    (folder / "registrars").write_bytes(registrars.encode() if isinstance(registrars, str) else registrars)
    return folder


def leave_state(runtime: Path, name: str = "echo", **changes: Any) -> None:
    """What an `rserpool up` tells of itself."""
    folder = runtime / f"{os.getpid()}.{name}"
    folder.mkdir(parents=True)
    registrar = {"name": f"{name}-registrar-0", "address": "127.20.1.1", "asap_port": 3864, "socket": "/r0.sock"}
    state = {
        "pid": os.getpid(), "directory": str(folder), "namespace": "demo", "pool": name, "trust_domain": "up.local",
        "bundle": BUNDLE.decode(), "client": "127.20.254.1", "registrars": [registrar], **changes,
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state))


def test_the_environment_names_registrars_and_bundle(bundle: Path) -> None:
    environ = {"RSERPOOL_REGISTRARS": "a.svc:3864, [fd00::1]:99,10.0.0.1:1,", "RSERPOOL_BUNDLE": str(bundle)}
    scope = find_scope(environ, bundle.parent)
    assert scope.registrars == (("a.svc", 3864), ("fd00::1", 99), ("10.0.0.1", 1))
    assert (scope.bundle, scope.origin, scope.local) == (BUNDLE, "environment", None)


def test_registrars_without_a_bundle_are_not_believed_blindly() -> None:
    with pytest.raises(ScopeError, match="RSERPOOL_BUNDLE: name the file to trust"):
        find_scope({"RSERPOOL_REGISTRARS": "a:1"})


def test_a_pod_finds_what_is_mounted(bundle: Path) -> None:
    mounted = mount(bundle.parent, "echo-0.echo-peers.demo.svc:3864\necho-1.echo-peers.demo.svc:3864\n")
    scope = find_scope({}, mounted)
    assert [host.partition(".")[0] for host, _ in scope.registrars] == ["echo-0", "echo-1"]
    assert (scope.bundle, scope.origin) == (BUNDLE, str(mounted))


def test_a_mounted_pool_that_says_it_has_no_security_is_used_without_a_bundle(bundle: Path) -> None:
    mounted = mount(bundle.parent, "echo-0.echo-peers.demo.svc:3863\n")
    (mounted / "bundle.pem").unlink()
    (mounted / "insecure").write_text("this pool has no security\n")
    assert find_scope({}, mounted).bundle is None


@pytest.mark.parametrize(
    ("registrars", "reason"),
    [
        ("", "no registrar was named; write host:port"),
        ("echo", "'echo' is no place; write host:port"),
        (b"\xff\xfe:1", "registrars"),
    ],
    ids=["empty", "no port", "no text"],
)
def test_a_mount_that_was_spoilt_is_told_not_raised(registrars: str | bytes, reason: str, bundle: Path) -> None:
    with pytest.raises(ScopeError) as caught:
        find_scope({}, mount(bundle.parent, registrars))
    assert type(caught.value) is ScopeError
    assert reason in str(caught.value)


def test_a_mount_without_its_bundle_is_not_believed_blindly(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=r"bundle\.pem cannot be read: No such file or directory"):
        find_scope({}, mount(tmp_path, "echo:1"))


@pytest.mark.parametrize(
    "place",
    ["host", "host:", ":1", "[]:1", "host:0", "host:65536", "host:a", "host:-1", "host:\u00b2", "::1", "fd00::1:3864"],
)
def test_what_is_no_place_is_refused_with_what_to_write(place: str) -> None:
    with pytest.raises(ScopeError) as caught:
        make_scope([place], None)
    assert str(caught.value).startswith(f"{place!r} is no place; write host:port")


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_bundle_that_holds_no_certificate_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(content)
    with pytest.raises(ScopeError, match=r"bundle\.pem"):
        make_scope(["host:1"], file)


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=f"the bundle {tmp_path} cannot be read: Is a directory"):
        make_scope(["host:1"], tmp_path)


def test_the_pool_that_runs_here_is_found_with_all_that_is_known_of_it(runtime: Path, tmp_path: Path) -> None:
    leave_state(runtime)
    assert find_scope({}, tmp_path) == Scope(
        registrars=(("127.20.1.1", 3864),),
        bundle=BUNDLE,
        namespace="demo",
        pool="echo",
        trust_domain="up.local",
        local=ip_address("127.20.254.1"),
        origin=str(runtime / f"{os.getpid()}.echo"),
        sockets={"echo-registrar-0": Path("/r0.sock")},
    )


def test_a_pool_without_security_or_address_has_neither(runtime: Path) -> None:
    leave_state(runtime, bundle=None, client=None)
    [scope] = running_pools()
    assert (scope.bundle, scope.local) == (None, None)


def test_what_is_given_comes_before_what_is_mounted_before_what_runs(runtime: Path, bundle: Path) -> None:
    leave_state(runtime)
    mounted = mount(bundle.parent, "mounted:1")
    environ = {"RSERPOOL_REGISTRARS": "given:1", "RSERPOOL_BUNDLE": str(bundle)}
    assert find_scope(environ, mounted).registrars == (("given", 1),)
    assert find_scope({}, mounted).registrars == (("mounted", 1),)


def test_several_pools_are_named_and_none_is_guessed(runtime: Path, tmp_path: Path) -> None:
    leave_state(runtime)
    leave_state(runtime, "other")
    with pytest.raises(ScopeError, match=r"several pools run on this machine \(demo/echo, demo/other\)"):
        find_scope({}, tmp_path)


def test_no_pool_at_all_says_what_to_give(runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="RSERPOOL_REGISTRARS and RSERPOOL_BUNDLE, or start one with `rserpool up`"):
        find_scope({}, tmp_path)


def test_what_is_gone_or_unreadable_is_passed_over(runtime: Path) -> None:
    finished = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(finished, 0)
    leave_state(runtime, "ended", pid=finished)
    leave_state(runtime, "nobody", pid="x")
    leave_state(runtime)
    for name, content in (("1.half", b'{"pid":'), ("2.list", b"[]"), ("3.octets", b"\xff")):
        (runtime / name).mkdir()
        (runtime / name / "state.json").write_bytes(content)
    (runtime / "4.empty").mkdir()
    (runtime / "5.file").touch()
    assert [scope.pool for scope in running_pools()] == ["echo"]


def test_a_folder_of_somebody_else_is_not_believed(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_state(runtime)
    stranger = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: stranger)
    assert list(running_pools()) == []


def test_the_folder_is_that_of_the_session_or_one_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert runtime_directory() == Path("/run/user/7/rserpool")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_directory() == Path(tempfile.gettempdir()) / f"rserpool-{os.getuid()}"


# -- whether the pool's elements speak frames


@pytest.mark.parametrize(("text", "framed"), [("true\n", True), ("false\n", False), (" True ", True), (None, False)])
def test_a_mount_says_whether_there_is_a_control_channel(tmp_path: Path, text: str | None, framed: bool) -> None:
    folder = mount(tmp_path, "a.svc:3864")
    (folder / "bundle.pem").write_bytes(BUNDLE)
    if text is not None:
        (folder / "control-channel").write_text(text)
    assert find_scope({}, folder).control_channel is framed


@pytest.mark.parametrize("octets", [b"yes", b"", b"1", b"true false", b"\xff"])
def test_what_is_neither_true_nor_false_is_refused_and_not_guessed(tmp_path: Path, octets: bytes) -> None:
    folder = mount(tmp_path, "a.svc:3864")
    (folder / "bundle.pem").write_bytes(BUNDLE)
    (folder / "control-channel").write_bytes(octets)
    with pytest.raises(ScopeError, match="control-channel"):
        find_scope({}, folder)


def test_the_environment_says_whether_there_is_a_control_channel(bundle: Path) -> None:
    environ = {"RSERPOOL_REGISTRARS": "a.svc:3864", "RSERPOOL_BUNDLE": str(bundle)}
    assert find_scope(environ, bundle.parent).control_channel is False
    for text, framed in (("true", True), ("false", False)):
        environ["RSERPOOL_CONTROL_CHANNEL"] = text
        assert find_scope(environ, bundle.parent).control_channel is framed
    environ["RSERPOOL_CONTROL_CHANNEL"] = "maybe"
    with pytest.raises(ScopeError, match=r"RSERPOOL_CONTROL_CHANNEL is 'maybe'; write true or false"):
        find_scope(environ, bundle.parent)


@pytest.mark.parametrize(("changes", "framed"), [({}, False), ({"control_channel": True}, True)])
def test_a_pool_that_runs_here_says_whether_it_has_a_control_channel(
    runtime: Path, changes: dict[str, Any], framed: bool
) -> None:
    leave_state(runtime, **changes)
    assert [s.control_channel for s in running_pools()] == [framed]
