# SPDX-License-Identifier: Apache-2.0
"""What the application is offered: who its user is, cookies that survive an element, the order of the next elements."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import pytest

from rserpool.asap.authorisation import Role
from rserpool.session.cookies import CookieKeys
from rserpool.session.frames import control, data
from rserpool.wire import PoolElement, Ppid, TcpTransport, asap, decode, policies
from support.rig_channel import KEYS, POOL, RawUser, RelayRig, application, relaying, user_context
from support.rig_health import HERE
from support.rig_identity import identity

COOKIES: Final = "rserpool_cookies_total|outcome="


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


class Asking:
    """An application that asks about each user as soon as it has accepted its connection, and then echoes.

    Attributes:
        rig: whom it asks.
        told: what it was told, by name of the connection.
    """

    def __init__(self) -> None:
        self.rig: RelayRig | None = None
        self.told: dict[int, dict[str, Any]] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        assert self.rig is not None
        self.told[port] = await self.rig.about(port)
        while octets := await reader.read(65536):
            writer.write(octets)
        writer.close()

    async def only(self) -> tuple[int, dict[str, Any]]:
        """The one connection there is."""
        assert self.rig is not None
        await self.rig.until(lambda: self.told)
        ((port, told),) = self.told.items()
        return port, told


async def cookie_of(user: RawUser) -> bytes:
    """The cookie that comes next."""
    frame = await user.frame()
    assert frame is not None
    assert frame.ppid == 11
    message = decode(frame.payload, Ppid.ASAP)
    assert isinstance(message, asap.Cookie)
    return message.cookie


def echoed(cookie: bytes) -> bytes:
    return control(asap.CookieEcho(cookie=cookie))


@pytest.mark.rfc("RFC 5352 3.8: cookies go to a user over the control channel")
def test_what_one_element_sealed_another_one_is_told_before_it_hears_the_user() -> None:
    async def test() -> None:
        first, second = Asking(), Asking()
        async with application(first) as port, relaying(port) as first.rig:
            user = await first.rig.user()
            await user.say(b"x")
            name, told = await first.only()
            assert told == {"peer": "anonymous", "address": told["address"]}
            for state in (b"older", b"page 7 of the story"):
                assert (await first.rig.http("POST", f"/v1/connections/{name}/cookie", state)).status == 200
            assert await user.heard(1) == b"x"
            await cookie_of(user)
            newest = await cookie_of(user)
            assert first.rig.metric(f"{COOKIES}sealed") == 2
        async with application(second) as port, relaying(port) as second.rig:
            user = await second.rig.user()
            await user.send(echoed(newest) + b"".join(data(b"go on")))
            _, told = await second.only()
            assert base64.b64decode(told["cookie"]) == b"page 7 of the story"
            assert 0 <= told["cookie_age"] < 20
            assert "cookie_refused" not in told
            assert await user.heard(5) == b"go on"
            assert second.rig.metric(f"{COOKIES}accepted") == 1
            assert second.rig.told == []

    run(test())


BAD = {
    "not authentic": KEYS.seal(b"state", POOL, time.time())[:-1] + b"?",
    "of another pool": KEYS.seal(b"state", b"cluster.local/demo/other", time.time()),
    "too old": KEYS.seal(b"state", POOL, time.time() - 100_000),
    "unknown key id": CookieKeys((7, bytes(32))).seal(b"state", POOL, time.time()),
}


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
@pytest.mark.parametrize("why", BAD)
def test_a_cookie_that_is_not_believed_is_counted_and_told_and_the_user_starts_afresh(why: str) -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port) as asking.rig:
            user = await asking.rig.user()
            await user.send(echoed(BAD[why]) + b"".join(data(b"hello")))
            _, told = await asking.only()
            assert told == {"peer": "anonymous", "address": told["address"], "cookie_refused": why}
            assert await user.heard(5) == b"hello"
            assert asking.rig.refusals == [("2.16", "ASAP_COOKIE_ECHO")]
            assert asking.rig.metric(f"{COOKIES}refused") == 1
            assert asking.rig.metric(f"{COOKIES}accepted") == 0

    run(test())


def test_an_application_that_speaks_first_need_not_wait_for_a_user_that_is_silent() -> None:
    async def greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.close()

    async def test() -> None:
        async with application(greets) as port, relaying(port) as rig:
            user = await rig.user()
            began = time.monotonic()
            assert await user.rest() == b"welcome"
            assert time.monotonic() - began >= 0.04, "the first frame could have been a cookie"

    run(test())


@pytest.mark.parametrize("role", [Role.USER, Role.ELEMENT])
def test_the_application_is_told_who_its_user_is(role: Role, tmp_path: Path) -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port) as asking.rig:
            user = await asking.rig.user(user_context(tmp_path, identity(role)))
            await user.say(b"x")
            _, told = await asking.only()
            here = user.writer.get_extra_info("sockname")
            assert told == {"peer": str(identity(role)), "address": f"{here[0]}:{here[1]}"}

    run(test())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/connections/{other}", b"", 404),
        ("POST", "/v1/connections/{other}/cookie", b"x", 404),
        ("POST", "/v1/connections/{other}/business-card", b"[1]", 404),
        ("GET", "/v1/connections/99999", b"", 404),
        ("GET", "/v1/connections/{port}/", b"", 404),
        ("GET", "/v1/connections/{port}/cookie", b"", 404),
        ("GET", "/v1/business-card", b"", 405),
        ("GET", "/", b"", 404),
        ("POST", "/v1/connections/{port}/cookie", b"", 400),
        ("POST", "/v1/connections/{port}/cookie", bytes(4096), 200),
        ("POST", "/v1/connections/{port}/cookie", bytes(4097), 413),
        ("POST", "/v1/connections/{port}/business-card", b"7", 400),
        ("POST", "/v1/connections/{port}/business-card", b"[]", 400),
        ("POST", "/v1/connections/{port}/business-card", b'["seven"]', 400),
        ("POST", "/v1/connections/{port}/business-card", b"[7, 7]", 400),
        ("POST", "/v1/connections/{port}/business-card", b"[true]", 400),
        ("POST", "/v1/connections/{port}/business-card", b"[0]", 400),
        ("POST", "/v1/connections/{port}/business-card", b"[" * 100_000, 400),
        ("POST", "/v1/connections/{port}/business-card", json.dumps(list(range(1, 130))).encode(), 400),
        ("POST", "/v1/connections/{port}/business-card", b"[99]", 409),
        ("POST", "/v1/business-card", b"[99]", 409),
    ],
)
def test_every_request_is_answered(method: str, path: str, body: bytes, status: int) -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port) as asking.rig:
            user = await asking.rig.user()
            await user.say(b"x")
            name, _ = await asking.only()
            answer = await asking.rig.http(method, path.format(port=name, other=name % 65535 + 1), body)
            assert answer.status == status, answer.body
            assert answer.body.endswith(b"\n")

    run(test())


def test_a_page_of_the_web_is_not_the_application() -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port) as asking.rig:
            user = await asking.rig.user()
            await user.say(b"x")
            name, _ = await asking.only()
            answer = await asking.rig.http(
                "POST", f"/v1/connections/{name}/cookie", b"x", origin="https://evil.example"
            )
            assert answer.status == 403

    run(test())


def test_without_keys_there_are_no_cookies_and_all_else_goes_on() -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port, keys=None) as asking.rig:
            user = await asking.rig.user()
            await user.send(echoed(KEYS.seal(b"state", POOL, time.time())) + b"".join(data(b"hello")))
            name, told = await asking.only()
            assert told["cookie_refused"] == "this element has no keys"
            answer = await asking.rig.http("POST", f"/v1/connections/{name}/cookie", b"x")
            assert (answer.status, answer.body) == (503, b"this element has no keys\n")
            assert await user.heard(5) == b"hello"

    run(test())


def elements(*identifiers: int) -> tuple[PoolElement, ...]:
    return tuple(
        PoolElement(
            identifier=identifier,
            home=1,
            life=300,
            transport=TcpTransport(port=7008, address=IPv4Address(f"10.0.0.{identifier}")),
            policy=policies.RoundRobin(),
        )
        for identifier in identifiers
    )


async def card_of(user: RawUser) -> list[int]:
    """The order on the business card that comes next."""
    frame = await user.frame()
    assert frame is not None
    message = decode(frame.payload, Ppid.ASAP)
    assert isinstance(message, asap.BusinessCard)
    assert message.pool_handle == b"echo"
    assert all(str(e.transport.address) == f"10.0.0.{e.identifier}" for e in message.elements)  # type: ignore[union-attr] # the transport is TCP
    return [element.identifier for element in message.elements]


@pytest.mark.rfc("RFC 5352 3.9: a business card goes to a user where there is a control channel")
def test_the_applications_order_goes_to_one_user_or_to_all_and_first_to_those_that_come() -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port, elements=elements(3, 5, 9)) as asking.rig:
            one = await asking.rig.user()
            await one.say(b"x")
            name, _ = await asking.only()
            assert await one.heard(1) == b"x", "no card is sent where the application has no order"
            answer = await asking.rig.http("POST", f"/v1/connections/{name}/business-card", b'[9, "0x3", 77]')
            assert json.loads(answer.body) == {"sent": 2, "unknown": ["0x0000004d"]}
            assert await card_of(one) == [9, 3]
            other = await asking.rig.user()
            answer = await asking.rig.http("POST", "/v1/business-card", b"[5, 9]")
            assert json.loads(answer.body) == {"sent": 2, "unknown": []}
            assert await card_of(one) == await card_of(other) == [5, 9]
            later = await asking.rig.user()
            await later.say(b"y")
            assert await card_of(later) == [5, 9]
            assert await later.heard(1) == b"y"

    run(test())


def test_a_user_that_reads_nothing_gets_no_more_cookies() -> None:
    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async def test() -> None:
        async with application(floods) as port, relaying(port) as rig:
            await rig.user()
            await rig.until(lambda: rig.relay.ports)
            (name,) = rig.relay.ports
            statuses = set()
            for _ in range(2000):
                statuses.add((await rig.http("POST", f"/v1/connections/{name}/cookie", bytes(4000))).status)
                if 503 in statuses:
                    break
            assert statuses == {200, 503}
            assert rig.relay.users == 1

    run(test())


def test_what_a_name_stood_for_is_forgotten_with_the_connection() -> None:
    async def test() -> None:
        asking = Asking()
        async with application(asking) as port, relaying(port) as asking.rig:
            user = await asking.rig.user()
            await user.say(b"x")
            name, _ = await asking.only()
            user.abort()
            await asking.rig.until(lambda: not asking.rig or not asking.rig.relay.ports)
            assert (await asking.rig.http("GET", f"/v1/connections/{name}")).status == 404
            assert str(HERE) != "127.0.0.1"

    run(test())
