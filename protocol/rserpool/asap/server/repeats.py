# SPDX-License-Identifier: Apache-2.0
"""What is said again in the same octets, read and written once.

An element that registers again repeats its ASAP_REGISTRATION, and its home the ENRP_HANDLE_UPDATE about it, octet for
octet; at rest nothing else needs reading or writing. One message of each element of the handlespace is kept, and only
if it was accepted: strangers cannot fill this.
"""

from __future__ import annotations

from typing import Final

from rserpool.handlespace import ElementKey
from rserpool.wire import Decoded, Dialect, PoolElement, Ppid, UpdateAction, decode_and_report, encode, enrp

LONGEST: Final = 512
"""Octets of a message that is kept; with one address and any policy it is a quarter of that."""


class Repeats:
    """The latest message about each element, with what it means."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._read: dict[tuple[Ppid, bytes], Decoded] = {}
        self._about: dict[ElementKey, tuple[Ppid, bytes]] = {}
        self._announced: dict[ElementKey, tuple[PoolElement, bytes]] = {}

    def __len__(self) -> int:
        return len(self._read)

    def read(self, octets: bytes, ppid: Ppid) -> Decoded:
        """Read a message, as :func:`~rserpool.wire.decode_and_report` does.

        Raises:
            DecodeError: it is not well formed.
        """
        return self._read.get((ppid, octets)) or decode_and_report(octets, ppid, self._dialect)

    def keep(self, key: ElementKey, octets: bytes, ppid: Ppid, decoded: Decoded) -> None:
        """Remember a message about an element of the handlespace, in place of the one before."""
        said = (ppid, octets)
        if said in self._read:
            return
        self._unread(key)
        if len(octets) <= LONGEST:
            self._read[said] = decoded
            self._about[key] = said

    def forget(self, key: ElementKey) -> None:
        """An element has left the handlespace."""
        self._announced.pop(key, None)
        self._unread(key)

    def announcement(self, sender: int, handle: bytes, element: PoolElement) -> bytes:
        """The ENRP_HANDLE_UPDATE by which a home tells its peers of an element of the handlespace (RFC 5353 2.5)."""
        key = (handle, element.identifier)
        known = self._announced.get(key)
        if known is None or known[0] is not element:
            action = UpdateAction.ADD_PE
            update = enrp.HandleUpdate(sender=sender, action=action, pool_handle=handle, element=element)
            known = self._announced[key] = (element, encode(update, self._dialect))
        return known[1]

    def _unread(self, key: ElementKey) -> None:
        said = self._about.pop(key, None)
        if said is not None:
            del self._read[said]
