# SPDX-License-Identifier: Apache-2.0
"""Transport parameters: where an element or a registrar is reached (RFC 5354 3.3 to 3.7 and 3.16)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from rserpool.wire.addresses import ADDRESS_TYPES, Address, decode_addresses, encode_addresses
from rserpool.wire.codes import ParameterType, TransportUse
from rserpool.wire.dialect import Dialect
from rserpool.wire.errors import EncodeError
from rserpool.wire.tlv import Decoding, Tlv, UnrecognizedParameter, insert_unrecognized, join, pack, sift, walk

_PORT_USE: Final = struct.Struct("!HH")
_SERVICE_CODE: Final = struct.Struct("!HHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class SctpTransport:
    """SCTP Transport: one port on one or more addresses (RFC 5354 3.4)."""

    TYPE: ClassVar = ParameterType.SCTP_TRANSPORT
    port: int
    addresses: tuple[Address, ...]
    use: TransportUse = TransportUse.DATA_ONLY
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _SingleAddress:
    port: int
    address: Address
    unrecognized: tuple[UnrecognizedParameter, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The one address, as a tuple like that of an SCTP Transport."""
        return (self.address,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpTransport(_SingleAddress):
    """TCP Transport (RFC 5354 3.5). ``use`` exists only in rsplib's dialect; it is data only by the RFC."""

    TYPE: ClassVar = ParameterType.TCP_TRANSPORT
    use: TransportUse = TransportUse.DATA_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpTransport(_SingleAddress):
    """UDP Transport (RFC 5354 3.6)."""

    TYPE: ClassVar = ParameterType.UDP_TRANSPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpLiteTransport(_SingleAddress):
    """UDP-Lite Transport (RFC 5354 3.7)."""

    TYPE: ClassVar = ParameterType.UDP_LITE_TRANSPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class DccpTransport(_SingleAddress):
    """DCCP Transport (RFC 5354 3.3)."""

    TYPE: ClassVar = ParameterType.DCCP_TRANSPORT
    service_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueTransport:
    """Opaque Transport: octets that only the application understands (RFC 5354 3.16). It has no addresses."""

    TYPE: ClassVar = ParameterType.OPAQUE_TRANSPORT
    value: bytes

    @property
    def addresses(self) -> tuple[Address, ...]:
        """None that anybody but the application could name."""
        return ()


Transport = SctpTransport | TcpTransport | UdpTransport | UdpLiteTransport | DccpTransport | OpaqueTransport
AsapTransport = SctpTransport | TcpTransport
TRANSPORT_TYPES: Final = frozenset(
    {
        ParameterType.DCCP_TRANSPORT,
        ParameterType.SCTP_TRANSPORT,
        ParameterType.TCP_TRANSPORT,
        ParameterType.UDP_TRANSPORT,
        ParameterType.UDP_LITE_TRANSPORT,
        ParameterType.OPAQUE_TRANSPORT,
    }
)


def decode_transport(decoding: Decoding, tlv: Tlv) -> Transport:
    """Read any transport parameter.

    Raises:
        DecodeError: no address, more than one where one is allowed, port 0, an unknown Transport Use.
    """
    if tlv.type == ParameterType.OPAQUE_TRANSPORT:
        return OpaqueTransport(value=decoding.data[tlv.body : tlv.end])
    fixed = 8 if tlv.type == ParameterType.DCCP_TRANSPORT else 4
    at = decoding.expect_at_least(tlv, fixed, "transport")
    port, reserved = _PORT_USE.unpack_from(decoding.data, at)
    if port == 0:
        decoding.fail(at, "transport with port 0", tlv)
    found, unrecognized = sift(decoding, walk(decoding, at + fixed, tlv.end), ADDRESS_TYPES)
    addresses = decode_addresses(decoding, found)
    if not addresses:
        decoding.fail(tlv.start, "transport without an address", tlv)
    if tlv.type == ParameterType.SCTP_TRANSPORT:
        use = _transport_use(decoding, tlv, reserved)
        return SctpTransport(port=port, addresses=addresses, use=use, unrecognized=unrecognized)
    if len(addresses) > 1:
        decoding.fail(found[1].start, "transport with more than one address, which only SCTP may have", tlv)
    address = addresses[0]
    if tlv.type == ParameterType.TCP_TRANSPORT:
        use = TransportUse.DATA_ONLY
        if decoding.dialect.tcp_transport_use:
            use = _transport_use(decoding, tlv, reserved)
        return TcpTransport(port=port, address=address, use=use, unrecognized=unrecognized)
    if tlv.type == ParameterType.DCCP_TRANSPORT:
        code = _SERVICE_CODE.unpack_from(decoding.data, at)[2]
        return DccpTransport(port=port, address=address, service_code=code, unrecognized=unrecognized)
    single = UdpTransport if tlv.type == ParameterType.UDP_TRANSPORT else UdpLiteTransport
    return single(port=port, address=address, unrecognized=unrecognized)


def _transport_use(decoding: Decoding, tlv: Tlv, value: int) -> TransportUse:
    if value > TransportUse.DATA_PLUS_CONTROL:
        decoding.fail(tlv.start + 6, f"Transport Use {value:#06x} is neither DATA ONLY nor DATA plus CONTROL", tlv)
    return TransportUse(value)


def encode_transport(transport: Transport, dialect: Dialect) -> bytes:
    """Write any transport parameter, without padding.

    Raises:
        EncodeError: no address, or a number out of its range.
    """
    if isinstance(transport, OpaqueTransport):
        return pack(transport.TYPE, transport.value)
    if not transport.addresses:
        raise EncodeError("transport without an address")
    try:
        if isinstance(transport, DccpTransport):
            fixed = _SERVICE_CODE.pack(transport.port, 0, transport.service_code)
        else:
            fixed = _PORT_USE.pack(transport.port, _use_field(transport, dialect))
    except struct.error as e:
        raise EncodeError(f"transport: {e}") from None
    parts = insert_unrecognized(encode_addresses(transport.addresses), transport.unrecognized)
    return pack(transport.TYPE, fixed + join(parts))


def _use_field(transport: Transport, dialect: Dialect) -> int:
    if isinstance(transport, SctpTransport) or (isinstance(transport, TcpTransport) and dialect.tcp_transport_use):
        return int(transport.use)
    return 0
