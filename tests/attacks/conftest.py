# SPDX-License-Identifier: Apache-2.0
"""What all attacks share: the figures they measure are printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from attacks.kit.figures import record_with


@pytest.fixture(autouse=True)
def _figures(record_property: Callable[[str, object], None]) -> Iterator[None]:
    stop = record_with(record_property)
    yield
    stop()
