# SPDX-License-Identifier: Apache-2.0
"""What survives a restart of the container is this pod's, whole, and nobody else's to read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rserpool.daemon.vault import BUNDLE, IDENTITY, SETTINGS, Vault
from rserpool.transport.tls import Credentials
from support.rig_identity import HOUR, NOW, UID, authority, credentials, identity, pem_key

CA, OTHER_CA = authority(), authority("other")
OWN = credentials(CA, identity())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def test_what_was_kept_is_there_again(folder: Path) -> None:
    Vault(folder).keep(OWN)
    found = Vault(folder).restore(identity())
    assert found is not None
    assert (found.chain, found.bundle) == (OWN.chain, OWN.bundle)
    assert found.key is not None
    assert OWN.key is not None
    assert pem_key(found.key) == pem_key(OWN.key)


def test_files_and_folder_are_their_owners_alone(folder: Path) -> None:
    vault = Vault(folder)
    vault.keep(OWN)
    vault.keep_settings("v1", {})
    vault.keep_renewed("r1")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 4, "nothing is left of the making"


def test_an_open_folder_that_is_there_already_is_used_as_it_is(folder: Path) -> None:
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / f".{IDENTITY}.new").write_text("left by who was killed")
    Vault(folder).keep(OWN)
    assert (folder / IDENTITY).stat().st_mode & 0o777 == 0o600
    assert Vault(folder).restore(identity()) is not None


def test_an_empty_folder_holds_nothing_and_says_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    vault = Vault(folder)
    assert vault.restore(identity()) is None
    assert vault.settings() is None
    assert vault.renewed() == ""
    assert caplog.text == ""


def _other_key() -> bytes:
    key = credentials(CA, identity()).key
    assert key is not None
    return pem_key(key)


def _rsa() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _chain(made: Credentials) -> bytes:
    return made.chain[0].public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda: b"", "holds no identity"),
        (lambda: b"junk", "holds no identity"),
        (lambda: _chain(OWN), "holds no identity"),
        (lambda: _other_key() + _chain(OWN), "holds no identity"),
        (lambda: _rsa() + _chain(OWN), "holds no identity"),
        (lambda: b"x" * 2_000_000, "is too long"),
        (lambda: _other_key()[:60] + b"\n" + _chain(OWN), "holds no identity"),
    ],
)
def test_what_is_no_identity_is_left_aside_with_a_warning_and_not_shown(
    folder: Path, caplog: pytest.LogCaptureFixture, spoilt: Callable[[], bytes], said: str
) -> None:
    vault = Vault(folder)
    vault.keep(OWN)
    contents = spoilt()
    (folder / IDENTITY).write_bytes(contents)
    assert vault.restore(identity()) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert said in record.getMessage()
    assert str(folder / IDENTITY) in record.getMessage()
    assert not any(line in caplog.text for line in contents.decode("latin-1").splitlines() if len(line) > 8)
    vault.keep(OWN)
    assert vault.restore(identity()) is not None


def test_a_leaf_that_is_over_or_another_pods_is_left_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    vault = Vault(folder)
    vault.keep(OWN)
    assert vault.restore(identity(uid=UID.replace("0f8f", "1f8f"))) is None
    assert "not of spiffe://" in caplog.text
    vault.keep(credentials(authority(leaf_life=HOUR), identity(), NOW - HOUR - timedelta(seconds=1)))
    assert vault.restore(identity()) is None
    assert "has expired at" in caplog.text


def test_a_bundle_that_is_away_or_junk_leaves_nothing_to_take_up(folder: Path) -> None:
    vault = Vault(folder)
    vault.keep(OWN)
    (folder / BUNDLE).write_bytes(b"junk")
    assert vault.restore(identity()) is None
    (folder / BUNDLE).unlink()
    assert vault.restore(identity()) is None


def test_a_folder_nobody_can_write_to_is_a_warning_and_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    vault = Vault(tmp_path / "file" / "identity")
    vault.keep(OWN)
    vault.keep(OWN)
    assert vault.restore(identity()) is None
    assert "cannot be made" in caplog.text
    assert caplog.text.count(f"{IDENTITY} cannot be written") + caplog.text.count(f"{BUNDLE} cannot be written") == 1


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b'{"version": "v", "tables": {"pool": 1}}', b"[" * 100_000])
def test_settings_that_are_none_are_left_aside(folder: Path, caplog: pytest.LogCaptureFixture, junk: bytes) -> None:
    vault = Vault(folder)
    vault.keep_settings("v1", {"policy": {"weight": 2}})
    assert vault.settings() == ("v1", {"policy": {"weight": 2}})
    (folder / SETTINGS).write_bytes(junk)
    assert vault.settings() is None
    assert "holds no settings" in caplog.text


def test_which_order_to_renew_was_carried_out_is_kept(folder: Path) -> None:
    Vault(folder).keep_renewed("r7")
    assert Vault(folder).renewed() == "r7"
    assert json.dumps(Vault(folder).renewed()) == '"r7"'
