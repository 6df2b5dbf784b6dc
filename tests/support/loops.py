# SPDX-License-Identifier: Apache-2.0
"""What is still open on the event loop of a test."""

from __future__ import annotations

import asyncio

from support.rig_transport import PATIENCE, comes


async def let_go(*ports: int) -> None:
    """Wait until no connection stands at these ports of ours: what was cut off is closed in later turns of the loop.

    Raises:
        AssertionError: somebody keeps one.
    """
    for _ in range(2):  # what the kernel has handed over becomes a connection
        await asyncio.sleep(0)
    try:
        await asyncio.wait_for(comes(lambda: _open().isdisjoint(ports)), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"of {ports}, still open: {_open()}") from None


def _open() -> set[int]:
    """Our ports of all that stand, whoever made them."""
    loop, found = asyncio.get_running_loop(), set()
    for transport in list(loop._transports.values()):  # type: ignore[attr-defined] # asyncio shows them in no other way
        sock, name = transport.get_extra_info("socket"), transport.get_extra_info("sockname")
        if sock is not None and sock.fileno() != -1 and isinstance(name, tuple):
            found.add(name[1])
    return found
