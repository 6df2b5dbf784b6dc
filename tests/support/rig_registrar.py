# SPDX-License-Identifier: Apache-2.0
"""A registrar in this process, alone in its pool, for sidecars that need one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any
from uuid import uuid4

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.sections import PoolSection, SecuritySection
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from rserpool_registrar.config import NetworkSection, RegistrarSettings
from rserpool_registrar.daemon import RegistrarDaemon
from support.rig_identity import credentials, identity

THERE = IPv4Address(f"127.85.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}")
"""An address that only this process uses."""


class Given:
    """Credentials that stay as they are."""

    def __init__(self, made: Credentials) -> None:
        self._made = made

    async def obtain(self, current: Credentials | None) -> Credentials:
        del current
        return self._made

    async def changed(self, current: Credentials, renew_after: float) -> None:
        del current, renew_after
        await asyncio.Event().wait()

    def restore(self) -> Credentials | None:
        return None

    def keep(self, credentials: Credentials) -> None:
        del credentials


def keeper(made: Credentials, role: Role) -> Keeper:
    """Keeps those."""

    def make(given: Credentials) -> Security:
        return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=role, credentials=given)

    return Keeper(Given(made), make)


class RegistrarHere:
    """One registrar; of a pool without security if there is no authority."""

    place = f"{THERE}:3864"

    def __init__(self, ca: EmbeddedAuthority | None) -> None:
        settings = RegistrarSettings(
            pool=PoolSection(namespace="demo", name="echo"),
            network=NetworkSection(address=THERE, http_port=0, loopback=True),
            security=SecuritySection(mode="Insecure" if ca is None else "Secure"),
        )
        made = keeper(credentials(ca, identity(Role.REGISTRAR, str(uuid4()))), Role.REGISTRAR) if ca else None
        self.daemon = RegistrarDaemon(settings, made)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RegistrarHere]:
        stop = asyncio.Event()
        life = asyncio.ensure_future(self.daemon.run(stop))
        try:
            yield self
        finally:
            stop.set()
            await life

    def elements(self) -> list[dict[str, Any]]:
        """What it holds."""
        return self.daemon._elements()

    async def until(self, wanted: Callable[[], bool]) -> None:
        while not wanted():  # noqa: ASYNC110 - as somebody outside would look
            await asyncio.sleep(0.1)
