# SPDX-License-Identifier: Apache-2.0
"""The long part of the simulator runs only where it is asked for: ``make test-sim``, or ``pytest -m simulation``."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "simulation" in config.getoption("-m"):
        return
    long = [item for item in items if item.get_closest_marker("simulation")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
