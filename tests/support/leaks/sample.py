# SPDX-License-Identifier: Apache-2.0
"""Tests that leak, each in another way, and some that do not: tests/test_leaks.py runs them and looks at what comes out."""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Never, TextIO

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from rserpool.authority import EmbeddedAuthority
from rserpool_operator.kube.kinds import EVENT, SERVER_POOL
from support.leaks.known import PrivateKey
from support.rig_cluster import Cluster, raw_pool

LOG: Final = logging.getLogger("rserpool.sample")
PEM: Final = serialization.Encoding.PEM
DER: Final = serialization.Encoding.DER
PKCS8: Final = serialization.PrivateFormat.PKCS8
PLAIN: Final = serialization.NoEncryption()
OLD: Final = serialization.PrivateFormat.TraditionalOpenSSL


def made(secret: str) -> str:
    """Told to who runs this, by a way that is not searched."""
    with Path(os.environ["LEAKS_MADE"]).open("a") as file:
        file.write(f"{secret}\n")
    return secret


def show(*words: str, file: TextIO | None = None) -> None:
    """``print``, which is flagged where it was forgotten."""
    (file or sys.stdout).write(" ".join(words) + "\n")


def token() -> str:
    return made(secrets.token_urlsafe(24))


def fail() -> Never:
    raise ValueError(token())


def scalar(key: PrivateKey) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.private_bytes_raw()
    numbers = key.private_numbers()
    if isinstance(numbers, rsa.RSAPrivateNumbers):
        return numbers.d.to_bytes(256)
    return numbers.private_value.to_bytes(32)


FORMS: Final[dict[str, Callable[[PrivateKey], str]]] = {
    "base64": lambda key: base64.b64encode(key.private_bytes(DER, PKCS8, PLAIN)).decode(),
    "base64_urlsafe": lambda key: base64.urlsafe_b64encode(b"x" + scalar(key)).decode(),
    "pem": lambda key: "\n".join(key.private_bytes(PEM, PKCS8, PLAIN).decode().splitlines()[1:-1]),
    "pem_escaped": lambda key: json.dumps(key.private_bytes(PEM, PKCS8, PLAIN).decode()[30:-30]),
    "hex": lambda key: f"key={scalar(key).hex()}",
    "decimal": lambda key: str(int.from_bytes(scalar(key))),
    "repr": lambda key: repr({"key": scalar(key)}),
}
KEYS: Final[dict[str, Callable[[], PrivateKey]]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS)
def test_leak_key(kind: str, form: str) -> None:
    show("here:", made(FORMS[form](KEYS[kind]())))


def test_leak_key_sec1() -> None:
    lines = ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, OLD, PLAIN).decode().splitlines()
    show(made(lines[1]))


def test_leak_stderr() -> None:
    show(token(), file=sys.stderr)


def test_leak_log() -> None:
    LOG.error("enrolment with %s failed", token())


def test_leak_log_trace() -> None:
    try:
        fail()
    except ValueError:
        LOG.exception("it failed")


def test_leak_log_below_level() -> None:
    LOG.debug("the token is %s", token())


@pytest.mark.filterwarnings("default")
def test_leak_warning() -> None:
    warnings.warn(token(), stacklevel=1)


def test_leak_expected() -> None:
    with pytest.raises(ValueError, match="bad"):
        raise ValueError(f"bad token {token()}")


def test_leak_exception() -> None:
    try:
        fail()
    except ValueError as e:
        raise RuntimeError("it failed") from e


def test_leak_taken(capsys: pytest.CaptureFixture[str]) -> None:
    show(token())
    assert capsys.readouterr().out


def test_leak_file(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").write_text(f"a line\nthe token is {token()}\n")


def test_leak_secret_in_file(tmp_path: Path) -> None:
    text = made("w" + "0123456789" * 2 + "only-this-file-has-it")
    (tmp_path / "element.token").write_text(text)
    (tmp_path / "daemon.log").write_text(f"refused: {text}\n")


def test_leak_program() -> None:
    subprocess.run([sys.executable, "-c", f"print('{token()}')"], capture_output=True, check=True)


def test_leak_daemon(tmp_path: Path) -> None:
    with (tmp_path / "elsewhere").open("wb") as log:
        subprocess.run([sys.executable, "-c", f"print('{token()}')"], stdout=log, check=True)


def test_leak_signature() -> None:
    parts = [base64.urlsafe_b64encode(b'{"alg":"RS256"}').decode().rstrip("="), "e30", secrets.token_urlsafe(32)]
    show("signed with", made(parts[2]))


def test_leak_event() -> None:
    cluster = Cluster()
    event = {"metadata": {"name": "a", "namespace": "demo"}, "message": f"refused: {token()}"}
    cluster.world.namespace("demo")
    cluster.world.create(EVENT, "demo", event)


def test_leak_status() -> None:
    cluster = Cluster()
    raw = {**raw_pool(), "status": {"conditions": [{"type": "Ready", "status": "False", "message": token()}]}}
    cluster.create(raw)
    cluster.world.apply(SERVER_POOL, raw, "status", "operator")


def test_clean_certificate() -> None:
    authority = EmbeddedAuthority.create("echo", datetime.now(UTC), life=timedelta(days=9), leaf_life=timedelta(days=1))
    show(authority.bundle.decode())


def test_clean_public_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    show(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode())


def test_clean_short() -> None:
    show("run", secrets.token_hex(3), secrets.token_bytes(8).hex())


def test_clean_assertion() -> None:
    with pytest.raises(AssertionError):
        assert secrets.token_hex(2) == "", "a test's own words"
