# SPDX-License-Identifier: Apache-2.0
"""A pool with a control channel, by `rserpool up`: a user goes on at another element where it was, with its cookie."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rserpool.client import Failover, PoolUser
from rserpool.daemon.control import control as control_socket
from rserpool.session.frames import control, data
from rserpool.transport.http import Target, ask
from rserpool.wire import Ppid, asap, decode
from support.rig_channel import RawUser
from support.rig_figures import SIDECAR_RESIDENT, resident
from support.running import (
    REPOSITORY,
    ElementProcess,
    RegistrarProcess,
    RunningPool,
    manifest,
    pool_running,
    started,
    transports,
)

COUNTER = (sys.executable, str(REPOSITORY / "examples" / "counter" / "counter.py"))
FRAMED = "  controlChannel: true\n"
PORT = 7008


class Counting:
    """A user of the counter: keeps the newest cookie, and knows nothing of our code but frames."""

    def __init__(self, user: RawUser) -> None:
        self.user = user
        self.newest = b""

    @classmethod
    async def at(cls, pool: RunningPool, element: ElementProcess, cookie: bytes = b"") -> Counting:
        state, context = pool.state, None
        if state["bundle"] is not None:
            context = ssl.create_default_context(cadata=state["bundle"])
            context.check_hostname = False
        found = cls(await RawUser.connect(element.port, context, host=element.address, local=state["client"]))
        if cookie:
            await found.user.send(control(asap.CookieEcho(cookie=cookie)))
        return found

    async def count(self, word: str) -> str:
        """Say a line; returns what is answered, and keeps the cookie that comes before it."""
        await self.user.send(b"".join(data(f"{word}\n".encode())))
        said = b""
        while not said.endswith(b"\n"):
            frame = await self.user.frame()
            assert frame is not None
            if frame.ppid == 11:
                message = decode(frame.payload, Ppid.ASAP)
                assert isinstance(message, asap.Cookie)
                self.newest = message.cookie
            else:
                said += frame.payload
        return said.decode().strip()


async def counted(
    pool: RunningPool, element: ElementProcess, *words: str, cookie: bytes = b""
) -> tuple[list[str], bytes]:
    """What a user that comes with this cookie is answered, and its newest cookie."""
    user = await Counting.at(pool, element, cookie)
    try:
        return [await user.count(word) for word in words], user.newest
    finally:
        user.user.abort()


async def metric(element: ElementProcess, name: str, **labels: str) -> float:
    text = (await ask(Target(host=element.address, port=8081), "GET", "/metrics")).body.decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


@pytest.mark.rfc(
    "RFC 5352 3.8: cookies go to a user over the control channel",
    "threats 2.16: data and control share one connection, cookies are signed",
)
def test_a_user_goes_on_at_another_element_with_its_cookie_and_with_no_other() -> None:
    text = manifest(replicas=1, more=FRAMED)
    with pool_running(text, "--elements", "2", "--restart", "0", program=COUNTER) as pool:
        started(pool)
        first, second = pool.elements
        assert (first.port, second.port) == (PORT, PORT)
        assert max(resident(e.sidecar_pid) for e in pool.elements) < SIDECAR_RESIDENT, (
            "MiB, with the channel and no user"
        )
        assert pool.state["control_channel"] is True
        answers, cookie = pool.run(counted(pool, first, "a", "b"))
        assert answers == ["1 a", "2 b"]
        uri = pool.run(_uri(pool, first))
        assert uri.startswith("spiffe://up.local/ns/demo/pool/echo/element/")
        for pid in (first.pid, first.sidecar_pid):
            os.kill(pid, signal.SIGKILL)
        pool.settled([second.transport])
        assert pool.run(counted(pool, second, "c", cookie=cookie))[0] == ["3 c"]
        altered = cookie[:20] + bytes([cookie[20] ^ 1]) + cookie[21:]
        assert pool.run(counted(pool, second, "d", cookie=altered))[0] == ["1 d"]
        assert pool.run(counted(pool, second, "e"))[0] == ["1 e"]
        assert pool.run(metric(second, "rserpool_cookies_total", outcome="accepted")) == 1
        assert pool.run(metric(second, "rserpool_cookies_total", outcome="refused")) == 1
        assert pool.run(metric(second, "rserpool_refusals_total", threat="2.16", what="ASAP_COOKIE_ECHO")) == 1
        resolved = pool.command("resolve", "echo")
        assert f"{second.address}:{PORT}" in resolved.stdout
        _no_key_is_shown(pool)


async def _uri(pool: RunningPool, element: ElementProcess) -> str:
    user = await Counting.at(pool, element)
    try:
        return user.user.peer_uri
    finally:
        user.user.abort()


def _no_key_is_shown(pool: RunningPool) -> None:
    """The keys are in the sidecars' own files, which are their owner's, and in nothing that anybody is shown."""
    configuration = pool.directory / "s0.toml"
    assert configuration.stat().st_mode & 0o777 == 0o600
    line = next(line for line in configuration.read_text().splitlines() if line.startswith("keys = "))
    key = line.partition(":")[2].rstrip('"]')
    assert len(key) == 44
    shown: list[Any] = [*pool.lines, *(path.read_text() for path in pool.directory.glob("*.log"))]
    shown += [pool.run(_dump(Path(e.socket))) for e in pool.elements[1:]]
    shown.append((pool.directory / "state.json").read_text())
    assert not [text for text in shown if key in str(text)]


async def _dump(socket: Path) -> str:
    return (await ask(Target(unix=socket), "GET", "/dump")).body.decode()


def test_in_a_pool_without_security_the_channel_is_the_same_without_tls() -> None:
    text = manifest(replicas=1, more=FRAMED + "  security: {mode: Insecure}\n")
    with pool_running(text, "--elements", "2", program=COUNTER) as pool:
        started(pool)
        first, second = pool.elements
        answers, cookie = pool.run(counted(pool, first, "a", "b", "c"))
        assert answers == ["1 a", "2 b", "3 c"]
        assert pool.run(counted(pool, second, "d", cookie=cookie))[0] == ["4 d"]


def test_the_librarys_session_goes_on_at_another_element_after_its_application_agreed() -> None:
    asked: list[Failover] = []

    def agree(failover: Failover) -> bool:
        asked.append(failover)
        return True

    async def counts(pool: RunningPool) -> None:
        async with PoolUser(pool.scope) as users, users.session("echo", on_failover=agree) as session:
            for word in (b"a", b"b"):
                await session.send(word + b"\n")
            answers = b""
            while answers.count(b"\n") < 2:
                answers += await session.receive()
            assert answers == b"1 a\n2 b\n"
            first = next(e for e in pool.elements if e.address in str(session.element.transport))
            for pid in (first.pid, first.sidecar_pid):
                os.kill(pid, signal.SIGKILL)
            while not asked:  # noqa: ASYNC110 - as an application that has nothing to say
                await asyncio.sleep(0.02)
            await session.send(b"c\n")
            assert await session.receive() == b"3 c\n"
            assert first.address not in str(session.element.transport)
        assert len(asked) == 1

    text = manifest(replicas=1, more=FRAMED)
    with pool_running(text, "--elements", "2", "--restart", "0", program=COUNTER) as pool:
        started(pool)
        pool.run(counts(pool))


def test_an_element_that_is_scaled_away_serves_its_users_for_a_while() -> None:
    with pool_running(manifest(replicas=1, more=FRAMED), "--elements", "2", program=COUNTER) as pool:
        started(pool)
        first, second = pool.elements

        async def leaving() -> list[str]:
            user = await Counting.at(pool, second)
            found = [await user.count("before")]
            words = (sys.executable, "-m", "rserpool_cli", "scale", "1")
            environment = {**os.environ, "XDG_RUNTIME_DIR": str(pool.runtime)}
            scaling = await asyncio.create_subprocess_exec(*words, env=environment, stdout=asyncio.subprocess.DEVNULL)
            while await _holds(registrar, second):  # noqa: ASYNC110 - as somebody outside would look
                await asyncio.sleep(0.05)
            found.append(await user.count("after"))
            assert scaling.returncode is None, "the sidecar waits for its user"
            await user.user.finish()
            assert await user.user.rest() == b""
            user.user.abort()
            assert await scaling.wait() == 0
            return found

        registrar = pool.registrars[0]
        assert pool.run(leaving()) == ["1 before", "2 after"]
        pool.settled([first.transport])


async def _holds(registrar: RegistrarProcess, element: ElementProcess) -> bool:
    """Whether the element is still in the pool."""
    dump = await control_socket(Path(registrar.socket), "GET", "/dump")
    return element.transport in transports(dump["handlespace"])
