# SPDX-License-Identifier: Apache-2.0
"""On which event loops the tests of real connections run."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from support import rig_transport


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def either_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loops a daemon may run on, for whatever is marked ``plays``."""
    monkeypatch.setattr(rig_transport, "loop_factory", request.param)
