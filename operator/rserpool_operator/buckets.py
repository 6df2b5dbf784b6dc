# SPDX-License-Identifier: Apache-2.0
"""Rates by name: of a namespace, a pod, a source. The ones not heard of for longest are forgotten."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from rserpool.asap.limits import Rate, TokenBucket

REMEMBERED: Final = 4096


class Buckets:
    """One bucket a name.

    Args:
        rate: of each name, if it is not given with the question.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, name: str, now: float, rate: Rate | None = None) -> bool:
        """Whether that name may have another one now."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(rate or self._rate, now)
            if len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return bucket.take(now)
