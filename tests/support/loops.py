# SPDX-License-Identifier: Apache-2.0
"""What is still open on the event loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

PATIENCE: Final = 20.0


async def let_go(*ports: int) -> None:
    """Wait until no connection stands at these ports of ours: what was cut off is closed in later turns of the loop.

    Raises:
        AssertionError: somebody keeps one.
    """
    for _ in range(2):  # what the kernel has handed over becomes a connection
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            while any(port in ports for port in _open()):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"still open at {ports}: {list(_open())}") from None


def _open() -> Iterator[int]:
    """Our ports of all that stand, whoever made them."""
    loop = asyncio.get_running_loop()
    for transport in list(loop._transports.values()):  # type: ignore[attr-defined] # asyncio shows them in no other way
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() != -1 and isinstance(name := transport.get_extra_info("sockname"), tuple):
            yield name[1]
