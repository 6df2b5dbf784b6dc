# SPDX-License-Identifier: Apache-2.0
"""Cookies: state that an element gives its user to keep, sealed so that any element of the pool may believe it.

RFC 5352 3.8 leaves the format to the element and wants it signed (threat 2.16). Ours, all numbers big-endian: version
(u8, 1), key id (u8), issued (u32, seconds since the epoch), pool (first 8 octets of the SHA-256 of its name), payload,
1 to 4 octets of padding that each say how many there are, HMAC-SHA-256 of all of that (32). The padding makes the
length a multiple of four. A cookie is authentic and dated, not secret: its user can read the payload.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

VERSION: Final = 1
MAX_PAYLOAD: Final = 4096
"""Octets an application may have sealed."""
SKEW: Final = 60.0
"""Seconds by which the clocks of a pool's elements may differ."""
SHORTEST_KEY: Final = 32

_HEAD: Final = struct.Struct("!BBI8s")
_MAC: Final = 32
_SHORTEST: Final = _HEAD.size + 2 + _MAC  # no payload, and its padding
_LONGEST: Final = _HEAD.size + MAX_PAYLOAD + 4 + _MAC


class CookieError(ValueError):
    """A cookie that is not believed; ``reason`` says why in a few words, and holds nothing of cookie or key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Opened:
    """A cookie that is believed.

    Attributes:
        payload: what the application had sealed.
        age: seconds since then; 0 if the clock of who sealed it is ahead.
    """

    payload: bytes
    age: float


@dataclass(frozen=True, slots=True)
class CookieKeys:
    """The pool's keys: all its elements have the same. A new one is handed out before it becomes the current one.

    Attributes:
        current: id (0 to 255) and key with which is sealed; a key has 32 octets or more.
        older: further keys that are believed, by id.

    Raises:
        ValueError: an id or a key that cannot be, or one id twice.
    """

    current: tuple[int, bytes] = field(repr=False)
    older: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for number, key in (self.current, *self.older.items()):
            if not 0 <= number <= 255:
                raise ValueError("a key id is a number from 0 to 255")
            if len(key) < SHORTEST_KEY:
                raise ValueError(f"a key has {SHORTEST_KEY} octets or more")
        if self.current[0] in self.older:
            raise ValueError("two keys have one id")

    def seal(self, payload: bytes, pool: bytes, now: float) -> bytes:
        """Make a cookie.

        Args:
            payload: 1 to :data:`MAX_PAYLOAD` octets; an empty cookie is nothing to send (RFC 5352 2.2.11).
            pool: name of the pool, the same in all its elements.
            now: seconds since the epoch.

        Raises:
            CookieError: there is no payload, or too much of it.
        """
        if not 1 <= len(payload) <= MAX_PAYLOAD:
            raise CookieError(f"a cookie holds 1 to {MAX_PAYLOAD} octets, not {len(payload)}")
        number, key = self.current
        padding = 4 - (_HEAD.size + len(payload) + _MAC) % 4
        body = _HEAD.pack(VERSION, number, int(now), _hash(pool)) + payload + bytes([padding]) * padding
        return body + _mac(key, body)

    def open(self, octets: bytes, pool: bytes, now: float, max_age: float) -> Opened:
        """Read a cookie that a user brought.

        Args:
            octets: of the cookie, as :meth:`seal` made them or as somebody else did.
            pool: name of the pool.
            now: seconds since the epoch.
            max_age: seconds for which cookies are believed.

        Raises:
            CookieError: it is not believed.
        """
        if not _SHORTEST <= len(octets) <= _LONGEST:
            raise CookieError("no cookie has its length")
        body, mac = octets[:-_MAC], octets[-_MAC:]
        version, number, issued, pool_hash = _HEAD.unpack_from(body)
        if version != VERSION:
            raise CookieError("unknown version")
        key = self.current[1] if number == self.current[0] else self.older.get(number)
        if key is None:
            raise CookieError("unknown key id")
        if not hmac.compare_digest(mac, _mac(key, body)):
            raise CookieError("not authentic")
        if pool_hash != _hash(pool):
            raise CookieError("of another pool")
        age = now - issued
        if age < -SKEW:
            raise CookieError("from the future")
        if age > max_age:
            raise CookieError("too old")
        return Opened(_payload(body), max(0.0, age))


def _payload(body: bytes) -> bytes:
    """What is between head and padding; who has the key and seals something else is refused all the same."""
    padding = body[-1]
    end = len(body) - padding
    if not 1 <= padding <= 4 or end < _HEAD.size or body[end:] != bytes([padding]) * padding:
        raise CookieError("malformed")
    return body[_HEAD.size : end]


def _hash(pool: bytes) -> bytes:
    return hashlib.sha256(pool).digest()[:8]


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()
