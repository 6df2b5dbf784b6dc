# SPDX-License-Identifier: Apache-2.0
"""Sessions with a pool that really runs: sidecars, TLS, cookies; elements die, and the session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rserpool.client import (
    ElementLost,
    ElementRemoved,
    FailedOver,
    Failover,
    NoElementError,
    PoolElementHandle,
    PoolUser,
    PoolUserError,
    Session,
    SessionClosedError,
    SessionEvent,
    SessionLostError,
    UnknownPoolError,
)
from rserpool.pool import ServerPool
from rserpool.wire import TcpTransport
from support.rig_model import runtime_folder, server_pool
from support.rig_sessions import FRAMED, FRAMED_INSECURE, PLAIN, Counting, said, with_counting

ALL = pytest.mark.parametrize(
    "pool", [FRAMED, FRAMED_INSECURE, PLAIN, server_pool()], ids=["framed TLS", "framed", "plain", "plain in Secure"]
)


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


@ALL
def test_a_session_speaks_with_an_element_and_says_what_protects_it(pool: ServerPool) -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo") as session:
            name = found.application_of(session).name
            assert await said(session, "hello") == f"{name} 1 hello"
            assert await said(session, "again") == f"{name} 2 again"
            assert session.security.protected is (pool is FRAMED)
            if pool is FRAMED:
                assert session.security.version == "TLSv1.3"
                assert session.security.cipher.startswith("TLS_")
                assert "/pool/echo/element/" in session.security.identity
            assert (session.failovers, session.is_open) == (0, True)
        assert not session.is_open
        with pytest.raises(SessionClosedError):
            await session.send(b"late")

    with_counting(body, pool, 2)


@pytest.mark.rfc(
    "RFC 5352 3.8: the newest cookie goes first to the next element",
    "PROTOCOL 12.3: the application hears of a fail-over before any data goes to the next element",
    "threats 2.9: an application is told of a fail-over to another security",
)
def test_when_its_element_dies_a_session_goes_on_at_another_with_its_cookie_after_the_application_agreed() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        asked: list[Failover] = []
        events: list[SessionEvent] = []

        async def agree(failover: Failover) -> bool:
            asked.append(failover)
            await asyncio.sleep(0.05)
            assert [a.cookies for a in found.applications if a is not first] == [[], []]  # nothing has gone there yet
            return True

        async with users.session("echo", on_failover=agree, on_event=events.append) as session:
            first, old = found.application_of(session), session.element
            for k in range(3):
                assert await said(session, f"{k}") == f"{first.name} {k + 1} {k}"
            await first.all_told()  # the cookie of the third line may come after its answer
            await asyncio.sleep(0.05)
            first.die()
            await found.pool.end_sidecar(found.index_of(session))
            answer = await said(session, "go on")
            second = found.application_of(session)
            assert second is not first
            assert answer == f"{second.name} 4 go on"
            assert second.cookies == [3]
            assert session.failovers == 1
            [failover] = asked
            assert (failover.old.element, failover.new.element) == (old, session.element)
            assert failover.old.security.identity != failover.new.security.identity == session.security.identity
            assert failover.cookie
            assert [type(e) for e in events if not isinstance(e, ElementRemoved)] == [ElementLost, FailedOver]

    with_counting(body, FRAMED)


@ALL
def test_in_every_kind_of_pool_a_session_outlives_its_element(pool: ServerPool) -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo") as session:
            first = found.application_of(session)
            await said(session, "hello")
            first.die()
            answer = await said_in_the_end(session, "still there?")
            second = found.application_of(session)
            assert second is not first
            assert answer.startswith(second.name)

    async def said_in_the_end(session: Session, line: str) -> str:
        """What was given to the dead connection is lost (RFC 5352 6.5.5): said again until it is answered."""
        while True:
            try:
                async with asyncio.timeout(0.3):
                    return await said(session, line)
            except TimeoutError:
                continue

    with_counting(body, pool, 2)


def test_an_application_that_refuses_an_element_is_led_to_the_next_one() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        refused: list[int] = []

        def refuse_the_first(failover: Failover) -> bool:
            if not refused:
                refused.append(failover.new.element.identifier)
                return False
            return True

        async with users.session("echo", on_failover=refuse_the_first) as session:
            seen = {session.element.identifier}
            found.application_of(session).die()
            await found.pool.end_sidecar(found.index_of(session))
            await said(session, "hello")
            assert refused
            assert session.element.identifier not in {*seen, *refused}
            assert sum(len(a.cookies) for a in found.applications) == 1

    with_counting(body, FRAMED)


def test_an_application_whose_callback_fails_hears_of_it_where_it_waits() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        def fail(_: Failover) -> bool:
            raise ZeroDivisionError("the application's own fault")

        session = users.session("echo", on_failover=fail)
        async with session:
            found.application_of(session).die()
            await found.pool.end_sidecar(found.index_of(session))
            with pytest.raises(ZeroDivisionError):
                await session.receive()

    with_counting(body, FRAMED, 2)


@pytest.mark.rfc("RFC 5352 3.9: the business card's order is preferred when its sender fails")
def test_the_order_an_application_has_given_is_kept() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        every = (await users.resolve("echo")).elements
        async with users.session("echo") as session:
            mine = session.element.identifier
            others = [e.identifier for e in every if e.identifier != mine]
            for wanted in (others, others[::-1]):
                for application in found.applications:
                    application.order = wanted
            await said(session, "hello")
            await said(session, "the card has come before this is answered")
            found.application_of(session).die()
            await found.pool.end_sidecar(found.index_of(session))
            await said(session, "again")
            assert session.element.identifier == others[-1]

    with_counting(body, FRAMED)


# -- ends


def test_a_session_that_may_not_fail_over_ends_with_the_element_and_says_what_was_not_sent() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo", failover=False) as session:
            found.application_of(session).die()
            with pytest.raises(SessionLostError) as caught:
                await session.receive()
        assert caught.value.element == session.element
        assert "\n" not in str(caught.value)

    with_counting(body, PLAIN, 2)


def test_where_the_element_ends_the_session_what_it_said_is_received_to_the_end() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo", ends_with_element=True) as session:
            name = found.application_of(session).name
            await session.send(b"one\n")
            await session.send(b"two\n")
            await session.send_eof()
            heard = b"".join([octets async for octets in session])
            assert heard.decode() == f"{name} 1 one\n{name} 2 two\n"
            assert await session.receive() == b""
            with pytest.raises(SessionClosedError):
                await session.send(b"three\n")

    for pool in (FRAMED, FRAMED_INSECURE, PLAIN):
        with_counting(body, pool, 1)


def test_a_pool_nobody_is_in_and_elements_nobody_reaches_are_told_apart() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        with pytest.raises(UnknownPoolError):
            async with users.session("nobody"):
                pass
        for application in found.applications:
            application.die()
        with pytest.raises(NoElementError, match="connection refused"):
            async with users.session("echo", patience=0.5):
                pass

    with_counting(body, PLAIN, 2)


def test_sessions_end_with_the_pool_user() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with PoolUser(found.pool.scope, patience=5) as other:
            session = other.session("echo")
            await session.__aenter__()
            waiting = asyncio.create_task(session.receive())
            await asyncio.sleep(0)
        assert await waiting == b""
        assert not session.is_open

    with_counting(body, PLAIN, 1)


def test_a_session_that_is_given_up_while_it_begins_leaves_nothing() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        for application in found.applications:
            application.die()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), users.session("echo", patience=30):
                pass
        assert [s for s in users._sessions if not s.is_over] == []

    with_counting(body, PLAIN, 1)


def test_plain_streams_are_refused_where_there_is_a_control_channel() -> None:
    async def body(_: Counting, users: PoolUser) -> None:
        with pytest.raises(PoolUserError, match=r"use session\(\)"):
            await users.connect("echo")

    with_counting(body, FRAMED, 1)


# -- one element, and an address


def test_a_handle_of_an_element_leads_back_to_it() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async with users.session("echo") as session:
            name, handle = found.application_of(session).name, session.element_handle
        for _ in range(2):
            async with users.session(handle) as session:
                assert (await said(session, "hello")).startswith(name)
                assert session.element_handle == handle == PoolElementHandle(b"echo", session.element.identifier)

    with_counting(body, FRAMED)


def test_an_address_is_connected_to_and_must_be_an_element_all_the_same() -> None:
    async def body(_: Counting, users: PoolUser) -> None:
        transport = (await users.resolve("echo")).elements[0].transport
        assert isinstance(transport, TcpTransport)
        async with users.session((str(transport.address), transport.port)) as session:
            assert (await said(session, "hello")).endswith("1 hello")
            assert session.element.identifier == 0
            assert session.security.protected

    with_counting(body, FRAMED, 1)


@pytest.mark.parametrize("to", [("no-address", 1), ("127.0.0.1", 0), ("127.0.0.1", 65536), "", b"x" * 256])
def test_a_destination_that_cannot_be_is_refused_at_once(to: tuple[str, int] | str | bytes) -> None:
    async def body(_: Counting, users: PoolUser) -> None:
        with pytest.raises(ValueError, match=r"address|port|handle"):
            users.session(to)

    with_counting(body, PLAIN, 0)


# -- being told


def test_a_session_is_told_within_half_a_second_that_its_element_has_left_the_pool() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        events: asyncio.Queue[SessionEvent] = asyncio.Queue()
        async with users.session("echo", on_event=events.put_nowait) as session:
            await said(session, "hello")
            ending = asyncio.create_task(found.pool.end_sidecar(found.index_of(session)))
            loop = asyncio.get_running_loop()
            began = loop.time()
            event = await events.get()
            assert loop.time() - began < 0.5
            assert event == ElementRemoved(session.element)
            assert await said(session, "it still serves") == f"{found.application_of(session).name} 2 it still serves"
            await ending

    with_counting(body, PLAIN, 2)


def test_a_session_that_wants_to_leaves_an_element_that_has_left_the_pool() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        moved = asyncio.Event()
        async with users.session(
            "echo", leave_removed=True, on_event=lambda e: moved.set() if isinstance(e, FailedOver) else None
        ) as session:
            first = found.application_of(session)
            await found.pool.end_sidecar(found.index_of(session))
            async with asyncio.timeout(2):
                await moved.wait()
            assert found.application_of(session) is not first

    with_counting(body, PLAIN, 2)


# -- much


@pytest.mark.parametrize("pool", [FRAMED, PLAIN], ids=["framed TLS", "plain"])
def test_much_goes_through_and_waits_for_who_is_slow(pool: ServerPool) -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        line = bytes(97 + k % 26 for k in range(50_000)) + b"\n"
        async with users.session("echo") as session:
            name = found.application_of(session).name

            async def say() -> None:
                for _ in range(40):
                    await session.send(line)

            saying = asyncio.create_task(say())
            await asyncio.sleep(0.1)
            heard = b""
            while heard.count(b"\n") < 40:
                heard += await session.receive()
            await saying
            assert heard == b"".join(f"{name} {k} ".encode() + line for k in range(1, 41))
            assert session._inbox_octets == 0

    with_counting(body, pool, 1)


def test_leaving_a_session_whose_element_does_not_read_ends_in_time_and_says_so() -> None:
    async def body(found: Counting, users: PoolUser) -> None:
        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's stubs leave it out

        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        session = users.session(("127.0.0.1", server.sockets[0].getsockname()[1]), patience=0.3)
        await session.__aenter__()
        sending = asyncio.create_task(session.send(bytes(30_000_000)))
        await asyncio.sleep(0.05)
        with pytest.raises(SessionLostError, match=r"has not taken \d+ octets within 0\.3 s"):
            await session.__aexit__(None, None, None)
        with pytest.raises(SessionClosedError):
            await sending
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    with_counting(body, PLAIN, 0)
