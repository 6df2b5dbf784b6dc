# SPDX-License-Identifier: Apache-2.0
"""The control channel over real TLS, in quick time: who asks how often, what comes into force, and who is away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.daemon.channel import Channel, ControlClient, channel_gauges
from rserpool.daemon.control_channel import Ended
from rserpool.daemon.credentials import EnrolmentSource, Keeper
from rserpool.daemon.enrolment import EnrolmentClient, refusal
from rserpool.daemon.vault import Vault
from rserpool.transport.http import Response
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from support.rig_identity import LOOPBACK, TOKEN, authority, credentials, identity, pem_key, quickly
from support.rig_operator import OperatorServer

CA, NEXT, FORMER_CA = authority(), authority("next"), authority("former")
BOTH = (CA.bundle + NEXT.bundle).decode()


class End:
    """A process's end of the channel, and what it was told."""

    def __init__(self, server: OperatorServer, role: Role, directory: Path) -> None:
        (directory / "token").write_text(TOKEN)
        self.vault = Vault(directory / "identity")
        server.tokens[TOKEN] = identity(role)
        enrolment = EnrolmentClient(server.url, server.installation.bundle, LOOPBACK)
        source = EnrolmentSource(enrolment, directory / "token", identity(role), (), self.vault)
        self.keeper = Keeper(source, self._security)
        self.client = ControlClient(server.url, server.installation.bundle, LOOPBACK)
        self.server, self.role = server, role
        self.state: dict[str, object] = {"n": 0}
        self.settings: list[str] = []
        self.ended: list[Ended] = []
        self.tasks: list[asyncio.Task[None]] = []

    def _security(self, made: Credentials) -> Security:
        return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=self.role, credentials=made)

    async def begin(self) -> Channel:
        self.security = await self.keeper.first()
        self.channel = Channel(self.client, self.keeper, self.role, lambda: dict(self.state), self.vault)
        self.channel.on_settings = self._take
        self.channel.on_ended = self.ended.append
        self.tasks += [asyncio.ensure_future(self.keeper.run()), asyncio.ensure_future(self.channel.run())]
        return self.channel

    def _take(self, version: str, _: object) -> str:
        self.settings.append(version)
        return self.channel.loaded.settings if version.startswith("bad") else version

    def become(self, n: int) -> None:
        self.state["n"] = n
        self.channel.changed()

    def end(self) -> None:
        for task in self.tasks:
            assert not task.done()
            task.cancel()


Test = Callable[[OperatorServer, End], Coroutine[Any, Any, None]]


def with_end(directory: Path, test: Test, role: Role = Role.ELEMENT) -> None:
    async def run() -> None:
        async with OperatorServer(CA).running() as server:
            end = End(server, role, directory)
            await end.begin()
            try:
                await test(server, end)
            finally:
                end.end()

    quickly(asyncio.wait_for(run(), 100_000))


def times(server: OperatorServer) -> list[float]:
    return [at for at, _ in server.asked]


# -- how often


def test_a_sidecar_asks_every_half_minute_a_fifth_more_or_less_and_the_operator_does_not_wait(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await asyncio.sleep(500)
        gaps = [later - earlier for earlier, later in pairwise(times(server)[2:])]
        assert len(gaps) > 11
        assert all(23.9 < gap < 36.2 for gap in gaps), gaps
        assert max(gaps) - min(gaps) > 3
        assert {question["wait"] for _, question in server.asked} == {0}
        assert set(server.showed) == {identity()}
        assert end.settings == ["s1"]

    with_end(tmp_path, test)


def test_a_sidecar_that_was_told_nothing_yet_asks_again_soon(tmp_path: Path) -> None:
    async def test(server: OperatorServer, _: End) -> None:
        await asyncio.sleep(20)
        assert len(server.asked) >= 8

    with_end(tmp_path, test)


def test_a_sidecar_tells_at_once_what_changes_at_most_once_a_second_and_nothing_twice(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        await asyncio.sleep(2)
        asked, now = len(server.asked), asyncio.get_running_loop().time()
        end.become(1)
        await server.until(lambda q: q["state"]["n"] == 1)
        assert times(server)[-1] - now < 0.2
        for n in range(2, 30):
            end.become(n)
            await asyncio.sleep(0.1)
        await server.until(lambda q: q["state"]["n"] == 29)
        assert len(server.asked) - asked <= 5
        assert all(later - earlier >= 0.99 for earlier, later in pairwise(times(server)[asked:]))
        asked = len(server.asked)
        for _ in range(8):
            end.channel.changed()
            await asyncio.sleep(0.5)
        assert len(server.asked) == asked

    with_end(tmp_path, test)


def test_a_registrar_waits_for_news_shortly_while_it_is_young_or_its_elements_change(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await asyncio.sleep(150)
        began = times(server)[0]
        waits = {(at - began < 60, question["wait"]) for at, question in server.asked}
        assert waits == {(True, 2.0), (False, 25.0)}
        end.channel.lively()
        await server.until(lambda q: q["wait"] == 2.0)
        await asyncio.sleep(100)
        assert server.last["wait"] == 25.0
        now = asyncio.get_running_loop().time()
        server.settings("s2", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s2")
        assert times(server)[-1] - now < 5.1, "it asks again at once, to say so"

    with_end(tmp_path, test, Role.REGISTRAR)


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT])
def test_what_cannot_be_followed_and_an_operator_that_does_not_wait_make_nobody_hurry(
    tmp_path: Path, role: Role
) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.waits = False
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        server.settings("bad", {})
        await server.until(lambda _: "bad" in end.settings)
        asked = len(server.asked)
        await asyncio.sleep(100)
        assert len(server.asked) - asked <= 21
        assert server.last["loaded"]["settings"] == "s1"
        server.settings("s2", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s2")

    with_end(tmp_path, test, role)


# -- who is away


def test_an_operator_that_is_away_is_asked_ever_more_rarely_and_that_is_written_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        server.given.extend(refusal(503, "NotLeader", "another replica leads") for _ in range(10))
        asked = len(server.asked)
        end.become(1)
        await asyncio.sleep(260)
        gaps = [later - earlier for earlier, later in pairwise(times(server)[asked : asked + 11])]
        wanted = [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
        assert all(0.79 * w < gap < 1.21 * w + 0.1 for w, gap in zip(wanted, gaps, strict=True)), gaps
        assert end.channel.failures == 10
        assert caplog.text.count("the operator refuses: another replica leads") == 1
        assert caplog.text.count("the operator answers again") == 1
        assert end.channel.problem == ""

    with_end(tmp_path, test)


def test_who_cannot_begin_without_an_answer_asks_at_least_every_five_seconds(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.given.extend(refusal(404, "NoPool", "no such pool") for _ in range(20))
        await asyncio.sleep(60)
        assert max(later - earlier for earlier, later in pairwise(times(server))) < 6.2
        assert end.channel.problem == "the operator refuses: no such pool"

    with_end(tmp_path, test)


@pytest.mark.parametrize(
    "bad",
    [
        Response(body=b"junk"),
        Response(body=b'{"settings": 1}'),
        Response(status=500, body=b"internal error\n"),
        Response(body=b"[" * 100_000),
    ],
    ids=lambda bad: bad.body[:10].decode(),
)
def test_a_bad_answer_is_a_failure_and_the_next_one_counts(tmp_path: Path, bad: Response) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.given.append(bad)
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        assert end.channel.failures == 1
        gauges = {name: value for name, (_, value) in channel_gauges(end.channel).items()}
        assert gauges["rserpool_channel_questions_total|outcome=failed"] == 1
        assert gauges["rserpool_channel_last_answer_timestamp_seconds"] > 0

    with_end(tmp_path, test)


# -- what comes into force


def test_a_bundle_replaces_the_one_in_force_and_survives_a_restart_and_the_leaf_stays(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        before = end.security.credentials
        server.say(bundle={"version": "b2", "pem": BOTH})
        await server.until(lambda q: q["loaded"]["bundle"] == "b2")
        after = end.security.credentials
        assert after.chain == before.chain
        assert after.key is before.key
        assert set(after.bundle) == {CA.certificate, NEXT.certificate}
        kept = end.vault.restore(identity())
        assert kept is not None
        assert set(kept.bundle) == set(after.bundle)

    with_end(tmp_path, test)


def test_a_bundle_that_is_none_leaves_the_former_one_in_force(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        before = end.security.credentials
        server.settings("s1", {})
        server.say(bundle={"version": "b2", "pem": "junk"})
        await asyncio.sleep(100)
        assert server.last["loaded"]["bundle"] == ""
        assert end.security.credentials is before
        assert caplog.text.count("trust bundle is no bundle") == 1

    with_end(tmp_path, test)


def test_a_renewal_that_brings_another_bundle_is_followed_by_a_look_at_the_channels(tmp_path: Path) -> None:
    """Renewal and channel may cross; the channel has the last word."""

    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        server.say(bundle={"version": "b2", "pem": BOTH}, renew={"version": "r1"})
        await server.until(lambda q: q["loaded"]["bundle"] == "b2" and q["loaded"]["renew"] == "r1")
        server.say(renew={"version": "r2"})  # the server's renewals bring the old bundle alone
        await server.until(lambda q: q["loaded"]["renew"] == "r2")
        await server.until(lambda q: q["loaded"]["bundle"] == "b2")
        await asyncio.sleep(5)
        assert set(end.security.credentials.bundle) == {CA.certificate, NEXT.certificate}

    with_end(tmp_path, test)


def test_who_has_just_enrolled_takes_the_first_order_to_renew_as_done_and_carries_out_the_next(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        server.say(renew={"version": "r1"})
        await server.until(lambda q: q["loaded"]["renew"] == "r1")
        assert server.paths == ["/v1/enrol"]
        before = end.security.credentials
        server.say(renew={"version": "r2"})
        await server.until(lambda q: q["loaded"]["renew"] == "r2")
        assert server.paths == ["/v1/enrol", "/v1/renew"]
        assert end.security.credentials.chain != before.chain
        assert end.vault.renewed() == "r2"
        await asyncio.sleep(100)
        assert server.paths == ["/v1/enrol", "/v1/renew"]

    with_end(tmp_path, test)


def test_an_order_to_renew_is_reported_when_it_is_carried_out_and_not_before(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        server.say(renew={"version": "r1"})
        await server.until(lambda q: q["loaded"]["renew"] == "r1")
        server.replies.extend(refusal(503, "Unavailable", "later") for _ in range(6))
        server.say(renew={"version": "r2"})
        while server.replies:
            await asyncio.sleep(1)
            assert server.last["loaded"]["renew"] == "r1"
        await server.until(lambda q: q["loaded"]["renew"] == "r2")
        assert end.keeper.renewals == 1

    with_end(tmp_path, test)


@pytest.mark.parametrize(("order", "renewals"), [("r1", 0), ("r2", 1)])
def test_who_was_started_again_knows_which_order_it_has_carried_out(tmp_path: Path, order: str, renewals: int) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        server.say(renew={"version": "r1"})
        await server.until(lambda q: q["loaded"]["renew"] == "r1")
        server.say(renew={"version": order})
        again = End(server, Role.ELEMENT, tmp_path)
        end.end()
        end.tasks.clear()
        enrolled = len(server.paths)
        await again.begin()
        assert again.keeper.restored
        await server.until(lambda q: q["loaded"]["renew"] == order)
        await asyncio.sleep(10)
        assert server.paths[enrolled:] == ["/v1/renew"] * renewals
        again.end()

    with_end(tmp_path, test)


def test_pods_that_ended_are_handed_on(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        uid = identity().pod_uid
        server.say(ended={"version": "e1", "pod_uids": [uid]})
        await server.until(lambda q: q["loaded"]["ended"] == "e1")
        assert end.ended == [Ended(version="e1", pod_uids=(uid,))]

    with_end(tmp_path, test, Role.REGISTRAR)


def test_nothing_that_is_said_or_written_holds_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(server: OperatorServer, end: End) -> None:
        server.say(bundle={"version": "b2", "pem": BOTH}, renew={"version": "r1"})
        await server.until(lambda q: q["loaded"]["renew"] == "r1")
        server.say(renew={"version": "r2"})
        await server.until(lambda q: q["loaded"]["renew"] == "r2")
        key = end.security.credentials.key
        assert key is not None
        shown = caplog.text + json.dumps(server.asked) + "".join(str(vars(r)) for r in caplog.records)
        assert TOKEN not in shown
        assert "PRIVATE KEY" not in shown
        assert not any(line in shown for line in pem_key(key).decode().splitlines()[1:-1])

    with_end(tmp_path, test)


def test_who_is_not_believed_any_more_asks_for_another_leaf_at_most_once_a_minute(tmp_path: Path) -> None:
    """The pool was made anew, with another authority: TLS refuses the leaf of the former one."""

    async def test(server: OperatorServer, end: End) -> None:
        await server.until(lambda _: True)
        end.keeper._current = credentials(FORMER_CA, identity(Role.ELEMENT))
        began = asyncio.get_running_loop().time()
        end.become(1)
        await server.until(lambda question: question["state"]["n"] == 1)
        assert [r.path for r in server.seen] == ["/v1/enrol", "/v1/enrol"]
        assert end.keeper.current.bundle == (CA.certificate,)
        assert asyncio.get_running_loop().time() - began < 30

    with_end(tmp_path, test)


def test_who_is_told_that_its_leaf_was_revoked_asks_for_another_one_with_its_token(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        first = end.keeper.current.chain[0].serial_number
        server.given.append(refusal(403, "LeafRevoked", "the leaf is in spec.security.revoked"))
        end.become(1)
        await asyncio.sleep(60)
        assert end.keeper.current.chain[0].serial_number != first
        assert end.keeper.renewals == 1
        server.given.extend(refusal(403, "LeafRevoked", "the leaf is in spec.security.revoked") for _ in range(3))
        end.become(2)
        await asyncio.sleep(20)
        assert end.keeper.renewals <= 2, "once a minute"

    with_end(tmp_path, test)


def test_who_is_refused_for_another_reason_keeps_its_leaf(tmp_path: Path) -> None:
    async def test(server: OperatorServer, end: End) -> None:
        server.settings("s1", {})
        await server.until(lambda q: q["loaded"]["settings"] == "s1")
        server.given.append(refusal(403, "Revoked", "the pod is no member of the pool any more"))
        end.become(1)
        await asyncio.sleep(60)
        assert end.keeper.renewals == 0

    with_end(tmp_path, test)
