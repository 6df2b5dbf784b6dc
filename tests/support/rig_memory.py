# SPDX-License-Identifier: Apache-2.0
"""A registrar process whose memory is watched, and peers that want to have much of it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from rserpool.asap.authorisation import Role
from rserpool.daemon.settings import render
from rserpool.transport.tls import Credentials
from support.far_ends import leaf
from support.rig_transport import CA, NOBODYS, PEM, credentials, pem_of

PATIENCE: Final = 40.0
ASAP, ENRP = 3864, 9902
FAR: Final = 1 << 20
"""Receive buffer of an attacker who reads: large. One who does not read has a small one."""


@dataclass
class Watched:
    """A registrar process.

    Attributes:
        address: where it is.
        pid: of its process.
        log: what it writes.
    """

    address: str
    pid: int
    log: Path

    def memory(self, field: str = "VmRSS") -> int:
        """KiB that are its own now; ``VmHWM``: at most, since the last :meth:`forget`."""
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def forget(self) -> int:
        """Begin to look for its greatest memory anew; returns what it has now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.memory()

    def settle(self) -> None:
        """Wait until it has done what there is to do: it computes hardly any more, and grows no more."""
        until, quiet = time.monotonic() + PATIENCE, 0
        while quiet < 2:
            assert time.monotonic() < until, "it does not come to rest"
            before = self.memory("VmHWM"), self._ticks()
            time.sleep(0.3)
            rests = self.memory("VmHWM") == before[0] and self._ticks() - before[1] <= 3
            quiet = quiet + 1 if rests else 0

    def _ticks(self) -> int:
        """Hundredths of a second of the processor that it has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def dial(self, source: str, port: int = ASAP, room: int = FAR) -> socket.socket:
        """A TCP connection from that address; ``room``: octets that are taken without being read."""
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            sock.settimeout(PATIENCE)
            sock.bind((source, 0))
            sock.connect((self.address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def secure(self, source: str, own: Credentials = NOBODYS, port: int = ASAP, room: int = FAR) -> ssl.SSLSocket:
        """A TLS connection with that leaf, or with none."""
        return client_context(own).wrap_socket(self.dial(source, port, room))


def client_context(own: Credentials, more: bytes = b"") -> ssl.SSLContext:
    """A client's, of Python's own TLS: another OpenSSL than ours; ``more``: certificates it shows besides its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=CA.bundle.decode())
    if own.key is not None:
        file = Path(f"/dev/shm/{os.getpid()}.pem") if Path("/dev/shm").is_dir() else Path(f"/tmp/{os.getpid()}.pem")
        file.touch(0o600)
        file.write_bytes(pem_of(own) + more)
        try:
            context.load_cert_chain(file)
        finally:
            file.unlink()
    return context


def hello(context: ssl.SSLContext) -> bytes:
    """A ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def watched(folder: Path, address: IPv4Address) -> Iterator[Watched]:
    """A registrar, alone in its pool, that serves."""
    own = credentials(Role.REGISTRAR)
    (folder / "chain").write_bytes(b"".join(c.public_bytes(PEM) for c in own.chain))
    (folder / "key").write_bytes(pem_of(own)[len((folder / "chain").read_bytes()) :])
    (folder / "bundle").write_bytes(CA.bundle)
    tables: dict[str, dict[str, object]] = {
        "pool": {"namespace": "demo", "name": "echo"},
        "network": {
            "address": str(address), "asap_port": ASAP, "enrp_port": ENRP, "http_port": 8080, "loopback": True
        },
        "timers": {"keep_alive": "1h", "keep_alive_timeout": "1m", "no_response": "1m"},  # nobody is taken for dead
        "security": {
            "source": "files",
            "pod_uid": leaf(Role.REGISTRAR).pod_uid,
            **{f"{name}_file": str(folder / name) for name in ("chain", "key", "bundle")},
        },
    }  # fmt: skip
    (folder / "r.toml").write_text(render(tables))
    command = [sys.executable, "-OO", "-m", "rserpool_registrar", "--config", str(folder / "r.toml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            there = Watched(str(address), process.pid, folder / "log")
            _serves(there, process)
            yield there
        finally:
            process.terminate()


def _serves(there: Watched, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((there.address, 8080), 1) as sock:
            sock.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            if b" 200 " in sock.recv(1000):
                there.dial("127.0.3.250").close()
                return
        time.sleep(0.05)
    raise AssertionError(f"the registrar does not serve: {there.log.read_text()}")
