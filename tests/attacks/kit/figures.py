# SPDX-License-Identifier: Apache-2.0
"""Where measured figures go: into the report of the test that runs, which prints them when all tests are done."""

from __future__ import annotations

from collections.abc import Callable

_recorders: list[Callable[[str, object], None]] = []


def record_with(recorder: Callable[[str, object], None]) -> Callable[[], None]:
    """Let a test's recorder take all figures until what is returned is called."""
    _recorders.append(recorder)
    return lambda: _recorders.remove(recorder)


def figure(text: str) -> None:
    """Report a figure."""
    for recorder in _recorders:
        recorder("figure", text)
