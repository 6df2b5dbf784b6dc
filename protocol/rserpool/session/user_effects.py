# SPDX-License-Identifier: Apache-2.0
"""What a pool user's session tells those who carry it out, and what it tells the application: all of it as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType

from rserpool.asap.authorisation import Principal
from rserpool.asap.events import Failure
from rserpool.wire import PoolElement

Attempt = NewType("Attempt", int)
"""Names one connection of a session, from :class:`Dial` on; never used twice in a session."""
_STRENGTH: Final = {"": 0, "TLSv1.2": 2, "TLSv1.3": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSecurity:
    """What protects a connection with an element.

    Attributes:
        identity: URI of the element's certificate, verified; empty where nobody has proved anything.
        version: ``TLSv1.3`` or ``TLSv1.2``; empty for a connection without TLS.
        cipher: the cipher suite's name; empty likewise.
    """

    identity: str = ""
    version: str = ""
    cipher: str = ""

    @property
    def protected(self) -> bool:
        """Whether the connection is encrypted, and its far end known."""
        return bool(self.version)

    def weaker_than(self, other: ChannelSecurity) -> bool:
        """Whether this protects less than another connection does (threat 2.9)."""
        return _STRENGTH.get(self.version, 1) < _STRENGTH.get(other.version, 1)

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}, {self.identity}" if self.protected else "without security"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the far end of a connection whose handshake is done.

    Attributes:
        principal: who it proved to be.
        security: what protects the connection.
    """

    principal: Principal
    security: ChannelSecurity = ChannelSecurity()


@dataclass(frozen=True, slots=True)
class Far:
    """An element a session speaks with, or is to speak with.

    Attributes:
        element: which one; its PE identifier is 0 where an address was all that was given.
        security: what protects the connection with it.
    """

    element: PoolElement
    security: ChannelSecurity


@dataclass(frozen=True, slots=True)
class Failover:
    """A session is about to go on at another element; nothing has been sent to it yet (threat 2.9).

    Attributes:
        old: the element that is lost, and what protected the connection with it.
        new: the element that is to take over, its identity verified.
        reason: why the old one is lost.
        cookie: whether the session has a cookie, which the new element gets first.
    """

    old: Far
    new: Far
    reason: str
    cookie: bool


# -- what the application is told


@dataclass(frozen=True, slots=True)
class ElementLost:
    """An element cannot be reached, is not who it should be, or has hung up; the session seeks another if it may."""

    element: PoolElement
    reason: str


@dataclass(frozen=True, slots=True)
class ElementRemoved:
    """The session's element is not in the pool any more. The connection goes on for as long as it lasts."""

    element: PoolElement


@dataclass(frozen=True, slots=True)
class Unsent:
    """Messages that may not go to another element, and were not sent to the lost one (RFC 5352 6.5.5, 6.7)."""

    element: PoolElement
    messages: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class FailedOver:
    """The session goes on at another element; the application has agreed."""

    failover: Failover


SessionEvent = ElementLost | ElementRemoved | Unsent | FailedOver


# -- what is to be done


@dataclass(frozen=True, slots=True)
class Resolve:
    """Say which elements the pool has: the answer is ``resolved`` or ``unresolved``.

    Attributes:
        fresh: ask a registrar, whatever is remembered.
    """

    fresh: bool


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to an element; the answer is ``connected`` or ``not_connected``.

    Attributes:
        deadline: seconds until it has failed, TLS handshake included.
    """

    attempt: Attempt
    element: PoolElement
    deadline: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the application; the answer is ``agreed`` or ``declined``."""

    attempt: Attempt
    failover: Failover


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send octets over a connection."""

    attempt: Attempt
    octets: bytes


@dataclass(frozen=True, slots=True)
class EndData:
    """Say on a connection that nothing more will be sent; what the far end says is still read."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class HangUp:
    """End a connection, or give up opening it; nothing more is told of it.

    Attributes:
        abort: at once, without sending what is queued.
    """

    attempt: Attempt
    abort: bool


@dataclass(frozen=True, slots=True)
class Suspect:
    """The element is out of the pool: have the system find out soon whether the connection is dead."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Report:
    """Tell a registrar that an element cannot be reached (RFC 5352 3.5)."""

    element: PoolElement


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give the application what the element has sent."""

    element: PoolElement
    octets: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the application what has happened."""

    event: SessionEvent


class Ending(Enum):
    """How a session ends."""

    CLOSED = "closed"
    """By the application."""
    FINISHED = "finished"
    """The element has said all it had to say."""
    LOST = "lost"
    """The element is lost, and the session may not fail over."""
    NO_ELEMENT = "no element"
    """No element could be reached, or none that the application agreed to."""
    UNRESOLVED = "unresolved"
    """The pool's handle could not be resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The session is over.

    Attributes:
        how: how it ended.
        reason: one line for people.
        failure: why the handle could not be resolved, if that was it.
        element: the element that was lost, if there was one.
        unsent: messages that were not sent.
    """

    how: Ending
    reason: str
    failure: Failure | None = None
    element: PoolElement | None = None
    unsent: tuple[bytes, ...] = ()


SessionEffect = Resolve | Dial | Ask | Transmit | EndData | HangUp | Suspect | Report | Deliver | Tell | Ended
