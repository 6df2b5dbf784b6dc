# SPDX-License-Identifier: Apache-2.0
"""Single messages to pools: to whom they go, and who answers (RFC 5352 6.5, 6.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rserpool.client import (
    Failover,
    NoElementError,
    PoolElementHandle,
    PoolUser,
    QueueFullError,
    SendOptions,
    SessionLostError,
)
from support.rig_model import runtime_folder
from support.rig_sessions import FRAMED, PLAIN, Counting, said, with_counting


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


def test_each_message_goes_to_the_element_whose_turn_it_is_and_says_which_it_was() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        reached = [(await users.send("echo", b"%d\n" % k))[0] for k in range(3)]
        assert len(set(reached)) == 3
        [last] = await users.send("echo", b"last\n", SendOptions.SEND_TO_LAST)
        assert last == reached[-1]
        [again] = await users.send(reached[0], b"you\n")
        assert again == reached[0]
        heard: dict[int, bytes] = {}
        while sum(octets.count(b"\n") for octets in heard.values()) < 5:
            received = await users.receive()
            heard[received.element.identifier] = heard.get(received.element.identifier, b"") + received.octets
        assert heard[last.identifier].count(b"\n") == 2
        assert heard[again.identifier].count(b"\n") == 2
        assert {octets.split()[0].decode() for octets in heard.values()} == {a.name for a in found.applications}

    for pool in (FRAMED, PLAIN):
        with_counting(body, pool)


def test_to_all_is_a_copy_to_each_but_the_dead_ones_and_oneself() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        every = {e.identifier for e in (await users.resolve("echo")).elements}
        reached = await users.send("echo", b"all\n", SendOptions.SEND_TO_ALL)
        assert {r.identifier for r in reached} == every
        assert {(await users.receive()).element.identifier for _ in range(3)} == every
        own = min(every)
        async with PoolUser(found.pool.scope, patience=5, own_identifier=own) as itself:
            others = await itself.send("echo", b"others\n", SendOptions.SEND_TO_ALL)
            assert {r.identifier for r in others} == every - {own}
            all_of_them = await itself.send("echo", b"all\n", SendOptions.SEND_TO_ALL | SendOptions.SEND_TO_SELF)
            assert {r.identifier for r in all_of_them} == every
            found.applications[0].die()
            left = await itself.send("echo", b"left\n", SendOptions.SEND_TO_ALL | SendOptions.SEND_TO_SELF)
            assert len(left) in {2, 3}  # what was given to a connection that has just died is not missed

    with_counting(body, PLAIN)


def test_a_message_is_sent_to_another_element_unless_it_must_not() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        every = (await users.resolve("echo")).elements
        found.applications[0].die()
        place = found.applications[0].plan.place
        dead = next(e for e in every if e.transport.addresses == (place.address,))
        for _ in range(2):
            [reached] = await users.send("echo", b"anybody\n")
            assert reached.identifier != dead.identifier
        handle = PoolElementHandle(b"echo", dead.identifier)
        users.purge()
        with pytest.raises(NoElementError, match="connection refused"):
            await users.send(handle, b"you alone\n", SendOptions.SEND_NO_FAILOVER)
        [other] = await users.send(handle, b"you or another\n", SendOptions.SEND_FAILOVER)
        assert other.identifier != dead.identifier

    with_counting(body, PLAIN, 2)


def test_an_element_the_application_complains_of_is_left() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo") as session:
            first = found.application_of(session)
            await said(session, "hello")
            await session.report_failure("it answers nonsense")
            await said(session, "hello")
            assert found.application_of(session) is not first
        async with users.session("echo", failover=False) as session:
            with pytest.raises(SessionLostError, match="nonsense"):
                await session.report_failure("it answers nonsense")

    with_counting(body, PLAIN, 2)


def test_between_two_elements_messages_are_queued_and_what_is_too_much_is_refused() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        decide = asyncio.Event()

        async def later(_: Failover) -> bool:
            await decide.wait()
            return True

        async with users.session("echo", on_failover=later) as session:
            await session.report_failure("for the sake of the test")
            await asyncio.sleep(0.05)
            assert not session.is_open
            await session.send(b"waits\n")
            with pytest.raises(QueueFullError, match="wait until it has one, or send less"):
                await session.send(bytes(1024 * 1024))
            decide.set()
            assert (await session.receive()).endswith(b"1 waits\n")

    with_counting(body, PLAIN, 2)


def test_a_message_that_fell_over_to_another_element_is_answered_by_that_one() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        every = (await users.resolve("echo")).elements
        found.applications[0].die()
        dead = next(e for e in every if e.transport.addresses == (found.applications[0].plan.place.address,))
        to = PoolElementHandle(b"echo", dead.identifier)
        for _ in range(2):
            users.purge()
            [reached] = await users.send(to, b"hello\n", SendOptions.SEND_FAILOVER)
            received = await users.receive()
            assert received.element.identifier == reached.identifier != dead.identifier
            assert received.octets.endswith(b" 1 hello\n")
        with pytest.raises(ValueError, match="name the pool"):
            await users.send(to, b"x", SendOptions.SEND_TO_ALL)
        found.applications[1].die()
        users.purge()
        with pytest.raises(NoElementError, match="connection refused"):
            await users.send("echo", b"x", SendOptions.SEND_TO_ALL)

    with_counting(body, PLAIN, 2)


def test_elements_spoken_with_are_bounded_and_the_one_longest_unused_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rserpool.client.mail.MOST_SESSIONS", 2)

    async def body(_: Counting, users: PoolUser) -> None:
        for _k in range(6):
            await users.send("echo", b"hello\n")
        assert len([s for s in users._sessions if not s.is_over]) == 2

    with_counting(body, PLAIN, 3)
