# SPDX-License-Identifier: Apache-2.0
"""Messages as tables: each message class states its figure of the RFC, one reader and one writer serve them all."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from rserpool.wire.codes import AsapType, EnrpType, ParameterType
from rserpool.wire.dialect import Dialect
from rserpool.wire.elements import PoolElement
from rserpool.wire.errors import DecodeError, EncodeError
from rserpool.wire.parameters import PARAMETERS
from rserpool.wire.tlv import Decoding, Tlv, insert_unrecognized, sift, walk


class Count(Enum):
    """How often a parameter stands in a message."""

    ONE = "one"
    OPTIONAL = "at most one"
    MANY = "any number"
    SOME = "one or more"


@dataclass(frozen=True, slots=True)
class Param:
    """One line of a figure: the attribute that holds the value, the parameter's types, and how often it stands there.

    ``MANY`` and ``SOME`` give tuples; an absent ``OPTIONAL`` is ``None``, for an Operation Error the empty tuple.
    """

    name: str
    types: tuple[ParameterType, ...]
    count: Count = Count.ONE

    @property
    def is_tuple(self) -> bool:
        """Whether the attribute holds a tuple with one item a parameter."""
        return self.count in (Count.MANY, Count.SOME)

    @property
    def absent(self) -> Any:
        """The attribute's value where the parameter does not stand in the message."""
        empty = self.is_tuple or ParameterType.OPERATION_ERROR in self.types
        return () if empty else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """A pool in an ENRP_HANDLE_TABLE_RESPONSE: its handle and some of its elements (RFC 5353 2.3)."""

    pool_handle: bytes
    elements: tuple[PoolElement, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The figure of one message.

    Attributes:
        type: the message type.
        params: its parameters, in the order of the figure.
        flags: attribute -> bit; other bits are ignored on receipt and sent as 0.
        fixed: attribute -> :mod:`struct` format of the fields that precede the parameters, in order. A name that
            begins with an underscore is reserved space.
        pool_entries: attribute that holds :class:`PoolEntry` tuples, for the one message whose parameters form a list
            of pools.
    """

    type: AsapType | EnrpType
    params: tuple[Param, ...] = ()
    flags: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    pool_entries: str | None = None

    @property
    def name(self) -> str:
        """The message's name as the RFC prints it."""
        return f"{'ASAP' if isinstance(self.type, AsapType) else 'ENRP'}_{self.type.name}"


_ENTRY_TYPES: Final = frozenset({ParameterType.POOL_HANDLE, ParameterType.POOL_ELEMENT})


class Figure:
    """A layout made ready: reads and writes the value of one message type."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._fixed = struct.Struct("!" + "".join(layout.fixed.values()))
        self._fixed_names = [name for name in layout.fixed if not name.startswith("_")]
        self._by_type = {kind: param for param in layout.params for kind in param.types}
        self._known = _ENTRY_TYPES if layout.pool_entries else frozenset(self._by_type)

    def decode(self, decoding: Decoding, flags: int, end: int) -> dict[str, Any]:
        """Read the message's value, ``end`` being one past its last octet by Message Length.

        Returns:
            The attributes of the message class.

        Raises:
            DecodeError: a field or a mandatory parameter is missing, stands there twice, or holds what it may not.
        """
        layout = self.layout
        start = 4 + self._fixed.size
        if end < start:
            decoding.fail(end, f"{layout.name} ends within its fixed fields")
        values: dict[str, Any] = dict(zip(self._fixed_names, self._fixed.unpack_from(decoding.data, 4), strict=True))
        for name, bit in layout.flags.items():
            values[name] = bool(flags & bit)
        found, values["unrecognized"] = sift(decoding, walk(decoding, start, end), self._known)
        if layout.pool_entries:
            values[layout.pool_entries] = _decode_entries(decoding, found)
            return values
        for tlv in found:
            self._take(decoding, tlv, values)
        for param in layout.params:
            if param.name not in values:
                if param.count in (Count.ONE, Count.SOME):
                    decoding.fail(end, f"{layout.name} without {_names(param.types)}")
                values[param.name] = param.absent
        return values

    def _take(self, decoding: Decoding, tlv: Tlv, values: dict[str, Any]) -> None:
        param = self._by_type[ParameterType(tlv.type)]
        value = PARAMETERS[tlv.type].decode(decoding, tlv)
        if param.is_tuple:
            values[param.name] = (*values.get(param.name, ()), value)
        elif param.name in values:
            decoding.fail(tlv.start, f"{self.layout.name} with two {_names(param.types)}", tlv)
        else:
            values[param.name] = value

    def encode(self, message: Any, dialect: Dialect) -> tuple[int, bytes, list[bytes]]:
        """Write the message's value.

        Returns:
            The flags, the fixed fields, and the parameters without padding.

        Raises:
            EncodeError: a number out of its range.
        """
        layout = self.layout
        flags = sum(bit for name, bit in layout.flags.items() if getattr(message, name))
        try:
            fixed = self._fixed.pack(*(getattr(message, name) for name in self._fixed_names))
        except struct.error as e:
            raise EncodeError(f"{layout.name}: {e}") from None
        parts: list[bytes] = []
        if layout.pool_entries:
            parts = _encode_entries(getattr(message, layout.pool_entries), dialect)
        for param in layout.params:
            value = getattr(message, param.name)
            if value is None or value == ():
                continue
            for each in value if param.is_tuple else (value,):
                kind = param.types[0] if len(param.types) == 1 else each.TYPE
                parts.append(PARAMETERS[kind].encode(each, dialect))
        return flags, fixed, insert_unrecognized(parts, message.unrecognized)


def _decode_entries(decoding: Decoding, found: Sequence[Tlv]) -> tuple[PoolEntry, ...]:
    entries: list[PoolEntry] = []
    handle: bytes | None = None
    elements: list[PoolElement] = []
    for index, tlv in enumerate(found):
        value = PARAMETERS[tlv.type].decode(decoding, tlv)
        if tlv.type == ParameterType.POOL_HANDLE:
            handle = value
            if index + 1 == len(found) or found[index + 1].type != ParameterType.POOL_ELEMENT:
                decoding.fail(tlv.start, "pool entry without a Pool Element", tlv)
            continue
        if handle is None:
            decoding.fail(tlv.start, "Pool Element before any Pool Handle", tlv)
        elements.append(value)
        if index + 1 == len(found) or found[index + 1].type == ParameterType.POOL_HANDLE:
            entries.append(PoolEntry(pool_handle=handle, elements=tuple(elements)))
            elements = []
    return tuple(entries)


def _encode_entries(entries: Sequence[PoolEntry], dialect: Dialect) -> list[bytes]:
    parts = []
    for entry in entries:
        if not entry.elements:
            raise EncodeError("pool entry without a Pool Element")
        parts.append(PARAMETERS[ParameterType.POOL_HANDLE].encode(entry.pool_handle, dialect))
        parts.extend(PARAMETERS[ParameterType.POOL_ELEMENT].encode(e, dialect) for e in entry.elements)
    return parts


def _names(types: tuple[ParameterType, ...]) -> str:
    return " or ".join(kind.name for kind in types)


__all__ = ["Count", "DecodeError", "Figure", "Layout", "Param", "PoolEntry"]
