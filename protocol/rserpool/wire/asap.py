# SPDX-License-Identifier: Apache-2.0
"""The fourteen ASAP messages (RFC 5352 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from rserpool.wire.causes import ErrorCause
from rserpool.wire.codes import AsapType, ParameterType
from rserpool.wire.elements import PoolElement
from rserpool.wire.layout import Count, Layout, Param
from rserpool.wire.policies import Policy
from rserpool.wire.tlv import UnrecognizedParameter
from rserpool.wire.transports import AsapTransport

_HANDLE: Final = Param("pool_handle", (ParameterType.POOL_HANDLE,))
_IDENTIFIER: Final = Param("pe_identifier", (ParameterType.PE_IDENTIFIER,))
_ERROR: Final = Param("error", (ParameterType.OPERATION_ERROR,), Count.OPTIONAL)
_COOKIE: Final = Param("cookie", (ParameterType.COOKIE,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """ASAP_REGISTRATION: an element joins its pool, or refreshes its registration (RFC 5352 2.2.1)."""

    LAYOUT: ClassVar = Layout(AsapType.REGISTRATION, params=(_HANDLE, Param("element", (ParameterType.POOL_ELEMENT,))))
    pool_handle: bytes
    element: PoolElement
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deregistration:
    """ASAP_DEREGISTRATION: an element leaves its pool (RFC 5352 2.2.2)."""

    LAYOUT: ClassVar = Layout(AsapType.DEREGISTRATION, params=(_HANDLE, _IDENTIFIER))
    pool_handle: bytes
    pe_identifier: int
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationResponse:
    """ASAP_REGISTRATION_RESPONSE (RFC 5352 2.2.3). An error without ``reject`` is a warning: granted, but changed."""

    LAYOUT: ClassVar = Layout(
        AsapType.REGISTRATION_RESPONSE, flags={"reject": 0x01}, params=(_HANDLE, _IDENTIFIER, _ERROR)
    )
    pool_handle: bytes
    pe_identifier: int
    reject: bool = False
    error: tuple[ErrorCause, ...] = ()
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeregistrationResponse:
    """ASAP_DEREGISTRATION_RESPONSE (RFC 5352 2.2.4), also sent unsolicited when a registration expires.

    It has no flag for a rejection: an error is one.
    """

    LAYOUT: ClassVar = Layout(AsapType.DEREGISTRATION_RESPONSE, params=(_HANDLE, _IDENTIFIER, _ERROR))
    pool_handle: bytes
    pe_identifier: int
    error: tuple[ErrorCause, ...] = ()
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleResolution:
    """ASAP_HANDLE_RESOLUTION (RFC 5352 2.2.5).

    Attributes:
        send_updates: the S flag: tell me when the pool changes.
        items: elements wanted, by the handle resolution option; ``None`` leaves the number to the registrar.
    """

    LAYOUT: ClassVar = Layout(
        AsapType.HANDLE_RESOLUTION,
        flags={"send_updates": 0x01},
        params=(_HANDLE, Param("items", (ParameterType.HANDLE_RESOLUTION_OPTION,), Count.OPTIONAL)),
    )
    pool_handle: bytes
    send_updates: bool = False
    items: int | None = None
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleResolutionResponse:
    """ASAP_HANDLE_RESOLUTION_RESPONSE (RFC 5352 2.2.6).

    Attributes:
        accept_updates: the A flag: updates will follow.
        policy: the pool's policy; absent means Round Robin.
        elements: in the order in which to try them.
        error: only in a negative response, which has neither policy nor elements.
    """

    LAYOUT: ClassVar = Layout(
        AsapType.HANDLE_RESOLUTION_RESPONSE,
        flags={"accept_updates": 0x01},
        params=(
            _HANDLE,
            Param("policy", (ParameterType.POLICY,), Count.OPTIONAL),
            Param("elements", (ParameterType.POOL_ELEMENT,), Count.MANY),
            _ERROR,
        ),
    )
    pool_handle: bytes
    accept_updates: bool = False
    policy: Policy | None = None
    elements: tuple[PoolElement, ...] = ()
    error: tuple[ErrorCause, ...] = ()
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointKeepAlive:
    """ASAP_ENDPOINT_KEEP_ALIVE (RFC 5352 2.2.7).

    Attributes:
        home: the H flag: the sender is, from now on, the element's home registrar.
        pe_identifier: which element is asked; the RFC has no such parameter, rsplib and we always send it.
    """

    LAYOUT: ClassVar = Layout(
        AsapType.ENDPOINT_KEEP_ALIVE,
        flags={"home": 0x01},
        fixed={"server_id": "I"},
        params=(_HANDLE, Param("pe_identifier", (ParameterType.PE_IDENTIFIER,), Count.OPTIONAL)),
    )
    server_id: int
    pool_handle: bytes
    home: bool = False
    pe_identifier: int | None = None
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointKeepAliveAck:
    """ASAP_ENDPOINT_KEEP_ALIVE_ACK (RFC 5352 2.2.8)."""

    LAYOUT: ClassVar = Layout(AsapType.ENDPOINT_KEEP_ALIVE_ACK, params=(_HANDLE, _IDENTIFIER))
    pool_handle: bytes
    pe_identifier: int
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUnreachable:
    """ASAP_ENDPOINT_UNREACHABLE: a user could not reach an element it sent to (RFC 5352 2.2.9)."""

    LAYOUT: ClassVar = Layout(AsapType.ENDPOINT_UNREACHABLE, params=(_HANDLE, _IDENTIFIER))
    pool_handle: bytes
    pe_identifier: int
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnnounce:
    """ASAP_SERVER_ANNOUNCE, by multicast (RFC 5352 2.2.10). No transports: the datagram's source is the registrar."""

    LAYOUT: ClassVar = Layout(
        AsapType.SERVER_ANNOUNCE,
        fixed={"server_id": "I"},
        params=(Param("transports", (ParameterType.SCTP_TRANSPORT, ParameterType.TCP_TRANSPORT), Count.MANY),),
    )
    server_id: int
    transports: tuple[AsapTransport, ...] = ()
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """ASAP_COOKIE: state an element gives its user to keep (RFC 5352 2.2.11)."""

    LAYOUT: ClassVar = Layout(AsapType.COOKIE, params=(_COOKIE,))
    cookie: bytes
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieEcho:
    """ASAP_COOKIE_ECHO: the newest cookie, given to the next element (RFC 5352 2.2.12)."""

    LAYOUT: ClassVar = Layout(AsapType.COOKIE_ECHO, params=(_COOKIE,))
    cookie: bytes
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessCard:
    """ASAP_BUSINESS_CARD: the sender's pool, and the elements to fail over to in order (RFC 5352 2.2.13)."""

    LAYOUT: ClassVar = Layout(
        AsapType.BUSINESS_CARD, params=(_HANDLE, Param("elements", (ParameterType.POOL_ELEMENT,), Count.SOME))
    )
    pool_handle: bytes
    elements: tuple[PoolElement, ...]
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AsapError:
    """ASAP_ERROR: what was wrong with a message of the receiver's (RFC 5352 2.2.14). Never answered."""

    LAYOUT: ClassVar = Layout(AsapType.ERROR, params=(Param("error", (ParameterType.OPERATION_ERROR,)),))
    error: tuple[ErrorCause, ...]
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


AsapMessage = (
    Registration
    | Deregistration
    | RegistrationResponse
    | DeregistrationResponse
    | HandleResolution
    | HandleResolutionResponse
    | EndpointKeepAlive
    | EndpointKeepAliveAck
    | EndpointUnreachable
    | ServerAnnounce
    | Cookie
    | CookieEcho
    | BusinessCard
    | AsapError
)
