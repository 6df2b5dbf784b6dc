# SPDX-License-Identifier: Apache-2.0
"""Real certificates, good and bad; a real enrolment server; and an event loop whose clock runs as fast as it can."""

from __future__ import annotations

import asyncio
import base64
import json
import selectors
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Self, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.authority.serving import InstallationAuthority
from rserpool.daemon.credentials import CredentialsError
from rserpool.daemon.enrolment import BUNDLE, ENROL, RENEW, Enrolled, EnrolmentRequest, answer, refusal
from rserpool.identity import LeafIdentity
from rserpool.transport.http import HttpServer, Request, Response, Routes
from rserpool.transport.tls import Credentials, TlsEngine
from support.leaks import GUARD

T = TypeVar("T")
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TOKEN = "s3cret-token-of-one-pod"
LOOPBACK = IPv4Address("127.0.0.1")
_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
PADDING = [x509.DNSName("x" * 60 + str(n)) for n in range(9)]
"""Makes a list of names the longer one: the elements of a SET stand in the order of their octets."""
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def identity(role: Role = Role.ELEMENT, uid: str = UID, pool: str = "echo") -> LeafIdentity:
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool=pool, role=role, pod_uid=uid)


def authority(name: str = "pool", *, life: timedelta = DAY, leaf_life: timedelta = DAY) -> EmbeddedAuthority:
    return EmbeddedAuthority.create(name, NOW, life=life, leaf_life=leaf_life)


def credentials(ca: EmbeddedAuthority, whose: LeafIdentity, now: datetime = NOW) -> Credentials:
    """A leaf of that authority, with its key."""
    made = make_request(whose)
    return Credentials.from_pem(ca.sign(whose, made.request, now), ca.bundle, made.key)


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def usage(*on: str) -> x509.KeyUsage:
    """A key usage in which these bits are on."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    bits = (*names, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{bit: bit in on for bit in bits})


@dataclass(kw_only=True)
class Craft:
    """A certificate of any kind, made without asking an authority; ``None`` leaves an extension out."""

    names: Sequence[x509.GeneralName] | None
    constraints: x509.BasicConstraints | None = field(
        default_factory=lambda: x509.BasicConstraints(ca=False, path_length=None)
    )
    usage: x509.KeyUsage | None = field(default_factory=lambda: usage("digital_signature"))
    purposes: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    begin: datetime = NOW - HOUR
    end: datetime = NOW + HOUR
    subject: x509.Name = field(default_factory=lambda: x509.Name([]))

    def certificate(
        self, signer: EmbeddedAuthority | None = None, holder: ec.EllipticCurvePublicKey | None = None
    ) -> x509.Certificate:
        """Signed by that authority, or by itself; for its own key, or for somebody else's."""
        issuer = self.subject if signer is None else signer.certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer)
            .public_key(holder or self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
        )
        names = x509.SubjectAlternativeName(self.names) if self.names is not None else None
        purposes = x509.ExtendedKeyUsage(self.purposes) if self.purposes is not None else None
        signing = self.key if signer is None else signer._key
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        for value, critical in (
            (names, True),
            (self.constraints, True),
            (self.usage, True),
            (purposes, False),
            (own, False),
            (by, False),
        ):
            if value is not None:
                builder = builder.add_extension(value, critical=critical)
        return builder.sign(signing, hashes.SHA256())

    def der(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.DER)

    def credentials(self, bundle: EmbeddedAuthority, signer: EmbeddedAuthority | None = None) -> Credentials:
        """What its holder shows and trusts."""
        return Credentials((self.certificate(signer),), (bundle.certificate,), self.key)


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    size = len(body)
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1)
    return bytes([tag]) + (octets if size < 128 else bytes([0x80 | len(octets)]) + octets) + body


def two_lists(first: x509.SubjectAlternativeName, second: x509.SubjectAlternativeName) -> bytes:
    """A request (PEM) with two extensionRequest attributes, each with one subjectAltName."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    extensions = (tlv(0x30, tlv(0x30, _SUBJECT_ALT_NAME, tlv(4, names.public_bytes()))) for names in (first, second))
    attributes = [tlv(0x30, _EXTENSION_REQUEST, tlv(0x31, extension)) for extension in extensions]
    assert attributes == sorted(attributes)
    asked = tlv(0x30, tlv(2, b"\0"), tlv(0x30), public, tlv(0xA0, *attributes))
    signature = key.sign(asked, ec.ECDSA(hashes.SHA256()))
    return pem("CERTIFICATE REQUEST", tlv(0x30, asked, _ECDSA_SHA256, tlv(3, b"\0", signature)))


def pem(what: str, der: bytes) -> bytes:
    """DER in its wrapping."""
    return f"-----BEGIN {what}-----\n{base64.encodebytes(der).decode()}-----END {what}-----\n".encode()


def shake_hands(client: SSL.Context, server: SSL.Context) -> tuple[TlsEngine, TlsEngine]:
    """A whole handshake in memory: client's engine, server's engine. Raises the TlsError of who refuses."""
    ours, theirs = TlsEngine(client, server=False), TlsEngine(server, server=True)
    ours.start()
    while True:
        out, back = ours.outgoing(), b""
        if out:
            theirs.feed(out)
        back = theirs.outgoing()
        if back:
            ours.feed(back)
        if not out and not back:
            return ours, theirs


class EnrolmentServer:
    """HTTPS of an installation's authority, that enrols by token and renews by leaf; everything asked is kept.

    Attributes:
        replies: given instead of what it would answer, one after the other.
        change: what to do to an answer that grants.
    """

    def __init__(self, ca: EmbeddedAuthority, *, tokens: dict[str, LeafIdentity] | None = None) -> None:
        self.ca = ca
        self.installation = InstallationAuthority.create("installation", NOW, life=DAY)
        self.tokens = {TOKEN: identity()} if tokens is None else tokens
        self.seen: list[Request] = []
        self.replies: deque[Response] = deque()
        self.change: Callable[[Enrolled], Enrolled] = lambda enrolled: enrolled
        self.url = ""

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.seen]

    @asynccontextmanager
    async def running(self, address: IPv4Address = LOOPBACK, port: int = 0) -> AsyncIterator[Self]:
        from rserpool.transport.tls import make_context

        served = self.installation.issue([], [address], NOW, life=DAY)
        own = Credentials.from_pem(served.chain, self.ca.bundle, served.key)
        context = make_context(own, require_certificate=False)
        server = HttpServer(self.routes())
        self.url = f"https://{address}:{await server.listen(address, port, lambda: context)}"
        try:
            yield self
        finally:
            await server.close()
            await asyncio.sleep(0)

    def routes(self) -> Routes:
        return {("POST", ENROL): self._enrol, ("POST", RENEW): self._renew, ("POST", BUNDLE): self._bundle}

    async def _enrol(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        GUARD.token(token, "a token that somebody enrolled with")
        known = self.tokens.get(token)
        return self._answer(request, known)

    async def _renew(self, request: Request) -> Response:
        from rserpool.identity.certificates import read_leaf

        return self._answer(request, read_leaf(request.certificate).identity if request.certificate else None)

    async def _bundle(self, request: Request) -> Response:
        self.seen.append(request)
        if self.replies:
            return self.replies.popleft()
        assert request.certificate is not None
        return Response(body=json.dumps({"bundle": self.ca.bundle.decode()}).encode(), content_type="application/json")

    def _answer(self, request: Request, whose: LeafIdentity | None) -> Response:
        self.seen.append(request)
        if self.replies:
            return self.replies.popleft()
        if whose is None:
            return refusal(401, "Unauthorized", "the token is not one of this pool's")
        chain = self.ca.sign(whose, EnrolmentRequest.from_json(request.body).request, datetime.now(UTC))
        return answer(self.change(Enrolled(chain=chain, bundle=self.ca.bundle)))


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a deadline, lets it come; sockets of this machine are given a moment to speak first."""

    PATIENCE = 0.03

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout if timeout is None else min(timeout, self.PATIENCE))
        if not events and timeout is not None:
            self.now += max(0.0, timeout)
        return events


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop in which sleeping costs nothing."""

    def __init__(self) -> None:
        self._quick = _Selector()
        super().__init__(self._quick)

    def time(self) -> float:
        return self._quick.now


async def refused(asking: Awaitable[Credentials]) -> str:
    """Why a source has none."""
    with pytest.raises(CredentialsError) as raised:
        await asking
    return str(raised.value)


def quickly(main: Awaitable[T]) -> T:
    """Run in virtual time."""

    async def run() -> T:
        return await main

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(run())
