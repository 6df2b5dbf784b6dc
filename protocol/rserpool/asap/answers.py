# SPDX-License-Identifier: Apache-2.0
"""Error answers must not become a weapon: never much larger than what they answer, never too large to be sent."""

from __future__ import annotations

from typing import Final

from rserpool.wire import ErrorCause

MARGIN: Final = 32
"""Octets by which an answer's causes may exceed the message they are about."""
MOST: Final = 65535 - 512
"""Octets of causes that fit into any answer beside the longest pool handle."""


def bounded(causes: tuple[ErrorCause, ...], request: int) -> tuple[ErrorCause, ...]:
    """As many of the causes as the answer to a message of ``request`` octets may hold; the last one tells most."""
    room = min(request + MARGIN, MOST)
    kept: list[ErrorCause] = []
    for cause in reversed(causes):
        size = (4 + len(cause.info) + 3) & ~3
        if size > room:
            return tuple(reversed(kept)) or (ErrorCause(cause.code),)
        kept.append(cause)
        room -= size
    return tuple(reversed(kept))
