# SPDX-License-Identifier: Apache-2.0
"""The control channel: what is on a pool's board, who is told of it, and who is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport.http import HttpError
from rserpool_operator.control import board as board_module
from rserpool_operator.control.board import Boards
from rserpool_operator.observed import Report
from rserpool_operator.plan import Channel
from rserpool_operator.work_queue import Key
from support.rig_identity import authority
from support.rig_served import ECHO, OTHER, SECOND_UID, UID, Served, identity, pod_ref, served
from support.rig_virtual import virtually

KEY = Key("demo", "echo")
CHANNEL = Channel(registrar={"pool": {"name": "r"}}, element={"pool": {"name": "e"}}, bundle="PEM", renew="")
NONE = {"settings": "", "bundle": "", "ended": "", "renew": ""}


def loaded(news: dict[str, Any], before: dict[str, str] = NONE) -> dict[str, str]:
    return before | {part: contents["version"] for part, contents in news.items()}


def told(channel: Channel = CHANNEL) -> Boards:
    boards = Boards()
    boards.tell(KEY, channel)
    return boards


def news_of(boards: Boards, role: Role, known: dict[str, str]) -> dict[str, Any]:
    found = boards.news(KEY, role, known)
    assert found is not None
    return found


def report(role: str = "element", **fields: Any) -> Report:
    values: dict[str, Any] = {"loaded": NONE, "transports": ("TCP",), "state": {}, "at": datetime.now(UTC)}
    return Report(role=role, **values | fields)


def test_a_process_is_told_all_of_its_role_once_and_then_nothing() -> None:
    boards = told()
    first = news_of(boards, Role.REGISTRAR, NONE)
    assert first["settings"]["tables"] == CHANNEL.registrar
    assert first["bundle"]["pem"] == "PEM"
    assert first["ended"]["pod_uids"] == []
    assert set(first) == {"settings", "bundle", "ended", "renew"}
    assert news_of(boards, Role.REGISTRAR, loaded(first)) == {}
    other = news_of(boards, Role.ELEMENT, NONE)
    assert other["settings"]["tables"] == CHANNEL.element
    assert (other["ended"]["pod_uids"], other["ended"]["serials"]) == ([], [])
    assert news_of(boards, Role.ELEMENT, loaded(other)) == {}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"registrar": {"limits": {}}}, {Role.REGISTRAR: {"settings"}, Role.ELEMENT: set()}),
        ({"element": {"health": {}}}, {Role.REGISTRAR: set(), Role.ELEMENT: {"settings"}}),
        ({"bundle": "OTHER"}, {Role.REGISTRAR: {"bundle"}, Role.ELEMENT: {"bundle"}}),
        ({"renew": "now"}, {Role.REGISTRAR: {"renew"}, Role.ELEMENT: {"renew"}}),
        ({"revoked": (UID,)}, {Role.REGISTRAR: {"ended"}, Role.ELEMENT: {"ended"}}),
        ({"serials": ("0abc",)}, {Role.REGISTRAR: {"ended"}, Role.ELEMENT: {"ended"}}),
        ({}, {Role.REGISTRAR: set(), Role.ELEMENT: set()}),
    ],
)
def test_only_what_differs_is_told_again(change: dict[str, Any], parts: dict[Role, set[str]]) -> None:
    boards = told()
    known = {role: loaded(news_of(boards, role, NONE)) for role in parts}
    boards.tell(KEY, replace(CHANNEL, **change))
    for role, wanted in parts.items():
        assert set(news_of(boards, role, known[role])) == wanted
    boards.tell(KEY, CHANNEL)  # back again: versions follow from contents
    for role in parts:
        assert news_of(boards, role, known[role]) == {}


def test_a_pool_without_a_bundle_yet_tells_none_and_one_whose_ca_is_lost_takes_none_away() -> None:
    boards = told(replace(CHANNEL, bundle=""))
    first = news_of(boards, Role.ELEMENT, NONE)
    assert "bundle" not in first
    boards.tell(KEY, CHANNEL)
    known = loaded(news_of(boards, Role.ELEMENT, NONE))
    boards.tell(KEY, replace(CHANNEL, bundle=""))
    assert news_of(boards, Role.ELEMENT, known) == {}


def test_registrars_are_told_of_pods_that_ended_and_of_those_that_came_back() -> None:
    boards = told()
    known = loaded(news_of(boards, Role.REGISTRAR, NONE))
    boards.pod_ended(KEY, "b")
    boards.pod_ended(KEY, "a")
    told_of = news_of(boards, Role.REGISTRAR, known)
    assert told_of["ended"]["pod_uids"] == ["a", "b"]
    assert boards.has_ended(KEY, "a")
    assert not boards.has_ended(OTHER, "a")
    boards.pod_ended(KEY, "a")
    assert news_of(boards, Role.REGISTRAR, loaded(told_of, known)) == {}
    boards.pod_is_back(KEY, "a")
    assert news_of(boards, Role.REGISTRAR, loaded(told_of, known))["ended"]["pod_uids"] == ["b"]
    assert not boards.has_ended(KEY, "a")


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
def test_elements_are_told_of_registrars_that_ended_and_of_all_that_was_revoked_but_not_of_each_other() -> None:
    boards = told()
    known = loaded(news_of(boards, Role.ELEMENT, NONE))
    boards.report(KEY, "a", report("registrar"))
    boards.report(KEY, "b", report())
    boards.pod_ended(KEY, "b")
    assert news_of(boards, Role.ELEMENT, known) == {}
    boards.pod_ended(KEY, "a")
    boards.tell(KEY, replace(CHANNEL, revoked=(UID,), serials=("0abc",)))
    told_of = news_of(boards, Role.ELEMENT, known)
    assert (told_of["ended"]["pod_uids"], told_of["ended"]["serials"]) == (sorted(["a", UID]), ["0abc"])
    boards.pod_is_back(KEY, "a")
    assert news_of(boards, Role.ELEMENT, known)["ended"]["pod_uids"] == [UID]


def test_pods_that_ended_are_not_remembered_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "MOST_ENDED", 3)
    boards = told()
    for number in range(10):
        boards.pod_ended(KEY, str(number))
    assert news_of(boards, Role.REGISTRAR, NONE)["ended"]["pod_uids"] == ["7", "8", "9"]


def test_labels_for_pools_that_never_were_cost_nothing() -> None:
    boards = Boards()
    for number in range(100):
        boards.pod_ended(Key("demo", f"never-{number}"), "uid")
        boards.pod_is_back(Key("demo", f"never-{number}"), "uid")
    assert len(boards._boards) == 0


def test_who_waits_is_woken_by_news_of_its_pool_and_by_nothing_else() -> None:
    async def main() -> None:
        boards = told()
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(boards.wait(KEY, 25.0))
        await asyncio.sleep(1.0)
        boards.tell(OTHER, CHANNEL)
        boards.tell(KEY, CHANNEL)  # nothing new
        boards.report(KEY, UID, report())
        await asyncio.sleep(1.0)
        assert not waiting.done()
        boards.pod_ended(KEY, UID)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()
        began = loop.time()
        await boards.wait(KEY, 25.0)
        assert loop.time() - began >= 25.0
        waiting = asyncio.create_task(boards.wait(KEY, 25.0))
        await asyncio.sleep(0)
        boards.forget(KEY)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()
        assert boards.news(KEY, Role.ELEMENT, NONE) is None

    virtually(main())


def test_a_report_is_passed_on_only_if_it_says_something_new() -> None:
    boards = told()
    heard: list[Key] = []
    boards.on_report = heard.append
    boards.report(KEY, UID, report())
    boards.report(KEY, UID, report())
    boards.report(KEY, UID, report(state={"phase": "x"}))  # nobody shows that
    assert heard == [KEY]
    boards.report(KEY, UID, report(state={"healthy": True}))
    boards.report(KEY, SECOND_UID, report())
    assert heard == [KEY] * 3
    assert set(boards.reports(KEY)) == {UID, SECOND_UID}


def test_what_was_said_long_ago_is_forgotten_and_an_ended_pods_word_at_once() -> None:
    boards = told()
    boards.report(KEY, "old", report(at=datetime.now(UTC) - timedelta(minutes=6)))
    boards.report(KEY, "new", report())
    boards.report(KEY, "ended", report())
    boards.pod_ended(KEY, "ended")
    boards.expire(KEY, timedelta(minutes=5))
    assert set(boards.reports(KEY)) == {"new"}


# The desk, over TLS.


def body(role: str = "element", wait: float = 0, **loaded_: str) -> dict[str, Any]:
    return {"role": role, "wait": wait, "loaded": NONE | loaded_, "transports": ["TCP"], "state": {"healthy": True}}


async def ask(found: Served, contents: object = None, leaf: Any = None, **more: Any) -> tuple[int, Any]:
    response = await found.post("/v1/control", body() if contents is None else contents, leaf, **more)
    return response.status, json.loads(response.body)


def test_an_element_is_told_of_its_own_pool_and_its_word_is_kept() -> None:
    async def test(found: Served) -> None:
        status, news = await ask(found, leaf=found.leaf())
        assert status == 200
        assert news["settings"]["tables"]["pool"]["namespace"] == "demo"
        assert news["settings"]["tables"]["registrars"]["addresses"][0].startswith("echo-registrar-0.echo-peers.demo.")
        assert news["bundle"]["pem"].encode() == found.authority().bundle
        assert news["ended"]["pod_uids"] == []
        assert found.cluster.boards.reports(ECHO)[UID].state == {"healthy": True}
        known = {part: contents["version"] for part, contents in news.items()}
        assert await ask(found, body(**known), found.leaf()) == (200, {})

    served(test)


def test_a_registrar_waits_for_news_and_gets_them_at_once() -> None:
    async def test(found: Served) -> None:
        leaf = found.leaf(identity(Role.REGISTRAR))
        _, news = await ask(found, body("registrar"), leaf)
        known = {part: contents["version"] for part, contents in news.items()}
        boards, begun = found.cluster.boards, asyncio.Event()
        original = boards.wait

        async def wait(key: Key, seconds: float) -> None:
            begun.set()
            await original(key, seconds)

        boards.wait = wait  # type: ignore[method-assign] # this one is watched
        waiting = asyncio.create_task(ask(found, body("registrar", wait=4.0, **known), leaf))
        await begun.wait()
        await asyncio.sleep(0)
        boards.pod_ended(ECHO, "a-pod")
        status, more = await waiting
        assert (status, more["ended"]["pod_uids"], set(more)) == (200, ["a-pod"], {"ended"})

    served(test)


def test_what_a_process_reports_is_in_the_pools_status() -> None:
    found = Served()
    found.settle()

    async def run() -> None:
        async with found.running():
            _, news = await ask(found, leaf=found.leaf())
            known = {part: contents["version"] for part, contents in news.items()}
            registrar = found.world.objects[pod_ref("echo-registrar-0")]["metadata"]["uid"]
            contents = body("registrar", **known) | {"state": {"serving": True, "elements": 4, "own": 2}}
            assert (await ask(found, contents, found.leaf(identity(Role.REGISTRAR, registrar))))[0] == 200
            await found.cluster.reconcile(ECHO)
            status = found.cluster.status(ECHO)
            assert status["registrars"]["transports"] == ["TCP"]
            assert (status["elements"]["enrolled"], status["elements"]["registered"]) == (1, 4)
            assert status["authority"]["missing"] == ["app-1"]  # its report was made before it had loaded the bundle
            assert found.cluster.condition(ECHO, "TrustCurrent") == ("False", "TrustPending")
            await ask(found, body(**known), found.leaf())
            await found.cluster.reconcile(ECHO)
            assert found.cluster.condition(ECHO, "TrustCurrent") == ("True", "TrustLoaded")

    asyncio.run(run())


def test_without_a_leaf_of_its_pools_ca_nobody_is_told_anything() -> None:
    async def test(found: Served) -> None:
        status, answer = await ask(found)
        assert (status, answer["reason"]) == (401, "NoCertificate")
        foreign = found.leaf(identity(), found.authority(OTHER))
        status, answer = await ask(found, leaf=foreign)
        assert (status, answer["reason"]) == (403, "Forbidden")
        with pytest.raises(HttpError):
            await ask(found, leaf=found.leaf(identity(), authority("self-made")))
        assert found.cluster.boards.reports(ECHO) == {}

    served(test)


def test_a_leaf_speaks_for_its_own_role_only() -> None:
    async def test(found: Served) -> None:
        for role, other in ((Role.ELEMENT, "registrar"), (Role.REGISTRAR, "element")):
            status, answer = await ask(found, body(other), found.leaf(identity(role)))
            assert (status, answer["reason"]) == (403, "OtherRole")
        status, answer = await ask(found, body("user"), found.leaf(identity(Role.USER)))
        assert status in {400, 403}

    served(test)


@pytest.mark.parametrize("how", ["ended", "revoked", "relabelled before this leader began"])
def test_a_pod_that_is_no_member_any_more_is_told_nothing(how: str) -> None:
    async def test(found: Served) -> None:
        if how == "ended":
            found.cluster.boards.pod_ended(ECHO, UID)
        elif how == "revoked":
            found.world.change(
                next(r for r in found.world.objects if r.kind.kind == "ServerPool" and r.namespace == "demo"),
                lambda raw: raw["spec"]["security"].update(revoked=[UID]),
            )
            await found.cluster.reconcile(ECHO)
        else:
            found.world.change(pod_ref("app-1"), lambda pod: pod["metadata"].update(labels={}))
        status, answer = await ask(found, leaf=found.leaf())
        assert (status, answer["reason"]) == (403, "Revoked")
        registrar = found.leaf(identity(Role.REGISTRAR, SECOND_UID))
        _, news = await ask(found, body("registrar"), registrar)
        assert news["ended"]["pod_uids"] == [UID]

    served(test)


@pytest.mark.parametrize("role", [Role.ELEMENT, Role.REGISTRAR])
def test_a_leaf_that_was_revoked_is_told_nothing_and_registrars_are_told_of_it(role: Role) -> None:
    async def test(found: Served) -> None:
        leaf, other = found.leaf(identity(role)), found.leaf(identity(role))
        number = f"{leaf.chain[0].serial_number:x}"
        assert (await ask(found, body(role.value), leaf))[0] == 200
        found.world.change(
            next(r for r in found.world.objects if r.kind.kind == "ServerPool" and r.namespace == "demo"),
            lambda raw: raw["spec"]["security"].update(revoked=[f"serial:{number.upper()}"]),
        )
        await found.cluster.reconcile(ECHO)
        status, answer = await ask(found, body(role.value), leaf)
        assert (status, answer["reason"]) == (403, "LeafRevoked")
        assert (await ask(found, body(role.value), other))[0] == 200
        _, news = await ask(found, body("registrar"), found.leaf(identity(Role.REGISTRAR, SECOND_UID)))
        assert [int(serial, 16) for serial in news["ended"]["serials"]] == [leaf.chain[0].serial_number]
        assert news["ended"]["pod_uids"] == []

    served(test)


def test_a_service_account_that_was_revoked_takes_all_its_pods_with_it() -> None:
    async def test(found: Served) -> None:
        found.world.change(
            next(r for r in found.world.objects if r.kind.kind == "ServerPool" and r.namespace == "demo"),
            lambda raw: raw["spec"]["security"].update(revoked=["default"]),
        )
        await found.cluster.reconcile(ECHO)
        status, answer = await ask(found, leaf=found.leaf())
        assert (status, answer["reason"]) == (403, "Revoked")
        _, news = await ask(found, body("registrar"), found.leaf(identity(Role.REGISTRAR, SECOND_UID)))
        assert (news["ended"]["pod_uids"], news["ended"]["serials"]) == ([UID], [])

    served(test)


def test_a_replica_that_does_not_lead_says_so() -> None:
    async def test(found: Served) -> None:
        found.leading = False
        status, answer = await ask(found, leaf=found.leaf())
        assert (status, answer["reason"]) == (503, "NotLeader")

    served(test)


def test_a_leader_that_has_not_looked_yet_asks_to_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from rserpool_operator.control import desk

    monkeypatch.setattr(desk, "FIRST_WAIT", 0.01)

    async def test(found: Served) -> None:
        found.cluster.boards.forget(ECHO)
        status, answer = await ask(found, leaf=found.leaf())
        assert (status, answer["reason"]) == (503, "NotKnownYet")

    served(test)


@pytest.mark.parametrize(
    "contents",
    [
        [],
        {},
        b"",
        b"junk",
        body() | {"role": "king"},
        body() | {"role": []},
        body() | {"loaded": []},
        body() | {"loaded": {"bundle": 1}},
        body() | {"state": []},
        body() | {"transports": "TCP"},
        body() | {"wait": "1"},
        body() | {"wait": True},
    ],
    ids=lambda c: str(c)[:60],
)
def test_a_question_that_makes_no_sense_is_refused(contents: object) -> None:
    async def test(found: Served) -> None:
        status, answer = await ask(found, contents, found.leaf())
        assert (status, answer["reason"]) == (400, "BadRequest")

    served(test)


@pytest.mark.parametrize("elements", [10**30, -1, 1e300, "many", None, [1], True])
def test_a_count_that_cannot_be_does_not_stop_the_pools_status(elements: object) -> None:
    found = Served()
    found.settle()

    async def run() -> None:
        async with found.running():
            contents = body("registrar") | {"state": {"elements": elements, **{str(n): "x" * 300 for n in range(99)}}}
            assert (await ask(found, contents, found.leaf(identity(Role.REGISTRAR))))[0] == 200
            (kept,) = found.cluster.boards.reports(ECHO).values()
            assert len(str(kept)) < 20_000
            await found.cluster.reconcile(ECHO)
            count = found.cluster.status(ECHO)["elements"]["registered"]
            assert isinstance(count, int)
            assert 0 <= count < 2**63

    asyncio.run(run())


def test_who_asks_all_the_time_costs_no_more_than_its_share() -> None:
    async def test(found: Served) -> None:
        leaf = found.leaf()
        answers = [(await ask(found, body(), leaf))[0] for _ in range(40)]
        assert 429 in answers
        assert answers[0] == 200
        assert (await ask(found, body("registrar"), found.leaf(identity(Role.REGISTRAR, SECOND_UID))))[0] == 200

    served(test)
