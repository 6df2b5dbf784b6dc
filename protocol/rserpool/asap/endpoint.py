# SPDX-License-Identifier: Apache-2.0
"""What elements and users have in common: they read ASAP from registrars, and tell them what they cannot read."""

from __future__ import annotations

from abc import abstractmethod
from random import Random
from typing import Final

from rserpool.asap.answers import bounded
from rserpool.asap.effects import Association
from rserpool.asap.events import Ignored, Malformed
from rserpool.asap.limits import Buckets, Rate
from rserpool.asap.machine import Desk, MachineBase
from rserpool.wire import AsapType, DecodeError, Dialect, ErrorCause, Message, Ppid, asap, decode_and_report, name_of

ERRORS: Final = Rate(10, 10)
"""ASAP_ERRORs sent over one association."""


class EndpointMachine(MachineBase):
    """The machine of a pool element or a pool user."""

    def __init__(self, dialect: Dialect, rng: Random) -> None:
        super().__init__(Desk(rng, dialect))
        self._errors = Buckets(ERRORS, most=64)

    def _received(self, association: Association, octets: bytes) -> None:
        try:
            decoded = decode_and_report(octets, Ppid.ASAP, self.desk.dialect)
        except DecodeError as e:
            self.desk.emit(Malformed(peer=str(association), offset=e.offset, reason=e.reason))
            if e.message_type != AsapType.ERROR:
                self._report(association, e.causes, len(octets))
            return
        if isinstance(decoded.message, asap.AsapError):  # never answered by an error
            self._ignore(association, "ASAP_ERROR", ", ".join(str(c) for c in decoded.message.error))
            return
        if not self._understood(association, decoded.message):
            self._ignore(association, name_of(decoded.message), f"not for a pool {type(self).__name__.lower()}")
        self._report(association, decoded.reports, len(octets))

    @abstractmethod
    def _understood(self, association: Association, message: Message) -> bool:
        """Handle a message; returns False if it is none for this role."""

    def _report(self, association: Association, causes: tuple[ErrorCause, ...], length: int) -> None:
        if causes and self._errors.take(association.id, self.desk.now):
            self.desk.send(association.id, asap.AsapError(error=bounded(causes, length)))

    def _ignore(self, association: Association, what: str, reason: str) -> None:
        self.desk.emit(Ignored(peer=str(association), what=what, reason=reason))
