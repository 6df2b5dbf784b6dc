# SPDX-License-Identifier: Apache-2.0
"""Nothing is ever resumed, renegotiated or sent early: each connection looks at the certificate anew (RFC 5352)."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
from pathlib import Path

import pytest
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.transport.base import Link
from rserpool.transport.tls import TlsEngine, make_context
from rserpool.wire import Ppid
from support.rig_transport import (
    CA,
    PATIENCE,
    Peer,
    aside,
    converse,
    credentials,
    listening,
    message,
    peer_context,
    pem_of,
    plays,
    security,
)

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
REQUIRED = pytest.mark.parametrize("required", [True, False], ids=["certificates required", "anonymous allowed"])


def client(version: ssl.TLSVersion, *, tickets: bool = True) -> ssl.SSLContext:
    context = peer_context(credentials(Role.ELEMENT))
    context.minimum_version = context.maximum_version = version
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    return context


@pytest.mark.rfc("threats 2.8: nothing is replayed")
@REQUIRED
@VERSIONS
@pytest.mark.parametrize("tickets", [True, False], ids=["by ticket", "by number"])
def test_a_client_that_kept_its_session_has_to_prove_itself_again(
    version: ssl.TLSVersion, tickets: bool, required: bool
) -> None:
    ours, theirs = make_context(credentials(), require_certificate=required), client(version, tickets=tickets)
    session: ssl.SSLSession | None = None
    for _ in range(3):
        engine, peer = TlsEngine(ours, server=True), Peer(theirs, session=session)
        converse(engine, peer)
        engine.write(b"welcome")
        converse(engine, peer, start=False)
        assert peer.heard == b"welcome"
        assert peer.tls.session_reused is False
        assert engine.peer_certificate is not None
        session = peer.tls.session
        assert session is not None
        if version is ssl.TLSVersion.TLSv1_2:
            assert not session.has_ticket
            assert session.id == b""


def test_in_tls_12_the_server_offers_no_ticket() -> None:
    """The extension is answered only by a server that will send one."""
    engine = TlsEngine(make_context(credentials(), require_certificate=True), server=True)
    peer = Peer(client(ssl.TLSVersion.TLSv1_2))
    peer.step()
    engine.feed(peer.outgoing.read())
    hello = engine.outgoing()
    length = int.from_bytes(hello[3:5])
    assert hello[5] == 2  # ServerHello
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at] + 3
    types, end = [], 5 + length
    at, end = at + 2, min(end, at + 2 + int.from_bytes(hello[at : at + 2]))
    while at < end:
        types.append(int.from_bytes(hello[at : at + 2]))
        at += 4 + int.from_bytes(hello[at + 2 : at + 4])
    assert 35 not in types
    assert 0xFF01 in types  # the look into the extensions works: renegotiation_info is there


@VERSIONS
def test_we_resume_nothing_with_a_server_that_would(version: ssl.TLSVersion) -> None:
    theirs = peer_context(credentials(), server=True)
    theirs.minimum_version = theirs.maximum_version = version
    ours = make_context(credentials(Role.ELEMENT), require_certificate=True)
    for _ in range(3):
        engine, peer = TlsEngine(ours, server=False), Peer(theirs, server=True)
        converse(engine, peer)
        peer.tls.write(b"welcome")
        assert converse(engine, peer, start=False) == b"welcome"
        assert peer.tls.session_reused is False
    assert theirs.session_stats()["hits"] == 0


class Renegotiator:
    """A peer by pyOpenSSL, which can ask for what the standard library cannot; its handshake with us is done."""

    def __init__(self, *, server: bool) -> None:
        self.engine = TlsEngine(make_context(credentials(), require_certificate=True), server=not server)
        own = credentials(Role.REGISTRAR if server else Role.ELEMENT)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        assert own.key is not None
        context.use_certificate(own.chain[0])
        context.use_privatekey(own.key)
        self.tls = SSL.Connection(context, None)
        (self.tls.set_accept_state if server else self.tls.set_connect_state)()
        self.engine.start()
        while not self.engine.established or self.tls.get_state_string() != b"SSL negotiation finished successfully":
            self.step()

    def step(self) -> bytes:
        """Go on with the handshake, and carry octets there and back; returns those that came back."""
        with contextlib.suppress(SSL.WantReadError):
            self.tls.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            assert self.engine.feed(self.tls.bio_read(65536)) == []
        back = self.engine.outgoing()
        if back:
            self.tls.bio_write(back)
        return back


@pytest.mark.parametrize("server", [False, True], ids=["we serve", "we call"])
def test_renegotiation_is_refused_with_an_alert_and_we_go_on(server: bool) -> None:
    peer = Renegotiator(server=server)
    assert peer.tls.renegotiate()
    back = peer.step()
    assert (back[0], len(back)) == (21, 5 + int.from_bytes(back[3:5]))  # one record: an alert
    with pytest.raises(SSL.Error, match="no renegotiation"):
        peer.tls.recv(10)
    peer.engine.write(b"still here")
    assert peer.engine.outgoing()[0] == 23


@pytest.mark.rfc("threats 2.8: nothing is replayed")
@pytest.mark.tool("openssl", hint="apt-get install openssl")
@plays
async def test_the_openssl_program_gets_no_early_data_and_no_session_that_works(tmp_path: Path) -> None:
    (tmp_path / "leaf.pem").write_bytes(pem_of(credentials(Role.ELEMENT)))
    (tmp_path / "ca.pem").write_bytes(CA.bundle)
    (tmp_path / "early").write_bytes(message())
    there = await listening(security(), service=Ppid.ENRP)

    def talk(*options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{there.port}", "-tls1_3", "-CAfile", "ca.pem"]
        command += ["-cert", "leaf.pem", "-key", "leaf.pem", "-ign_eof", *options]
        null = subprocess.DEVNULL
        pipe = subprocess.PIPE
        done = subprocess.run(
            command, cwd=tmp_path, stdin=null, stdout=pipe, stderr=null, timeout=PATIENCE, check=False
        )
        return done.stdout.decode("ascii", "replace")

    def leave(link: Link) -> None:
        link.send(message())
        link.close("that is all")

    there.told.on_up = leave
    first = await aside(talk, "-sess_out", "session")
    assert "New, TLSv1.3" in first
    assert "Verify return code: 0" in first
    assert set(re.findall("Max Early Data: ([0-9]+)", first)) == {"0"}
    again = await aside(talk, "-sess_in", "session", "-early_data", "early")
    assert "New, TLSv1.3" in again
    assert "Reused" not in again
    assert "Early data was accepted" not in again
    assert (len(there.told.ups), there.told.messages) == (2, [])
