# SPDX-License-Identifier: Apache-2.0
"""How a message is to be sent to a pool: the options of DataSendRequest, and whom they choose (RFC 5352 6.5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Flag
from typing import Final

from rserpool.wire import PoolElement

Choose = Callable[[Collection[int]], PoolElement | None]
"""The pool's policy: the next element that is none of these."""


class SendOptions(Flag):
    """Options of one message, combined by ``|`` (RFC 5352 6.5.5)."""

    USE_DEFAULT = 0x0000
    SEND_FAILOVER = 0x0001
    """If the element cannot be reached, send the message to another one."""
    SEND_NO_FAILOVER = 0x0002
    """If the element cannot be reached, give the message back."""
    SEND_TO_LAST = 0x0004
    """To the element that got the pool's last message, instead of the one that is the policy's turn."""
    SEND_TO_ALL = 0x0008
    """A copy to every element of the pool but this process itself."""
    SEND_TO_SELF = 0x0010
    """With :attr:`SEND_TO_ALL`: a copy to this process too, if it is an element of the pool."""
    UNORDERED = 0x1000
    """Without order among messages; no transport of this version can do that."""


_CONTRADICTIONS: Final = (
    (SendOptions.SEND_FAILOVER | SendOptions.SEND_NO_FAILOVER, "fail over or not: write one of them"),
    (SendOptions.SEND_TO_ALL | SendOptions.SEND_TO_LAST, "to all or to the last: write one of them"),
)


def check(options: SendOptions) -> None:
    """See that options mean something together.

    Raises:
        ValueError: they do not; the text says what to write.
    """
    if SendOptions.UNORDERED in options:
        raise ValueError("UNORDERED: TCP and TLS keep messages in order; leave it out")
    for both, advice in _CONTRADICTIONS:
        if both in options:
            raise ValueError(f"{advice} ({options})")
    if SendOptions.SEND_TO_SELF in options and SendOptions.SEND_TO_ALL not in options:
        raise ValueError("SEND_TO_SELF is an addition to SEND_TO_ALL: write both, or neither")


def check_within_session(options: SendOptions) -> None:
    """As :func:`check`, for a message of a session, which has one far end.

    Raises:
        ValueError: the options mean nothing, or they mean others than the session's element.
    """
    check(options)
    if SendOptions.SEND_TO_ALL in options:
        raise ValueError("SEND_TO_ALL: a session speaks with one element; use PoolUser.send to send to all of a pool")


def recipients(
    options: SendOptions, elements: Sequence[PoolElement], choose: Choose, last: int | None, own: int | None
) -> list[PoolElement]:
    """Whom a message to a pool handle goes to (RFC 5352 6.5.1, 6.5.2, 6.5.5).

    Args:
        options: as the application gave them.
        elements: all that are known of the pool.
        choose: the pool's policy.
        last: PE identifier of the element that got the last message to the pool.
        own: PE identifier of this process, if it is an element of the pool itself.

    Returns:
        Nobody if there is nobody.
    """
    if SendOptions.SEND_TO_ALL in options:
        with_self = SendOptions.SEND_TO_SELF in options
        return [e for e in elements if with_self or e.identifier != own]
    if SendOptions.SEND_TO_LAST in options:
        found = next((e for e in elements if e.identifier == last), None)
        if found is not None:
            return [found]
    chosen = choose(())
    return [] if chosen is None else [chosen]
