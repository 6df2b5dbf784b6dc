# SPDX-License-Identifier: Apache-2.0
"""Enrolment over real HTTPS: what goes over the wire, whom it is told to, and how each refusal reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.authority import make_request
from rserpool.daemon.enrolment import (
    Enrolled,
    EnrolmentClient,
    EnrolmentError,
    EnrolmentRequest,
    refusal,
)
from rserpool.identity.certificates import leaf_of
from rserpool.transport.http import Response
from rserpool.transport.tls import Credentials
from support.rig_identity import LOOPBACK, TOKEN, EnrolmentServer, authority, credentials, identity

CA = authority()
MADE = make_request(identity())
ASKED = EnrolmentRequest(namespace="demo", pool="echo", role=Role.ELEMENT, request=MADE.request)


def with_server(test: Callable[[EnrolmentServer, EnrolmentClient], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with EnrolmentServer(CA).running() as server:
            await test(server, EnrolmentClient(server.url, server.installation.bundle, LOOPBACK))

    asyncio.run(run())


async def refused(asking: Coroutine[Any, Any, Enrolled]) -> EnrolmentError:
    with pytest.raises(EnrolmentError) as raised:
        await asking
    assert TOKEN not in str(raised.value)
    return raised.value


def test_a_token_buys_a_chain_and_a_bundle_that_fit_the_key() -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        enrolled = await client.enrol(ASKED, TOKEN)
        got = Credentials.from_pem(enrolled.chain, enrolled.bundle, MADE.key)
        assert leaf_of(got.chain[0]).identity == identity()
        assert got.bundle == (CA.certificate,)
        (request,) = server.seen
        assert (request.method, request.path, request.certificate) == ("POST", "/v1/enrol", None)
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["content-type"] == "application/json"

    with_server(test)


def test_only_the_request_goes_over_the_wire_and_never_the_key() -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        await client.enrol(ASKED, TOKEN)
        body = server.seen[0].body
        assert set(json.loads(body)) == {"namespace", "pool", "role", "request"}
        assert EnrolmentRequest.from_json(body) == ASKED
        assert b"PRIVATE" not in body

    with_server(test)


def test_renewal_shows_the_current_leaf_and_no_token() -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        current = credentials(CA, identity())
        await client.renew(ASKED, current)
        (request,) = server.seen
        assert (request.method, request.path) == ("POST", "/v1/renew")
        assert "authorization" not in request.headers
        assert request.certificate is not None
        assert leaf_of(current.chain[0]).serial > 0

    with_server(test)


def test_renewal_with_the_leaf_of_another_pool_is_refused_by_tls() -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        error = await refused(client.renew(ASKED, credentials(authority("other"), identity())))
        assert "cannot be asked" in str(error)
        assert not error.final
        assert server.seen == []

    with_server(test)


@pytest.mark.parametrize(
    ("status", "final"), [(400, True), (401, True), (403, True), (409, True), (429, False), (500, False), (503, False)]
)
def test_a_refusal_says_why_and_whether_asking_again_can_help(status: int, final: bool) -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        server.replies.append(refusal(status, "Forbidden", "this pod is being deleted"))
        error = await refused(client.enrol(ASKED, TOKEN))
        assert str(error) == "enrolment was refused: this pod is being deleted"
        assert error.final is final

    with_server(test)


def test_a_wrong_token_is_refused() -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        error = await refused(client.enrol(ASKED, "another-token"))
        assert str(error) == "enrolment was refused: the token is not one of this pool's"
        assert "another-token" not in repr(error)

    with_server(test)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"{}"),
        (200, b'{"chain": "a"}'),
        (200, b'{"chain": null, "bundle": ""}'),
        (200, b'{"chain": 1, "bundle": 2}'),
        (502, b"Bad Gateway"),
        (403, b'{"reason": "Forbidden"}'),
        (403, b'"message"'),
        (500, b"\xff\xfe"),
    ],
)
def test_an_answer_of_another_kind_is_an_error_with_its_status(status: int, body: bytes) -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        server.replies.append(Response(status=status, body=body))
        error = await refused(client.enrol(ASKED, TOKEN))
        assert str(error) == f"the enrolment server answered {status}, not as it should"
        assert not error.final

    with_server(test)


def test_a_server_that_is_not_the_pinned_one_is_not_told_the_token() -> None:
    async def test(server: EnrolmentServer, _: EnrolmentClient) -> None:
        another = EnrolmentServer(CA).installation
        for bundle in (another.bundle, CA.bundle):
            error = await refused(EnrolmentClient(server.url, bundle, LOOPBACK).enrol(ASKED, TOKEN))
            assert "cannot be asked: certificate at depth" in str(error)
            assert server.url.removeprefix("https://") in str(error)
        assert server.seen == []

    with_server(test)


def test_a_server_that_is_away_is_named() -> None:
    async def test(server: EnrolmentServer, _: EnrolmentClient) -> None:
        port = int(server.url.rpartition(":")[2])
        client = EnrolmentClient(f"https://127.0.0.2:{port}", server.installation.bundle, LOOPBACK)
        error = await refused(client.enrol(ASKED, TOKEN))
        assert str(error).startswith(f"the enrolment server at 127.0.0.2:{port} cannot be asked: ")
        assert not error.final

    with_server(test)


def test_a_server_that_speaks_plain_http_is_not_told_the_token() -> None:
    heard: list[bytes] = []

    async def run() -> None:
        class Plain(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                heard.append(data)
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                self.transport.close()

        listening = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        client = EnrolmentClient(f"https://127.0.0.1:{port}", CA.bundle, None)
        await refused(client.enrol(ASKED, TOKEN))
        listening.close()

    asyncio.run(run())
    assert heard
    assert TOKEN.encode() not in b"".join(heard)


@pytest.mark.parametrize("token", ["", "two\nlines-of-s3cret", "s3cret\r\nX-Pod: other", "s3cret\x00", "s3cr\u00e9t"])
def test_a_token_that_cannot_be_sent_is_an_error_that_does_not_show_it(token: str) -> None:
    async def test(server: EnrolmentServer, client: EnrolmentClient) -> None:
        error = await refused(client.enrol(ASKED, token))
        assert "token" in str(error)
        assert "s3cr" not in str(error)
        assert server.seen == []

    with_server(test)


@pytest.mark.parametrize("url", ["http://a:1", "a:1", "", "https://", "https:///enrol", "https://a:70000", "ftp://a"])
def test_only_https_is_a_place_to_enrol(url: str) -> None:
    with pytest.raises(ValueError, match="write https://HOST:PORT"):
        EnrolmentClient(url, CA.bundle, None)


def test_who_is_trusted_must_be_a_certificate() -> None:
    for junk in (b"", b"junk", MADE.request):
        with pytest.raises(ValueError, match=r"certificate|PEM"):
            EnrolmentClient("https://a:1", junk, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b"\xff",
        b'{"namespace": "a", "pool": "b", "role": "element"}',
        b'{"namespace": "a", "pool": "b", "role": "admin", "request": "c"}',
        b'{"namespace": "a", "pool": "b", "role": ["element"], "request": "c"}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_request_is_refused_with_what_to_send(body: bytes) -> None:
    with pytest.raises(ValueError, match="must be JSON with namespace, pool, role and request"):
        EnrolmentRequest.from_json(body)
