# SPDX-License-Identifier: Apache-2.0
"""Readers of what proves an identity: TLS in both states, leaves, their URIs, requests, bundles."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from fuzz.trial import Read, Target, always
from rserpool.asap.authorisation import Role
from rserpool.authority import SigningError, make_request
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import read_leaf
from rserpool.transport.security import Security
from rserpool.transport.tls import MOST_BEFORE_HANDSHAKE, Credentials, TlsEngine, TlsError, make_context
from rserpool.wire import Ppid
from support.far_ends import leaf
from support.rig_transport import CA, credentials, security

_EDIT: Final = struct.Struct("!BBHB")
"""One act of the man in the middle: at which of the flights, what he does, where, and with which octet."""
_FLIGHTS: Final = 8
SAID: Final = b"hello" * 40


def _edited(flight: bytes, acts: list[tuple[int, int, int]]) -> bytes:
    for act, where, octet in acts:
        at = where % (len(flight) + 1)
        match act % 5:
            case 0:  # a bit or more turned
                flight = flight[:at] + bytes(o ^ (octet or 1) for o in flight[at : at + 1]) + flight[at + 1 :]
            case 1:  # dropped
                flight = flight[:at] + flight[at + max(1, octet) :]
            case 2:  # put in
                flight = flight[:at] + bytes([octet]) * (1 + octet % 7) + flight[at:]
            case 3:  # said twice
                flight += flight[at:]
            case _:  # cut off
                flight = flight[:at]
    return flight


@contextmanager
def _in_the_middle() -> Iterator[Read]:
    """A handshake and a few words, through the hands of somebody who changes them.

    What a side believes to have heard must be what the other has said, or the beginning of it.
    """
    server_side, client_side = security(), security(Role.ELEMENT)

    def read(octets: bytes) -> None:
        acts: dict[int, list[tuple[int, int, int]]] = {}
        for flight, act, where, octet in _EDIT.iter_unpack(octets[: len(octets) // _EDIT.size * _EDIT.size]):
            acts.setdefault(flight % _FLIGHTS, []).append((act, where, octet))
        server = TlsEngine(server_side.server_context(Ppid.ASAP), server=True)
        client = TlsEngine(client_side.client_context, server=False)
        client.start()
        heard = {id(server): b"", id(client): b""}
        spoken: set[int] = set()
        for flight in range(_FLIGHTS):
            sender, receiver = (client, server) if flight % 2 == 0 else (server, client)
            if sender.established and id(sender) not in spoken:
                spoken.add(id(sender))
                sender.write(SAID)
            octets_sent = _edited(sender.outgoing(), acts.get(flight, []))
            heard[id(receiver)] += b"".join(receiver.feed(octets_sent))
            assert SAID.startswith(heard[id(receiver)]), "somebody else's words were believed"
        if not acts:
            assert set(heard.values()) == {SAID}, "nobody was in the way, and it was not understood"

    yield read


@contextmanager
def _strange_octets(security_: Security, service: Ppid) -> Iterator[Read]:
    """Whatever a stranger sends first, cut as its first octet says; it is never established, and bounded."""

    def read(octets: bytes) -> None:
        step, octets = (octets[0] or 1) * 8 if octets else 8, octets[1:]
        server = TlsEngine(security_.server_context(service), server=True)
        for at in range(0, len(octets), step):
            assert server.feed(octets[at : at + step]) == []
            assert not server.established
        assert len(octets) <= MOST_BEFORE_HANDSHAKE
        server.outgoing()

    yield read


@contextmanager
def _strange_server() -> Iterator[Read]:
    """Whatever a server that is none says to one of our clients."""
    ours = security(Role.ELEMENT)

    def read(octets: bytes) -> None:
        client = TlsEngine(ours.client_context, server=False)
        client.start()
        client.outgoing()
        assert client.feed(octets) == []
        assert not client.established

    yield read


def _hellos() -> list[bytes]:
    client = TlsEngine(security(Role.ELEMENT).client_context, server=False)
    client.start()
    hello = client.outgoing()
    return [b"\x20" + hello, b"\x01" + hello, b"\xff" + hello[:50]]


def _server_flight() -> list[bytes]:
    client = TlsEngine(security(Role.ELEMENT).client_context, server=False)
    server = TlsEngine(security().server_context(Ppid.ASAP), server=True)
    client.start()
    server.feed(client.outgoing())
    return [server.outgoing()[:200]]


def _leaf(octets: bytes) -> None:
    found = read_leaf(octets)
    assert LeafIdentity.parse(str(found.identity)) == found.identity


def _uri(octets: bytes) -> None:
    uri = octets.decode("latin-1")
    assert str(LeafIdentity.parse(uri)) == uri, "an identity with two spellings"


def _request(octets: bytes) -> None:
    CA.sign(leaf(Role.ELEMENT), octets, datetime.now(UTC))


def _bundle(octets: bytes) -> None:
    make_context(Credentials.trusting(octets), require_certificate=True)


def _der(role: Role) -> bytes:
    return credentials(role).chain[0].public_bytes(Encoding.DER)


TARGETS: Final = (
    Target(
        name="tls-stranger",
        open=lambda: _strange_octets(security(), Ppid.ASAP),
        refuses=(TlsError,),
        seeds=_hellos,
        longest=MOST_BEFORE_HANDSHAKE + 512,
    ),
    Target(
        name="tls-server",
        open=_strange_server,
        refuses=(TlsError,),
        seeds=_server_flight,
    ),
    Target(
        name="tls-middle",
        open=_in_the_middle,
        refuses=(TlsError,),
        seeds=lambda: [b"", _EDIT.pack(7, 4, 0, 0)],
        longest=64,
    ),
    Target(
        name="leaf",
        open=always(_leaf),
        refuses=(IdentityError,),
        seeds=lambda: [_der(role) for role in (Role.REGISTRAR, Role.ELEMENT, Role.USER)],
    ),
    Target(
        name="uri",
        open=always(_uri),
        refuses=(IdentityError,),
        seeds=lambda: [str(leaf(role)).encode() for role in (Role.REGISTRAR, Role.ELEMENT, Role.USER)],
        longest=1024,
    ),
    Target(
        name="request",
        open=always(_request),
        refuses=(SigningError,),
        seeds=lambda: [make_request(leaf(Role.ELEMENT)).request],
    ),
    Target(
        name="bundle",
        open=always(_bundle),
        refuses=(ValueError, SSL.Error),
        seeds=lambda: [CA.bundle, CA.bundle * 2],
    ),
)
