# SPDX-License-Identifier: Apache-2.0
"""What the API server answers, read as it means it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from rserpool_operator.kube import Kube
from rserpool_operator.kube.kinds import SERVER_POOL


@pytest.mark.parametrize("answer", [{"items": None}, {"items": []}, {}])
def test_a_list_of_nothing_is_empty_however_the_api_server_writes_it(answer: dict[str, Any]) -> None:
    """Metadata-only lists of nothing come with a null."""
    response = Mock(status=200, read=AsyncMock(return_value=json.dumps(answer).encode()))
    api = Mock(param_serialize=AsyncMock(return_value=()), call_api=AsyncMock(return_value=response))
    assert asyncio.run(Kube(api).list(SERVER_POOL, metadata_only=True)) == []
