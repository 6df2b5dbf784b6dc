# SPDX-License-Identifier: Apache-2.0
"""A plain TCP connection to an element, for applications that want asyncio's streams and do without sessions."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from rserpool.client.line import place_of, source_for
from rserpool.wire import Address, PoolElement


class Connection:
    """A TCP connection to an element that was chosen by the pool's policy; closes with its ``async with``.

    Attributes:
        element: which one it is.
        reader, writer: asyncio's streams.
        tried: how many elements were tried before this one and could not be reached.
    """

    def __init__(
        self, element: PoolElement, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tried: int
    ) -> None:
        self.element = element
        self.reader = reader
        self.writer = writer
        self.tried = tried

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()


async def open_connection(element: PoolElement, local: Address | None, deadline: float, tried: int) -> Connection:
    """Connect to an element.

    Args:
        element: which one.
        local: address to speak from; ``None`` for any.
        deadline: seconds for it.
        tried: how many could not be reached before.

    Raises:
        OSError: it cannot be reached.
    """
    host, port = place_of(element)
    source = source_for(element, local)
    try:
        async with asyncio.timeout(deadline):
            reader, writer = await asyncio.open_connection(host, port, local_addr=source)
    except TimeoutError:
        raise OSError(f"no answer within {deadline:g} s") from None
    return Connection(element, reader, writer, tried)
