# SPDX-License-Identifier: Apache-2.0
"""Registrars and sidecars as processes, told by an operator what counts no longer: its own board, over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.daemon.control_channel import CONTROL
from rserpool.daemon.enrolment import Enrolled, refusal
from rserpool.daemon.settings import render
from rserpool.identity.certificates import Leaf as ReadLeaf
from rserpool.identity.certificates import leaf_of, read_leaf
from rserpool.identity.revoked import LEAF_REVOKED
from rserpool.pool import read_manifests
from rserpool.pool.settings import registrar_tables, sidecar_tables
from rserpool.transport.http import Request, Response, Routes
from rserpool_cli.up.loopback import claim
from rserpool_cli.up.plan import TRUST_DOMAIN, ProcessPlan, UpOptions, UpPlan, make_plan
from rserpool_cli.up.state import write_state
from rserpool_operator.control.board import Boards
from rserpool_operator.plan import Channel
from rserpool_operator.work_queue import Key
from support.planned import running
from support.rig_identity import EnrolmentServer
from support.rig_refusals import OwnPool
from support.running import PATIENCE, manifest

KEY = Key("demo", "echo")


class Operator(EnrolmentServer):
    """Enrols, and answers over the control channel from an operator's board."""

    def __init__(self, ca: EmbeddedAuthority) -> None:
        super().__init__(ca, tokens={})
        self.boards = Boards()
        self.channel = Channel(registrar={}, element={}, bundle="")
        self.given: list[ReadLeaf] = []
        self.change = self._remember

    def _remember(self, enrolled: Enrolled) -> Enrolled:
        self.given.append(leaf_of(x509.load_pem_x509_certificates(enrolled.chain)[0]))
        return enrolled

    def tell(self, **changes: Any) -> None:
        """Say something else from now on."""
        self.channel = dataclasses.replace(self.channel, **changes)
        self.boards.tell(KEY, self.channel)

    def routes(self) -> Routes:
        return {**super().routes(), ("POST", CONTROL): self._control}

    def _revokes(self, leaf: ReadLeaf) -> bool:
        return self.boards.has_revoked(KEY, leaf.serial)

    async def _renew(self, request: Request) -> Response:
        assert request.certificate is not None
        if self._revokes(read_leaf(request.certificate)):
            return refusal(403, LEAF_REVOKED, "the leaf is in spec.security.revoked")
        return await super()._renew(request)

    def _answer(self, request: Request, whose: Any) -> Response:
        if whose is not None and self.boards.has_ended(KEY, whose.pod_uid):
            return refusal(403, "Revoked", "the pod is in spec.security.revoked")
        return super()._answer(request, whose)

    async def _control(self, request: Request) -> Response:
        assert request.certificate is not None
        leaf = read_leaf(request.certificate)
        if self._revokes(leaf):
            return refusal(403, LEAF_REVOKED, "the leaf is in spec.security.revoked")
        if self.boards.has_ended(KEY, leaf.identity.pod_uid):
            return refusal(403, "Revoked", "the pod is no member of the pool any more")
        question = json.loads(request.body)
        role = Role(question["role"])
        news = self.boards.news(KEY, role, question["loaded"])
        if not news and question["wait"]:
            await self.boards.wait(KEY, min(question["wait"], 5.0))  # our own HTTP server has little patience
            news = self.boards.news(KEY, role, question["loaded"])
        return Response(body=json.dumps(news or {}).encode(), content_type="application/json")


class Served:
    """An operator in a thread of its own."""

    def __init__(self, ca: EmbeddedAuthority) -> None:
        self._ca = ca
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        async def serve() -> None:
            async with Operator(self._ca).running() as self.operator:
                self._ready.set()
                await self._over.wait()

        self._loop.run_until_complete(serve())
        self._loop.close()

    def do(self, call: Callable[[Operator], object]) -> None:
        """Have the operator do something, in its own thread."""
        done = threading.Event()

        def act() -> None:
            call(self.operator)
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(PATIENCE)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)


class OperatedPool(OwnPool):
    """Three registrars and three elements, that ask an operator."""

    def __init__(self, directory: Path, ca: EmbeddedAuthority, plan: UpPlan, served: Served) -> None:
        super().__init__(directory, ca, plan)
        self.served = served

    def tell(self, **changes: Any) -> None:
        """The pool's spec says something else."""
        self.served.do(lambda operator: operator.tell(**changes))

    def serial(self, uid: str) -> int:
        """Serial number of the leaf a pod's process obtained last."""
        return next(leaf.serial for leaf in reversed(self.served.operator.given) if leaf.identity.pod_uid == uid)

    def uid(self, name: str) -> str:
        """UID of a process's pod."""
        identity = next(p.identity for p in self.plan.processes if p.name == name)
        assert identity is not None
        return identity.pod_uid


@contextlib.contextmanager
def operated_pool() -> Iterator[OperatedPool]:
    """Run them, and end them."""
    with claim() as addresses, tempfile.TemporaryDirectory(prefix="rsp-") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        file = directory / "pool.yaml"
        file.write_text(manifest(replicas=3))
        server_pool = read_manifests(file)[0].pool
        now = datetime.now(UTC)
        ca = EmbeddedAuthority.create("operated", now, life=timedelta(days=1), leaf_life=timedelta(hours=1))
        served = Served(ca)
        stack.callback(served.end)
        plan = make_plan(server_pool, UpOptions(elements=3), addresses, directory, file, served.operator.url)
        write_state(directory, plan, [], ca.bundle, addresses)
        (directory / "authority.pem").write_bytes(served.operator.installation.bundle)
        pool = OperatedPool(directory, ca, plan, served)
        stack.callback(pool.close)
        configured = [tomllib.loads(p.configuration) for p in plan.processes if p.configuration]
        peers = next(tables["peers"] for tables in configured if "peers" in tables)
        registrars = next(tables["registrars"] for tables in configured if "registrars" in tables)
        pool.tell(
            registrar={**registrar_tables(server_pool, TRUST_DOMAIN), "peers": peers},
            element={**sidecar_tables(server_pool, TRUST_DOMAIN), "registrars": registrars},
            bundle=ca.bundle.decode(),
        )
        for process in plan.processes:
            _configure(process, served)
            stack.enter_context(running(process, directory))
        pool.settled_with_all()
        yield pool


def _configure(process: ProcessPlan, served: Served) -> None:
    if process.identity is not None:
        token, tables = secrets.token_urlsafe(24), tomllib.loads(process.configuration)
        served.operator.tokens[token] = process.identity
        Path(tables["security"]["token_file"]).write_text(token)
        tables["operator"] = {"url": served.operator.url}
        Path(process.command[-1]).write_text(render(tables))
