# SPDX-License-Identifier: Apache-2.0
"""Threat 2.16: a cookie is read on the way, altered, made up, kept too long, or brought to another pool."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from attacks.kit import daemons
from attacks.kit.middle import Middle, Toward, Unit, flipped
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import undisturbed
from rserpool.session.cookies import CookieKeys
from rserpool.session.frames import control, data
from rserpool.wire import Message, Ppid, asap, decode
from support.rig_channel import CutOffError, RawUser

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
KEYS = [f"1:{base64.b64encode(KEY).decode()}"]
OWN, FOREIGN = b"up.local/demo/echo", b"up.local/demo/other"
SHORT = {"channel": {"max_age": 30}}
"""An element for which cookies are old after half a minute."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(elements=1) as running:
        yield running


@contextmanager
def counter(system: System, *, without: tuple[str, ...] = ()) -> Iterator[daemons.Victim]:
    """An element whose application counts, in cookies."""
    with daemons.sidecar(system, channel=KEYS, without=without, tables=SHORT) as victim:
        victim.ready()
        yield victim


def context(system: System) -> ssl.SSLContext:
    """What a user brings."""
    bundle = system.a.scope.bundle
    assert bundle is not None
    made = ssl.create_default_context(cadata=bundle.decode())
    made.check_hostname = False
    return made


async def _counted(victim: daemons.Victim, secured: ssl.SSLContext | None, cookie: bytes) -> tuple[str, bytes]:
    user = await RawUser.connect(daemons.CHANNEL, secured, host=victim.address)
    try:
        if cookie:
            await user.send(control(asap.CookieEcho(cookie=cookie)))
        await user.send(b"".join(data(b"x\n")))
        newest, said = b"", b""
        while not said.endswith(b"\n"):
            frame = await user.frame()
            assert frame is not None
            if frame.ppid == Ppid.ASAP:
                message = decode(frame.payload, Ppid.ASAP)
                assert isinstance(message, asap.Cookie)
                newest = message.cookie
            else:
                said += frame.payload
        return said.decode().strip(), newest
    finally:
        user.abort()


def counted(victim: daemons.Victim, secured: ssl.SSLContext | None, cookie: bytes = b"") -> tuple[str, bytes]:
    """Say a word; returns what is counted, and the newest cookie."""
    return asyncio.run(_counted(victim, secured, cookie))


def sealed(*, key: bytes = KEY, pool: bytes = OWN, ago: float = 0.0) -> bytes:
    """A cookie that says: so far, 41."""
    return CookieKeys((1, key)).seal(b"41", pool, time.time() - ago)


FALSE: dict[str, Callable[[], list[bytes]]] = {
    "cookie-seal": lambda: [sealed(key=OTHER_KEY), flipped(sealed(), 14), flipped(sealed()), flipped(sealed(), 5)],
    "cookie-pool": lambda: [sealed(pool=FOREIGN)],
    "cookie-age": lambda: [sealed(ago=60)],
}
"""Cookies no element may believe, by the mechanism that stops them and nothing else does."""


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_a_cookie_that_is_altered_foreign_or_old_is_refused_and_its_user_begins_anew(system: System) -> None:
    with counter(system) as victim, undisturbed(system, refused=False, what="2.16 false cookies"):
        secured = context(system)
        assert counted(victim, secured, sealed())[0] == "42 x", "a good one is believed"
        cookies = [cookie for make in FALSE.values() for cookie in make()]
        cookies += [b"", sealed()[:-1], bytes(100), sealed() + b"more", b"\xff" * 2000]
        for cookie in cookies:
            assert counted(victim, secured, cookie)[0] == "1 x"
        assert victim.refusals("2.16") == len([c for c in cookies if c])
        lines = victim.lines("threat=2.16")
        assert 1 <= len(lines) <= 3, lines
        assert KEYS[0][2:] not in victim.log


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_control_messages_without_tls_or_of_other_kinds_are_refused(system: System) -> None:
    element = asap.EndpointKeepAlive(server_id=1, pool_handle=b"echo", pe_identifier=1)
    wrong: list[Message] = [element, asap.Deregistration(pool_handle=b"echo", pe_identifier=1)]

    async def plainly(victim: daemons.Victim) -> bytes:
        user = await RawUser.connect(daemons.CHANNEL, None, host=victim.address)
        try:
            await user.send(control(asap.CookieEcho(cookie=sealed())) + b"".join(data(b"x\n")))
            return await user.read()
        except CutOffError:
            return b""
        finally:
            user.abort()

    async def wrongly(victim: daemons.Victim) -> bytes:
        user = await RawUser.connect(daemons.CHANNEL, context(system), host=victim.address)
        try:
            for message in wrong * 20:
                await user.send(control(message))
            return await user.read()
        except (CutOffError, ConnectionError):
            return b""
        finally:
            user.abort()

    with counter(system) as victim, undisturbed(system, refused=False, what="2.16 control messages"):
        said = asyncio.run(plainly(victim))
        assert said[:1] in (b"", b"\x15"), "it answers more than an alert without TLS"
        assert victim.metric("rserpool_refusals_total") >= 1
        assert asyncio.run(wrongly(victim)) == b""
        assert victim.refusals("2.16") >= 10


def overheard(system: System) -> bool:
    """Whether somebody on the way reads the cookie that an element gives."""
    secure = system.a.plan.registrars[0].identity is not None
    with daemons.sidecar(system, channel=KEYS) as victim:
        victim.ready()
        at = (daemons.place(system), daemons.CHANNEL)
        with Middle(at, (victim.address, daemons.CHANNEL), Unit.ANY) as middle:
            there = daemons.Victim(victim.identity, at[0], victim.folder)
            _, cookie = counted(there, context(system) if secure else None)
            counted(there, context(system) if secure else None, cookie)
            given = cookie in middle.recorded(Toward.CLIENT)
            assert given == (cookie in middle.recorded(Toward.SERVER))
            return given


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_nobody_on_the_way_reads_a_cookie(system: System) -> None:
    assert not overheard(system)


def test_without_tls_a_cookie_is_read_on_the_way() -> None:
    with running_system(secure=False, foreign=False, driven=False, elements=1, registrars=1) as system:
        assert overheard(system)


@pytest.mark.parametrize("mechanism", FALSE)
def test_without_its_mechanism_each_false_cookie_is_believed(system: System, mechanism: str) -> None:
    with counter(system, without=(mechanism,)) as victim:
        believed = [counted(victim, context(system), cookie)[0] for cookie in FALSE[mechanism]()]
        assert "42 x" in believed, believed
        for other in FALSE.keys() - {mechanism}:
            assert counted(victim, context(system), FALSE[other]()[0])[0] == "1 x"
