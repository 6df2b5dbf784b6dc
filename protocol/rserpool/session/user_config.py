# SPDX-License-Identifier: Apache-2.0
"""What a pool user's session is told."""

from __future__ import annotations

from dataclasses import dataclass

from rserpool.wire import PoolElement


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What a session is told.

    Attributes:
        handle: the pool handle.
        framed: the pool has a control channel: frames, cookies, business cards.
        secure: the far end must prove that it is the element; never given up.
        element: PE identifier of the one element wanted (a PE handle); ``None``: whoever the policy chooses.
        direct: an address instead of a pool: no resolution, no report, no other element (RFC 5352 6.5.4).
        failover: go on at another element when this one fails; single messages may say otherwise.
        ends_with_element: an element that hangs up in good order has ended the session, and is not a failure.
        leave_removed: leave an element that is not in the pool any more, though it still serves.
        connect: seconds to connect to an element, TLS included.
        patience: seconds in which an element must be found, at the beginning and at each fail-over; the time in which
            the application makes up its mind does not count.
        pause: seconds before a registrar is asked again, doubled each time up to ``longest_pause``.
        queue_messages, queue_octets: what may wait to be sent.
    """

    handle: bytes
    framed: bool
    secure: bool
    element: int | None = None
    direct: PoolElement | None = None
    failover: bool = True
    ends_with_element: bool = False
    leave_removed: bool = False
    connect: float = 1.0
    patience: float = 10.0
    pause: float = 0.1
    longest_pause: float = 2.0
    queue_messages: int = 1024
    queue_octets: int = 1024 * 1024
