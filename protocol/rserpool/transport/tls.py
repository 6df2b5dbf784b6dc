# SPDX-License-Identifier: Apache-2.0
"""TLS as a pure engine: octets in, octets out (RFC 5352 9.2, RFC 3436, RFC 5246, RFC 8446).

One engine serves every transport that carries octets; it is a pyOpenSSL connection over memory BIOs. TLS 1.3, or 1.2
with ephemeral elliptic curve keys and authenticated encryption only. Nothing is ever resumed: resumption would skip
the look at the certificate. So no session cache, no stateless tickets, no early data, no renegotiation, no
compression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from rserpool.identity.parsing import certificates_from_pem

MOST_BEFORE_HANDSHAKE: Final = 16 * 1024
"""Octets fed to the engine before the handshake is done; a real one takes a tenth of that."""
CIPHERS_TLS12: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"
_CHUNK: Final = 65536
_RECORD: Final = 16384
"""Octets of plain text in one record at most, and so of one piece."""
_FIRST_CHUNK: Final = 1024
"""Until the handshake is done, fed in pieces: what a peer says right behind it does not count as part of it."""
_HEADER: Final = 5
"""Octets of a record's header; the last two are the length of what follows."""
_FIRST_OCTETS: Final = frozenset({21, 22})
"""What the first record of a peer may be: an alert or a handshake."""
_VERIFICATION: Final = {  # X509_V_ERR_*, in words that say what to do
    7: "its signature is not that of the authority it names",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself, not by an authority of this pool",
    19: "its root is not an authority of this pool",
    20: "it is not signed by an authority of this pool",
    21: "it is not signed by an authority of this pool",
    24: "the certificate that signed it is no authority's",
    26: "it may not be used for this side of a connection",
}


class TlsError(Exception):
    """The connection cannot go on; the text is what OpenSSL says, for the log. It never holds octets of the peer."""


class NotTlsError(TlsError):
    """The peer does not speak TLS at all (threat 2.15)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A leaf with its key, and the authorities that are trusted.

    Attributes:
        chain: leaf first, then what leads to the root, without it.
        bundle: the authorities of the pool.
    """

    chain: tuple[x509.Certificate, ...]
    bundle: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey | None = field(repr=False)

    @classmethod
    def from_pem(cls, chain: bytes, bundle: bytes, key: ec.EllipticCurvePrivateKey | None) -> Credentials:
        """Read chain and bundle.

        Raises:
            ValueError: one of them holds no certificate, or the key is not the leaf's.
        """
        certificates = certificates_from_pem(chain) if chain else ()
        if key is not None and (not certificates or certificates[0].public_key() != key.public_key()):
            raise ValueError("the private key is not that of the certificate")
        return cls(certificates, certificates_from_pem(bundle), key)

    @classmethod
    def trusting(cls, bundle: bytes) -> Credentials:
        """No leaf of one's own: those of an anonymous user.

        Raises:
            ValueError: the bundle holds no certificate.
        """
        return cls.from_pem(b"", bundle, None)


def make_context(credentials: Credentials, *, require_certificate: bool) -> SSL.Context:
    """A context for one side and one set of credentials. A reload makes a new one; connections keep theirs.

    Args:
        credentials: own leaf and trusted authorities.
        require_certificate: a peer without a certificate is refused; else it is anonymous. Clients always require one.

    Raises:
        SSL.Error: OpenSSL cannot use them.
    """
    try:
        return _context(credentials, require_certificate=require_certificate)
    except crypto.Error as e:  # what OpenSSL cannot even read, although it could be parsed; no SSL.Error by itself
        raise SSL.Error(*e.args) from None


def _context(credentials: Credentials, *, require_certificate: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS_TLS12)
    context.set_options(
        SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require_certificate else 0)
    context.set_verify(mode, _remember_why)
    store = context.get_cert_store()
    assert store is not None
    for authority in credentials.bundle:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    if credentials.key is not None:
        context.use_certificate(credentials.chain[0])
        for intermediate in credentials.chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(credentials.key)
        context.check_privatekey()
    return context


def _remember_why(connection: SSL.Connection, _certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict stands; why a certificate was refused is kept for the log."""
    if not ok:
        why = f"certificate at depth {depth}: {_VERIFICATION.get(error, f'verification error {error}')}"
        connection.set_app_data(why)
    return bool(ok)


class _Records:
    """Counts a stream's records by their headers (RFC 8446 5.1): where the last one ends, nothing is left to read."""

    __slots__ = ("_header", "_missing")

    def __init__(self) -> None:
        self._header = b""
        self._missing = 0

    def feed(self, data: bytes) -> int:
        """Take octets of the stream; returns how many pieces can be read at most, an unfinished record counted too."""
        if not self._missing and not self._header and len(data) == _HEADER + int.from_bytes(data[3:_HEADER]):
            return 1  # one record that came by itself, as nearly all do
        at, count, end = 0, 0, len(data)
        while at < end:
            if not self._missing:
                part = data[at : at + _HEADER - len(self._header)]
                self._header += part
                at += len(part)
                if len(self._header) < _HEADER:
                    break
                self._missing = int.from_bytes(self._header[3:])
                self._header = b""
            taken = min(self._missing, end - at)
            self._missing -= taken
            at += taken
            count += not self._missing
        return count + bool(self._missing or self._header)


class TlsEngine:
    """One side of one connection. Feed it what came in, send what it has to say, ask it what was said.

    Args:
        context: of this side.
        server: whether the peer opened the connection.
        host: name to ask for, as a client (SNI); identities are verified by URI, not by it.
    """

    def __init__(self, context: SSL.Context, *, server: bool, host: str | None = None) -> None:
        self._connection = SSL.Connection(context, None)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            if host is not None:
                self._connection.set_tlsext_host_name(host.encode())
        self._fed = 0
        self._records = _Records()
        self.established = False
        self.closed_by_peer = False

    def start(self) -> None:
        """Begin the handshake, as a client; a server waits for it."""
        self._handshake()

    def feed(self, data: bytes) -> list[bytes]:
        """Take octets from the network; returns what the peer said, in pieces.

        Raises:
            NotTlsError: these octets begin no handshake.
            TlsError: the handshake failed, a record was corrupt, or the peer sends too much before it is done.
        """
        if self._fed == 0 and data and data[0] not in _FIRST_OCTETS:
            raise NotTlsError("the peer does not speak TLS")
        at = 0
        said: list[bytes] = []
        while at < len(data):
            most = _CHUNK if self.established else _FIRST_CHUNK
            if not self.established and self._fed + min(most, len(data) - at) > MOST_BEFORE_HANDSHAKE:
                raise TlsError(f"more than {MOST_BEFORE_HANDSHAKE} octets before the handshake was done")
            piece = data[at : at + most]
            taken = self._connection.bio_write(piece)
            at += taken
            records = self._records.feed(piece[:taken])
            if not self.established:
                self._fed += taken
                self._handshake()
            if self.established:
                self._read(said, records)
        return said

    def _handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as e:
            raise TlsError(self._why(e)) from None
        self.established = True

    def _read(self, said: list[bytes], records: int) -> None:
        for _ in range(records):
            if self.closed_by_peer:
                return
            try:
                said.append(self._connection.recv(_RECORD))
            except SSL.WantReadError:
                return
            except SSL.ZeroReturnError:
                self.closed_by_peer = True
            except SSL.Error as e:
                raise TlsError(self._why(e)) from None

    def write(self, data: bytes) -> None:
        """Say something.

        Raises:
            TlsError: the connection cannot be used any more.
        """
        at = 0
        try:
            while at < len(data):
                at += self._connection.send(data[at : at + _CHUNK])
        except SSL.Error as e:
            raise TlsError(self._why(e)) from None

    def close(self) -> None:
        """Say that nothing more will be said."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            return  # a handshake that was not done has no such thing

    def outgoing(self) -> bytes:
        """Octets for the network."""
        pieces = []
        while True:
            try:
                pieces.append(self._connection.bio_read(_CHUNK))
            except SSL.Error:  # WantReadError, or an empty error where there is nothing
                return b"".join(pieces)
            if len(pieces[-1]) < _CHUNK:
                return b"".join(pieces)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's verified leaf, DER; ``None`` if it showed none."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return None if certificate is None else certificate.public_bytes(serialization.Encoding.DER)

    @property
    def version(self) -> str:
        """Protocol and cipher in use."""
        return f"{self._connection.get_protocol_version_name()} {self._connection.get_cipher_name()}"

    def _why(self, error: SSL.Error) -> str:
        known = self._connection.get_app_data()
        if known:
            return str(known)
        reasons: Sequence[object] = error.args[0] if error.args and isinstance(error.args[0], list) else ()
        last = [entry[-1] for entry in reasons if isinstance(entry, tuple) and entry and entry[-1]]
        return str(last[-1]) if last else type(error).__name__
