# SPDX-License-Identifier: Apache-2.0
"""How each parameter that stands directly in a message is read and written (RFC 5354 3)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rserpool.wire.causes import ErrorCause
from rserpool.wire.codes import ParameterType
from rserpool.wire.dialect import Dialect
from rserpool.wire.elements import (
    decode_element,
    decode_server_information,
    encode_element,
    encode_server_information,
)
from rserpool.wire.errors import EncodeError
from rserpool.wire.policies import Policy, decode_policy, encode_policy
from rserpool.wire.tlv import Decoding, Tlv, join, pack, walk
from rserpool.wire.transports import Transport, decode_transport, encode_transport

_U16: Final = struct.Struct("!H")
_U32: Final = struct.Struct("!I")


class ParameterCodec(NamedTuple):
    """Reads a parameter's value; writes the whole parameter without padding."""

    decode: Callable[[Decoding, Tlv], Any]
    encode: Callable[[Any, Dialect], bytes]


def _opaque(kind: ParameterType, what: str) -> ParameterCodec:
    def decode(decoding: Decoding, tlv: Tlv) -> bytes:
        if tlv.end == tlv.body:
            decoding.fail(tlv.start, f"empty {what}", tlv)
        return decoding.data[tlv.body : tlv.end]

    def encode(value: bytes, _: Dialect) -> bytes:
        if not value:
            raise EncodeError(f"empty {what}")
        return pack(kind, value)

    return ParameterCodec(decode, encode)


def _number(kind: ParameterType, layout: struct.Struct, what: str) -> ParameterCodec:
    def decode(decoding: Decoding, tlv: Tlv) -> int:
        at = decoding.expect_body(tlv, layout.size, what)
        return int(layout.unpack_from(decoding.data, at)[0])

    def encode(value: int, _: Dialect) -> bytes:
        try:
            return pack(kind, layout.pack(value))
        except struct.error as e:
            raise EncodeError(f"{what}: {e}") from None

    return ParameterCodec(decode, encode)


def _decode_error(decoding: Decoding, tlv: Tlv) -> tuple[ErrorCause, ...]:
    causes = tuple(
        ErrorCause(cause.type, decoding.data[cause.body : cause.end]) for cause in walk(decoding, tlv.body, tlv.end)
    )
    if not causes:
        decoding.fail(tlv.start, "Operation Error without a cause", tlv)
    return causes


def _encode_error(causes: tuple[ErrorCause, ...], _: Dialect) -> bytes:
    return pack(ParameterType.OPERATION_ERROR, join(pack(cause.code, cause.info) for cause in causes))


def _encode_policy(policy: Policy, _: Dialect) -> bytes:
    return encode_policy(policy)


def _encode_transport(transport: Transport, dialect: Dialect) -> bytes:
    return encode_transport(transport, dialect)


_TRANSPORT: Final = ParameterCodec(decode_transport, _encode_transport)

PARAMETERS: Final[dict[int, ParameterCodec]] = {
    ParameterType.POOL_HANDLE: _opaque(ParameterType.POOL_HANDLE, "Pool Handle"),
    ParameterType.COOKIE: _opaque(ParameterType.COOKIE, "Cookie"),
    ParameterType.PE_IDENTIFIER: _number(ParameterType.PE_IDENTIFIER, _U32, "PE Identifier"),
    ParameterType.PE_CHECKSUM: _number(ParameterType.PE_CHECKSUM, _U16, "PE Checksum"),
    ParameterType.HANDLE_RESOLUTION_OPTION: _number(
        ParameterType.HANDLE_RESOLUTION_OPTION, _U32, "handle resolution option"
    ),
    ParameterType.POOL_ELEMENT: ParameterCodec(decode_element, encode_element),
    ParameterType.SERVER_INFORMATION: ParameterCodec(decode_server_information, encode_server_information),
    ParameterType.POLICY: ParameterCodec(decode_policy, _encode_policy),
    ParameterType.OPERATION_ERROR: ParameterCodec(_decode_error, _encode_error),
    ParameterType.SCTP_TRANSPORT: _TRANSPORT,
    ParameterType.TCP_TRANSPORT: _TRANSPORT,
}
