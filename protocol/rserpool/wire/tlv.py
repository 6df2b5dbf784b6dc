# SPDX-License-Identifier: Apache-2.0
"""Type-length-value: the one shape of parameters and error causes (RFC 5354 2 and 3).

A container's Length includes the padding between its parameters but not that of the last one. Some senders count that
too, so what is left over at a container's end, fewer than four octets, is taken for padding.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn

from rserpool.wire.causes import ErrorCause, invalid_values, unrecognized_parameter
from rserpool.wire.codes import Unknown
from rserpool.wire.dialect import Dialect
from rserpool.wire.errors import DecodeError, EncodeError

HEADER: Final = struct.Struct("!HH")
PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class Tlv(NamedTuple):
    """One parameter as it lies in the message: ``start`` is its header, ``end`` one past its value without padding."""

    type: int
    start: int
    end: int

    @property
    def body(self) -> int:
        """Offset of the value."""
        return self.start + 4


@dataclass(frozen=True, slots=True)
class UnrecognizedParameter:
    """A parameter that is skipped, not understood: kept verbatim, and written again where it stood.

    Attributes:
        index: how many parameters of the same container came before it.
        raw: header and value, without padding.
    """

    index: int
    raw: bytes


@dataclass(slots=True)
class Decoding:
    """What the decoders of one message share: the octets, the dialect, and what is to be reported to the sender."""

    data: bytes
    dialect: Dialect
    reports: list[ErrorCause] = field(default_factory=list)

    def fail(self, offset: int, reason: str, tlv: Tlv | None = None) -> NoReturn:
        """Give the message up.

        Raises:
            DecodeError: at ``offset``, with cause Invalid Values and the offending parameter where there is one.
        """
        offending = self.data[tlv.start : tlv.end] if tlv else b""
        raise DecodeError(offset, reason, (*self.reports, invalid_values(offending)))

    def expect_body(self, tlv: Tlv, length: int, what: str) -> int:
        """Check that a parameter's value has ``length`` octets; returns the value's offset."""
        if tlv.end - tlv.start - 4 != length:
            self.fail(tlv.start, f"{what} has Length {tlv.end - tlv.start}, not {length + 4}", tlv)
        return tlv.start + 4

    def expect_at_least(self, tlv: Tlv, length: int, what: str) -> int:
        """Check that a parameter's value has ``length`` octets or more; returns the value's offset."""
        if tlv.end - tlv.start - 4 < length:
            self.fail(tlv.start, f"{what} has Length {tlv.end - tlv.start}, at least {length + 4} needed", tlv)
        return tlv.start + 4


def walk(decoding: Decoding, start: int, end: int) -> list[Tlv]:
    """Split ``[start, end)`` of the message into its parameters.

    Raises:
        DecodeError: a Length below 4 or past the end of the container.
    """
    data, found, at = decoding.data, [], start
    while end - at >= 4:
        kind, length = HEADER.unpack_from(data, at)
        if length < 4:
            decoding.fail(at, f"parameter {kind:#06x} has Length {length}, below 4", Tlv(kind, at, at + 4))
        if at + length > end:
            reason = f"parameter {kind:#06x} has Length {length}, but {end - at} octets are left"
            decoding.fail(at, reason, Tlv(kind, at, end))
        found.append(Tlv(kind, at, at + length))
        at += (length + 3) & ~3
    return found


def sift(
    decoding: Decoding, tlvs: Sequence[Tlv], known: Collection[int]
) -> tuple[Sequence[Tlv], tuple[UnrecognizedParameter, ...]]:
    """Part the known parameters from the others, and do with those what their two top bits say (RFC 5354 3).

    Types that exist but have no business in this container are skipped like ``10`` ones: they mean nothing here.

    Raises:
        DecodeError: a parameter says "stop"; its causes hold what has to be reported.
    """
    for tlv in tlvs:
        if tlv.type not in known:
            break
    else:
        return tlvs, ()
    wanted: list[Tlv] = []
    skipped: list[UnrecognizedParameter] = []
    for index, tlv in enumerate(tlvs):
        if tlv.type in known:
            wanted.append(tlv)
            continue
        raw = decoding.data[tlv.start : tlv.end]
        if not is_assigned(tlv.type):
            action = Unknown(tlv.type >> 14)
            if action in (Unknown.STOP_AND_REPORT, Unknown.SKIP_AND_REPORT):
                decoding.reports.append(unrecognized_parameter(raw))
            if action in (Unknown.STOP, Unknown.STOP_AND_REPORT):
                reason = f"unrecognised parameter {tlv.type:#06x} says: stop processing"
                raise DecodeError(tlv.start, reason, tuple(decoding.reports))
        skipped.append(UnrecognizedParameter(index, raw))
    return wanted, tuple(skipped)


def is_assigned(parameter: int) -> bool:
    """Whether RFC 5354 (or the handle resolution option) gives this parameter type a meaning."""
    return 0x0001 <= parameter <= 0x0010 or parameter == 0x803F


def pack(kind: int, body: bytes) -> bytes:
    """One parameter or cause, without padding.

    Raises:
        EncodeError: the value is longer than a Length can say.
    """
    if len(body) > 0xFFFF - 4:
        raise EncodeError(f"parameter {kind:#06x} would have {len(body) + 4} octets, 65535 at most")
    return HEADER.pack(kind, len(body) + 4) + body


def join(parts: Iterable[bytes]) -> bytes:
    """Parameters one behind the other, each padded to four octets but the last."""
    joined = b""
    for part in parts:
        joined += PADDING[len(joined) & 3] + part
    return joined


def insert_unrecognized(parts: list[bytes], unrecognized: Sequence[UnrecognizedParameter]) -> list[bytes]:
    """Put skipped parameters back among the known ones, where they stood."""
    for parameter in unrecognized:  # ascending by index, as they were found
        parts.insert(parameter.index, parameter.raw)
    return parts
