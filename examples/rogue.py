# SPDX-License-Identifier: Apache-2.0
"""Somebody who wants to be in a pool without being of it; the demo lets him try.

He speaks TLS by Python's own library, and says what an element says, in its own words.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.client import Scope
from rserpool.identity import LeafIdentity, pe_identifiers
from rserpool.wire import (
    RFC,
    Framer,
    PoolElement,
    Ppid,
    TcpTransport,
    decode,
    encode,
    name_of,
    name_of_cause,
    policies,
)
from rserpool.wire.asap import Registration, RegistrationResponse

POD: Final = "00000000-1111-4222-8333-444444444444"
PATIENCE: Final = 5.0


def registration(handle: bytes, address: str) -> bytes:
    """What he would like to be: an element of the pool, on an address of his."""
    element = PoolElement(
        identifier=pe_identifiers(POD)[0],
        home=0,
        life=30,
        transport=TcpTransport(port=7007, address=ip_address(address)),
        policy=policies.RoundRobin(),
        asap_transport=TcpTransport(port=3864, address=ip_address(address)),
    )
    return encode(Registration(pool_handle=handle, element=element), RFC)


def without_certificate(scope: Scope, address: str) -> str:
    """Register with no certificate, as an anonymous user might; returns what came of it."""
    return _try(scope, address, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def with_own_authority(scope: Scope, address: str) -> str:
    """Register with a perfect certificate, but from an authority he made himself; returns what came of it."""
    now = datetime.now(UTC)
    authority = EmbeddedAuthority.create(
        f"rserpool {scope.namespace}/{scope.pool}", now, life=timedelta(days=1), leaf_life=timedelta(hours=1)
    )
    identity = LeafIdentity(
        trust_domain=scope.trust_domain, namespace=scope.namespace, pool=scope.pool, role=Role.ELEMENT, pod_uid=POD
    )
    made = make_request(identity)
    key = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.TemporaryDirectory() as folder:  # Python's own TLS takes files only
        file = Path(folder) / "leaf.pem"
        file.write_bytes(authority.sign(identity, made.request, now) + key)
        context.load_cert_chain(file)
    return _try(scope, address, context)


def _try(scope: Scope, address: str, context: ssl.SSLContext) -> str:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # he does not care whom he speaks with
    try:
        with (
            socket.create_connection(scope.registrars[0], PATIENCE, (address, 0)) as plain,
            context.wrap_socket(plain) as line,
        ):
            line.sendall(registration(scope.pool.encode(), address))
            answer = line.recv(4096)
    except ssl.SSLError as e:
        return f"TLS alert: {(e.reason or str(e)).lower().replace('_', ' ')}"
    except ConnectionError:
        return "the connection was reset"
    return _understood(answer) if answer else "the connection was closed"


def _understood(octets: bytes) -> str:
    answer = decode(Framer().feed(octets)[0], Ppid.ASAP, RFC)
    if isinstance(answer, RegistrationResponse) and answer.reject:
        return f"rejected: {', '.join(name_of_cause(cause.code) for cause in answer.error)}"
    return f"{name_of(answer)}: he is in!"
