# SPDX-License-Identifier: Apache-2.0
"""The registrar's configuration: its example, its defaults, and what cannot be."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from rserpool.asap.announce import Multicast
from rserpool.asap.limits import Rate
from rserpool.asap.profiles import FAST, RFC, RegistrarTimers
from rserpool.asap.server.desk import Limits
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


@pytest.mark.rfc("RFC 3237 2.11: timers can be set one by one")
def test_a_profile_and_single_timers_are_put_together(tmp_path: Path) -> None:
    timers = read(tmp_path, "[timers]\nprofile = 'RFC'\nheartbeat = '10s'\nkeep_alive = '20s'\n").timers.timers()
    assert (timers.heartbeat, timers.keep_alive, timers.last_heard) == (10.0, 20.0, RFC.registrar.last_heard)


@pytest.mark.rfc("PROTOCOL 8: MAX-TIME-LAST-HEARD is more than twice the heartbeat")
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
        ("max_life = '500ms'\n", "r.toml:7: [timers] max_life: 0.5 s is no life; write 1s or more"),
        ("profile = 'fast'\n", "r.toml:7: profile = 'fast': write one of Fast, RFC"),
    ],
)
def test_timers_that_cannot_be_are_refused_with_their_line(tmp_path: Path, text: str, fault: str) -> None:
    (told,) = faults(tmp_path, "[timers]\n" + text)
    assert told.startswith(fault)


@pytest.mark.rfc("RFC 3237 2.11: timers can be set one by one")
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RegistrarTimers)])
def test_every_timer_of_a_registrar_can_be_set_by_itself(tmp_path: Path, name: str) -> None:
    others: dict[str, Any] = {
        "heartbeat": 0.25, "max_life": 60.0, "takeover_rate": 250.0, "keep_alive_tries": 5, "keep_alive_burst": 9
    }  # fmt: skip
    wanted = others.get(name, 7.5)
    timers = read(tmp_path, f"[timers]\n{name} = {wanted}\n").timers.timers()
    assert timers == dataclasses.replace(FAST.registrar, **{name: wanted})
    assert timers != FAST.registrar


def test_timers_that_just_fit_are_taken(tmp_path: Path) -> None:
    timers = read(tmp_path, "[timers]\nheartbeat = '1s'\nlast_heard = '2001ms'\n").timers.timers()
    assert (timers.heartbeat, timers.last_heard) == (1.0, 2.001)


def test_limits_become_the_machines_and_the_transports(tmp_path: Path) -> None:
    section = read(
        tmp_path,
        "[limits]\nregistrations_per_second = 10\nresolutions_per_second = 0.1\nreports_per_second = 3\n"
        "elements = 7\nitems = 5\nhalf_open = 9\nhandshake = '2s'\nidle = '1m'\nbad_reports = 1\n"
        "report_interval = '20s'\nelements_per_identity = 2\npools = 6\nsubscriptions = 8\n"
        "update_interval = '1s'\ntable_sessions = 4\nassociations = 11\nanonymous_associations = 12\n",
    ).limits
    limits, tcp = section.limits(), section.tcp(1.5)
    assert (limits.registrations, limits.resolutions, limits.reports) == (Rate(10, 20), Rate(0.1, 1), Rate(3, 3))
    assert (limits.elements, limits.items) == (7, 5)
    assert (limits.bad_reports, limits.report_interval, limits.elements_per_identity) == (1, 20.0, 2)
    assert (limits.pools, limits.subscriptions) == (6, 8)
    assert (limits.update_interval, limits.table_sessions) == (1.0, 4)
    assert (tcp.handshake, tcp.idle, tcp.half_open, tcp.user_timeout) == (2.0, 60.0, 9, 1.5)
    assert (tcp.anonymous_per_source, tcp.per_identity) == (12, 11)


def test_whose_degradation_counters_are_raised_is_all_unless_it_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, "").policy.lud_increment == "all"
    assert read(tmp_path, "[policy]\nlud_increment = 'first'\n").policy.lud_increment == "first"


@pytest.mark.parametrize(
    "key", ["elements", "associations", "half_open", "registrations_per_second", "reports_per_second", "handshake"]
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


def test_the_limits_of_the_machine_are_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, "").limits.limits() == Limits()


@pytest.mark.rfc("RFC 3237 2.5: nothing relies on multicast")
def test_nothing_is_announced_unless_it_is_asked_for(tmp_path: Path) -> None:
    default = read(tmp_path, "").discovery
    assert not default.multicast
    assert default.where == Multicast((IPv4Address("224.0.1.185"), IPv6Address("ff02::133")), 3863, 1)
    asked = read(tmp_path, "[discovery]\nmulticast = true\ngroups = ['ff05::133']\nport = 4863\nhops = 4\n").discovery
    assert (asked.multicast, asked.groups, asked.port, asked.hops) == (True, (IPv6Address("ff05::133"),), 4863, 4)
    (told,) = faults(tmp_path, "[discovery]\ngroups = ['10.0.0.1']\n")
    assert "write multicast addresses, such as 224.0.1.185 or ff02::133" in told


def test_a_registrar_may_have_an_address_of_each_family_but_not_two_of_one(tmp_path: Path) -> None:
    network = read(tmp_path, "also = ['fd00::7']\n").network
    assert [str(address) for address in network.own] == ["10.0.0.7", "fd00::7"]
    for also in ("10.0.0.8", "fd00::7', 'fd00::8"):
        (told,) = faults(tmp_path, f"also = ['{also}']\n")
        assert told.startswith("r.toml:6: [network] also: a registrar has one address of a family")


def test_what_counts_no_longer_is_said_by_serial_number_or_uid(tmp_path: Path) -> None:
    entries = ("serial:0ABC", "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert read(tmp_path, f"[security]\nrevoked = {list(entries)}\n").security.revoked == entries
    assert read(tmp_path, "").security.revoked == ()


@pytest.mark.parametrize("entries", [["default"], ["serial:0x1"], [f"serial:{n:x}" for n in range(257)]])
def test_what_a_registrar_cannot_take_back_is_refused(tmp_path: Path, entries: list[str]) -> None:
    (told,) = faults(tmp_path, f"[security]\nrevoked = {entries}\n")
    assert "write at most 256 entries, each serial:HEX or the UID of a pod" in told
