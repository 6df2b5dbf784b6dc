# SPDX-License-Identifier: Apache-2.0
"""ASAP and ENRP on the wire: octets to frozen dataclasses and back.

No I/O, no clock, no TLS. :func:`decode` is total: it returns a message or raises :class:`DecodeError`, which names
the offset. Modules: ``asap`` and ``enrp`` hold the messages, ``elements``, ``transports``, ``policies`` and
``causes`` what they are made of, ``codec`` the two functions, ``framing`` cuts byte streams, ``dialect`` says how
rsplib differs.
"""

from rserpool.wire.addresses import Address, canonical_address
from rserpool.wire.causes import ErrorCause, invalid_values, unrecognized_message, unrecognized_parameter
from rserpool.wire.codec import Decoded, Message, decode, decode_and_report, encode, name_of, ppid_of
from rserpool.wire.codes import (
    AsapType,
    CauseCode,
    EnrpType,
    ParameterType,
    PolicyType,
    Ppid,
    TransportUse,
    UpdateAction,
    name_of_cause,
)
from rserpool.wire.dialect import DIALECTS, RFC, RFC_SCTP_ONLY, RSPLIB, Dialect
from rserpool.wire.elements import INFINITE_LIFE, PoolElement, ServerInformation
from rserpool.wire.errors import DecodeError, EncodeError
from rserpool.wire.framing import Framer
from rserpool.wire.jsonable import readable_handle, to_jsonable
from rserpool.wire.layout import PoolEntry
from rserpool.wire.policies import Policy, UnknownPolicy
from rserpool.wire.tlv import UnrecognizedParameter
from rserpool.wire.transports import (
    AsapTransport,
    DccpTransport,
    OpaqueTransport,
    SctpTransport,
    TcpTransport,
    Transport,
    UdpLiteTransport,
    UdpTransport,
)

__all__ = [
    "DIALECTS",
    "INFINITE_LIFE",
    "RFC",
    "RFC_SCTP_ONLY",
    "RSPLIB",
    "Address",
    "AsapTransport",
    "AsapType",
    "CauseCode",
    "DccpTransport",
    "DecodeError",
    "Decoded",
    "Dialect",
    "EncodeError",
    "EnrpType",
    "ErrorCause",
    "Framer",
    "Message",
    "OpaqueTransport",
    "ParameterType",
    "Policy",
    "PolicyType",
    "PoolElement",
    "PoolEntry",
    "Ppid",
    "SctpTransport",
    "ServerInformation",
    "TcpTransport",
    "Transport",
    "TransportUse",
    "UdpLiteTransport",
    "UdpTransport",
    "UnknownPolicy",
    "UnrecognizedParameter",
    "UpdateAction",
    "canonical_address",
    "decode",
    "decode_and_report",
    "encode",
    "invalid_values",
    "name_of",
    "name_of_cause",
    "ppid_of",
    "readable_handle",
    "to_jsonable",
    "unrecognized_message",
    "unrecognized_parameter",
]
