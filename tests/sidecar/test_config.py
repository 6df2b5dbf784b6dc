# SPDX-License-Identifier: Apache-2.0
"""The sidecar's configuration: its example, what is registered by it, and what cannot be."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from rserpool.asap.profiles import FAST, RFC
from rserpool.daemon.settings import SettingsError, example, load
from rserpool.wire import Policy, SctpTransport, TcpTransport, Transport, UdpTransport, policies
from rserpool.wire.policies import MAX_LOAD
from rserpool_sidecar.config import PolicySection, SidecarSettings

NEEDED = (
    '[pool]\nnamespace = "demo"\nname = "echo"\n[network]\naddress = "10.0.0.8"\n'
    '[registrars]\naddresses = ["registrars.demo.svc:3864"]\n[application]\nport = 7007\n'
)
HERE = IPv4Address("10.0.0.8")


def read(tmp_path: Path, text: str) -> SidecarSettings:
    file = tmp_path / "s.toml"
    file.write_text(NEEDED + text)
    return load(SidecarSettings, file, {})


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, text)
    (line,) = raised.value.lines
    return line.removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize("comment_defaults", [True, False])
def test_the_example_is_a_configuration_with_the_defaults(tmp_path: Path, comment_defaults: bool) -> None:
    (tmp_path / "e.toml").write_text(example(SidecarSettings, comment_defaults=comment_defaults))
    assert load(SidecarSettings, tmp_path / "e.toml", {}) == read(tmp_path, "")


def test_by_default_the_application_is_probed_each_second_and_out_after_two_failures(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    health = settings.health
    assert (health.probe, health.port, health.period, health.timeout) == ("tcpSocket", 0, 1.0, 1.0)
    assert (health.failure_threshold, health.success_threshold, health.initial_delay) == (2, 1, 0.0)
    assert settings.security.secure
    assert settings.timers.timers() == FAST.endpoint


@pytest.mark.parametrize(
    ("protocol", "transport"),
    [
        ("TCP", TcpTransport(port=7007, address=HERE)),
        ("UDP", UdpTransport(port=7007, address=HERE)),
        ("SCTP", SctpTransport(port=7007, addresses=(HERE,))),
    ],
)
def test_what_users_speak_is_what_is_registered(tmp_path: Path, protocol: str, transport: Transport) -> None:
    settings = read(tmp_path, f"protocol = '{protocol}'\n")
    assert settings.application.transport(settings.network.address) == transport


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("RoundRobin", policies.RoundRobin()),
        ("WeightedRoundRobin", policies.WeightedRoundRobin(7)),
        ("Random", policies.Random()),
        ("WeightedRandom", policies.WeightedRandom(7)),
        ("Priority", policies.Priority(9)),
        ("LeastUsed", policies.LeastUsed(MAX_LOAD)),
        ("LeastUsedDegradation", policies.LeastUsedDegradation(MAX_LOAD, round(MAX_LOAD / 4))),
        ("PriorityLeastUsed", policies.PriorityLeastUsed(MAX_LOAD, round(MAX_LOAD / 4))),
        ("RandomizedLeastUsed", policies.RandomizedLeastUsed(MAX_LOAD)),
        ("PriorityLeastUsedDegradation", policies.PriorityLeastUsedDegradation(MAX_LOAD, round(MAX_LOAD / 4))),
    ],
)
def test_each_policy_of_the_rfc_is_made_with_its_own_data(tmp_path: Path, name: str, policy: Policy) -> None:
    section = read(tmp_path, f"[policy]\ntype = '{name}'\nweight = 7\npriority = 9\ndegradation = 0.25\n").policy
    assert section.policy(1.0) == policy
    assert section.adaptive is (section.policy(0.5) != policy)


def test_load_is_scaled_to_the_wires_32_bits() -> None:
    section = PolicySection(type="LeastUsed")
    assert [section.policy(load) for load in (0.0, 0.5, 1.0)] == [
        policies.LeastUsed(0),
        policies.LeastUsed(0x80000000),
        policies.LeastUsed(0xFFFFFFFF),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[policy]\ntype = 'leastused'\n", "s.toml:11: type = 'leastused': write one of RoundRobin, "),
        ("[load]\nsource = 'disk'\n", "s.toml:11: source = 'disk': write one of told, cpu, http, prometheus"),
        ("[load]\nsource = 'prometheus'\n", "s.toml:10: [load] metric: is needed with source prometheus"),
        ("[load]\nmetric = 'a b'\n", "s.toml:11: metric = 'a b': write a metric's name"),
        ("[load]\npath = 'busy'\n", "s.toml:11: path = 'busy': write a path that begins with /"),
        ("[load]\nminimum_change = 2\n", "s.toml:11: minimum_change = 2: write a number from 0 to 1"),
        ("[load]\nminimum_interval = '0s'\n", "s.toml:11: minimum_interval = '0s': 0 is no time to wait"),
        ("[load]\ncgroup = '/a'\nprocess_file = '/b'\n", "s.toml:11: [load] cgroup: process_file says already"),
        ("[policy]\nweight = -1\n", "s.toml:11: weight = -1: write a whole number from 0 to 4294967295"),
        ("[policy]\ndegradation = 1.5\n", "s.toml:11: degradation = 1.5: write a number from 0 to 1"),
        ("[health]\nfailure_threshold = 0\n", "s.toml:11: failure_threshold = 0: write a whole number from 1"),
        ("[health]\nsuccess_threshold = 0\n", "s.toml:11: success_threshold = 0: write a whole number from 1"),
        ("[timers]\nregistration_life = '2s'\n", "s.toml:11: [timers] registration_life: 2 s cannot be"),
        ("[timers]\nregistration_life = '3500ms'\n", "s.toml:11: [timers] registration_life: 3.5 s cannot be"),
        ("[timers]\nregistration_life = 2147483648\n", "s.toml:11: [timers] registration_life: "),
        ("[network]\n", "s.toml: not TOML: "),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert fault(tmp_path, text).startswith(told)


def test_a_registration_life_of_whole_seconds_is_asked_for(tmp_path: Path) -> None:
    timers = read(tmp_path, "[timers]\nprofile = 'RFC'\nregistration_life = '1m'\n").timers.timers()
    assert (timers.life, timers.t4) == (60, RFC.endpoint.t4)


ENDPOINT: dict[str, Any] = {
    "t2": 4.0, "t3": 4.0, "t4": 4.0, "t5": 4.0, "t7": 4.0, "retran_max": 9.0, "connect": 4.0, "hunt_stagger": 0.5,
    "silent_home": 0.0, "max_attempts": 5,
}  # fmt: skip


@pytest.mark.rfc("RFC 3237 2.11: timers can be set one by one")
@pytest.mark.parametrize("name", ENDPOINT)
def test_every_timer_of_an_element_can_be_set_by_itself(tmp_path: Path, name: str) -> None:
    timers = read(tmp_path, f"[timers]\n{name} = {ENDPOINT[name]}\n").timers.timers()
    assert timers == dataclasses.replace(FAST.endpoint, **{name: ENDPOINT[name]})
    assert timers != FAST.endpoint


def test_all_timers_that_an_element_has_can_be_set() -> None:
    """T1 is a user's; when a taken over element registers is drawn from a range."""
    names = {field.name for field in dataclasses.fields(FAST.endpoint)}
    assert names - set(ENDPOINT) == {"life", "t1", "settle"}


@pytest.mark.parametrize("name", ["t2", "t3", "t4", "t5", "t7", "retran_max", "connect"])
def test_a_timer_of_an_element_that_leaves_no_time_is_refused(tmp_path: Path, name: str) -> None:
    assert fault(tmp_path, f"[timers]\n{name} = 0\n").startswith(f"s.toml:11: [timers] {name}: 0 is no time to wait")


def test_a_probe_that_runs_a_program_is_refused_with_what_to_write(tmp_path: Path) -> None:
    told = fault(tmp_path, "[health]\nprobe = 'exec'\n")
    assert told.startswith("s.toml:11: probe = 'exec': ")
    assert "write one of tcpSocket, httpGet" in told


@pytest.mark.parametrize("key", ["period", "timeout"])
def test_a_probe_without_time_is_refused(tmp_path: Path, key: str) -> None:
    """A period of 0 would probe without end, a timeout of 0 would never find anybody healthy."""
    told = fault(tmp_path, f"[health]\n{key} = 0\n")
    assert told.startswith("s.toml:11: ")
    assert key in told


@pytest.mark.parametrize("path", ["", "health", "/a b", "/a\\nb", "/gr\u00fc\u00df", "http://other/"])
def test_a_path_that_cannot_be_asked_for_is_refused(tmp_path: Path, path: str) -> None:
    told = fault(tmp_path, f'[health]\nprobe = "httpGet"\npath = "{path}"\n')
    assert told.startswith("s.toml:12: ")
    assert "path" in told


@pytest.mark.parametrize("header", ["", "X-Probe", ": x", "X Probe: 1", "X: a\\nY: b", "X: gr\u00fc\u00df"])
def test_a_header_that_cannot_be_sent_is_refused(tmp_path: Path, header: str) -> None:
    """The sidecar would otherwise end with its first probe, and again after each restart."""
    told = fault(tmp_path, f'[health]\nprobe = "httpGet"\nheaders = ["{header}"]\n')
    assert told.startswith("s.toml:12: ")
    assert "headers" in told


def test_a_sidecar_without_registrars_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(NEEDED.replace('["registrars.demo.svc:3864"]', "[]"))
    with pytest.raises(SettingsError, match=r"s\.toml:7: addresses = \[\]: "):
        load(SidecarSettings, tmp_path / "s.toml", {})
