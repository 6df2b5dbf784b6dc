# SPDX-License-Identifier: Apache-2.0
"""Settings that come while a process runs: laid over its own, refused whole, or in force as far as they can be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rserpool.daemon.live import OWN, POOLS, LiveSettings
from rserpool.daemon.settings import SettingsError, load, overlay
from rserpool.daemon.vault import Vault
from rserpool.pool.settings import registrar_tables, sidecar_tables
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.daemon import FIXED
from support.rig_operator import server_pool

ENVIRON = {
    "RSERPOOL_POOL_NAMESPACE": "demo",
    "RSERPOOL_POOL_NAME": "echo",
    "RSERPOOL_NETWORK_ADDRESS": "10.0.0.7",
    "RSERPOOL_NETWORK_ASAP_PORT": "3863",
    "RSERPOOL_OPERATOR_URL": "https://operator:8443",
    "RSERPOOL_LOG_FORMAT": "json",
    "RSERPOOL_TIMERS_LEAVE": "3s",
}
Tables = Mapping[str, Mapping[str, object]]
PLACES: Tables = {"registrars": {"addresses": ["echo.demo.svc:3864"]}}
FIRST: Tables = {**sidecar_tables(server_pool(), "cluster.local"), **PLACES}


def base() -> SidecarSettings:
    return load(SidecarSettings, None, ENVIRON)


def with_(changes: Tables) -> Tables:
    return {name: {**FIRST.get(name, {}), **changes.get(name, {})} for name in {**FIRST, **changes}}


def refusal(tables: Tables) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        overlay(base(), tables, OWN)
    return raised.value.lines


@pytest.fixture
def live(tmp_path: Path) -> LiveSettings[SidecarSettings]:
    return LiveSettings(base(), FIXED, operated=True, vault=Vault(tmp_path))


# -- the overlay


def test_with_an_operator_what_it_will_say_may_be_missing_at_the_start_and_without_one_it_may_not() -> None:
    settings = base()
    assert (settings.application.port, settings.registrars.addresses) == (0, ())
    with pytest.raises(SettingsError) as raised:
        load(SidecarSettings, None, {k: v for k, v in ENVIRON.items() if "OPERATOR" not in k})
    assert raised.value.lines == [
        'environment: [registrars] addresses is required: write addresses = ["registrars.demo.svc:3864"]',
        "environment: [application] port is required: write port = 7007",
    ]


def test_what_a_service_link_is_called_is_no_configuration_of_the_operator() -> None:
    links = {"RSERPOOL_OPERATOR_SERVICE_HOST": "10.0.0.1", "RSERPOOL_OPERATOR_PORT": "tcp://10.0.0.1:8443"}
    more = {"RSERPOOL_OPERATOR_PORT_8443_TCP_ADDR": "x", "RSERPOOL_OPERATOR_LEADER_SERVICE_PORT_HTTPS": "8443"}
    assert load(SidecarSettings, None, {**ENVIRON, **links, **more}).operator.url == "https://operator:8443"


def test_the_tables_of_a_pool_are_laid_over_and_the_environment_stays_for_the_rest() -> None:
    settings, unknown = overlay(base(), FIRST, OWN)
    assert unknown == ()
    assert (settings.application.port, settings.registrars.addresses) == (7007, (("echo.demo.svc", 3864),))
    assert (settings.network.asap_port, settings.log.format, settings.timers.leave) == (3863, "json", 3.0)


def test_a_registrars_tables_are_laid_over_too() -> None:
    own = load(RegistrarSettings, None, {k: v for k, v in ENVIRON.items() if "LEAVE" not in k})
    tables: Tables = {**registrar_tables(server_pool(), "cluster.local"), "peers": {"addresses": ["a:9902", "b:9902"]}}
    settings, unknown = overlay(own, tables, OWN)
    assert unknown == ()
    assert settings.peers.addresses == (("a", 9902), ("b", 9902))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "address", "10.0.0.8"),
        ("network", "asap_port", 1),
        ("pool", "namespace", "other"),
        ("pool", "name", "other"),
        ("pool", "trust_domain", "evil"),
        ("security", "pod_uid", "other"),
        ("security", "url", "https://evil:1"),
        ("security", "authority", "PEM"),
        ("security", "token_file", "/etc/passwd"),
        ("security", "directory", "/tmp"),
        ("security", "source", "files"),
        ("operator", "url", "https://evil:1"),
        ("control", "socket", "/tmp/s"),
    ],
)
def test_who_and_where_it_is_and_whom_it_asks_no_settings_change(section: str, key: str, value: object) -> None:
    (line,) = refusal(with_({section: {key: value}}))
    assert line == f"[{section}] {key}: is the pod's own and cannot be changed by settings; leave it out"
    same, _ = overlay(base(), with_({"network": {"address": "10.0.0.7"}, "pool": {"name": "echo"}}), OWN)
    assert same.network == base().network


def test_everything_impossible_is_told_at_once_with_what_to_write() -> None:
    lines = refusal(with_({"policy": {"weight": -1, "type": []}, "timers": {"registration_life": 1.5}}))
    assert sorted(line.split(":")[0] for line in lines) == [
        "[policy] type = []",
        "[policy] weight = -1",
        "[timers] registration_life",
    ]
    assert refusal({"registrars": {"addresses": []}})[0].endswith("write at least one host:port")
    assert refusal(PLACES) == ["[application] port is required: write port = 7007"]


def test_what_a_newer_operator_says_has_no_effect_and_is_named() -> None:
    settings, unknown = overlay(base(), with_({"tea": {"x": 1}, "policy": {"colour": "red", "weight": 5}}), OWN)
    assert settings.policy.weight == 5
    assert set(unknown) == {"[tea]", "[policy] colour"}


# -- in force


def test_settings_are_complete_when_they_have_been_told(live: LiveSettings[SidecarSettings]) -> None:
    seen = [live.complete]
    assert live.take("bad", {"policy": {"weight": -1}}) == ""
    seen.append(live.complete)
    assert live.take("v1", FIRST) == "v1"
    assert [*seen, live.complete] == [False, False, True]
    assert live.value.application.port == 7007
    assert LiveSettings(base(), FIXED, operated=False).complete


def test_a_change_is_told_once_with_what_was_before_and_what_is_left_out_is_as_it_was_at_the_start(
    live: LiveSettings[SidecarSettings],
) -> None:
    live.take("v1", FIRST)
    seen: list[int] = []
    live.on_changed = lambda before: seen.append(before.policy.weight)
    assert live.take("v2", with_({"policy": {"weight": 7}, "timers": {"leave": "9s"}})) == "v2"
    assert (live.value.policy.weight, live.value.timers.leave) == (7, 9.0)
    assert live.take("v3", FIRST) == "v3"
    assert (live.value.policy.weight, live.value.timers.leave) == (1, 3.0)
    assert live.take("v4", FIRST) == "v4"
    assert seen == [1, 7]


def test_an_impossible_update_leaves_everything_as_it_is_and_is_written_once(
    live: LiveSettings[SidecarSettings], caplog: pytest.LogCaptureFixture
) -> None:
    live.take("v1", FIRST)
    before = live.value
    for _ in range(3):
        assert live.take("v2", with_({"policy": {"weight": 3, "priority": -1}})) == "v1"
    assert live.value is before
    assert caplog.text.count("[policy] priority = -1") == 1
    assert dict(live.gauges())["rserpool_settings_in_force"][1] == 0
    live.take("v3", FIRST)
    assert dict(live.gauges())["rserpool_settings_in_force"][1] == 1


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("pool", "handle", "other"),
        ("pool", "dialect", "rsplib"),
        ("security", "mode", "Insecure"),
        ("application", "port", 7008),
        ("application", "protocol", "UDP"),
    ],
)
def test_what_needs_a_new_pod_stays_also_after_a_restart_and_the_rest_comes_into_force(
    live: LiveSettings[SidecarSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture,
    section: str, key: str, value: object,
) -> None:  # fmt: skip
    live.take("v1", FIRST)
    before = getattr(getattr(live.value, section), key)
    changed = with_({section: {key: value}, "policy": {"weight": 7}})
    for _ in range(2):
        assert live.take("v2", changed) == "v1"
    assert caplog.text.count(f"[{section}] {key}: to change that needs a new pod") == 1
    again = LiveSettings(base(), FIXED, operated=True, vault=Vault(tmp_path))
    again.restore()
    assert again.version == "v1"
    assert again.take("v2", changed) == "v1"
    for settings in (live.value, again.value):
        assert getattr(getattr(settings, section), key) == before
        assert settings.policy.weight == 7
    back = with_({"policy": {"weight": 8}})
    assert live.take("v3", back) == "v3"
    assert live.value.policy.weight == 8


def test_kept_settings_that_cannot_be_used_are_waited_for_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Vault(tmp_path).keep_settings("v1", {"policy": {"weight": -1}})
    live = LiveSettings(base(), POOLS, operated=True, vault=Vault(tmp_path))
    live.restore()
    assert (live.complete, live.version) == (False, "")
    assert "the settings that were kept cannot be used" in caplog.text
