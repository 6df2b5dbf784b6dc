# SPDX-License-Identifier: Apache-2.0
"""The two nested parameters: Pool Element and Server Information (RFC 5354 3.10, 3.11)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rserpool.wire.codes import ParameterType
from rserpool.wire.dialect import Dialect
from rserpool.wire.errors import EncodeError
from rserpool.wire.policies import Policy, decode_policy, encode_policy
from rserpool.wire.tlv import Decoding, Tlv, UnrecognizedParameter, insert_unrecognized, join, pack, sift, walk
from rserpool.wire.transports import (
    TRANSPORT_TYPES,
    AsapTransport,
    SctpTransport,
    TcpTransport,
    Transport,
    decode_transport,
    encode_transport,
)

INFINITE_LIFE: Final = -1
"""Registration Life that never ends, by the RFC."""

_IDS: Final = struct.Struct("!II")
_SIGNED: Final = struct.Struct("!i")
_UNSIGNED: Final = struct.Struct("!I")
_INSIDE_ELEMENT: Final = TRANSPORT_TYPES | {ParameterType.POLICY}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolElement:
    """A pool element as it is registered, resolved and replicated (RFC 5354 3.10).

    Attributes:
        identifier: PE identifier, unique in its pool.
        home: server ID of the home registrar; 0 while there is none.
        life: Registration Life in the dialect's unit: seconds, :data:`INFINITE_LIFE` for ever (RFC); milliseconds
            (rsplib).
        transport: the User Transport, where pool users reach the element.
        policy: the element's own policy data.
        asap_transport: where the element listens for ASAP; absent in what elements and users exchange, except that an
            element of the TCP profile names its listening port.
    """

    identifier: int
    home: int
    life: int
    transport: Transport
    policy: Policy
    asap_transport: AsapTransport | None = None
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInformation:
    """A registrar and where it listens for ENRP: one SCTP Transport; with the TCP profile also, or only, a TCP one."""

    server_id: int
    transports: tuple[AsapTransport, ...]
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


def decode_element(decoding: Decoding, tlv: Tlv) -> PoolElement:
    """Read a Pool Element: the transport before the policy is the User Transport, the one after it the ASAP Transport.

    Raises:
        DecodeError: a part is missing, or there twice, or its value is not allowed.
    """
    at = decoding.expect_at_least(tlv, 12, "Pool Element")
    identifier, home = _IDS.unpack_from(decoding.data, at)
    life = _decode_life(decoding, tlv, at + 8)
    found, unrecognized = sift(decoding, walk(decoding, at + 12, tlv.end), _INSIDE_ELEMENT)
    transport: Transport | None = None
    policy: Policy | None = None
    asap: AsapTransport | None = None
    for inner in found:
        if inner.type == ParameterType.POLICY:
            if policy is not None:
                decoding.fail(inner.start, "Pool Element with two policies", tlv)
            policy = decode_policy(decoding, inner)
        elif policy is None:
            if transport is not None:
                decoding.fail(inner.start, "Pool Element with two User Transports", tlv)
            transport = decode_transport(decoding, inner)
        else:
            if asap is not None:
                decoding.fail(inner.start, "Pool Element with two ASAP Transports", tlv)
            asap = _decode_asap_transport(decoding, inner, "ASAP Transport")
    if transport is None:
        decoding.fail(tlv.start, "Pool Element without a User Transport before its policy", tlv)
    if policy is None:
        decoding.fail(tlv.start, "Pool Element without a policy", tlv)
    return PoolElement(
        identifier=identifier,
        home=home,
        life=life,
        transport=transport,
        policy=policy,
        asap_transport=asap,
        unrecognized=unrecognized,
    )


def _decode_life(decoding: Decoding, tlv: Tlv, at: int) -> int:
    if decoding.dialect.life_in_milliseconds:
        return int(_UNSIGNED.unpack_from(decoding.data, at)[0])
    life = int(_SIGNED.unpack_from(decoding.data, at)[0])
    if life <= 0 and life != INFINITE_LIFE:
        decoding.fail(at, f"Registration Life {life} s is neither positive nor -1 (for ever)", tlv)
    return life


def _decode_asap_transport(decoding: Decoding, tlv: Tlv, what: str) -> AsapTransport:
    allowed = (SctpTransport, TcpTransport) if decoding.dialect.tcp_profile else (SctpTransport,)
    transport = decode_transport(decoding, tlv)
    if not isinstance(transport, allowed):
        names = " or ".join(t.__name__.removesuffix("Transport").upper() for t in allowed)
        decoding.fail(tlv.start, f"{what} of type {transport.TYPE.name}: must be {names}", tlv)
    return transport


def encode_element(element: PoolElement, dialect: Dialect) -> bytes:
    """Write a Pool Element parameter.

    Raises:
        EncodeError: a number out of its range.
    """
    try:
        fixed = _IDS.pack(element.identifier, element.home)
        fixed += (_UNSIGNED if dialect.life_in_milliseconds else _SIGNED).pack(element.life)
    except struct.error as e:
        raise EncodeError(f"Pool Element: {e}") from None
    parts = [encode_transport(element.transport, dialect), encode_policy(element.policy)]
    if element.asap_transport is not None:
        parts.append(encode_transport(element.asap_transport, dialect))
    return pack(ParameterType.POOL_ELEMENT, fixed + join(insert_unrecognized(parts, element.unrecognized)))


def decode_server_information(decoding: Decoding, tlv: Tlv) -> ServerInformation:
    """Read a Server Information.

    Raises:
        DecodeError: no transport, or one of a type a registrar cannot have.
    """
    at = decoding.expect_at_least(tlv, 4, "Server Information")
    (server_id,) = _UNSIGNED.unpack_from(decoding.data, at)
    found, unrecognized = sift(decoding, walk(decoding, at + 4, tlv.end), TRANSPORT_TYPES)
    transports = tuple(_decode_asap_transport(decoding, inner, "Server Transport") for inner in found)
    if not transports:
        decoding.fail(tlv.start, "Server Information without a transport", tlv)
    if len({t.TYPE for t in transports}) < len(transports):
        decoding.fail(found[1].start, "Server Information with two transports of one type", tlv)
    return ServerInformation(server_id=server_id, transports=transports, unrecognized=unrecognized)


def encode_server_information(server: ServerInformation, dialect: Dialect) -> bytes:
    """Write a Server Information parameter.

    Raises:
        EncodeError: a number out of its range, or no transport.
    """
    if not server.transports:
        raise EncodeError("Server Information without a transport")
    parts = [encode_transport(t, dialect) for t in server.transports]
    try:
        fixed = _UNSIGNED.pack(server.server_id)
    except struct.error as e:
        raise EncodeError(f"Server Information: {e}") from None
    return pack(ParameterType.SERVER_INFORMATION, fixed + join(insert_unrecognized(parts, server.unrecognized)))
