# SPDX-License-Identifier: Apache-2.0
"""Token buckets: how often somebody may do something (threats 2.13, 2.14; RFC 5352 9.3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

ENOUGH: Final = 1 - 1e-6
"""A token, but for rounding: who waited as long as :meth:`TokenBucket.wait` says must not have to wait again."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second on average, so many at once."""

    per_second: float
    burst: float


class TokenBucket:
    """Full at first; one token an event."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = now

    def change(self, rate: Rate, now: float) -> None:
        """Go on with another rate; what has been saved up stays, as far as the new burst allows."""
        self._fill(now)
        self._rate = rate
        self._tokens = min(rate.burst, self._tokens)

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._fill(now)
        if self._tokens < ENOUGH:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        self._fill(now)
        return 0.0 if self._tokens >= ENOUGH else (1 - self._tokens) / self._rate.per_second

    def _fill(self, now: float) -> None:
        self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_second)
        self._at = now


class Buckets:
    """A bucket for each of many; bounded: the one longest unused makes room, since its bucket is full again."""

    def __init__(self, rate: Rate, most: int = 4096) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def change(self, rate: Rate, now: float) -> None:
        """Go on with another rate, all of them."""
        self._rate = rate
        for bucket in self._buckets.values():
            bucket.change(rate, now)

    def take(self, key: Hashable, now: float) -> bool:
        """Take a token from one's own bucket."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)
