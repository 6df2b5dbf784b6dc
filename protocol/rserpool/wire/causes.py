# SPDX-License-Identifier: Apache-2.0
"""Error causes: the contents of an Operation Error parameter (RFC 5354 3.12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rserpool.wire.codes import CauseCode, name_of_cause

_HEADER: Final = struct.Struct("!HH")
MAX_CAUSE_INFO: Final = 65535 - 4 - 4 - 4 - 8
"""Longest information that still fits into a cause in an Operation Error in an ENRP message."""


@dataclass(frozen=True, slots=True)
class ErrorCause:
    """One cause of an Operation Error.

    Attributes:
        code: a :class:`CauseCode`, or any other 16 bit number a peer sent.
        info: cause-specific information, verbatim: a whole parameter or message for most codes, empty for the others.
    """

    code: int
    info: bytes = b""

    def __str__(self) -> str:
        return name_of_cause(self.code)


def unrecognized_parameter(raw: bytes) -> ErrorCause:
    """Cause 0x1 with the complete parameter (RFC 5354 3.12.2)."""
    return ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, raw[:MAX_CAUSE_INFO])


def unrecognized_message(raw: bytes) -> ErrorCause:
    """Cause 0x2 with the complete message, cut where it would not fit into an answer (RFC 5354 3.12.3)."""
    return ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE, raw[:MAX_CAUSE_INFO])


def invalid_values(raw: bytes = b"") -> ErrorCause:
    """Cause 0x3 with the offending parameter (RFC 5354 3.12.4)."""
    return ErrorCause(CauseCode.INVALID_VALUES, raw[:MAX_CAUSE_INFO])
