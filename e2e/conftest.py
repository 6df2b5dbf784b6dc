# SPDX-License-Identifier: Apache-2.0
"""Fixtures and hooks of the end-to-end tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness.plugin import (
    _nodes_are_repaired,
    cluster,
    namespace,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

__all__ = [
    "_nodes_are_repaired",
    "cluster",
    "namespace",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
]
