# SPDX-License-Identifier: Apache-2.0
"""What can go wrong for a pool user, told apart."""

from __future__ import annotations

from rserpool.asap.events import Failure


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
    """The pool has elements, but none of them could be reached."""


BY_FAILURE = {
    Failure.NO_REGISTRAR: NoRegistrarError,
    Failure.UNKNOWN_POOL: UnknownPoolError,
    Failure.REFUSED: RefusedError,
    Failure.TIMEOUT: NoAnswerError,
}
