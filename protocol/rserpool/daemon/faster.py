# SPDX-License-Identifier: Apache-2.0
"""uvloop's event loop, with names looked up in threads of ours.

Its own look-ups are waited for when the process ends, and a resolver may be silent for long.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from rserpool.transport.names import literal


class Loop(uvloop.Loop):
    """The loop of a registrar."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> list[Any]:
        """As every loop's."""
        look_up = partial(socket.getaddrinfo, host, port, **options)
        return await self.run_in_executor(None, look_up)

    async def create_connection(  # type: ignore[override] # it connects by name or address, which is all we do
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **options: Any
    ) -> tuple[Any, Any]:
        """As every loop's; the addresses of a name are tried in turn."""
        if literal(host) is not None:
            return await super().create_connection(protocol_factory, host, port, **options)
        failure = OSError(f"the name {host} has no address")
        for info in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return await super().create_connection(protocol_factory, info[4][0], port, **options)
            except OSError as e:
                failure = e
        raise failure
