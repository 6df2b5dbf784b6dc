# SPDX-License-Identifier: Apache-2.0
"""Credentials that the kubelet obtains: taken from its file, followed when it is replaced, renewed where it is too late."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.daemon.credentials import POLL, Keeper
from rserpool.daemon.enrolment import BUNDLE, RENEW, EnrolmentClient, refusal
from rserpool.daemon.pod_certificate import LATE, PodCertificateSource
from rserpool.daemon.vault import Vault
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from support.rig_identity import (
    DAY,
    HOUR,
    LOOPBACK,
    NOW,
    UID,
    EnrolmentServer,
    authority,
    credentials,
    identity,
    quickly,
    refused,
)
from support.rig_pod_certificates import file_of

CA = EmbeddedAuthority.create("pool", NOW - DAY, life=3 * DAY, leaf_life=HOUR)
NEXT_CA = authority("next")
EARLIER, EARLIEST = NOW - timedelta(minutes=20), NOW - timedelta(minutes=30)
Test = Callable[[EnrolmentServer, PodCertificateSource], Coroutine[None, None, None]]


def give(file: Path, made: Credentials) -> Credentials:
    """Replace the file whole, as a kubelet does."""
    assert made.key is not None
    chain = "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in made.chain)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(file_of(chain, made.key))
    fresh.replace(file)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credential.pem"


def with_source(file: Path, test: Test, *, ca: EmbeddedAuthority = CA, vault: Vault | None = None) -> None:
    async def run() -> None:
        async with EnrolmentServer(ca).running() as server:
            client = EnrolmentClient(server.url, server.installation.bundle, LOOPBACK)
            await test(server, PodCertificateSource(client, file, identity(), (), vault))

    quickly(run())


def security(made: Credentials) -> Security:
    return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.ELEMENT, credentials=made)


def test_the_first_leaf_is_the_kubelets_and_the_operator_says_whom_to_trust(file: Path) -> None:
    given = give(file, credentials(CA, identity()))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first = await source.obtain(None)
        assert first.chain == given.chain
        assert first.bundle == (CA.certificate,)
        assert server.paths == [BUNDLE]
        assert server.seen[0].certificate == given.chain[0].public_bytes(serialization.Encoding.DER)

    with_source(file, test)


def test_a_renewal_that_is_ordered_is_made_with_the_current_leaf_and_a_key_of_ones_own(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first = await source.obtain(None)
        second = await source.obtain(first)
        assert server.paths == [BUNDLE, RENEW]
        assert second.chain != first.chain
        assert second.key is not None
        assert second.key is not first.key

    with_source(file, test)


def test_a_newer_leaf_of_the_kubelets_is_noticed_and_taken(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(_: EnrolmentServer, source: PodCertificateSource) -> None:
        first, loop = await source.obtain(None), asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(10, lambda: give(file, credentials(CA, identity())))
        await source.changed(first, 100)
        assert 10 <= loop.time() - began <= 10 + 2 * POLL
        second = await source.obtain(first)
        assert second.chain[0].not_valid_before_utc > first.chain[0].not_valid_before_utc

    with_source(file, test)


def test_a_kubelet_that_is_late_is_not_waited_for(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first, loop = await source.obtain(None), asyncio.get_running_loop()
        began = loop.time()
        await source.changed(first, 40)
        assert abs(loop.time() - began - LATE * 40) <= POLL
        await source.obtain(first)
        assert server.paths == [BUNDLE, RENEW]

    with_source(file, test)


def test_an_older_or_a_foreign_leaf_in_the_file_is_left_aside(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first, loop = await source.obtain(None), asyncio.get_running_loop()
        give(file, credentials(CA, identity(), EARLIEST))
        loop.call_later(20, lambda: give(file, credentials(CA, identity(pool="other"))))
        began = loop.time()
        await source.changed(first, 40)
        assert loop.time() - began > 40
        give(file, credentials(CA, identity(), EARLIEST))
        second = await source.obtain(first)
        assert server.paths[-1] == RENEW
        assert second.chain != first.chain

    with_source(file, test)
    assert "other/element" in caplog.text


def test_what_a_kubelet_brings_while_the_operator_is_away_is_used_with_the_bundle_of_before(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first = await source.obtain(None)
        server.replies.append(refusal(503, "ApiServer", "ask again"))
        newer = give(file, credentials(CA, identity()))
        second = await source.obtain(first)
        assert second.chain == newer.chain
        assert second.bundle == first.bundle

    with_source(file, test)


def test_a_leaf_of_an_authority_that_is_not_trusted_is_not_used_until_the_operator_has_said_so(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first = await source.obtain(None)
        give(file, credentials(NEXT_CA, identity()))
        assert "unknown ca" in await refused(source.obtain(first))
        assert (await source.obtain(first)).bundle == (CA.certificate,)
        assert server.paths == [BUNDLE, RENEW]

    with_source(file, test)


def test_what_was_signed_just_before_the_authority_was_replaced_takes_nobody_back(file: Path) -> None:
    """It was on its way to the file while this process obtained a leaf of the new authority."""
    give(file, credentials(CA, identity(), EARLIEST))
    ago = {minutes: NOW - timedelta(minutes=minutes) for minutes in (21, 15)}
    former = EmbeddedAuthority.create("former", NOW - DAY, life=3 * DAY, leaf_life=HOUR)

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        await source.obtain(None)
        replaced = credentials(CA, identity(), ago[21])
        give(file, credentials(former, identity(), ago[15]))
        (await source.obtain(replaced)).chain[0].verify_directly_issued_by(CA.certificate)  # raises if it is not
        assert server.paths == [BUNDLE, RENEW]

    with_source(file, test)


def test_who_holds_a_leaf_that_is_refused_renews_by_the_kubelets(file: Path) -> None:
    """Its own was revoked by its serial number; the pod may have another one."""
    kubelets = give(file, credentials(CA, identity()))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        first = await source.obtain(None)
        own = await source.obtain(first)
        server.replies.append(refusal(403, "LeafRevoked", "this leaf is revoked"))
        third = await source.obtain(own)
        assert third.chain not in (first.chain, own.chain)
        assert server.seen[-1].certificate == kubelets.chain[0].public_bytes(serialization.Encoding.DER)

    with_source(file, test)


def test_without_any_leaf_that_is_good_it_is_said_what_is_missing(file: Path) -> None:
    give(file, credentials(CA, identity(), NOW - HOUR - timedelta(seconds=1)))

    async def test(_: EnrolmentServer, source: PodCertificateSource) -> None:
        assert "has expired at" in await refused(source.obtain(None))
        stale = credentials(CA, identity(), NOW - 2 * HOUR)
        assert "the kubelet has brought no other" in await refused(source.obtain(stale))

    with_source(file, test)


def test_a_file_that_is_none_of_ours_is_refused_and_its_contents_are_not_repeated(file: Path) -> None:
    stranger = credentials(CA, identity(uid=UID.replace("0f8f", "1f8f")))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    large = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = large.private_bytes(serialization.Encoding.PEM, pkcs8, plain)

    async def test(_: EnrolmentServer, source: PodCertificateSource) -> None:
        assert "cannot be read: No such file" in await refused(source.obtain(None))
        give(file, stranger)
        assert "is of spiffe://" in await refused(source.obtain(None))
        assert stranger.key is not None
        mine = credentials(CA, identity())
        give(file, Credentials(chain=mine.chain, bundle=(), key=stranger.key))
        assert "is not that of the leaf beside it" in await refused(source.obtain(None))
        for octets in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", os.urandom(200), key):
            file.write_bytes(octets)
            said = await refused(source.obtain(None))
            assert str(file) in said
            assert "BEGIN" not in said

    with_source(file, test)


def test_a_container_that_starts_again_while_the_operator_is_away_goes_on_with_what_it_had(
    file: Path, tmp_path: Path
) -> None:
    given = give(file, credentials(CA, identity()))
    vault = Vault(tmp_path / "identity")

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        await Keeper(source, security).first()
        server.replies.append(refusal(503, "ApiServer", "ask again"))
        client = EnrolmentClient(server.url, server.installation.bundle, LOOPBACK)
        again = Keeper(PodCertificateSource(client, file, identity(), (), vault), security)
        await again.first()
        assert again.restored
        assert again.current.chain == given.chain
        assert server.paths == [BUNDLE]

    with_source(file, test, vault=vault)


def test_a_keeper_follows_the_kubelets_file_and_the_operators_orders(file: Path) -> None:
    give(file, credentials(CA, identity(), EARLIER))

    async def test(server: EnrolmentServer, source: PodCertificateSource) -> None:
        keeper, renewed = Keeper(source, security), asyncio.Event()
        await keeper.first()
        first = keeper.current.chain
        keeper.on_renewed = renewed.set
        running = asyncio.ensure_future(keeper.run())
        newer = give(file, credentials(CA, identity()))
        await renewed.wait()
        assert keeper.current.chain == newer.chain != first
        renewed.clear()
        ordered = asyncio.Event()
        keeper.renew_now(ordered.set)
        await ordered.wait()
        assert keeper.current.chain != newer.chain
        assert server.paths == [BUNDLE, BUNDLE, RENEW]
        running.cancel()

    with_source(file, test)
