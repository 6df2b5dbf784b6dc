# SPDX-License-Identifier: Apache-2.0
"""What a pool user's session has to send and could not yet: bounded, taken out in pieces (RFC 5352 6.5.1, 6.5.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rserpool.session.sending import SendOptions

PIECE: Final = 65536
"""Octets given to the transport at a time: what is not given is not lost with the connection."""


class QueueFull(Exception):  # noqa: N818 - the client has an error for people
    """What cannot be sent yet is bounded, and there is no room for more."""


@dataclass(slots=True)
class Message:
    """One message.

    Attributes:
        octets: its content.
        may_move: whether it may go to another element than it was meant for; ``None``: as the session says.
        at: how much of it has been given to the connection.
    """

    octets: bytes
    may_move: bool | None
    at: int = 0


class Backlog:
    """Messages in order.

    Args:
        messages, octets: how many may wait.
    """

    def __init__(self, messages: int, octets: int) -> None:
        self._most_messages = messages
        self._most_octets = octets
        self._queue: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def octets(self) -> int:
        """Octets that no connection has been given yet."""
        return sum(len(m.octets) - m.at for m in self._queue)

    @property
    def insists(self) -> bool:
        """Whether a message is here that says itself that it may go to another element."""
        return any(m.may_move for m in self._queue)

    def put(self, octets: bytes, options: SendOptions, *, flowing: bool) -> None:
        """Take a message.

        Args:
            octets: its content.
            options: say whether it may go to another element.
            flowing: a connection takes what is here: a message may be of any length then, if it is the only one.

        Raises:
            QueueFull: there is no room for it.
        """
        if self._queue or not flowing:
            if len(self._queue) >= self._most_messages:
                raise QueueFull(f"{len(self._queue)} messages wait to be sent")
            if self.octets + len(octets) > self._most_octets:
                raise QueueFull(f"{self.octets} octets wait to be sent, {len(octets)} more are too many")
        self._queue.append(Message(octets, _may_move(options)))

    def take(self) -> bytes:
        """The next piece of the first message; the last piece takes the message out."""
        message = self._queue[0]
        piece = message.octets[message.at : message.at + PIECE]
        message.at += len(piece)
        if message.at == len(message.octets):
            self._queue.popleft()
        return piece

    def rewind(self) -> None:
        """The connection is another one: a message that the former one was given in part is sent as a whole."""
        for message in self._queue:
            message.at = 0

    def remove(self, which: Callable[[Message], bool]) -> tuple[bytes, ...]:
        """Take such messages out; returns their contents."""
        removed = tuple(m.octets for m in self._queue if which(m))
        if removed:
            self._queue = deque(m for m in self._queue if not which(m))
        return removed


def _may_move(options: SendOptions) -> bool | None:
    if SendOptions.SEND_NO_FAILOVER in options:
        return False
    return True if SendOptions.SEND_FAILOVER in options else None
