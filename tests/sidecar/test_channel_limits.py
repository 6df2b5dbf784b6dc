# SPDX-License-Identifier: Apache-2.0
"""What users may cost a sidecar: connections, time without a handshake, silence; and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from ipaddress import IPv4Address
from typing import Any

import pytest

from rserpool.session.cookies import CookieKeys
from rserpool_sidecar.channel.section import ChannelSection
from support.rig_channel import CutOffError, RawUser, application, relaying, user_context
from support.rig_health import HERE, full
from support.rig_identity import quickly

FULL = "rserpool_user_refusals_total|reason=full"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def works(user: RawUser) -> bool:
    try:
        await user.say(b"hello")
        return await user.heard(5) == b"hello"
    except (CutOffError, ConnectionError):
        return False


async def refused(coming: Coroutine[Any, Any, RawUser]) -> bool:
    try:
        return not await works(await coming)
    except (CutOffError, OSError):
        return True


def test_so_many_users_and_no_more_until_one_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with application() as port, relaying(port, connections=3) as rig:
            users = [await rig.user() for _ in range(3)]
            assert all([await works(user) for user in users])
            assert [await refused(rig.user()) for _ in range(5)] == [True] * 5
            assert rig.metric(FULL) == 5
            users[1].abort()
            await rig.until(lambda: rig.relay.users == 2)
            assert await works(await rig.user())

    with caplog.at_level(logging.WARNING):
        run(test())
    assert [r.getMessage() for r in caplog.records] == ["refused a pool user: 3 connections of pool users are open"]


def test_one_address_does_not_take_the_place_of_all() -> None:
    other = str(IPv4Address(HERE) + 65536)

    async def test() -> None:
        async with application() as port, relaying(port, connections=8, connections_per_address=2) as rig:
            users = [await rig.user(local=str(HERE)) for _ in range(2)]
            assert all([await works(user) for user in users])
            assert await refused(rig.user(local=str(HERE)))
            assert await works(await rig.user(local=other))
            users[0].abort()
            await rig.until(lambda: rig.relay.users == 2)
            assert await works(await rig.user(local=str(HERE)))

    run(test())


def test_who_does_not_shake_hands_is_left_and_crowds_nobody_out() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            silent = [await asyncio.open_connection(str(HERE), rig.port) for _ in range(300)]
            await rig.until(lambda: rig.metric("rserpool_user_half_open") == 256)
            assert await works(await rig.user())
            await asyncio.sleep(10)
            assert rig.metric("rserpool_user_half_open") == 0
            assert set(rig.refusals) == {("2.16", "handshake")}
            assert len(rig.refusals) == 300
            for _, line in silent:
                line.transport.abort()
            await asyncio.sleep(0)

    quickly(test())


def test_silence_in_both_directions_ends_a_connection_and_words_in_one_do_not() -> None:
    async def ticks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _tick in range(10):
            await asyncio.sleep(30)
            writer.write(b".")
        await asyncio.sleep(10_000)

    async def test() -> None:
        began = asyncio.get_running_loop().time()
        async with application(ticks) as port, relaying(port, idle=60.0) as rig:
            user = await rig.user()
            user.patience = 100.0
            assert await user.heard(10) == b"." * 10
            spoken = asyncio.get_running_loop().time() - began
            with pytest.raises(CutOffError):
                await asyncio.wait_for(user.read(), 1000)
            silent = asyncio.get_running_loop().time() - began - spoken
            assert spoken >= 300
            assert 60 <= silent <= 80

    quickly(test())


@pytest.mark.rfc("RFC 3237 2.7: joining and leaving interrupt nobody")
def test_at_the_end_users_that_are_there_go_on_for_a_while_and_nobody_else_is_taken() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            staying, leaving = await rig.user(), await rig.user()
            assert await works(staying)
            assert await works(leaving)
            draining = asyncio.ensure_future(rig.relay.drain(0.6))
            await asyncio.sleep(0.05)
            assert await refused(rig.user())
            assert await works(staying)
            await leaving.finish()
            assert await leaving.rest() == b""
            assert not draining.done()
            await draining
            assert await works(staying), "drained is not ended"
            await rig.relay.close()
            with pytest.raises(CutOffError):
                await staying.read()

    run(test())


def test_when_all_users_have_gone_the_end_does_not_wait() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            user = await rig.user()
            assert await works(user)
            draining = asyncio.ensure_future(rig.relay.drain(3600))
            await user.finish()
            assert await user.rest() == b""
            await asyncio.wait_for(draining, 5)
            await asyncio.wait_for(rig.relay.drain(3600), 5)

    run(test())


def test_new_keys_and_limits_are_in_force_for_all_at_once() -> None:
    async def test() -> None:
        async with application() as port, relaying(port, connections=1) as rig:
            user = await rig.user()
            assert await works(user)
            keys = CookieKeys((9, bytes(32)))
            section = ChannelSection(port=rig.port, http_address=HERE, http_port=rig.local, keys=keys, connections=2)
            rig.relay.reconfigure(section, rig.relay.application)
            (connection,) = rig.relay._connections
            assert connection.session.config.keys is keys
            assert await works(await rig.user())
            anonymous = ChannelSection(port=rig.port, http_address=HERE, http_port=rig.local, anonymous=False)
            rig.relay.reconfigure(anonymous, rig.relay.application)
            assert await refused(rig.user())
            assert await works(user), "who is there has been let in"

    run(test())


def test_a_thousand_users_are_served_at_a_time() -> None:
    async def test() -> None:
        async with application() as port, relaying(port, secure=False) as rig:
            sources = [str(HERE), str(IPv4Address(HERE) + 65536)]
            users = [await rig.user(local=sources[n % 2]) for n in range(1000)]
            assert all(await asyncio.gather(*(works(user) for user in users)))
            assert rig.relay.users == len(rig.relay.ports) == 1000
            assert rig.told == []

    run(test())


def test_a_hundred_users_come_at_once_over_tls() -> None:
    async def test() -> None:
        context = user_context()
        async with application() as port, relaying(port) as rig:
            users = await asyncio.gather(*(rig.user(context) for _ in range(100)))
            assert all(await asyncio.gather(*(works(user) for user in users)))
            assert rig.told == []

    run(test())


def test_while_the_application_accepts_nobody_its_users_words_are_in_nobodys_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rserpool_sidecar.channel.connection.CONNECT", 0.5)

    async def test() -> None:
        with full() as port:
            async with relaying(port) as rig:
                user = await rig.user()
                sending = asyncio.ensure_future(user.say(bytes(32 * 1024 * 1024)))
                await rig.until(lambda: rig.relay.ports)
                (connection,) = rig.relay._connections
                held = 0
                while rig.relay.users:
                    held = max(held, sum(map(len, connection._before)))
                    await asyncio.sleep(0.01)
                with pytest.raises(ConnectionError):
                    await sending
                assert 0 < held <= 128 * 1024
                assert connection._before == []
                assert rig.metric("rserpool_user_refusals_total|reason=application") == 1

    run(test())
