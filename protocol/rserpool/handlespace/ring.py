# SPDX-License-Identifier: Apache-2.0
"""The circular list with a head that the round robin policies walk (RFC 5356 4.1.2)."""

from __future__ import annotations


class Ring:
    """Identifiers in the order they joined, and a head; the head stays on its element while others come and go."""

    __slots__ = ("_head", "_members")

    def __init__(self) -> None:
        self._members: list[int] = []
        self._head = 0

    def add(self, member: int) -> None:
        """Append a new member at the end of the round: just before the head."""
        if self._head == 0:
            self._members.append(member)
        else:
            self._members.insert(self._head, member)
            self._head += 1

    def remove(self, member: int) -> None:
        """Take a member out; if it was the head, the next one is."""
        at = self._members.index(member)
        del self._members[at]
        if at < self._head:
            self._head -= 1
        if self._head >= len(self._members):
            self._head = 0

    def from_head(self) -> list[int]:
        """All members, beginning with the head."""
        return self._members[self._head :] + self._members[: self._head]

    def advance(self) -> None:
        """Move the head on by one."""
        if self._members:
            self._head = (self._head + 1) % len(self._members)
