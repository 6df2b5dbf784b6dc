# SPDX-License-Identifier: Apache-2.0
"""An operator over real TLS: enrols, renews, and says over the control channel what a test has it say."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rserpool.authority import EmbeddedAuthority
from rserpool.daemon.control_channel import CONTROL
from rserpool.daemon.enrolment import refusal
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import read_leaf
from rserpool.pool.model import ServerPool
from rserpool.transport.http import Request, Response, Routes
from support.rig_identity import TOKEN, EnrolmentServer

Tables = Mapping[str, Mapping[str, object]]
PATIENCE = 9.0
"""Our own HTTP server lets no connection be silent for longer."""


class OperatorServer(EnrolmentServer):
    """The operator's server.

    Attributes:
        says: part -> what it is, with its version; given to whoever has loaded another one.
        asked: the questions, in order, each with the time it came.
        given: answered instead, one after the other, whatever was asked.
        waits: lets a registrar wait for news, as it asks to.
    """

    def __init__(self, ca: EmbeddedAuthority, *, tokens: dict[str, LeafIdentity] | None = None) -> None:
        super().__init__(ca, tokens=tokens)
        self.says: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[float, dict[str, Any]]] = []
        self.showed: list[LeafIdentity] = []
        self.given: deque[Response] = deque()
        self.waits = True
        self._news = asyncio.Event()
        self._came = asyncio.Event()

    def routes(self) -> Routes:
        return {**super().routes(), ("POST", CONTROL): self._control}

    def say(self, **parts: dict[str, Any]) -> None:
        """Say something else from now on."""
        self.says |= parts
        self._news.set()

    def settings(self, version: str, tables: Tables) -> None:
        self.say(settings={"version": version, "tables": tables})

    @property
    def last(self) -> dict[str, Any]:
        """The last question."""
        return self.asked[-1][1]

    async def until(self, wanted: Any) -> dict[str, Any]:
        """Wait for a question of that kind, from now on or the last one."""
        while not (self.asked and wanted(self.last)):
            self._came.clear()
            await self._came.wait()
        return self.last

    async def _control(self, request: Request) -> Response:
        try:
            self.showed.append(read_leaf(request.certificate or b"").identity)
        except IdentityError:
            return refusal(401, "Unauthorized", "the control channel takes a certificate of the pool")
        question = json.loads(request.body)
        self.asked.append((asyncio.get_running_loop().time(), question))
        self._came.set()
        if self.given:
            return self.given.popleft()
        parts = self._news_for(question)
        if not parts and question["wait"] and self.waits:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(question["wait"], PATIENCE)):
                    await self._news.wait()
            parts = self._news_for(question)
        return Response(body=json.dumps(parts).encode(), content_type="application/json")

    def _news_for(self, question: dict[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in self.says.items() if part["version"] != question["loaded"][name]}


def environment(server: EnrolmentServer, directory: Path, address: object, uid: str, **more: object) -> dict[str, str]:
    """What the pod template gives a container."""
    (directory / "token").write_text(TOKEN)
    return {
        "RSERPOOL_POOL_NAMESPACE": "demo",
        "RSERPOOL_POOL_NAME": "echo",
        "RSERPOOL_NETWORK_ADDRESS": str(address),
        "RSERPOOL_SECURITY_POD_UID": uid,
        "RSERPOOL_SECURITY_URL": server.url,
        "RSERPOOL_SECURITY_AUTHORITY": server.installation.bundle.decode(),
        "RSERPOOL_SECURITY_TOKEN_FILE": str(directory / "token"),
        "RSERPOOL_SECURITY_DIRECTORY": str(directory / "identity"),
        "RSERPOOL_OPERATOR_URL": server.url,
        "RSERPOOL_CONTROL_SOCKET": str(directory / "identity" / "control.sock"),
        **{f"RSERPOOL_{name}".upper(): str(value) for name, value in more.items()},
    }


def server_pool(**elements: object) -> ServerPool:
    """A ServerPool demo/echo."""
    return ServerPool.model_validate(
        {
            "apiVersion": "rserpool.io/v1alpha1",
            "kind": "ServerPool",
            "metadata": {"name": "echo", "namespace": "demo"},
            "spec": {"elements": {"port": 7007, **elements}},
        }
    )
