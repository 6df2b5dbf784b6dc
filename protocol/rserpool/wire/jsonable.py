# SPDX-License-Identifier: Apache-2.0
"""A message as plain JSON data, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from rserpool.wire.causes import ErrorCause
from rserpool.wire.codec import Message, name_of, ppid_of
from rserpool.wire.policies import UnknownPolicy
from rserpool.wire.tlv import UnrecognizedParameter


def readable_handle(handle: bytes) -> str:
    """A pool handle for a reader: as text where it is printable UTF-8, else ``0x`` and hex."""
    try:
        text = handle.decode()
    except UnicodeDecodeError:
        return "0x" + handle.hex()
    return text if text.isprintable() and not text.startswith("0x") else "0x" + handle.hex()


def to_jsonable(message: Message) -> dict[str, Any]:
    """All fields of a message: addresses as text, octet strings as hex, pool handles as text where printable.

    Server IDs, PE identifiers and other numbers stay numbers; ``_hex`` is added where hex is the usual notation.
    """
    head: dict[str, Any] = {
        "protocol": ppid_of(message).name,
        "type": int(message.LAYOUT.type),
        "name": name_of(message),
    }
    return head | _fields(message)


def _fields(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name == "pool_handle":
            plain["pool_handle"] = readable_handle(item)
            plain["pool_handle_hex"] = item.hex()
        elif field.name == "unrecognized":
            if item:
                plain["unrecognized"] = [_value(each) for each in item]
        elif field.name in ("checksum", "identifier", "pe_identifier", "home", "server_id") and _is_number(item):
            plain[field.name] = item
            plain[f"{field.name}_hex"] = f"{item:#06x}" if field.name == "checksum" else f"{item:#010x}"
        else:
            plain[field.name] = _value(item)
    return plain


def _is_number(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _value(item: Any) -> Any:
    if item is None or isinstance(item, bool | str):
        return item
    if isinstance(item, IntEnum):
        return item.name
    if isinstance(item, int):
        return item
    if isinstance(item, bytes):
        return item.hex()
    if isinstance(item, IPv4Address | IPv6Address):
        return str(item)
    if isinstance(item, ErrorCause):
        return {"code": item.code, "name": str(item), "info": item.info.hex()}
    if isinstance(item, UnrecognizedParameter):
        return {"index": item.index, "type": f"0x{item.raw[:2].hex()}", "value": item.raw[4:].hex()}
    if isinstance(item, UnknownPolicy):
        return {"type": f"{item.TYPE:#010x}", "data": item.data.hex()}
    if isinstance(item, Sequence):
        return [_value(each) for each in item]
    kind = {"type": item.TYPE.name} if hasattr(item, "TYPE") else {}
    return kind | _fields(item)
