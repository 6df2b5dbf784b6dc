# SPDX-License-Identifier: Apache-2.0
"""Somebody who attacks a registrar: the standard library's TLS over sockets, nothing of our transport.

What it says is encoded by our codec, or raw octets; what it holds was stolen (an element's token) or made by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.daemon.enrolment import EnrolmentClient, EnrolmentRequest
from rserpool.identity import LeafIdentity, pe_identifiers
from rserpool.wire import RFC, Framer, Message, Ppid, decode, encode

PATIENCE: Final = 20.0
"""Seconds after which a rogue waits no longer: long, since whatever it waits for should come."""
ENDED: Final = ("closed", "reset")
"""How a connection ends without a word: which of the two it is depends on what was still unread."""
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its key, however it was got."""

    identity: LeafIdentity
    chain: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def key_pem(self) -> bytes:
        """The key, as a file holds it."""
        return self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    @property
    def not_after(self) -> datetime:
        """When it expires."""
        return x509.load_pem_x509_certificates(self.chain)[0].not_valid_after_utc

    @property
    def pe_identifier(self) -> int:
        """The identifier its element registers."""
        return pe_identifiers(self.identity.pod_uid)[0]


def stolen(directory: Path, element: int = 0) -> Leaf:
    """A real leaf of an element of `rserpool up`, enrolled as the element enrols: the element is compromised."""
    settings = tomllib.loads((directory / f"s{element}.toml").read_text())
    pool, security = settings["pool"], settings["security"]
    identity = LeafIdentity(
        trust_domain=pool["trust_domain"],
        namespace=pool["namespace"],
        pool=pool["name"],
        role=Role.ELEMENT,
        pod_uid=security["pod_uid"],
    )
    made = make_request(identity)
    request = EnrolmentRequest(
        namespace=identity.namespace, pool=identity.pool, role=identity.role, request=made.request
    )
    authority = Path(security["authority_file"]).read_bytes()
    client = EnrolmentClient(security["url"], authority, ip_address(settings["network"]["address"]))
    enrolled = asyncio.run(client.enrol(request, Path(security["token_file"]).read_text().strip()))
    return Leaf(identity, enrolled.chain, made.key)


def impostor(bundle: bytes) -> EmbeddedAuthority:
    """An authority of one's own with the very name of the one that is trusted."""
    name = x509.load_pem_x509_certificate(bundle).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    now = datetime.now(UTC)
    return EmbeddedAuthority.create(str(name), now, life=timedelta(days=1), leaf_life=timedelta(hours=1))


def root_as_leaf(identity: LeafIdentity, authority: EmbeddedAuthority) -> Leaf:
    """An authority's own certificate, shown as if it were a leaf."""
    return Leaf(identity, authority.bundle, authority._key)


def forged(identity: LeafIdentity, authority: EmbeddedAuthority, *, with_root: bool = False) -> Leaf:
    """A leaf by an authority of one's own, for whomever one likes to be."""
    made = make_request(identity)
    chain = authority.sign(identity, made.request, datetime.now(UTC))
    return Leaf(identity, chain + authority.bundle if with_root else chain, made.key)


class Line:
    """A connection of a rogue. Nothing raises because the other side ends it: that is what is looked at."""

    def __init__(self, sock: socket.socket, service: Ppid) -> None:
        self.socket = sock
        self._service = service
        self._framer = Framer()
        self._heard: list[bytes] = []
        self._fate = ""

    def say(self, *messages: Message) -> None:
        """Send messages, all at once."""
        self.shout(b"".join(encode(message, RFC) for message in messages))

    def shout(self, octets: bytes) -> None:
        """Send octets of whatever kind; under TLS, if it is spoken."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # its fate is read, not written
            self.socket.sendall(octets)

    def shout_below_tls(self, octets: bytes) -> None:
        """Send octets past TLS, as somebody in the middle does."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as below:
            below.sendall(octets)

    def hear(self, count: int = 1) -> list[Message]:
        """The next messages: as many, or fewer if the connection ends before."""
        while len(self._heard) < count and not self._fate:
            self._receive()
        found, self._heard = self._heard[:count], self._heard[count:]
        return [decode(octets, self._service, RFC) for octets in found]

    def fate(self) -> str:
        """How the other side ends it: ``closed``, ``reset``, or what an alert says. It has said nothing unheard."""
        while not self._fate:
            self._receive()
        assert not self._heard, f"it still said {self.hear(len(self._heard))}"
        return self._fate

    def _receive(self) -> None:
        try:
            octets = self.socket.recv(65536)
        except ssl.SSLError as e:
            self._fate = e.reason or str(e)
        except ConnectionError:
            self._fate = "reset"
        else:
            self._heard += self._framer.feed(octets)
            self._fate = "" if octets else "closed"

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def end_of(sock: socket.socket) -> str:
    """How the other side ends a bare connection, whatever it says before that."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass
        return "closed"
    return "reset"


@dataclass(frozen=True, slots=True)
class Rogue:
    """Who attacks.

    Attributes:
        source: the address it speaks from.
        leaf: the certificate it shows, if it has one.
    """

    source: str
    leaf: Leaf | None = None

    @property
    def name(self) -> str:
        """How logs should name it, as far as TLS vouches for it."""
        return str(self.leaf.identity) if self.leaf else self.source

    def connect(self, host: str, port: int) -> socket.socket:
        """A TCP connection, and not a word."""
        return socket.create_connection((host, port), PATIENCE, (self.source, 0))

    @contextlib.contextmanager
    def plain(self, host: str, port: int, service: Ppid) -> Iterator[Line]:
        """A connection without TLS."""
        line = Line(self.connect(host, port), service)
        try:
            yield line
        finally:
            line.close()

    @contextlib.contextmanager
    def secure(self, host: str, port: int, service: Ppid) -> Iterator[Line]:
        """A TLS connection whose handshake is done, as far as a client of TLS 1.3 can know."""
        line = Line(self.context().wrap_socket(self.connect(host, port)), service)
        try:
            yield line
        finally:
            line.close()

    def hello(self) -> bytes:
        """The first octets of a handshake."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.context().wrap_bio(incoming, outgoing).do_handshake()
        return outgoing.read()

    def context(self) -> ssl.SSLContext:
        """It shows its leaf, and does not care whom it speaks with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.leaf is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.leaf.key_pem + self.leaf.chain)
                file.flush()
                context.load_cert_chain(file.name)
        return context
