# SPDX-License-Identifier: Apache-2.0
"""Octets to messages and back (RFC 5354 4; the figures of RFC 5352 2.2 and RFC 5353 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, get_args

from rserpool.wire.asap import AsapMessage
from rserpool.wire.causes import ErrorCause, unrecognized_message
from rserpool.wire.codes import MAX_MESSAGE, ParameterType, Ppid, Unknown, UpdateAction
from rserpool.wire.dialect import RFC, Dialect
from rserpool.wire.enrp import EnrpMessage, HandleUpdate
from rserpool.wire.errors import DecodeError, EncodeError
from rserpool.wire.layout import Figure
from rserpool.wire.tlv import HEADER as TLV_HEADER
from rserpool.wire.tlv import PADDING, Decoding, join

Message = AsapMessage | EnrpMessage

_HEADER: Final = struct.Struct("!BBH")
_NAMES_ELEMENT: Final = frozenset({ParameterType.PE_IDENTIFIER, ParameterType.POOL_ELEMENT})
_CLASSES: Final[dict[Ppid, dict[int, tuple[type[Any], Figure]]]] = {
    Ppid.ASAP: {cls.LAYOUT.type: (cls, Figure(cls.LAYOUT)) for cls in get_args(AsapMessage)},
    Ppid.ENRP: {cls.LAYOUT.type: (cls, Figure(cls.LAYOUT)) for cls in get_args(EnrpMessage)},
}
_FIGURES: Final[dict[type[Any], tuple[Ppid, Figure]]] = {
    cls: (ppid, figure) for ppid, classes in _CLASSES.items() for cls, figure in classes.values()
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message, and the causes its sender wants to hear of (parameters that were skipped, RFC 5354 3)."""

    message: Message
    reports: tuple[ErrorCause, ...]


def decode(data: bytes, ppid: Ppid, dialect: Dialect = RFC) -> Message:
    """Read one message.

    Args:
        data: the whole message, with its final padding or without.
        ppid: which protocol it belongs to; the octets do not say.
        dialect: how the sender writes.

    Raises:
        DecodeError: anything else than one well-formed message.
    """
    return decode_and_report(data, ppid, dialect).message


def decode_and_report(data: bytes, ppid: Ppid, dialect: Dialect = RFC) -> Decoded:
    """As :func:`decode`, with what RFC 5354 3 wants reported to the sender although the message is good.

    Raises:
        DecodeError: anything else than one well-formed message. Its ``causes`` are what to report.
    """
    decoding = Decoding(data, dialect)
    if len(data) < 4:
        raise DecodeError(len(data), f"{len(data)} octets: no message is shorter than 4")
    kind, flags, length = _HEADER.unpack_from(data)
    try:
        message = _decode_value(decoding, ppid, kind, flags, length)
    except DecodeError as e:
        e.message_type = kind
        _note_subject(e, data, ppid)
        raise
    return Decoded(message, tuple(decoding.reports))


def _decode_value(decoding: Decoding, ppid: Ppid, kind: int, flags: int, length: int) -> Message:
    data = decoding.data
    if length < 4:
        raise DecodeError(2, f"Message Length {length} is below 4")
    if length > len(data):
        raise DecodeError(2, f"Message Length {length}, but only {len(data)} octets")
    if len(data) - length > 3:
        raise DecodeError(length, f"{len(data) - length} octets after the message, 3 of padding at most")
    known = _CLASSES[ppid].get(kind)
    if known is None:
        reported = Unknown(kind >> 6) is Unknown.STOP_AND_REPORT
        causes = (unrecognized_message(data[:length]),) if reported else ()
        raise DecodeError(0, f"unrecognised {ppid.name} message type {kind:#04x}", causes)
    cls, figure = known
    values = figure.decode(decoding, flags, length)
    if cls is HandleUpdate:
        _check_update(decoding, values)
    message: Message = cls(**values)
    return message


def _check_update(decoding: Decoding, values: dict[str, Any]) -> None:
    try:
        values["action"] = UpdateAction(values["action"])
    except ValueError:
        decoding.fail(12, f"Update Action {values['action']:#06x} is neither ADD_PE nor DEL_PE")
    if not decoding.dialect.takeover_suggested:
        values["takeover_suggested"] = False


def _note_subject(error: DecodeError, data: bytes, ppid: Ppid) -> None:
    """Find, in a message that is broken somewhere, the pool handle and PE identifier an answer would name."""
    if ppid is not Ppid.ASAP:
        return
    at = 4
    while at + 8 <= len(data):
        kind, length = TLV_HEADER.unpack_from(data, at)
        if length < 5 or at + length > len(data):
            return
        if kind == ParameterType.POOL_HANDLE and error.pool_handle is None:
            error.pool_handle = data[at + 4 : at + length]
        elif kind in _NAMES_ELEMENT and length >= 8 and error.pe_identifier is None:
            error.pe_identifier = int.from_bytes(data[at + 4 : at + 8])
        at += (length + 3) & ~3


def encode(message: Message, dialect: Dialect = RFC) -> bytes:
    """Write one message, padded to a multiple of four octets.

    Raises:
        EncodeError: a number out of its range, an empty handle, or more than 65535 octets.
    """
    figure = _FIGURES[type(message)][1]
    flags, fixed, parts = figure.encode(message, dialect)
    if isinstance(message, HandleUpdate) and not dialect.takeover_suggested:
        flags = 0
    value = fixed + join(parts)
    length = 4 + len(value)
    padding = PADDING[length & 3]
    if dialect.count_last_padding:
        length += len(padding)
    if length > MAX_MESSAGE:
        raise EncodeError(f"{figure.layout.name} would have {length} octets, {MAX_MESSAGE} at most")
    return _HEADER.pack(figure.layout.type, flags, length) + value + padding


def ppid_of(message: Message) -> Ppid:
    """The protocol a message belongs to."""
    return _FIGURES[type(message)][0]


def name_of(message: Message) -> str:
    """A message's name as the RFC prints it, such as ``ASAP_REGISTRATION``."""
    return _FIGURES[type(message)][1].layout.name
