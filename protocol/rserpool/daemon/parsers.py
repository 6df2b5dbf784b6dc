# SPDX-License-Identifier: Apache-2.0
"""Parsers for settings: from what TOML or a variable of the environment says to a value, or what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from rserpool.identity.revoked import MOST_REVOKED, Revoked
from rserpool.wire import Address

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_LONGEST: Final = 100 * 365 * 86400.0
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\.?")


def text(raw: object) -> str:
    """Any text."""
    if not isinstance(raw, str):
        raise ValueError("write text in quotes")
    return raw


def nonempty(raw: object) -> str:
    """Any text but none."""
    value = text(raw).strip()
    if not value:
        raise ValueError("must not be empty")
    return value


def boolean(raw: object) -> bool:
    """Either true or false."""
    if isinstance(raw, bool):
        return raw
    if raw in ("true", "false"):
        return raw == "true"
    raise ValueError("write true or false")


def number(least: float, most: float) -> Callable[[object], float]:
    """A number within bounds."""

    def parse(raw: object) -> float:
        try:
            value = float(raw) if isinstance(raw, str | int | float) and not isinstance(raw, bool) else None
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise ValueError(f"write a number from {least:g} to {most:g}")
        return value

    return parse


def integer(least: int, most: int) -> Callable[[object], int]:
    """A whole number within bounds."""

    def parse(raw: object) -> int:
        value = raw
        if isinstance(raw, str) and re.fullmatch(r"-?[0-9]{1,20}", raw):
            value = int(raw)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return value

    return parse


port = integer(1, 65535)
port_or_none = integer(0, 65535)


def seconds(raw: object) -> float:
    """A duration: a number of seconds, or text such as 500ms, 10s, 5m, 24h."""
    if isinstance(raw, int | float) and not isinstance(raw, bool) and 0 <= raw <= _LONGEST:
        return float(raw)
    found = _DURATION.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if found is None or float(found[1]) * _UNITS[found[2]] > _LONGEST:
        raise ValueError("write seconds, or a duration such as 500ms, 10s, 5m or 24h")
    return float(found[1]) * _UNITS[found[2]]


def optional(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """What ``parse`` takes, or the empty text for nothing."""
    return lambda raw: None if raw == "" else parse(raw)


def address(raw: object) -> Address:
    """An IP address."""
    try:
        return ip_address(text(raw))
    except ValueError:
        raise ValueError("write an IPv4 or IPv6 address") from None


def addresses(raw: object) -> tuple[Address, ...]:
    """A list of IP addresses."""
    return tuple(address(item) for item in texts(raw))


def groups(raw: object) -> tuple[Address, ...]:
    """A list of IP multicast addresses."""
    found = addresses(raw)
    if not found or not all(group.is_multicast for group in found):
        raise ValueError("write multicast addresses, such as 224.0.1.185 or ff02::133")
    return found


def positive(raw: object) -> float:
    """A duration of more than 0."""
    value = seconds(raw)
    if value == 0:
        raise ValueError("0 is no time to wait; write a duration such as 500ms")
    return value


def path(raw: object) -> Path:
    """A file's path."""
    return Path(nonempty(raw))


def one_of(*words: str) -> Callable[[object], str]:
    """One of some words."""

    def parse(raw: object) -> str:
        if raw not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return str(raw)

    return parse


def texts(raw: object) -> tuple[str, ...]:
    """A list of texts; in the environment, separated by commas."""
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    if not isinstance(raw, Iterable) or isinstance(raw, dict):
        raise ValueError("write a list of texts")
    return tuple(text(item) for item in raw)


def revoked(raw: object) -> tuple[str, ...]:
    """A list of leaves and pods that count no longer."""
    entries = texts(raw)
    found = Revoked.of(entries)
    if len(entries) > MOST_REVOKED or found.names - found.pod_uids:
        raise ValueError(f"write at most {MOST_REVOKED} entries, each serial:HEX or the UID of a pod")
    return entries


def host_and_port(raw: str) -> tuple[str, int]:
    """``host:port`` or ``[address]:port``."""
    host, separator, digits = raw.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    numeric = bare != host or ":" in bare or bare.replace(".", "").isdigit()
    try:
        valid = bool(str(ip_address(bare))) if numeric else bool(_HOST.fullmatch(bare))
        number = port(digits) if separator else 0
    except ValueError:
        valid, number = False, 0
    if not valid or not number or (":" in bare and host == bare):
        raise ValueError(f"{raw!r} is no place; write host:port or [address]:port")
    return bare, number


def places(raw: object) -> tuple[tuple[str, int], ...]:
    """A list of ``host:port``."""
    return tuple(host_and_port(item) for item in texts(raw))
