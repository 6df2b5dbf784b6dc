# SPDX-License-Identifier: Apache-2.0
"""Addresses of this machine for a pool: a 127.X/16 of its own, so that each process has an address as on a cluster.

Where there is no 127/8 (macOS), everybody shares 127.0.0.1 and has ports of his own instead.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Protocol

from rserpool_cli.errors import CommandError

LOCK_PORT: Final = 3864
"""Port of the address by which a 127.X/16 is claimed, as long as the process lives."""
FIRST, LAST = 16, 250
ALONE: Final = IPv4Address("127.0.0.1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process is: its address, and its ports by what they are for."""

    address: IPv4Address
    ports: dict[str, int]


class Addresses(Protocol):
    """Gives each process its place."""

    @property
    def client(self) -> IPv4Address | None:
        """The address clients speak from; ``None`` for any."""

    def place(self, kind: int, index: int, **ports: int) -> Place:
        """A place for the ``index``-th process of a kind (1 registrars, 2 elements, 3 others), with these ports."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """127.X/16: everybody has an address, and the ports a cluster would use."""

    number: int

    @property
    def client(self) -> IPv4Address:
        """The address clients speak from."""
        return IPv4Address(f"127.{self.number}.254.1")

    def place(self, kind: int, index: int, **ports: int) -> Place:
        """An address of its own."""
        third, fourth = kind * 64 - 63 + index // 250, index % 250 + 1
        return Place(IPv4Address(f"127.{self.number}.{third}.{fourth}"), ports)


@dataclass(slots=True)
class OnePort:
    """127.0.0.1 for everybody, with ports that are free now."""

    _taken: set[int] = field(default_factory=set)
    _known: dict[tuple[int, int], Place] = field(default_factory=dict)

    @property
    def client(self) -> IPv4Address | None:
        """Any."""
        return None

    def place(self, kind: int, index: int, **ports: int) -> Place:
        """Ports of its own."""
        key = (kind, index)
        if key not in self._known:
            self._known[key] = Place(ALONE, {name: self._free() if port else 0 for name, port in ports.items()})
        return self._known[key]

    def _free(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((str(ALONE), 0))
                port: int = probe.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port


@contextmanager
def claim(*, single: bool = False) -> Iterator[Addresses]:
    """Find addresses nobody else uses, and keep them until the end.

    Args:
        single: do as if there were only 127.0.0.1.

    Raises:
        CommandError: all are taken.
    """
    if single:
        yield OnePort()
        return
    numbers = list(range(FIRST, LAST + 1))
    random.shuffle(numbers)  # two that start at once should not go the same way
    for number in numbers:
        with socket.socket() as lock:
            try:
                lock.bind((f"127.{number}.255.254", LOCK_PORT))
                lock.listen()
            except OSError as e:
                if e.errno == errno.EADDRNOTAVAIL:
                    yield OnePort()
                    return
                continue
            yield Subnet(number)
            return
    raise CommandError(f"all addresses from 127.{FIRST} to 127.{LAST} are taken by other pools; end one of them")
