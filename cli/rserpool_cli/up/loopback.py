# SPDX-License-Identifier: Apache-2.0
"""Addresses of this machine for a pool: a 127.X/16 of its own, so that each process has an address as on a cluster.

Where there is no 127/8 (macOS), everybody shares 127.0.0.1 and has ports of his own instead. Networks whose addresses
are this machine's may be named too: of IPv6, or of both families.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Final, Protocol

from rserpool.wire import Address
from rserpool_cli.errors import CommandError

LOCK_PORT: Final = 3864
"""Port of the address by which a 127.X/16 is claimed, as long as the process lives."""
FIRST, LAST = 16, 250
ALONE: Final = IPv4Address("127.0.0.1")
REGISTRARS, ELEMENTS, OTHERS = 1, 2, 3
"""Kinds of processes."""
HOST_BITS: Final = 16
"""What each process's address needs of a network."""
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process is.

    Attributes:
        address: its address, that for other registrars where it has several.
        ports: by what they are for.
        also: its address of the other IP family.
    """

    address: Address
    ports: dict[str, int]
    also: tuple[Address, ...] = ()

    def at(self, port: str) -> str:
        """``address:port``, as it is written everywhere."""
        return f"{host(self.address)}:{self.ports[port]}"

    def everywhere(self, port: str) -> list[str]:
        """The same of all its addresses."""
        return [f"{host(address)}:{self.ports[port]}" for address in (self.address, *self.also)]


def host(address: Address) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if address.version == 6 else str(address)


class Addresses(Protocol):
    """Gives each process its place."""

    @property
    def client(self) -> Address | None:
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
        return Place(IPv4Address(f"127.{self.number}.0.0") + _offset(kind, index), ports)


def _offset(kind: int, index: int) -> int:
    """Where in a network of 65,536 addresses a process is."""
    third, fourth = kind * 64 - 63 + index // 250, index % 250 + 1
    return third * 256 + fourth


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks whose addresses are this machine's, one or one of each family.

    Registrars and what serves everybody have an address in each, elements in one of them in turn.
    """

    networks: tuple[Network, ...]

    @property
    def client(self) -> Address:
        """The address clients speak from."""
        return self.networks[0][254 * 256 + 1]

    @property
    def lock(self) -> Address:
        """The address by which the first network is claimed."""
        return self.networks[0][255 * 256 + 254]

    def place(self, kind: int, index: int, **ports: int) -> Place:
        """An address of its own, or one of each family."""
        addresses = [network[_offset(kind, index)] for network in self.networks]
        if kind == ELEMENTS:
            return Place(addresses[index % len(addresses)], ports)
        return Place(addresses[0], ports, also=tuple(addresses[1:]))


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks separated by a comma, the first for registrars among each other.

    Raises:
        ValueError: there is no such network, it is too small, or there are several of a family.
    """
    networks = tuple(ip_network(part.strip()) for part in text.split(","))
    for network in networks:
        if network.max_prefixlen - network.prefixlen < HOST_BITS:
            longest = network.max_prefixlen - HOST_BITS
            raise ValueError(f"{network} is too small; write /{longest} or a shorter prefix")
    if len({network.version for network in networks}) < len(networks):
        raise ValueError("write one network, or one of IPv4 and one of IPv6")
    return networks


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
def claim(*, single: bool = False, networks: tuple[Network, ...] = ()) -> Iterator[Addresses]:
    """Find addresses nobody else uses, and keep them until the end.

    Args:
        single: do as if there were only 127.0.0.1.
        networks: take these instead of searching.

    Raises:
        CommandError: all are taken, or these are not to be had.
    """
    if networks:
        with _claimed(Networks(networks)) as chosen:
            yield chosen
        return
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


@contextmanager
def _claimed(networks: Networks) -> Iterator[Networks]:
    family = socket.AF_INET if networks.lock.version == 4 else socket.AF_INET6
    with socket.socket(family) as lock:
        try:
            lock.bind((str(networks.lock), LOCK_PORT))
            lock.listen()
        except OSError as e:
            reason = e.strerror.lower() if e.strerror else str(e)
            raise CommandError(f"{networks.lock}, which keeps {networks.networks[0]} for one pool: {reason}") from None
        yield networks
