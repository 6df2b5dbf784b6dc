# SPDX-License-Identifier: Apache-2.0
"""The relay, by Python's own TLS: who is let in, what goes through, and how either side may end it."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Malformed
from rserpool.session.frames import Frame, data, encode
from rserpool_sidecar.channel.connection import Hold
from support.rig_channel import CA, CutOffError, RawUser, application, echo, relaying, reset, user_context
from support.rig_health import HERE, nobody
from support.rig_identity import authority, credentials, identity

T = TypeVar("T")
TESTS = str(Path(__file__).parent.parent)
BIG = bytes(range(256)) * 8192  # 2 MiB


def run(test: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(test, 30))


@pytest.mark.rfc("PROTOCOL 9.6", "threats 2.16: data and control share one connection, cookies are signed")
def test_a_user_speaks_with_the_application_over_tls_with_the_elements_leaf() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            user = await rig.user()
            assert user.peer_uri == str(identity(Role.ELEMENT))
            assert user.tls is not None
            assert user.tls.version() == "TLSv1.3"
            await user.say(b"hello")
            assert await user.heard(5) == b"hello"
            await user.say(BIG)
            assert await user.heard(len(BIG)) == BIG
            assert rig.told == []
            assert rig.metric("rserpool_user_connections") == 1
            user.abort()
            await rig.until(lambda: rig.metric("rserpool_user_connections") == 0)

    run(test())


def test_in_a_pool_without_security_the_same_frames_go_without_tls() -> None:
    async def test() -> None:
        async with application() as port, relaying(port, secure=False) as rig:
            user = await rig.user()
            await user.say(BIG)
            assert await user.heard(len(BIG)) == BIG
            await user.finish()
            assert await user.rest() == b""

    run(test())


async def turned_away(user: RawUser) -> bool:
    """Whether nothing comes of a connection; so TLS 1.3 says after its handshake whom it does not believe."""
    try:
        return await user.read() == b""
    except (CutOffError, ssl.SSLError):
        return True


ADMITTED = {
    "anonymous": (None, True, True),
    "anonymous where a certificate is required": (None, False, False),
    "a user": (identity(Role.USER), False, True),
    "an element of the pool": (identity(Role.ELEMENT, uid="1" * 8 + identity().pod_uid[8:]), False, True),
    "a registrar": (identity(Role.REGISTRAR), True, False),
    "a user of another pool": (identity(Role.USER, pool="other"), True, False),
}


@pytest.mark.parametrize("who", ADMITTED)
def test_who_may_use_an_element(who: str, tmp_path: Path) -> None:
    whose, anonymous, admitted = ADMITTED[who]

    async def test() -> None:
        async with application() as port, relaying(port, anonymous=anonymous) as rig:
            user = await rig.user(user_context(tmp_path, whose))
            if admitted:
                await user.say(b"hello")
                assert await user.heard(5) == b"hello"
                assert rig.told == []
            else:
                assert await turned_away(user)
                await rig.until(lambda: rig.told)
                assert rig.refusals == [("2.16", "handshake")]
                assert rig.metric("rserpool_user_connections_total") == 0
                assert rig.metric("rserpool_user_refusals_total|reason=handshake") == 1

    run(test())


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            context = user_context(tmp_path, identity(Role.USER), signer=authority("pool"))
            user = await rig.user(context)
            assert await turned_away(user)
            await rig.until(lambda: rig.told)
            assert rig.refusals == [("2.16", "handshake")]

    run(test())


def test_a_user_that_trusts_another_authority_does_not_believe_the_element() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            with pytest.raises(ssl.SSLCertVerificationError):
                await rig.user(user_context(trusts=authority("other")))
            await rig.until(lambda: rig.told)
            assert rig.metric("rserpool_user_connections_total") == 0

    run(test())


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_plain_frames_are_refused_where_there_is_security_and_tls_where_there_is_none() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            plain = await RawUser.connect(rig.port, None)
            await plain.say(b"hello")
            assert await turned_away(plain)
            plain.abort()
            await rig.until(lambda: rig.told)
            assert rig.refusals == [("2.15", "handshake")]
        async with application() as port, relaying(port, secure=False) as rig:
            with pytest.raises((CutOffError, ssl.SSLError, ConnectionError)):
                await rig.user(user_context())
            await rig.until(lambda: rig.told)
            assert isinstance(rig.told[0], Malformed)

    run(test())


def test_garbage_ends_its_own_connection_and_no_other() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            good, bad = await rig.user(), await rig.user()
            await good.say(b"one")
            await bad.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            with pytest.raises(CutOffError):
                await bad.frame()
            await good.say(b"two")
            assert await good.heard(6) == b"onetwo"
            assert [type(e) for e in rig.told] == [Malformed]

    run(test())


def test_each_side_may_finish_first_and_hears_the_other_out() -> None:
    heard: list[bytes] = []

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(-1))
        writer.write(BIG)
        writer.close()

    async def speaks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome and goodbye")
        writer.write_eof()
        heard.append(await reader.read(-1))
        writer.close()

    async def test(secure: bool) -> None:
        async with application(answers) as port, relaying(port, secure=secure) as rig:
            user = await rig.user()
            await user.say(b"question" * 1000)
            await user.finish()
            assert await user.rest() == BIG
            assert heard.pop() == b"question" * 1000
            await rig.until(lambda: rig.relay.users == 0)
        async with application(speaks_first) as port, relaying(port, secure=secure) as rig:
            user = await rig.user()
            assert await user.rest() == b"welcome and goodbye"
            await user.say(b"thanks" * 1000)
            await user.finish()
            await rig.until(lambda: heard)
            assert heard.pop() == b"thanks" * 1000
            await rig.until(lambda: rig.relay.users == 0)
            assert rig.told == []

    run(test(secure=True))
    run(test(secure=False))


@pytest.mark.parametrize("secure", [True, False])
def test_what_was_said_before_an_orderly_end_arrives_however_slowly_it_is_read(secure: bool) -> None:
    heard: list[bytes] = []

    async def reads_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"goodbye")
        writer.write_eof()
        await asyncio.sleep(0.5)
        heard.append(await reader.read(-1))
        writer.close()

    async def test() -> None:
        async with application(reads_late) as port, relaying(port, secure=secure) as rig:
            user = await rig.user()
            story = BIG[: 1024 * 1024]
            await user.say(story)
            await user.finish()
            assert await user.rest() == b"goodbye"
            await rig.until(lambda: heard)
            assert heard == [story]
            await rig.until(lambda: rig.relay.users == 0)

    run(test())


def test_a_sidecar_that_is_killed_makes_no_good_end_of_its_connections() -> None:
    """Also the kernel, which closes what a dead process leaves, resets the application's connections."""
    program = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[2])\n"
        "from support.rig_channel import RawUser, relaying\n"
        "async def main():\n"
        "    async with relaying(int(sys.argv[1]), secure=False) as rig:\n"
        "        user = await rig.user()\n"
        "        await user.say(b'hello')\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    ends: list[str] = []
    processes: list[asyncio.subprocess.Process] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.write(b"x")
        processes[0].kill()
        try:
            ends.append(f"heard {await reader.read(-1)!r}")
        except ConnectionResetError:
            ends.append("reset")

    async def test() -> None:
        async with application(listens, host="0.0.0.0") as port:
            processes.append(await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(port), TESTS))
            await processes[0].wait()
            async with asyncio.timeout(20):
                while not ends:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
        assert ends == ["reset"]

    run(test())


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_what_was_cut_off_on_the_way_is_no_end_to_either_side() -> None:
    """A TCP FIN can be forged; only the goodbye of TLS says that all was said (RFC 8446 6.1)."""
    ends: list[str] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            ends.append(f"heard {await reader.read(-1)!r}")
        except ConnectionResetError:
            ends.append("reset")

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await reader.read(1)
        reset(writer)

    async def test() -> None:
        async with application(listens) as port, relaying(port) as rig:
            user = await rig.user()
            await user.say(b"half of the sto")
            assert await user.heard(1) == b"x"
            user.cut()
            await rig.until(lambda: ends)
            assert ends == ["reset"]
        async with application(dies) as port, relaying(port) as rig:
            user = await rig.user()
            await user.say(b"x")
            with pytest.raises(CutOffError):
                await user.rest()

    run(test())


def test_an_application_that_cannot_be_reached_is_said_and_costs_the_user_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        with nobody() as port:
            async with relaying(port) as rig:
                for _ in range(3):
                    user = await rig.user()
                    await user.say(b"hello")
                    with pytest.raises(CutOffError):
                        await user.frame()
                assert rig.metric("rserpool_user_refusals_total|reason=application") == 3
                assert rig.relay.users == 0
                assert rig.relay.ports == {}

    run(test())
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("a pool user was refused, since the application cannot be reached: port ")
    assert line.endswith("connection refused")


def test_an_application_may_hide_on_the_loopback_address() -> None:
    async def test() -> None:
        async with application(host="127.0.0.1") as port, relaying(port, hosts=(str(HERE), "127.0.0.1")) as rig:
            user = await rig.user()
            await user.say(b"hello")
            assert await user.heard(5) == b"hello"
            (name,) = rig.relay.ports
            assert (await rig.about(name))["peer"] == "anonymous"

    run(test())


def test_a_side_that_does_not_read_makes_the_other_wait_and_nothing_is_lost() -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await echo(reader, writer)

    async def test() -> None:
        go.clear()
        async with application(slow) as port, relaying(port) as rig:
            user = await rig.user()
            story = BIG * 16
            sending = asyncio.ensure_future(user.say(story))
            await rig.until(lambda: rig.relay.ports)
            (connection,) = rig.relay._connections
            await rig.until(lambda: connection._holds == {Hold.FULL})
            await asyncio.sleep(0.2)
            assert not sending.done(), "32 MiB are in nobody's memory"
            assert connection._application is not None
            assert connection._application.unsent < 256 * 1024
            go.set()
            await asyncio.sleep(0.3)  # now the application is heard, and the user does not read
            assert connection._user.unsent < 256 * 1024
            assert await user.heard(len(story)) == story
            await sending

    run(test())


def test_a_renewed_leaf_is_shown_to_the_next_and_standing_connections_go_on() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            before = await rig.user()
            await before.say(b"one")
            assert rig.security is not None
            rig.security.reload(credentials(CA, identity()))
            after = await rig.user()
            assert after.serial != before.serial
            await before.say(b"two")
            assert await before.heard(6) == b"onetwo"
            await after.say(b"three")
            assert await after.heard(5) == b"three"

    run(test())


def test_frames_of_nobody_we_know_are_counted_and_passed_over() -> None:
    async def test() -> None:
        async with application() as port, relaying(port) as rig:
            user = await rig.user()
            await user.send(encode(Frame(4711, b"private")) + b"".join(data(b"hello")))
            assert await user.heard(5) == b"hello"
            assert [type(e).__name__ for e in rig.told] == ["Ignored"]

    run(test())
