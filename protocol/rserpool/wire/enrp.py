# SPDX-License-Identifier: Apache-2.0
"""The ten ENRP messages (RFC 5353 2).

Each begins with the sending and the receiving registrar's server ID; a receiver of 0 means "all peers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from rserpool.wire.causes import ErrorCause
from rserpool.wire.codes import EnrpType, ParameterType, UpdateAction
from rserpool.wire.elements import PoolElement, ServerInformation
from rserpool.wire.layout import Count, Layout, Param, PoolEntry
from rserpool.wire.tlv import UnrecognizedParameter

_SERVERS: Final = {"sender": "I", "receiver": "I"}
_TARGETED: Final = {**_SERVERS, "target": "I"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Enrp:
    sender: int
    receiver: int = 0
    unrecognized: tuple[UnrecognizedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targeted(_Enrp):
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence(_Enrp):
    """ENRP_PRESENCE: the heartbeat between registrars (RFC 5353 2.1).

    Attributes:
        reply_required: the receiver is to answer with its own presence at once.
        checksum: PE checksum over the elements the sender owns.
        server: the sender's own Server Information.
    """

    LAYOUT: ClassVar = Layout(
        EnrpType.PRESENCE,
        flags={"reply_required": 0x01},
        fixed=_SERVERS,
        params=(
            Param("checksum", (ParameterType.PE_CHECKSUM,), Count.OPTIONAL),
            Param("server", (ParameterType.SERVER_INFORMATION,), Count.OPTIONAL),
        ),
    )
    reply_required: bool = False
    checksum: int | None = None
    server: ServerInformation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleTableRequest(_Enrp):
    """ENRP_HANDLE_TABLE_REQUEST (RFC 5353 2.2). ``own_children_only`` is the W flag."""

    LAYOUT: ClassVar = Layout(EnrpType.HANDLE_TABLE_REQUEST, flags={"own_children_only": 0x01}, fixed=_SERVERS)
    own_children_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleTableResponse(_Enrp):
    """ENRP_HANDLE_TABLE_RESPONSE: one part of a handlespace (RFC 5353 2.3).

    Attributes:
        reject: the R flag: not now.
        more: the M flag: ask again for the next part.
        pools: a pool that goes on in the next part starts there again with its handle.
    """

    LAYOUT: ClassVar = Layout(
        EnrpType.HANDLE_TABLE_RESPONSE,
        flags={"reject": 0x01, "more": 0x02},
        fixed=_SERVERS,
        pool_entries="pools",
    )
    reject: bool = False
    more: bool = False
    pools: tuple[PoolEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleUpdate(_Enrp):
    """ENRP_HANDLE_UPDATE: a home registrar tells of one element (RFC 5353 2.4).

    ``takeover_suggested`` exists only in rsplib's dialect.
    """

    LAYOUT: ClassVar = Layout(
        EnrpType.HANDLE_UPDATE,
        flags={"takeover_suggested": 0x01},
        fixed={**_SERVERS, "action": "H", "_reserved": "2x"},
        params=(Param("pool_handle", (ParameterType.POOL_HANDLE,)), Param("element", (ParameterType.POOL_ELEMENT,))),
    )
    action: UpdateAction
    pool_handle: bytes
    element: PoolElement
    takeover_suggested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest(_Enrp):
    """ENRP_LIST_REQUEST: which registrars are there? (RFC 5353 2.5)."""

    LAYOUT: ClassVar = Layout(EnrpType.LIST_REQUEST, fixed=_SERVERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListResponse(_Enrp):
    """ENRP_LIST_RESPONSE (RFC 5353 2.6). ``reject`` is the R flag."""

    LAYOUT: ClassVar = Layout(
        EnrpType.LIST_RESPONSE,
        flags={"reject": 0x01},
        fixed=_SERVERS,
        params=(Param("servers", (ParameterType.SERVER_INFORMATION,), Count.MANY),),
    )
    reject: bool = False
    servers: tuple[ServerInformation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InitTakeover(_Targeted):
    """ENRP_INIT_TAKEOVER: the sender holds the target for dead (RFC 5353 2.7)."""

    LAYOUT: ClassVar = Layout(EnrpType.INIT_TAKEOVER, fixed=_TARGETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitTakeoverAck(_Targeted):
    """ENRP_INIT_TAKEOVER_ACK: the sender does not object (RFC 5353 2.8)."""

    LAYOUT: ClassVar = Layout(EnrpType.INIT_TAKEOVER_ACK, fixed=_TARGETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverServer(_Targeted):
    """ENRP_TAKEOVER_SERVER: the target's elements are the sender's from now on (RFC 5353 2.9)."""

    LAYOUT: ClassVar = Layout(EnrpType.TAKEOVER_SERVER, fixed=_TARGETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrpError(_Enrp):
    """ENRP_ERROR (RFC 5353 2.10). Never answered."""

    LAYOUT: ClassVar = Layout(
        EnrpType.ERROR, fixed=_SERVERS, params=(Param("error", (ParameterType.OPERATION_ERROR,)),)
    )
    error: tuple[ErrorCause, ...]


EnrpMessage = (
    Presence
    | HandleTableRequest
    | HandleTableResponse
    | HandleUpdate
    | ListRequest
    | ListResponse
    | InitTakeover
    | InitTakeoverAck
    | TakeoverServer
    | EnrpError
)
