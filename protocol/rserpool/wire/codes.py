# SPDX-License-Identifier: Apache-2.0
"""Code points of ASAP and ENRP, as IANA and the RFCs number them.

RFC 5352 section 2 (ASAP messages), RFC 5353 section 2 (ENRP messages), RFC 5354 sections 3 and 3.12 (parameters, error
causes), RFC 5356 (policies). Names are the RFCs' own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

ASAP_PORT: Final = 3863
ASAP_TLS_PORT: Final = 3864
ENRP_PORT: Final = 9901
ENRP_TLS_PORT: Final = 9902

MAX_MESSAGE: Final = 65535
"""Largest Message Length in octets; up to three octets of padding follow on the wire."""


class Ppid(IntEnum):
    """SCTP payload protocol identifier: which protocol a message belongs to (RFC 5352 8.3, RFC 5353 5.4)."""

    ASAP = 11
    ENRP = 12


class AsapType(IntEnum):
    """ASAP message types (RFC 5352 2.2)."""

    REGISTRATION = 0x01
    DEREGISTRATION = 0x02
    REGISTRATION_RESPONSE = 0x03
    DEREGISTRATION_RESPONSE = 0x04
    HANDLE_RESOLUTION = 0x05
    HANDLE_RESOLUTION_RESPONSE = 0x06
    ENDPOINT_KEEP_ALIVE = 0x07
    ENDPOINT_KEEP_ALIVE_ACK = 0x08
    ENDPOINT_UNREACHABLE = 0x09
    SERVER_ANNOUNCE = 0x0A
    COOKIE = 0x0B
    COOKIE_ECHO = 0x0C
    BUSINESS_CARD = 0x0D
    ERROR = 0x0E


class EnrpType(IntEnum):
    """ENRP message types (RFC 5353 2)."""

    PRESENCE = 0x01
    HANDLE_TABLE_REQUEST = 0x02
    HANDLE_TABLE_RESPONSE = 0x03
    HANDLE_UPDATE = 0x04
    LIST_REQUEST = 0x05
    LIST_RESPONSE = 0x06
    INIT_TAKEOVER = 0x07
    INIT_TAKEOVER_ACK = 0x08
    TAKEOVER_SERVER = 0x09
    ERROR = 0x0A


class ParameterType(IntEnum):
    """Parameter types (RFC 5354 3)."""

    IPV4_ADDRESS = 0x0001
    IPV6_ADDRESS = 0x0002
    DCCP_TRANSPORT = 0x0003
    SCTP_TRANSPORT = 0x0004
    TCP_TRANSPORT = 0x0005
    UDP_TRANSPORT = 0x0006
    UDP_LITE_TRANSPORT = 0x0007
    POLICY = 0x0008
    POOL_HANDLE = 0x0009
    POOL_ELEMENT = 0x000A
    SERVER_INFORMATION = 0x000B
    OPERATION_ERROR = 0x000C
    COOKIE = 0x000D
    PE_IDENTIFIER = 0x000E
    PE_CHECKSUM = 0x000F
    OPAQUE_TRANSPORT = 0x0010
    HANDLE_RESOLUTION_OPTION = 0x803F
    """Number of elements wanted (draft-dreibholz-rserpool-asap-hropt); its top bits say "skip if unknown"."""


class CauseCode(IntEnum):
    """Error causes (RFC 5354 3.12)."""

    UNSPECIFIED = 0x0000
    UNRECOGNIZED_PARAMETER = 0x0001
    UNRECOGNIZED_MESSAGE = 0x0002
    INVALID_VALUES = 0x0003
    NON_UNIQUE_PE_IDENTIFIER = 0x0004
    INCONSISTENT_POLICY = 0x0005
    LACK_OF_RESOURCES = 0x0006
    INCONSISTENT_TRANSPORT_TYPE = 0x0007
    INCONSISTENT_DATA_CONTROL = 0x0008
    UNKNOWN_POOL_HANDLE = 0x0009
    SECURITY_REJECTION = 0x000A


class PolicyType(IntEnum):
    """Pool member selection policies (RFC 5356 4 and 5), and one of rsplib's from the range for private use."""

    ROUND_ROBIN = 0x00000001
    WEIGHTED_ROUND_ROBIN = 0x00000002
    RANDOM = 0x00000003
    WEIGHTED_RANDOM = 0x00000004
    PRIORITY = 0x00000005
    LEAST_USED = 0x40000001
    LEAST_USED_DEGRADATION = 0x40000002
    PRIORITY_LEAST_USED = 0x40000003
    RANDOMIZED_LEAST_USED = 0x40000004
    PRIORITY_LEAST_USED_DEGRADATION = 0xB0001003


class TransportUse(IntEnum):
    """What an SCTP Transport carries (RFC 5354 3.4)."""

    DATA_ONLY = 0x0000
    DATA_PLUS_CONTROL = 0x0001


class UpdateAction(IntEnum):
    """What an ENRP_HANDLE_UPDATE does (RFC 5353 2.4)."""

    ADD_PE = 0x0000
    DEL_PE = 0x0001


class Unknown(IntEnum):
    """The two top bits of an unknown message or parameter type: what to do with it (RFC 5354 3 and 4)."""

    STOP = 0b00
    STOP_AND_REPORT = 0b01
    SKIP = 0b10
    SKIP_AND_REPORT = 0b11


def name_of_cause(code: int) -> str:
    """Name a cause code for a reader; unassigned codes (rsplib sends some) keep their number."""
    try:
        return CauseCode(code).name
    except ValueError:
        return f"UNASSIGNED_{code:#06x}"
