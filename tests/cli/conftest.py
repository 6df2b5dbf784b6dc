# SPDX-License-Identifier: Apache-2.0
"""One pool for all commands that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.rig_model import RunningPool, in_background, runtime_folder, server_pool


@pytest.fixture(scope="package")
def pool() -> Iterator[RunningPool]:
    """A secure pool of two registrars and three elements that commands find by themselves."""
    with runtime_folder(), in_background(server_pool(registrars={"replicas": 2}), 3) as (found, _):
        yield found


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    """No pool runs on this machine."""
    with runtime_folder():
        yield
