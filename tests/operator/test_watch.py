# SPDX-License-Identifier: Apache-2.0
"""How objects are looked at through kopf, by a server that answers as the API server does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web

from rserpool_operator.watch import CHUNK, own_watcher

SECRETS: Final = 2 * CHUNK + 1


class ApiServer:
    """Has many Secrets and nothing else.

    Attributes:
        asked: how many of them were asked for at once, question by question.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._over = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if request.path in ("/api", "/apis"):
            return web.json_response({"versions": ["v1"], "groups": []})
        if request.path == "/api/v1":
            verbs = ["get", "list", "watch", "patch"]
            kinds = {"Secret": True, "Namespace": False}  # kopf waits until it knows what a namespace is
            found = [
                {"name": f"{k.lower()}s", "singularName": k.lower(), "kind": k, "namespaced": n, "verbs": verbs}
                for k, n in kinds.items()
            ]
            return web.json_response({"groupVersion": "v1", "resources": found})
        if "watch" in query:
            response = web.StreamResponse()
            await response.prepare(request)
            await self._over.wait()
            return response
        self.asked.append(query.get("limit", "all"))
        begin = int(query.get("continue") or 0)
        end = min(SECRETS, begin + int(query.get("limit") or SECRETS))
        items = [
            {"metadata": {"name": f"s{n}", "namespace": "demo", "uid": f"{n}", "resourceVersion": "1"}}
            for n in range(begin, end)
        ]
        metadata = {"resourceVersion": "1", "continue": str(end) if end < SECRETS else ""}
        return web.json_response({"kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": items})

    def close(self) -> None:
        self._over.set()


def test_what_is_there_at_the_start_is_asked_for_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, 5,000 pods would be more than the operator's memory."""
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert asyncio.run(_asked_for_all(config)) == [str(CHUNK)] * 3


async def _asked_for_all(config: Path) -> list[str]:
    """How many were asked for at once until all were seen."""
    server, names, everything = ApiServer(), set[str](), asyncio.Event()

    def seen(plural: str, _kind: str, body: Mapping[str, Any]) -> None:
        assert plural == "secrets"
        names.add(body["metadata"]["name"])
        if len(names) == SECRETS:
            everything.set()

    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    named = {"name": "it", "cluster": {"server": f"http://{host}:{port}"}, "user": {"token": "none"}}
    contexts = [{"name": "it", "context": {"cluster": "it", "user": "it"}}]
    config.write_text(
        yaml.safe_dump({"clusters": [named], "users": [named], "contexts": contexts, "current-context": "it"})
    )
    watcher = own_watcher("demo", seen, asyncio.get_running_loop())
    watcher.start()
    try:
        async with asyncio.timeout(30):
            await everything.wait()
    finally:
        watcher.stop()
        server.close()
        await runner.cleanup()
    return server.asked
