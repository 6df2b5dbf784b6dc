# SPDX-License-Identifier: Apache-2.0
"""Credentials by enrolment: the token once, the leaf ever after, patience while nobody answers, and no word of a secret."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.asap.authorisation import Role
from rserpool.daemon.credentials import EnrolmentSource, Keeper
from rserpool.daemon.enrolment import Enrolled, EnrolmentClient, refusal
from rserpool.identity import LeafIdentity
from rserpool.identity.certificates import leaf_of
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from support.rig_identity import (
    HOUR,
    LOOPBACK,
    NOW,
    TOKEN,
    UID,
    Craft,
    EnrolmentServer,
    authority,
    credentials,
    identity,
    pem_key,
    quickly,
    refused,
)

CA, FORMER_CA = authority(leaf_life=HOUR), authority("former")
ELSEWHERE = IPv4Address(f"127.84.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}")
"""Only this process listens there."""
OTHER = identity(uid=UID.replace("0f8f", "1f8f"))
Test = Callable[[EnrolmentServer, EnrolmentSource], Coroutine[Any, Any, None]]


def security(made: Credentials) -> Security:
    return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.ELEMENT, credentials=made)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def source(server: EnrolmentServer, token_file: Path) -> EnrolmentSource:
    client = EnrolmentClient(server.url, server.installation.bundle, LOOPBACK)
    return EnrolmentSource(client, token_file, identity(), ())


def with_source(token_file: Path, test: Test) -> None:
    async def run() -> None:
        async with EnrolmentServer(CA).running() as server:
            await test(server, source(server, token_file))

    quickly(run())


def test_the_token_serves_once_and_the_leaf_from_then_on(token_file: Path) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        first = await source.obtain(None)
        token_file.unlink()
        second = await source.obtain(first)
        assert server.paths == ["/v1/enrol", "/v1/renew"]
        assert server.seen[1].certificate == first.chain[0].public_bytes(serialization.Encoding.DER)
        assert leaf_of(first.chain[0]).identity == leaf_of(second.chain[0]).identity == identity()
        assert first.key is not None
        assert second.key is not None
        assert pem_key(first.key) != pem_key(second.key)

    with_source(token_file, test)


def test_who_has_an_expired_leaf_enrols_by_token_again(token_file: Path) -> None:
    """A pod that slept through its leaf's life, or whose operator was away for a day."""

    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        stale = credentials(CA, identity(), NOW - HOUR - timedelta(seconds=1))
        token_file.write_text("rotated")
        server.tokens["rotated"] = identity()
        await source.obtain(stale)
        assert server.paths == ["/v1/enrol"]
        assert server.seen[0].headers["authorization"] == "Bearer rotated"

    with_source(token_file, test)


def test_who_has_a_leaf_of_an_authority_that_is_gone_shows_the_token_once_more(token_file: Path) -> None:
    """The pool was deleted and made anew while the pod ran: its new authority knows nothing of the old one's leaves."""

    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        former = credentials(FORMER_CA, identity())
        obtained = await source.obtain(former)
        assert server.paths == ["/v1/enrol"]  # the renewal did not come through TLS
        assert obtained.bundle == (CA.certificate,)

    with_source(token_file, test)


def test_a_refusal_of_both_leaf_and_token_is_told_as_that_of_the_leaf(token_file: Path) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        current = await source.obtain(None)
        server.replies += [refusal(403, "NotAMember", "no label"), refusal(503, "PoolNotFound", "no pool")]
        assert await refused(source.obtain(current)) == "enrolment was refused: no label"
        assert server.paths == ["/v1/enrol", "/v1/renew", "/v1/enrol"]

    with_source(token_file, test)


def test_a_certificate_for_another_key_is_not_taken(token_file: Path) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        theirs = credentials(CA, identity()).chain[0].public_bytes(serialization.Encoding.PEM)
        server.change = lambda granted: replace(granted, chain=theirs)
        assert await refused(source.obtain(None)) == "the private key is not that of the certificate"

    with_source(token_file, test)


@pytest.mark.parametrize("given", [OTHER, identity(Role.REGISTRAR), identity(pool="other")], ids=str)
def test_a_certificate_of_our_key_in_another_name_is_not_taken(token_file: Path, given: LeafIdentity) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        def rename(granted: Enrolled) -> Enrolled:
            key = x509.load_pem_x509_certificate(granted.chain).public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            other = Craft(names=[x509.UniformResourceIdentifier(str(given))]).certificate(CA, key)
            return replace(granted, chain=other.public_bytes(serialization.Encoding.PEM))

        server.change = rename
        assert await refused(source.obtain(None)) == f"was given a certificate for {given}, not for {identity()}"

    with_source(token_file, test)


@pytest.mark.parametrize("part", ["chain", "bundle"])
@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_junk_instead_of_certificates_is_an_error(token_file: Path, part: str, junk: bytes) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        server.change = lambda granted: replace(granted, **{part: junk})
        assert await refused(source.obtain(None))

    with_source(token_file, test)


def test_a_token_file_that_is_away_is_named(token_file: Path) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        token_file.unlink()
        text = await refused(source.obtain(None))
        assert text == f"the token file {token_file} cannot be read: No such file or directory"
        assert server.seen == []

    with_source(token_file, test)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"two\nlines-of-s3cret", b"s3cret\x00", b"s3cret\xff\xfe"])
def test_a_token_file_without_a_token_is_named_and_its_content_is_not_shown(token_file: Path, content: bytes) -> None:
    async def test(_: EnrolmentServer, source: EnrolmentSource) -> None:
        token_file.write_bytes(content)
        text = await refused(source.obtain(None))
        assert str(token_file) in text
        assert "s3cret" not in text

    with_source(token_file, test)


def test_a_server_that_is_away_is_asked_ever_more_rarely_until_it_is_there(
    token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts after its pods did; nothing gives up, and the last pause is not above half a minute and a fifth."""
    caplog.set_level(logging.DEBUG)
    waited: list[float] = []

    async def run() -> None:
        loop, server = asyncio.get_running_loop(), EnrolmentServer(CA)
        server.url = f"https://{ELSEWHERE}:8443"
        enrolling, often = source(server, token_file), asyncio.Event()
        asked_at: list[float] = []
        obtain = enrolling.obtain

        async def observed(current: Credentials | None) -> Credentials:
            asked_at.append(loop.time())
            if len(asked_at) == 10:
                often.set()
            return await obtain(current)

        enrolling.obtain = observed  # type: ignore[method-assign] # this one is watched
        keeper = Keeper(enrolling, security)
        first = asyncio.ensure_future(keeper.first())
        await often.wait()
        async with server.running(ELSEWHERE, 8443):
            await first
        waited.extend(later - earlier for earlier, later in pairwise(asked_at))
        assert keeper.failures == len(asked_at) - 1
        assert keeper.leaf is not None
        assert server.paths == ["/v1/enrol"]

    quickly(run())
    wanted = [min(0.5 * 2**n, 30.0) for n in range(len(waited))]
    assert all(0.79 * pause <= wait <= 1.21 * pause for pause, wait in zip(wanted, waited, strict=True))
    assert len({wait / pause for pause, wait in zip(wanted, waited, strict=True)}) > 5, "the pauses are not spread"
    assert "cannot be asked" in caplog.text
    assert "trying again in" in caplog.text
    assert TOKEN not in caplog.text


def test_nothing_that_happens_writes_a_secret(token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Refused, then broken, then granted and renewed: neither the token nor a key is in a line or in an error."""
    caplog.set_level(logging.DEBUG)
    keys: list[bytes] = []

    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        server.replies.append(refusal(401, "Unauthorized", "no"))
        server.replies.append(refusal(503, "Unavailable", "later"))
        keeper, renewed = Keeper(source, security), asyncio.Event()
        keeper.on_renewed = renewed.set
        made = await keeper.first()
        renewing = asyncio.ensure_future(keeper.run())
        for _ in range(2):
            await renewed.wait()
            renewed.clear()
            assert made.credentials.key is not None
            keys.append(pem_key(made.credentials.key))
        renewing.cancel()
        assert server.paths == ["/v1/enrol"] * 3 + ["/v1/renew"] * 2
        assert keeper.failures == 2
        keys.append(f"{keeper!r} {source!r} {made.credentials!r}".encode())

    with_source(token_file, test)
    shown = keys.pop().decode() + caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert TOKEN not in shown
    assert caplog.text.count("enrolment was refused") == 2
    assert caplog.text.count("the leaf was renewed") == 2
    for key in keys:
        assert not any(line in shown for line in key.decode().splitlines()[1:-1])


def test_a_renewal_that_fails_is_tried_until_it_succeeds_and_the_former_leaf_serves_meanwhile(token_file: Path) -> None:
    async def test(server: EnrolmentServer, source: EnrolmentSource) -> None:
        keeper, renewed = Keeper(source, security), asyncio.Event()
        keeper.on_renewed = renewed.set
        made = await keeper.first()
        before = made.credentials
        used: list[bool] = []

        def away(granted: Enrolled) -> Enrolled:
            used.append(made.credentials is before)
            return granted if len(used) == 5 else replace(granted, chain=b"")

        server.change = away
        renewing = asyncio.ensure_future(keeper.run())
        await renewed.wait()
        renewing.cancel()
        assert keeper.failures == 4
        assert used == [True] * 5
        assert made.credentials is not before
        assert server.paths == ["/v1/enrol"] + ["/v1/renew"] * 5

    with_source(token_file, test)
