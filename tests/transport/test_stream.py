# SPDX-License-Identifier: Apache-2.0
"""A connection and its owner: who lets go of it when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rserpool.transport.stream import ByteStream
from support.rig_transport import HERE, aside, dialled, drained, plays

pytestmark = pytest.mark.usefixtures("either_loop")


@plays
@pytest.mark.parametrize("end", [ByteStream.abort, ByteStream.close], ids=["abort", "close"])
async def test_a_connection_that_its_owner_ended_before_it_stood_is_closed(end: Callable[[ByteStream], None]) -> None:
    def accept() -> ByteStream:
        stream = ByteStream(None, handshake=5.0)
        end(stream)  # as a server does that ends between acceptance and connection_made
        return stream

    server = await asyncio.get_running_loop().create_server(accept, str(HERE), 0)
    sock = dialled(server.sockets[0].getsockname()[1])
    sock.settimeout(2)
    assert await aside(drained, sock) == b""
    server.close()
