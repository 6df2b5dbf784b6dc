# SPDX-License-Identifier: Apache-2.0
"""Credentials from files that somebody else keeps: read whole, looked at again and again, and never half of a change."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from rserpool.asap.authorisation import Role
from rserpool.daemon.credentials import POLL, CredentialsError, FilesSource, Keeper
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from support.rig_identity import DAY, NOW, Craft, authority, credentials, identity, pem, pem_key, quickly, tlv

CA = authority()
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@dataclass
class Files:
    """A folder as a Secret's mount, or certbot, leaves it."""

    folder: Path

    def write(self, made: Credentials, *, only: str = "chain key bundle") -> None:
        assert made.key is not None
        contents = {
            "chain": b"".join(c.public_bytes(PEM) for c in made.chain),
            "key": pem_key(made.key),
            "bundle": b"".join(c.public_bytes(PEM) for c in made.bundle),
        }
        for name in only.split():
            (self.folder / name).write_bytes(contents[name])

    def source(self) -> FilesSource:
        return FilesSource(self.folder / "chain", self.folder / "key", self.folder / "bundle")

    def refused(self) -> str:
        with pytest.raises(CredentialsError) as raised:
            asyncio.run(self.source().obtain(None))
        return str(raised.value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.write(credentials(CA, identity()))
    return made


def test_three_files_make_credentials(tmp_path: Path) -> None:
    made, files = credentials(CA, identity()), Files(tmp_path)
    files.write(made)
    got = asyncio.run(files.source().obtain(None))
    assert (got.chain, got.bundle) == (made.chain, made.bundle)
    assert got.key is not None
    assert made.key is not None
    assert pem_key(got.key) == pem_key(made.key)


def test_chain_and_key_may_be_one_file_and_the_bundle_may_hold_several(files: Files) -> None:
    both = files.folder / "both"
    both.write_bytes((files.folder / "chain").read_bytes() + (files.folder / "key").read_bytes())
    bundle = files.folder / "bundle"
    bundle.write_bytes(bundle.read_bytes() + authority("next").bundle)
    got = asyncio.run(FilesSource(both, both, bundle).obtain(None))
    assert (len(got.chain), len(got.bundle)) == (1, 2)


@pytest.mark.parametrize("name", ["chain", "key", "bundle"])
def test_a_file_that_is_away_is_named(files: Files, name: str) -> None:
    (files.folder / name).unlink()
    assert files.refused() == f"{files.folder / name} cannot be read: No such file or directory"


@pytest.mark.parametrize("name", ["chain", "key", "bundle"])
@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_with_something_else_is_an_error_that_names_it(files: Files, name: str, junk: bytes) -> None:
    (files.folder / name).write_bytes(junk)
    assert str(files.folder / name) in files.refused()


@pytest.mark.parametrize(
    "key",
    [
        pem_key(ec.generate_private_key(ec.SECP256R1())),
        rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, serialization.NoEncryption()),
        ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.NoEncryption()),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            PEM, PKCS8, serialization.BestAvailableEncryption(b"phrase")
        ),
        pem("PRIVATE KEY", tlv(0x30, tlv(2, b"\0"), tlv(0x30, bytes.fromhex("06032b6577")), tlv(4, b"x" * 32))),
    ],
    ids=["another leaf's", "RSA", "Ed25519", "encrypted", "of an unknown kind"],
)
def test_a_key_that_does_not_serve_is_an_error_that_names_its_file_and_not_its_content(
    files: Files, key: bytes
) -> None:
    (files.folder / "key").write_bytes(key)
    text = files.refused()
    assert str(files.folder / "key") in text
    assert not any(line in text for line in key.decode().splitlines()[1:-1])


def test_half_a_key_is_not_shown_either(files: Files) -> None:
    key = (files.folder / "key").read_text().splitlines()
    (files.folder / "key").write_text("\n".join([*key[:2], key[-1]]))
    assert key[1][:16] not in files.refused()


@pytest.mark.parametrize(
    "craft",
    [
        Craft(names=[x509.DNSName("echo.demo.svc")]),
        Craft(names=None),
        Craft(names=[x509.UniformResourceIdentifier("spiffe://cluster.local/ns/demo/sa/default")]),
    ],
    ids=["a host's", "nobody's", "of another form"],
)
def test_a_certificate_that_is_no_leaf_of_ours_is_refused(files: Files, craft: Craft) -> None:
    files.write(craft.credentials(CA, CA))
    assert "the files " in files.refused()


# -- over time


def security(made: Credentials) -> Security:
    return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.ELEMENT, credentials=made)


async def started(files: Files) -> tuple[Keeper, Security, asyncio.Event, asyncio.Task[None]]:
    keeper, renewed = Keeper(files.source(), security), asyncio.Event()
    keeper.on_renewed = renewed.set
    used = await keeper.first()
    return keeper, used, renewed, asyncio.ensure_future(keeper.run())


def test_a_change_is_seen_within_two_seconds_and_nothing_else_is_a_renewal(files: Files) -> None:
    async def run() -> None:
        keeper, used, renewed, running = await started(files)
        await asyncio.sleep(10 * POLL)
        (files.folder / "chain").touch()
        await asyncio.sleep(2 * POLL)
        assert keeper.renewals == 0
        fresh, loop = credentials(CA, identity()), asyncio.get_running_loop()
        files.write(fresh)
        began = loop.time()
        await renewed.wait()
        assert loop.time() - began <= POLL <= 2.0
        assert used.credentials.chain == fresh.chain
        assert keeper.leaf is not None
        assert keeper.leaf.serial == fresh.chain[0].serial_number
        running.cancel()

    quickly(run())


def test_a_bundle_alone_is_a_change_too(files: Files) -> None:
    async def run() -> None:
        _, used, renewed, running = await started(files)
        leaf = used.credentials.chain
        both = (files.folder / "bundle").read_bytes() + authority("next").bundle
        (files.folder / "bundle").write_bytes(both)
        await renewed.wait()
        assert used.credentials.chain == leaf
        assert len(used.credentials.bundle) == 2
        running.cancel()

    quickly(run())


def test_half_of_a_change_is_not_taken_and_the_rest_is_waited_for(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """The chain is written a minute before its key: meanwhile the former leaf serves, and the log says what is wrong."""

    async def run() -> None:
        keeper, used, renewed, running = await started(files)
        before, fresh = used.credentials, credentials(CA, identity())
        files.write(fresh, only="chain")
        await asyncio.sleep(60)
        assert used.credentials is before
        assert keeper.renewals == 0
        assert keeper.failures > 0
        files.write(fresh, only="key")
        await renewed.wait()
        assert used.credentials.chain == fresh.chain
        running.cancel()

    quickly(run())
    assert "the private key is not that of the certificate" in caplog.text


def test_files_that_are_away_for_a_moment_end_nothing(files: Files) -> None:
    async def run() -> None:
        keeper, used, renewed, running = await started(files)
        before = used.credentials
        (files.folder / "key").rename(files.folder / "key.old")
        await asyncio.sleep(5 * POLL)
        assert used.credentials is before
        assert not running.done()
        files.write(credentials(CA, identity()))
        await renewed.wait()
        assert keeper.failures == 0
        running.cancel()

    quickly(run())


def test_an_expired_leaf_in_the_files_is_told_in_the_log(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody would believe who shows it, and nobody would know why."""
    caplog.set_level(logging.WARNING)
    names = [x509.UniformResourceIdentifier(str(identity()))]
    files.write(Craft(names=names, begin=NOW - 2 * DAY, end=NOW - DAY).credentials(CA, CA))

    async def run() -> None:
        first = asyncio.ensure_future(Keeper(files.source(), security).first())
        await asyncio.sleep(1)
        first.cancel()

    quickly(run())
    assert "expired" in caplog.text
