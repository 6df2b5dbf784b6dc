# SPDX-License-Identifier: Apache-2.0
"""Ports for what a test lets listen later: this process's alone, and none that the kernel gives to a connection."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

HOST: Final = "127.0.0.1"
BLOCK: Final = 256
BLOCKS: Final = range(10 * 1024, 30 * 1024, BLOCK)
"""Below what the kernel chooses from by itself (32768 and on), and above what our own programs listen on."""


@cache
def _own() -> tuple[socket.socket, Iterator[int]]:
    """The socket that holds a block for as long as this process lives, and the block's other ports, in turns."""
    for first in BLOCKS:
        lock = socket.socket()
        try:
            lock.bind((HOST, first))
        except OSError:
            lock.close()
            continue
        return lock, itertools.cycle(range(first + 1, first + BLOCK))
    raise AssertionError(f"the first ports of all blocks are taken: {BLOCKS}")


def free_port(host: str = HOST) -> int:
    """A port of that address on which nobody listens; no other process of the tests is given it.

    A port that the kernel chose, and that was let go, may be some connection's own by the time one listens on it.
    """
    for port in itertools.islice(_own()[1], BLOCK):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections are no matter
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError("all ports of this process's block are taken")
