# SPDX-License-Identifier: Apache-2.0
"""The registrar's configuration: its example, its defaults, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rserpool.asap.limits import Rate
from rserpool.asap.profiles import FAST, RFC
from rserpool.daemon.settings import SettingsError, example, load
from rserpool_registrar.config import RegistrarSettings

NEEDED = '[pool]\nnamespace = "demo"\nname = "echo"\n[network]\naddress = "10.0.0.7"\n'


def read(tmp_path: Path, text: str) -> RegistrarSettings:
    file = tmp_path / "r.toml"
    file.write_text(NEEDED + text)
    return load(RegistrarSettings, file, {})


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in raised.value.lines]


@pytest.mark.parametrize("comment_defaults", [True, False])
def test_the_example_is_the_configuration_with_its_defaults(tmp_path: Path, comment_defaults: bool) -> None:
    (tmp_path / "e.toml").write_text(example(RegistrarSettings, comment_defaults=comment_defaults))
    assert load(RegistrarSettings, tmp_path / "e.toml", {}) == read(tmp_path, "")


def test_by_default_it_is_secure_open_to_anonymous_users_fast_and_on_the_ports_of_tls(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.security.secure
    assert settings.users.anonymous
    assert not settings.network.loopback
    assert (settings.network.asap_port, settings.network.enrp_port) == (3864, 9902)
    assert settings.timers.timers() == FAST.registrar
    assert settings.control.socket is None


def test_a_profile_and_single_timers_are_put_together(tmp_path: Path) -> None:
    timers = read(tmp_path, "[timers]\nprofile = 'RFC'\nheartbeat = '10s'\nkeep_alive = '20s'\n").timers.timers()
    assert (timers.heartbeat, timers.keep_alive, timers.last_heard) == (10.0, 20.0, RFC.registrar.last_heard)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("heartbeat = '1s'\n", "r.toml:7: [timers] heartbeat: last_heard is 0.9 s and must be more than twice"),
        ("heartbeat = '1s'\nlast_heard = '2s'\n", "r.toml:8: [timers] last_heard: last_heard is 2 s and must be more"),
        ("profile = 'RFC'\nlast_heard = '60s'\n", "r.toml:8: [timers] last_heard: last_heard is 60 s and must be"),
        *(
            (f"{key} = 0\n", f"r.toml:7: [timers] {key}: 0 is no time to wait; write a duration such as 500ms")
            for key in ("heartbeat", "last_heard", "no_response", "takeover", "keep_alive", "keep_alive_timeout")
        ),
        ("profile = 'fast'\n", "r.toml:7: profile = 'fast': write one of Fast, RFC"),
    ],
)
def test_timers_that_cannot_be_are_refused_with_their_line(tmp_path: Path, text: str, fault: str) -> None:
    (told,) = faults(tmp_path, "[timers]\n" + text)
    assert told.startswith(fault)


def test_timers_that_just_fit_are_taken(tmp_path: Path) -> None:
    timers = read(tmp_path, "[timers]\nheartbeat = '1s'\nlast_heard = '2001ms'\n").timers.timers()
    assert (timers.heartbeat, timers.last_heard) == (1.0, 2.001)


def test_limits_become_the_machines_and_the_transports(tmp_path: Path) -> None:
    section = read(
        tmp_path,
        "[limits]\nregistrations_per_second = 10\nresolutions_per_second = 0.1\nreports_per_second = 3\n"
        "elements = 7\nitems = 5\nhalf_open = 9\nhandshake = '2s'\nidle = '1m'\n",
    ).limits
    limits, tcp = section.limits(), section.tcp(1.5)
    assert (limits.registrations, limits.resolutions, limits.reports) == (Rate(10, 20), Rate(0.1, 1), Rate(3, 3))
    assert (limits.elements, limits.items) == (7, 5)
    assert (tcp.handshake, tcp.idle, tcp.half_open, tcp.user_timeout) == (2.0, 60.0, 9, 1.5)


@pytest.mark.parametrize(
    "key", ["elements", "half_open", "registrations_per_second", "reports_per_second", "handshake"]
)
def test_a_limit_that_lets_nothing_through_is_refused(tmp_path: Path, key: str) -> None:
    (told,) = faults(tmp_path, f"[limits]\n{key} = 0\n")
    assert told.startswith("r.toml:7: ")
    assert key in told


def test_peers_and_dialect_are_read(tmp_path: Path) -> None:
    settings = read(tmp_path, "[peers]\naddresses = ['echo-0.svc:9902', '[fd00::1]:9902']\n")
    assert settings.peers.addresses == (("echo-0.svc", 9902), ("fd00::1", 9902))
    assert faults(tmp_path, "[peers]\naddresses = ['echo-0.svc']\n") == [
        "r.toml:7: addresses = ['echo-0.svc']: 'echo-0.svc' is no place; write host:port or [address]:port"
    ]
