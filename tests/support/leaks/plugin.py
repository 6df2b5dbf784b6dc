# SPDX-License-Identifier: Apache-2.0
"""Fails a test after which any output tells a secret; in what pytest shows then, the lines with it are withheld."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

import pytest

from support.leaks.guard import GUARD, Leak
from support.leaks.learning import exception_text, install

MOST_SHOWN: Final = 10
_SEARCHED: Final = pytest.StashKey[int]()

install()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search what this phase of the test has written."""
    report = yield
    if call.when == "setup" and report.passed:
        return report  # what was written is searched after the test; failed now, it would not run
    if call.when == "teardown" and isinstance(folder := getattr(item, "funcargs", {}).get("tmp_path"), Path):
        GUARD.sweep(folder)
    leaks = [*GUARD.search(), *_in_sections(item, report), *_in_failure(call, report)]
    if leaks:
        _fail(item, report, leaks)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    """A warning is shown at the end: one that tells a secret says no more, and the next test fails of it."""
    said = str(warning_message.message)
    GUARD.note(f"a warning in {nodeid}", said)
    if GUARD.leaks("", said):
        warning_message.message = UserWarning("(a warning with a secret)")


def _in_sections(item: pytest.Item, report: pytest.TestReport) -> list[Leak]:
    begin = item.stash.get(_SEARCHED, 0)
    item.stash[_SEARCHED] = len(report.sections)
    return [leak for name, text in report.sections[begin:] for leak in GUARD.leaks(name, text)]


def _in_failure(call: pytest.CallInfo[None], report: pytest.TestReport) -> list[Leak]:
    """What the product raised. What the test itself compares may be anything."""
    if call.excinfo is None or isinstance(call.excinfo.value, AssertionError) or not report.failed:
        return []
    return GUARD.leaks("the exception that ended the test", exception_text(call.excinfo.value))


def _fail(item: pytest.Item, report: pytest.TestReport, leaks: Sequence[Leak]) -> None:
    shown = "\n".join(f"  {leak}" for leak in leaks[:MOST_SHOWN])
    more = f"\n  and {len(leaks) - MOST_SHOWN} more" if len(leaks) > MOST_SHOWN else ""
    failure = f"\n\nIt had failed before:\n{GUARD.known.hidden(report.longreprtext)}" if report.failed else ""
    report.outcome = "failed"
    report.longrepr = f"A secret is told (it is not repeated here):\n{shown}{more}{failure}"
    report.sections = [(name, GUARD.known.hidden(text)) for name, text in report.sections]
    sections = item._report_sections
    sections[:] = [(when, key, GUARD.known.hidden(text)) for when, key, text in sections]
