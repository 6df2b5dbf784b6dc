# SPDX-License-Identifier: Apache-2.0
"""What commands raise when they cannot do what was asked."""

from __future__ import annotations


class CommandError(Exception):
    """A failure that is the user's to mend: the text is one line, says what is wrong and what to do.

    Attributes:
        status: the exit status of the command.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
