# SPDX-License-Identifier: Apache-2.0
"""Waiting by looking: nothing in these tests sleeps for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from harness.kubectl import KubectlError

T = TypeVar("T")


class NotYet(Exception):  # noqa: N818 - it is no error
    """Raised by a condition that does not hold yet, with what is so instead."""


class TooLateError(AssertionError):
    """A condition did not hold in time."""


def wait_for(condition: Callable[[], T | None], timeout: float, what: str, *, every: float = 0.25) -> T:
    """Look until `condition` gives something true; returns that.

    A condition that does not hold yet gives something false, raises `NotYet`, fails an assertion, finds another number
    of things than it unpacks, or misses something (who has only just begun tells little of himself); that kubectl fails
    is taken for the same, since pods and nodes come and go here.

    Raises:
        TooLateError: it did not within `timeout` seconds; says what was last seen.
    """
    end = time.monotonic() + timeout
    while True:
        seen: object
        try:
            value = condition()
        except (NotYet, AssertionError, ValueError, LookupError, KubectlError) as e:
            seen = e
        else:
            if value:
                return value
            seen = repr(value)
        if time.monotonic() > end:
            raise TooLateError(f"{what}: not within {timeout:g} s; last seen: {seen}") from None
        time.sleep(every)
