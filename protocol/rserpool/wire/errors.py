# SPDX-License-Identifier: Apache-2.0
"""The two exceptions of the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rserpool.wire.causes import ErrorCause


class DecodeError(ValueError):
    """Octets that are not one well-formed message.

    Attributes:
        offset: octets from the start of the message to where the fault begins.
        reason: what is wrong there, in one line without a line break.
        causes: what RFC 5354 3 and 4 want reported to the sender; empty where the message is to be dropped silently.
        message_type: the type octet of the message, if that much was there.
        pool_handle, pe_identifier: what the message named, as far as it could be read, so that a request can be
            answered by its own response (RFC 5352 2.2.3).
    """

    def __init__(self, offset: int, reason: str, causes: tuple[ErrorCause, ...] = ()) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason
        self.causes = causes
        self.message_type: int | None = None
        self.pool_handle: bytes | None = None
        self.pe_identifier: int | None = None

    def __str__(self) -> str:
        return f"offset {self.offset}: {self.reason}"


class EncodeError(ValueError):
    """A message that has no form on the wire: a number out of its range, or more than 65535 octets."""
