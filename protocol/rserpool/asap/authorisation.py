# SPDX-License-Identifier: Apache-2.0
"""Who is at the far end, what it wants to do, and the question whether it may.

The machines ask; the answers are pure functions of :mod:`rserpool.identity`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Role(Enum):
    """What a credential makes of its holder. It is never claimed by the peer (threats 2.4, 2.5)."""

    REGISTRAR = "registrar"
    ELEMENT = "element"
    USER = "user"
    ANONYMOUS = "anonymous"
    """No certificate: may resolve where the pool allows it, nothing else."""
    UNVERIFIED = "unverified"
    """A scope without security: nobody is verified, everybody is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who the peer proved to be.

    Attributes:
        role: what its credential makes of it.
        name: what limits are counted by and logs show: the URI of its certificate, or its address.
        pe_identifiers: the identifiers its certificate allows it as an element; empty where nothing was proved.
        serial: its certificate's serial number; 0 without one. The same holder has another one after each renewal, so
            this and the times do not make it somebody else.
        not_before, not_after: when its certificate is valid, in Unix time, seconds; both 0 without one.
    """

    role: Role
    name: str
    pe_identifiers: frozenset[int] = frozenset()
    serial: int = field(default=0, compare=False)
    not_before: float = field(default=0.0, compare=False)
    not_after: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        return self.name


class Action(Enum):
    """What a peer asks for."""

    REGISTER = "register"
    DEREGISTER = "deregister"
    RESOLVE = "resolve"
    REPORT = "report an element unreachable"
    ACKNOWLEDGE = "answer for an element"
    PEER = "take part as a registrar"
    HOME = "act as a registrar towards an element"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not.

    Attributes:
        threat: section of the threats document the refusal answers, such as ``2.3``.
        reason: one line for the log.
    """

    threat: str
    reason: str


class Authoriser(Protocol):
    """Decides; pure."""

    def may(
        self, principal: Principal, action: Action, pool_handle: bytes | None = None, pe_identifier: int | None = None
    ) -> Denial | None:
        """Whether ``principal`` may do ``action``, to that element of that pool where one is concerned.

        Returns:
            ``None`` if it may, else why not.
        """
