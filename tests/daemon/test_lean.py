# SPDX-License-Identifier: Apache-2.0
"""A sidecar runs without Python's own ssl: one OpenSSL in the process, and everything it needs still works."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from rserpool.daemon.lean import without_second_openssl
without_second_openssl()
{}
"""


def says(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_sidecar_loads_without_pythons_ssl_and_can_still_speak_tls_and_hash() -> None:
    told = says("""
import asyncio, hashlib, hmac, secrets, uuid
import rserpool_sidecar.config, rserpool_sidecar.daemon, rserpool.daemon.channel
from rserpool.transport.tls import Credentials, make_context
from rserpool.identity import pe_identifiers
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
assert len(pe_identifiers(str(uuid.uuid4()))) == 8
asyncio.run(asyncio.sleep(0))
maps = open("/proc/self/maps").read()
print([name for name in ("_ssl.cpython", "_hashlib.cpython") if name in maps])
try:
    import ssl
except ImportError:
    print("no ssl")
""")
    assert told == "[]\nno ssl"


def test_where_ssl_is_loaded_already_nothing_is_taken_away() -> None:
    program = """
import ssl
from rserpool.daemon.lean import without_second_openssl as again
again()
assert sys.modules["ssl"] is ssl
print(ssl.create_default_context().verify_mode)
"""
    ended = subprocess.run(
        [sys.executable, "-c", "import sys\n" + program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
