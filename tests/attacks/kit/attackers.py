# SPDX-License-Identifier: Apache-2.0
"""What an attacker can do: any certificate, any octets from any address, floods, crowds of handshakes, false registrars.

:class:`support.rogue.Rogue` is who attacks; what is here are its arms. Nothing of it uses the product's transport.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.authority.requests import subject_alternative_names
from rserpool.identity import LeafIdentity
from rserpool.wire import RFC, DecodeError, Framer, Message, Ppid, decode, encode
from support.rogue import PATIENCE, Leaf, Rogue, end_of, impostor

_PEM: Final = serialization.Encoding.PEM
Script = Callable[[Message], Sequence[Message]]
"""What a false registrar answers to a message."""


# -- certificates


def self_signed(identity: LeafIdentity) -> Leaf:
    """A leaf that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Leaf(identity, _certificate(identity, key, x509.Name([]), key).public_bytes(_PEM), key)


def of_impostor(identity: LeafIdentity, bundle: bytes) -> Leaf:
    """A leaf by an authority of one's own that has the very name of the trusted one."""
    return signed(identity, impostor(bundle))


def signed(identity: LeafIdentity, authority: EmbeddedAuthority, *, ago: timedelta = timedelta(0)) -> Leaf:
    """A leaf as that authority signed it some time ago: expired, if that is longer than a leaf's life."""
    made = make_request(identity)
    return Leaf(identity, authority.sign(identity, made.request, datetime.now(UTC) - ago), made.key)


def expired(identity: LeafIdentity, authority: EmbeddedAuthority) -> Leaf:
    """A leaf of the true authority that has just expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    until = datetime.now(UTC) - timedelta(minutes=1)
    issuer = authority.certificate.subject
    found = _certificate(identity, key, issuer, authority._key, until=until, authority=authority.certificate)
    return Leaf(identity, found.public_bytes(_PEM), key)


def issued_by_leaf(identity: LeafIdentity, issuer: Leaf) -> Leaf:
    """A leaf signed with the key of another leaf, which is no authority (CA:FALSE): a chain of three."""
    key = ec.generate_private_key(ec.SECP256R1())
    above = x509.load_pem_x509_certificate(issuer.chain)
    found = _certificate(identity, key, above.subject, issuer.key, authority=above)
    return Leaf(identity, found.public_bytes(_PEM) + issuer.chain, key)


def _certificate(
    identity: LeafIdentity,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    until: datetime | None = None,
    authority: x509.Certificate | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    end = until or now + timedelta(hours=1)
    above = signer.public_key()
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    start = end - timedelta(hours=1)
    if authority is not None:
        start = max(start, authority.not_valid_before_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(start, end - timedelta(minutes=1)))
        .not_valid_after(end)
        .add_extension(subject_alternative_names(identity), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
        .sign(signer, hashes.SHA256())
    )


_USAGE: Final = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


# -- floods


@dataclass(slots=True)
class Flooded:
    """What came of a flood.

    Attributes:
        sent: messages that left (on a connection that was cut, some of them were never read).
        connections: how many connections it took, since they are cut.
        seconds: how long it lasted.
        answers: messages that were answered, as far as they were read.
    """

    sent: int = 0
    connections: int = 0
    seconds: float = 0.0
    answers: list[Message] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.sent / self.seconds if self.seconds else 0.0


def flood(
    attack: Callable[[], contextlib.AbstractContextManager[socket.socket]],
    batches: Callable[[], bytes],
    *,
    each: int,
    seconds: float = 2.0,
    a_second: float = 10_000,
    service: Ppid = Ppid.ASAP,
    keep: int = 100,
) -> Flooded:
    """Send so many messages a second, over a new connection whenever one is cut.

    Args:
        attack: opens a connection.
        batches: octets of the next messages.
        each: messages in such a batch.
        seconds: when to stop.
        a_second: messages, on average: more would only lie in the kernel's buffers when a connection is cut.
        service: what answers are.
        keep: answers that are kept.
    """
    done = Flooded()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(OSError), attack() as sock:
            done.connections += 1
            _pour(sock, batches, done, each, (began, a_second, seconds), service, keep)
    done.seconds = time.monotonic() - began
    return done


def _pour(
    sock: socket.socket,
    batches: Callable[[], bytes],
    done: Flooded,
    each: int,
    pace: tuple[float, float, float],
    service: Ppid,
    keep: int,
) -> None:
    framer = Framer()
    began, a_second, seconds = pace
    while (now := time.monotonic()) < began + seconds:
        early = began + done.sent / a_second - now
        if early <= 0:
            sock.settimeout(1.0)
            sock.sendall(batches())
            done.sent += each
        select.select([sock], [], [], min(0.01, max(0, early)))
        sock.settimeout(0)
        try:
            octets = sock.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            continue
        if not octets:
            return
        if len(done.answers) < keep:
            done.answers += [decode(m, service, RFC) for m in framer.feed(octets)]


def secured(rogue: Rogue, host: str, port: int) -> Callable[[], contextlib.AbstractContextManager[socket.socket]]:
    """Opens TLS connections of a rogue, one after the other, with one context."""
    context = rogue.context()

    def attack() -> contextlib.AbstractContextManager[socket.socket]:
        return contextlib.closing(context.wrap_socket(rogue.connect(host, port)))

    return attack


def plainly(rogue: Rogue, host: str, port: int) -> Callable[[], contextlib.AbstractContextManager[socket.socket]]:
    """Opens plain TCP connections of a rogue."""
    return lambda: contextlib.closing(rogue.connect(host, port))


@contextlib.contextmanager
def crowd(rogue: Rogue, host: str, port: int, count: int, *, octets: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say these octets and then nothing: idle handshakes."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = stack.enter_context(contextlib.closing(rogue.connect(host, port)))
            sockets.append(sock)
            with contextlib.suppress(ConnectionError):
                sock.sendall(octets)
        yield sockets


def drip(sockets: Sequence[socket.socket], octets: bytes, seconds: float, *, pause: float = 0.1) -> list[str]:
    """Say octets one by one on all connections for a while (slow-loris); returns how those ended that did."""
    until = time.monotonic() + seconds
    open_ones = list(sockets)
    fates = []
    for at in range(len(octets) - 1):
        if not open_ones or time.monotonic() > until:
            break
        for sock in list(open_ones):
            if select.select([sock], [], [], 0)[0]:
                fates.append(end_of(sock))
                open_ones.remove(sock)
                continue
            with contextlib.suppress(ConnectionError):
                sock.sendall(octets[at : at + 1])
        time.sleep(pause)
    return fates


# -- false registrars


@dataclass(slots=True)
class FalseRegistrar:
    """Somebody who plays a registrar to whoever connects, with whatever certificate.

    Attributes:
        heard: what was said to it, message by message.
        calls: TCP connections it has had.
        greeted: of those, how many finished their handshake.
        noise: octets it was sent that are no message: a TLS hello, where it speaks none.
    """

    host: str
    port: int
    heard: list[Message] = field(default_factory=list)
    calls: int = 0
    greeted: int = 0
    noise: list[bytes] = field(default_factory=list)

    @property
    def at(self) -> str:
        """Where it is."""
        return f"{self.host}:{self.port}"


@contextlib.contextmanager
def false_registrar(
    host: str,
    port: int,
    leaf: Leaf | None,
    script: Script,
    *,
    service: Ppid = Ppid.ASAP,
    trust: bytes | None = None,
) -> Iterator[FalseRegistrar]:
    """Play a registrar.

    Args:
        host, port: where.
        leaf: what it shows; ``None``: it speaks without TLS.
        script: what it answers.
        service: what it speaks.
        trust: ask for a certificate of these authorities, as the true ones do; ``None``: ask for none.
    """
    false = FalseRegistrar(host, port)
    context = None if leaf is None else _server_context(leaf, trust)
    with socket.create_server((host, port)) as server:
        server.settimeout(0.1)
        over = threading.Event()
        thread = threading.Thread(target=_accept, args=(server, context, false, script, service, over), daemon=True)
        thread.start()
        try:
            yield false
        finally:
            over.set()
            thread.join(PATIENCE)


def _server_context(leaf: Leaf, trust: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.key_pem + leaf.chain)
        file.flush()
        context.load_cert_chain(file.name)
    if trust is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=trust.decode())
    return context


def _accept(
    server: socket.socket,
    context: ssl.SSLContext | None,
    false: FalseRegistrar,
    script: Script,
    service: Ppid,
    over: threading.Event,
) -> None:
    answering = []
    while not over.is_set():
        try:
            sock, _ = server.accept()
        except TimeoutError:
            continue
        false.calls += 1
        one = threading.Thread(target=_answer, args=(sock, context, false, script, service, over), daemon=True)
        one.start()
        answering.append(one)
    for one in answering:
        one.join(PATIENCE)


def _answer(
    sock: socket.socket,
    context: ssl.SSLContext | None,
    false: FalseRegistrar,
    script: Script,
    service: Ppid,
    over: threading.Event,
) -> None:
    framer = Framer()
    sock.settimeout(0.2)
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        try:
            if context is not None:
                sock.settimeout(2.0)
                sock = context.wrap_socket(sock, server_side=True)
                stack.callback(sock.close)
                sock.settimeout(0.2)
            false.greeted += 1
            while not over.is_set():
                try:
                    octets = sock.recv(65536)
                except TimeoutError:
                    continue
                if not octets:
                    return
                for message in _messages(framer, octets, service, false):
                    false.heard.append(message)
                    for answer in script(message):
                        sock.sendall(encode(answer, RFC))
        except OSError:
            return


def _messages(framer: Framer, octets: bytes, service: Ppid, false: FalseRegistrar) -> list[Message]:
    try:
        return [decode(message, service, RFC) for message in framer.feed(octets)]
    except DecodeError:
        false.noise.append(octets)
        return []
