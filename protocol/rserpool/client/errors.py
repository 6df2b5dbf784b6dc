# SPDX-License-Identifier: Apache-2.0
"""What can go wrong for a pool user, told apart."""

from __future__ import annotations

from rserpool.asap.events import Failure
from rserpool.wire import PoolElement


class PoolUserError(Exception):
    """Base of them all; the text is one line and says what was tried."""


class NoRegistrarError(PoolUserError):
    """No registrar could be reached, or none that proved to be one of the pool's."""


class UnknownPoolError(PoolUserError):
    """There is no pool with this handle: nobody is registered in it."""


class RefusedError(PoolUserError):
    """The registrar will not answer this user."""


class NoAnswerError(PoolUserError):
    """Registrars were asked, and none answered in time."""


class NoElementError(PoolUserError):
    """The pool has elements, but none of them could be reached and believed."""


class QueueFullError(PoolUserError):
    """As much waits to be sent as may: wait until the session has an element again, or send less."""


class SessionLostError(PoolUserError):
    """A session has lost its element, and no other could or was to take its place.

    Attributes:
        element: the one that was lost.
        unsent: messages that were not sent to any element (RFC 5352 6.5.5).
    """

    def __init__(self, text: str, element: PoolElement | None = None, unsent: tuple[bytes, ...] = ()) -> None:
        super().__init__(text)
        self.element = element
        self.unsent = unsent


class SessionClosedError(PoolUserError):
    """The session was closed, or has said that it has no more to say: open another one."""


BY_FAILURE = {
    Failure.NO_REGISTRAR: NoRegistrarError,
    Failure.UNKNOWN_POOL: UnknownPoolError,
    Failure.REFUSED: RefusedError,
    Failure.TIMEOUT: NoAnswerError,
}
