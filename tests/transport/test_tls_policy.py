# SPDX-License-Identifier: Apache-2.0
"""What the TLS engine speaks: TLS 1.3, or 1.2 with ephemeral keys and authenticated encryption (RFC 5352 9.2)."""

from __future__ import annotations

import ssl

import pytest
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.transport.tls import MOST_BEFORE_HANDSHAKE, NotTlsError, TlsEngine, TlsError, make_context
from support.rig_transport import NOBODYS, Peer, converse, credentials, peer_context

AEAD_12 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
)
BOTH_SIDES = pytest.mark.parametrize("server", [True, False], ids=["we serve", "we call"])
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])


def engine(*, server: bool) -> TlsEngine:
    return TlsEngine(make_context(credentials(), require_certificate=True), server=server)


def other(*, server: bool, version: ssl.TLSVersion | None = None, ciphers: str | None = None) -> Peer:
    """The far end of an engine; ``server`` says what the engine is."""
    context = peer_context(credentials(Role.ELEMENT), server=not server)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    return Peer(context, server=not server)


@pytest.mark.rfc("RFC 5352 9.2: TLS is implemented by registrars, elements and users")
@BOTH_SIDES
@VERSIONS
def test_both_versions_carry_large_data_both_ways(server: bool, version: ssl.TLSVersion) -> None:
    ours, peer = engine(server=server), other(server=server, version=version)
    assert converse(ours, peer) == b""
    assert ours.established
    assert ours.version.split()[0] == {ssl.TLSVersion.TLSv1_3: "TLSv1.3", ssl.TLSVersion.TLSv1_2: "TLSv1.2"}[version]
    blob = bytes(range(256)) * 1000
    peer.tls.write(blob)
    ours.write(blob[::-1])
    assert converse(ours, peer, start=False) == blob
    assert peer.heard == blob[::-1]


@pytest.mark.rfc("RFC 5352 9.2: TLS is implemented by registrars, elements and users")
@BOTH_SIDES
@pytest.mark.parametrize("cipher", AEAD_12)
def test_tls_12_works_with_each_ephemeral_authenticated_cipher(server: bool, cipher: str) -> None:
    ours, peer = engine(server=server), other(server=server, version=ssl.TLSVersion.TLSv1_2, ciphers=cipher)
    converse(ours, peer)
    assert (ours.version, peer.established) == (f"TLSv1.2 {cipher}", True)


@pytest.mark.rfc("threats 2.11: nothing can be overheard")
@BOTH_SIDES
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers", "why"),
    [
        ("TLSv1_1", None, "protocol"),
        ("TLSv1", None, "protocol"),
        ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA", "no shared cipher|handshake failure"),
        ("TLSv1_2", "kRSA", "no shared cipher|handshake failure"),
        ("TLSv1_2", "DHE", "no shared cipher|handshake failure"),
        ("TLSv1_2", "aNULL", "no shared cipher|handshake failure"),
    ],
    ids=["TLS 1.1", "TLS 1.0", "CBC", "static RSA", "finite field", "no authentication"],
)
def test_what_is_older_or_weaker_is_refused_with_an_alert(
    server: bool, version: str, ciphers: str | None, why: str
) -> None:
    ours, peer = engine(server=server), other(server=server, version=ssl.TLSVersion[version], ciphers=ciphers)
    with pytest.raises(TlsError, match=why):
        converse(ours, peer)
    assert not ours.established
    assert not peer.established
    assert peer.error is not None
    assert "ALERT" in str(peer.error) or not server  # a server that we call finds out by itself


@pytest.mark.rfc("threats 2.11: nothing can be overheard")
@pytest.mark.rfc("RFC 3237 2.13.2: queries are private, and answers cannot be spoofed")
def test_no_other_cipher_is_even_offered() -> None:
    offered = SSL.Connection(make_context(NOBODYS, require_certificate=True)).get_cipher_list()
    assert {name for name in offered if not name.startswith("TLS_")} == {
        *AEAD_12,
        *(name.replace("ECDSA", "RSA") for name in AEAD_12),
    }
    ours, peer = engine(server=False), other(server=False)
    converse(ours, peer)
    heard = {name for name, _, _ in peer.tls.shared_ciphers() or ()}
    assert heard >= set(AEAD_12)
    assert all(name.startswith(("TLS_", "ECDHE-")) and "SHA1" not in name for name in heard)
    assert peer.tls.compression() is None


@BOTH_SIDES
@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x00\x08aaaa", b"\x17\x03\x03\x00\x01a", b"\0"]
)
def test_who_does_not_speak_tls_is_told_from_who_does_it_badly(server: bool, octets: bytes) -> None:
    with pytest.raises(NotTlsError, match="the peer does not speak TLS"):
        engine(server=server).feed(octets)


@BOTH_SIDES
def test_a_handshake_record_of_garbage_is_a_failed_handshake(server: bool) -> None:
    ours = engine(server=server)
    if not server:
        ours.start()
    with pytest.raises(TlsError) as raised:
        ours.feed(b"\x16\x03\x01\x00\x20" + b"secret--" * 4)
    assert not isinstance(raised.value, NotTlsError)
    assert "secret" not in str(raised.value)
    assert str(raised.value)


@pytest.mark.parametrize("step", [1, 1000, 5000, 100_000])
def test_no_more_than_16_kib_are_taken_before_the_handshake_is_done(step: int) -> None:
    """One handshake message that says it is 64 KiB long, sent in records and in pieces that never complete it."""
    fragment = b"\0" * 16000
    hello = b"\x01\x00\xff\xff" + fragment[4:]
    parts = (hello, fragment, fragment, fragment)
    stream = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)
    ours, taken = engine(server=True), 0
    with pytest.raises(TlsError, match="more than 16384 octets before the handshake"):  # noqa: PT012 - which piece is too much does not matter
        for at in range(0, len(stream), step):
            ours.feed(stream[at : at + step])
            taken += len(stream[at : at + step])
    assert taken <= MOST_BEFORE_HANDSHAKE == 16384


@VERSIONS
def test_the_bound_is_not_for_what_is_said_right_after_the_handshake(version: ssl.TLSVersion) -> None:
    """A client's last flight and its first messages come in one piece: a kernel hands over up to 256 KiB at once."""
    ours, peer = engine(server=True), other(server=True, version=version)
    blob = b"registration" * 5000
    while not peer.established:
        peer.step()
        if not peer.established:
            ours.feed(peer.outgoing.read())
            peer.incoming.write(ours.outgoing())
    peer.tls.write(blob)
    assert b"".join(ours.feed(peer.outgoing.read())) == blob


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@BOTH_SIDES
@VERSIONS
def test_a_record_that_was_changed_ends_the_connection_and_its_content_is_not_believed(
    server: bool, version: ssl.TLSVersion
) -> None:
    ours, peer = engine(server=server), other(server=server, version=version)
    converse(ours, peer)
    peer.tls.write(b"deregister")
    octets = bytearray(peer.outgoing.read())
    octets[-1] ^= 1
    with pytest.raises(TlsError, match="record"):
        ours.feed(bytes(octets))
    peer.incoming.write(ours.outgoing())
    peer.step()
    assert "ALERT" in str(peer.error)


@pytest.mark.rfc("threats 2.8: nothing is replayed")
@BOTH_SIDES
@VERSIONS
def test_a_record_that_is_sent_again_is_not_believed(server: bool, version: ssl.TLSVersion) -> None:
    """Replay (threat 2.8)."""
    ours, peer = engine(server=server), other(server=server, version=version)
    converse(ours, peer)
    peer.tls.write(b"register")
    octets = peer.outgoing.read()
    assert ours.feed(octets) == [b"register"]
    with pytest.raises(TlsError):
        ours.feed(octets)


@BOTH_SIDES
@VERSIONS
def test_each_side_can_say_that_it_has_finished(server: bool, version: ssl.TLSVersion) -> None:
    ours, peer = engine(server=server), other(server=server, version=version)
    converse(ours, peer)
    ours.close()
    peer.incoming.write(ours.outgoing())
    assert peer.tls.read(10) == b""
    ours, peer = engine(server=server), other(server=server, version=version)
    converse(ours, peer)
    peer.tls.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    assert ours.feed(peer.outgoing.read()) == [b"last words"]
    assert ours.closed_by_peer


def test_closing_before_the_handshake_is_no_error() -> None:
    ours = engine(server=True)
    ours.close()
    assert ours.outgoing() == b""
