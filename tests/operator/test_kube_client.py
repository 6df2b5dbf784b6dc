# SPDX-License-Identifier: Apache-2.0
"""What the API server answers, read as it means it."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from rserpool_operator.kube import Kube
from rserpool_operator.kube.client import client_of
from rserpool_operator.kube.kinds import SERVER_POOL


class NoThreads(ThreadPoolExecutor):
    """Refuses all work."""

    def submit(self, fn: Any, /, *_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError(f"a thread for {fn}")


def test_a_request_takes_no_thread() -> None:
    """A .netrc and a proxy would be looked for before each, in threads."""

    async def answer(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response({"kind": "ServerPool", "metadata": {"name": request.path.rpartition("/")[2]}})

    async def ask() -> Any:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        async with TestServer(app) as server:
            asyncio.get_running_loop().set_default_executor(NoThreads())
            async with client_of(Configuration(host=f"http://127.0.0.1:{server.port}")) as api:
                return await Kube(api).get(SERVER_POOL, "demo", "echo")

    assert asyncio.run(ask())["metadata"]["name"] == "echo"


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "other.example,10.96.0.1"}, None),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": ".cluster.local"}, "http://proxy.example:3128"),
        ({"http_proxy": "http://proxy.example:3128"}, None),
    ],
)
def test_a_proxy_is_used_that_the_environment_names_for_the_api_server(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async def proxy_of() -> str | None:
        configuration = Configuration(host="https://10.96.0.1:443")
        async with client_of(configuration):
            return str(configuration.proxy) if configuration.proxy else None

    assert asyncio.run(proxy_of()) == proxy


def test_a_proxy_of_the_login_goes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")

    async def proxy_of() -> str | None:
        configuration = Configuration(host="https://10.96.0.1:443", proxy="http://login.example:3128")
        async with client_of(configuration):
            return str(configuration.proxy) if configuration.proxy else None

    assert asyncio.run(proxy_of()) == "http://login.example:3128"


@pytest.mark.parametrize("answer", [{"items": None}, {"items": []}, {}])
def test_a_list_of_nothing_is_empty_however_the_api_server_writes_it(answer: dict[str, Any]) -> None:
    """Metadata-only lists of nothing come with a null."""
    response = Mock(status=200, read=AsyncMock(return_value=json.dumps(answer).encode()))
    api = Mock(param_serialize=AsyncMock(return_value=()), call_api=AsyncMock(return_value=response))
    assert asyncio.run(Kube(api).list(SERVER_POOL, metadata_only=True)) == []
