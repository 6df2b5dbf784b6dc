# SPDX-License-Identifier: Apache-2.0
"""What every test may need: programs that may be missing, and where the test data lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.leaks.plugin import pytest_runtest_makereport, pytest_warning_recorded

__all__ = ["pytest_runtest_makereport", "pytest_warning_recorded"]

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tool"):
        name = marker.args[0]
        if shutil.which(name) is None:
            reason = f"{name} is not installed: {marker.kwargs['hint']}"
            if os.environ.get("CI"):
                pytest.fail(f"{reason} (with CI set, a missing tool is a failure)", pytrace=False)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have measured, also those of tests that passed."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)]
    figures = [value for r in reports if r.when == "call" for name, value in r.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(str(figure))


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent
