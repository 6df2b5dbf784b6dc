# SPDX-License-Identifier: Apache-2.0
"""What machines report besides their messages: the source of logs, metrics and of what people watch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rserpool.wire import Policy, PoolElement


class Change(Enum):
    """What happened to an element."""

    REGISTERED = "registered"
    UPDATED = "updated"
    MOVED = "moved"
    LEARNED = "learned"
    DEREGISTERED = "deregistered"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementChanged:
    """A registrar's handlespace has changed.

    Attributes:
        change: ``REGISTERED`` and ``UPDATED`` by the element itself, ``LEARNED`` from another registrar, ``MOVED`` to
            another home, ``DEREGISTERED`` by itself, ``REMOVED`` for a reason.
        element: as it is now, or was last.
    """

    change: Change
    pool_handle: bytes
    element: PoolElement
    reason: str = ""


class PeerState(Enum):
    """How a registrar stands to another."""

    ACTIVE = "active"
    PROBING = "probing"
    TAKEOVER = "takeover"
    NOT_ACTIVE = "not active"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerChanged:
    """Another registrar came, fell silent, was taken over or went."""

    server_id: int
    state: PeerState
    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """The registrar has what it needs and serves ASAP from now on.

    Attributes:
        mentor: who gave it the handlespace; 0 if nobody did.
    """

    mentor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Somebody asked for what it may not have. Counted by threat, logged once with the peer's identity.

    Attributes:
        threat: section of the threats document.
        peer: its identity and address.
        what: the message, or ``handshake``.
        reason: why.
    """

    threat: str
    peer: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Octets that were not a message."""

    peer: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A well-formed message from an authenticated peer that has no effect, by rule."""

    peer: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lagged:
    """The process did not run when it should have: frozen, throttled or stalled. Deadlines were moved by that much."""

    seconds: float


class ElementState(Enum):
    """Where a pool element stands (RFC 5352 3.1, 3.2)."""

    STOPPED = "stopped"
    NO_HOME = "no home registrar"
    REGISTERING = "registering"
    REGISTERED = "registered"
    DEREGISTERING = "deregistering"
    DEREGISTERED = "deregistered"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementStateChanged:
    """A pool element's own state has changed.

    Attributes:
        home: server ID of its home registrar, 0 while it does not know one.
    """

    state: ElementState
    pool_handle: bytes
    pe_identifier: int
    home: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HuntChanged:
    """A pool element or user found a registrar, or found none in a whole round (RFC 5352 3.6)."""

    found: bool
    registrar: str = ""
    reason: str = ""


class Failure(Enum):
    """Why a handle resolution gave no elements."""

    NO_REGISTRAR = "no registrar"
    UNKNOWN_POOL = "no such pool"
    REFUSED = "refused"
    TIMEOUT = "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A pool user's resolution has ended.

    Attributes:
        token: which one.
        policy: the pool's; ``None`` if the answer named none, which means Round Robin.
        elements: in the order in which to try them; empty if it failed.
        failure: why it failed; ``None`` if it did not.
        reason: one line for people.
    """

    token: int
    pool_handle: bytes
    policy: Policy | None = None
    elements: tuple[PoolElement, ...] = ()
    failure: Failure | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUpdated:
    """A pool a user watches has changed; no elements means that it is gone (RFC 5352 3.3)."""

    pool_handle: bytes
    policy: Policy | None
    elements: tuple[PoolElement, ...]


Event = (
    ElementChanged
    | PeerChanged
    | Serving
    | Refused
    | Malformed
    | Ignored
    | Lagged
    | ElementStateChanged
    | HuntChanged
    | Resolved
    | PoolUpdated
)
