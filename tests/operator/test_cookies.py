# SPDX-License-Identifier: Apache-2.0
"""The keys of a pool's cookies: made once, told to its elements alone, replaced on the user's word, gone with the pool."""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from rserpool.asap.authorisation import Role
from rserpool.daemon.live import OWN
from rserpool.daemon.settings import load, overlay
from rserpool.session.cookies import CookieKeys
from rserpool_operator import names
from rserpool_operator.kube import Object, Ref
from rserpool_operator.kube.kinds import CONFIG_MAP, SECRET, SERVER_POOL
from rserpool_operator.plan.cookies import HANDED_OUT
from rserpool_operator.work_queue import Key
from rserpool_sidecar.config import SidecarSettings
from support.rig_cluster import SYSTEM, Cluster, raw_pool
from support.rig_pools import left_of

NONE: Final = {"settings": "", "bundle": "", "ended": "", "renew": ""}
LONG: Final = HANDED_OUT + timedelta(seconds=1)


class Framed:
    """A cluster with one pool that has a control channel."""

    def __init__(self, **spec: Any) -> None:
        self.cluster = Cluster()
        self.key: Key = self.cluster.create(raw_pool(controlChannel=True, **spec))
        self.uid = self.cluster.raw(self.key)["metadata"]["uid"]
        self.ref = Ref(SECRET, SYSTEM, names.cookie_keys("demo", "echo", self.uid))

    def settle(self) -> None:
        assert self.cluster.settle(self.key)

    @property
    def secret(self) -> Object:
        return self.cluster.world.objects[self.ref]

    def told(self, role: Role = Role.ELEMENT) -> dict[str, Any]:
        """The settings that a process of the pool is told."""
        news = self.cluster.boards.news(self.key, role, NONE)
        assert news is not None
        tables: dict[str, Any] = news["settings"]["tables"]
        return tables

    @property
    def keys(self) -> list[str]:
        """The numbers of the keys an element is told, that to seal with first."""
        return [entry.partition(":")[0] for entry in self.told()["channel"]["keys"]]

    def renew(self, word: str) -> None:
        """What `kubectl rserpool renew` does."""
        self.cluster.change(
            self.key, lambda live: live["metadata"].setdefault("annotations", {}).update({names.RENEW: word})
        )

    def later(self, span: timedelta = LONG) -> None:
        """Let time go by."""
        earlier = (datetime.now(UTC) - span).isoformat()
        self.cluster.world.change(
            self.ref, lambda live: live["metadata"]["annotations"].update({names.COOKIE_KEYS_CHANGED: earlier})
        )
        self.settle()


@pytest.fixture
def framed() -> Framed:
    made = Framed()
    made.settle()
    return made


def test_a_pool_with_a_control_channel_is_served_like_any_other(framed: Framed) -> None:
    assert framed.cluster.ready(framed.key)
    assert framed.cluster.condition(framed.key, "Accepted") == ("True", "Valid")
    assert framed.cluster.writes_of_another_pass(framed.key) == []


def test_elements_are_told_keys_that_a_sidecar_takes_and_registrars_are_told_none(framed: Framed) -> None:
    table = framed.told()["channel"]
    assert {k: v for k, v in table.items() if k != "keys"} == {"enabled": True, "anonymous": True, "drain": 10.0}
    key = base64.b64decode(framed.secret["data"]["1"])
    assert len(key) == 32
    own = {"POOL_NAMESPACE": "demo", "POOL_NAME": "echo", "NETWORK_ADDRESS": "10.0.0.8", "OPERATOR_URL": "https://o:1"}
    before = load(SidecarSettings, None, {f"RSERPOOL_{name}": value for name, value in own.items()})
    after, unknown = overlay(before, framed.told(), OWN)
    assert unknown == ()
    assert after.channel.keys == CookieKeys((1, key))
    assert after.channel.enabled
    assert after.user_transport.port == 7008  # type: ignore[union-attr] # the transport is TCP
    assert "channel" not in framed.told(Role.REGISTRAR)
    assert framed.secret["data"]["1"] not in str(framed.told(Role.REGISTRAR))


def test_the_keys_are_nowhere_but_in_their_secret_and_on_the_board(
    framed: Framed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    framed.renew("again")
    framed.settle()
    secrets = list(framed.secret["data"].values())
    others = {str(r): o for r, o in framed.cluster.world.objects.items() if r != framed.ref}
    channel = framed.cluster.boards._boards[framed.key].channel
    for secret in secrets:
        assert secret not in str(others)
        assert secret not in caplog.text
        assert secret not in repr(channel)
        assert secret not in framed.cluster.boards._boards[framed.key].versions.values()
    assert len(secrets) == 2


def test_pool_users_are_told_that_the_pool_is_framed_and_only_where_it_is(framed: Framed) -> None:
    ref = Ref(CONFIG_MAP, "demo", names.users_config_map("echo", "demo"))
    assert framed.cluster.world.objects[ref]["data"]["control-channel"] == "true\n"
    plain = Cluster()
    key = plain.create(raw_pool())
    assert plain.settle(key)
    assert "control-channel" not in plain.world.objects[ref]["data"]
    assert [r for r in plain.world.objects if r.kind == SECRET and r.name.endswith("-cookies")] == []


def test_the_keys_are_the_same_for_an_operator_that_is_started_again(framed: Framed) -> None:
    before = framed.told()
    framed.cluster.restart()
    framed.settle()
    assert framed.told() == before


@pytest.mark.parametrize("crash", range(1, 12))
def test_a_key_is_made_once_however_often_the_operator_dies(crash: int) -> None:
    framed = Framed(security={"signer": {"type": "Embedded"}})
    framed.cluster.settle(framed.key, crash_after=crash)
    before = framed.cluster.world.objects.get(framed.ref)
    framed.cluster.restart()
    framed.settle()
    assert framed.keys == ["1"]
    assert before is None or framed.secret["data"] == before["data"]


def test_on_the_users_word_a_new_key_is_handed_out_first_and_used_when_all_have_it(framed: Framed) -> None:
    framed.renew("2026-11-26")
    framed.settle()
    assert framed.keys == ["1", "2"]
    framed.cluster.restart()
    framed.settle()
    assert framed.keys == ["1", "2"], "the word counts once"
    framed.later()
    assert framed.keys == ["2", "1"]
    for word, expected in (("b", ["3", "2", "1"]), ("c", ["4", "3", "2"])):
        framed.renew(word)
        framed.settle()
        framed.later()
        assert framed.keys == expected
    assert sorted(framed.secret["data"]) == ["2", "3", "4"]
    assert framed.secret["metadata"]["labels"]["app.kubernetes.io/component"] == "cookies"


def test_the_operator_looks_again_when_the_new_key_is_due(framed: Framed) -> None:
    import asyncio

    framed.renew("now")
    framed.settle()
    after = asyncio.run(framed.cluster.reconciler.reconcile(framed.key))
    assert after is not None
    assert HANDED_OUT.total_seconds() - 30 < after <= HANDED_OUT.total_seconds()


def test_numbers_begin_again_after_the_last_one(framed: Framed) -> None:
    def old(live: Object) -> None:
        live["data"] = {"255": live["data"]["1"], "1": live["data"]["1"]}
        live["metadata"]["annotations"][names.COOKIE_KEYS] = "255,1"

    framed.cluster.world.change(framed.ref, old)
    framed.renew("now")
    framed.settle()
    framed.later()
    assert framed.keys == ["2", "255", "1"]


@pytest.mark.parametrize("data", [{}, {"1": "no base64!"}, {"1": "c2hvcnQ="}, {"one": "A" * 44}, {"999": "A" * 44}])
def test_keys_that_were_spoiled_are_replaced_and_nobody_is_told_them(framed: Framed, data: dict[str, str]) -> None:
    framed.cluster.world.change(framed.ref, lambda live: live.update(data=data))
    framed.settle()
    (number,) = framed.keys
    assert len(base64.b64decode(framed.secret["data"][number])) == 32
    assert framed.cluster.ready(framed.key)


def test_a_secret_that_is_lost_is_made_anew(framed: Framed) -> None:
    before = framed.told()
    framed.cluster.world.remove(framed.ref)
    framed.settle()
    assert framed.keys == ["1"]
    assert framed.told() != before


def test_a_secret_of_somebody_else_is_named_and_left_alone() -> None:
    framed = Framed()
    framed.cluster.world.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": framed.ref.name, "namespace": SYSTEM, "labels": {}},
            "data": {"1": "A" * 44},
        }
    )
    framed.settle()
    assert framed.cluster.condition(framed.key, "Stalled") == ("True", "NameTaken")
    assert framed.secret["data"] == {"1": "A" * 44}
    assert framed.cluster.boards.news(framed.key, Role.ELEMENT, NONE) is None


def test_the_keys_go_with_the_pool_and_another_pool_of_its_name_has_others(framed: Framed) -> None:
    before = framed.secret["data"]["1"]
    framed.cluster.change(framed.key, lambda live: live["metadata"].update(deletionTimestamp="2026-11-26T00:00:00Z"))
    framed.settle()
    assert left_of(framed.cluster, framed.uid) == []
    assert Ref(SERVER_POOL, "demo", "echo") not in framed.cluster.world.objects
    again = framed.cluster.create(raw_pool(controlChannel=True))
    assert framed.cluster.settle(again)
    uid = framed.cluster.raw(again)["metadata"]["uid"]
    ref = Ref(SECRET, SYSTEM, names.cookie_keys("demo", "echo", uid))
    assert framed.cluster.world.objects[ref]["data"]["1"] != before
