# SPDX-License-Identifier: Apache-2.0
"""What `rserpool up` makes of a pool with a control channel: ports, keys, and what others are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rserpool.daemon.settings import load
from rserpool.session.cookies import CookieKeys
from rserpool.wire import TcpTransport
from rserpool_cli.up.loopback import OnePort, Subnet
from rserpool_cli.up.plan import UpOptions, UpPlan, make_plan, served_port
from rserpool_cli.up.state import write_process, write_state
from rserpool_sidecar.config import SidecarSettings
from support.rig_model import server_pool

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def planned(folder: Path = Path("/state"), addresses: Any = None, **spec: Any) -> UpPlan:
    pool = server_pool(**{"controlChannel": True, **spec})
    options = UpOptions(elements=2, command=("serve",))
    return make_plan(pool, options, addresses or Subnet(20), folder, folder, "https://127.20.129.1:8443", KEY)


def sidecars(plan: UpPlan) -> list[SidecarSettings]:
    for process in plan.sidecars:
        write_process(process, "t")
    return [load(SidecarSettings, Path(process.command[-1]), {}) for process in plan.sidecars]


def test_users_connect_to_the_sidecar_and_the_application_keeps_its_own_port(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    for settings, process in zip(sidecars(plan), plan.sidecars, strict=True):
        address = process.place.address
        assert settings.user_transport == TcpTransport(port=7008, address=address)
        assert served_port(process.place) == 7008
        assert (settings.application.port, settings.application_addresses) == (7007, (address,))
        assert (settings.channel.http_address, settings.channel.http_port) == (address, 8082)
        assert settings.channel.drain == 3.0
    assert [p.environment["RSERPOOL_CHANNEL"] for p in plan.applications] == [
        "http://127.20.65.1:8082",
        "http://127.20.65.2:8082",
    ]


def test_all_sidecars_of_a_run_have_one_key_which_only_their_own_files_hold(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert [s.channel.keys for s in sidecars(plan)] == [CookieKeys((1, bytes(range(32))))] * 2
    assert [p.name for p in plan.processes if KEY in p.configuration] == [p.name for p in plan.sidecars]
    assert KEY not in repr(plan)
    write_state(tmp_path, plan, [], None, Subnet(20))
    text = (tmp_path / "state.json").read_text()
    assert KEY not in text
    assert json.loads(text)["control_channel"] is True
    assert [e["port"] for e in json.loads(text)["elements"]] == [7008, 7008]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("s*.toml")} == {0o600}


@pytest.mark.parametrize("port", [7008, 8082, 8081, 3864, 80])
def test_no_two_ports_of_an_element_are_the_same(port: int) -> None:
    place = planned(elements={"port": port}).sidecars[0].place
    assert len(set(place.ports.values())) == len(place.ports) == 5


def test_where_everybody_shares_one_address_all_ports_differ() -> None:
    plan = planned(addresses=OnePort())
    ports = [port for p in (*plan.registrars, *plan.sidecars) for port in p.place.ports.values()]
    assert len(set(ports)) == len(ports)


def test_without_a_control_channel_nothing_of_it_is_there(tmp_path: Path) -> None:
    plan = planned(tmp_path, controlChannel=False)
    assert all(not s.channel.enabled and s.channel.keys is None for s in sidecars(plan))
    assert KEY not in "".join(p.configuration for p in plan.processes)
    assert "RSERPOOL_CHANNEL" not in plan.applications[0].environment
    assert set(plan.sidecars[0].place.ports) == {"application", "asap", "http"}
    assert served_port(plan.sidecars[0].place) == 7007
