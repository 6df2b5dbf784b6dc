# SPDX-License-Identifier: Apache-2.0
"""Who is not the element it should be gets nothing, and who may use a pool shows it (threats 2.7, 2.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rserpool.asap.authorisation import Role
from rserpool.client import (
    ElementLost,
    Failover,
    PoolUser,
    RefusedError,
    SessionEvent,
)
from support.rig_model import runtime_folder, server_pool
from support.rig_sessions import FRAMED, Counting, impostor, leaf_of, said, with_counting


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


@pytest.mark.rfc(
    "threats 2.9: an application is told of a fail-over to another security",
    "PROTOCOL 12.3: the next element has to be as secure as the one before",
)
@pytest.mark.parametrize("kind", ["without TLS", "another authority", "another element", "a registrar"])
def test_an_impostor_where_the_next_element_should_be_gets_nothing_and_the_right_one_the_cookie(kind: str) -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        asked: list[Failover] = []
        lost: list[SessionEvent] = []
        await users.resolve("echo")  # remembered: nobody tells of who leaves afterwards
        async with users.session("echo", on_failover=asked.append, on_event=lost.append, follow=False) as session:
            first = found.application_of(session)
            await said(session, "hello")
            await first.all_told()
            await asyncio.sleep(0.05)
            every = (await users.resolve("echo")).elements
            at = [e.identifier for e in every].index(session.element.identifier)
            victim = every[(at + 1) % 3]
            index = next(
                i for i, a in enumerate(found.applications) if a.plan.place.address in victim.transport.addresses
            )
            await found.pool.end_sidecar(index)
            async with impostor(found, index, kind) as heard:
                first.die()
                await found.pool.end_sidecar(found.index_of(session))
                answer = await said(session, "secret")
            third = found.application_of(session)
            assert answer == f"{third.name} 2 secret"
            assert third.cookies == [1]
            assert heard.connections == 1
            assert heard.said == b""
            assert [f.new.element.identifier for f in asked] == [session.element.identifier]
            assert victim in [e.element for e in lost if isinstance(e, ElementLost)]

    with_counting(body, FRAMED)


def test_a_pool_that_lets_no_anonymous_user_in_is_used_with_a_leaf_of_ones_own() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        with pytest.raises(RefusedError):
            await users.resolve("echo")
        for role in (Role.USER, Role.ELEMENT):
            async with (
                PoolUser(found.pool.scope, patience=5, credentials=leaf_of(found, role)) as known,
                known.session("echo") as session,
            ):
                assert (await said(session, "hello")).endswith("1 hello")

    with_counting(body, server_pool(controlChannel=True, users={"anonymous": False}), 1)
