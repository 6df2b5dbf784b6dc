# SPDX-License-Identifier: Apache-2.0
"""What is said again in the same octets, read once.

An element that registers again repeats its ASAP_REGISTRATION, and its home the ENRP_HANDLE_UPDATE about it, octet for
octet; at rest nothing else needs reading. One message of each element of the handlespace is kept, and only if it was
accepted: strangers cannot fill this.
"""

from __future__ import annotations

from typing import Final

from rserpool.handlespace import ElementKey
from rserpool.wire import Decoded, Dialect, Ppid, decode_and_report

LONGEST: Final = 512
"""Octets of a message that is kept; with one address and any policy it is a quarter of that."""


class Repeats:
    """The latest message about each element, with what it means."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._read: dict[tuple[Ppid, bytes], Decoded] = {}
        self._about: dict[ElementKey, tuple[Ppid, bytes]] = {}

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
        self.forget(key)
        if len(octets) <= LONGEST:
            self._read[said] = decoded
            self._about[key] = said

    def forget(self, key: ElementKey) -> None:
        """An element has left the handlespace."""
        said = self._about.pop(key, None)
        if said is not None:
            del self._read[said]
