# SPDX-License-Identifier: Apache-2.0
"""Datagrams to and from IP multicast groups, by which registrars announce themselves (RFC 5352 3.6). No security."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from rserpool.asap.announce import Multicast
from rserpool.wire import Address, canonical_address

_log: Final = logging.getLogger(__name__)
AT_ONCE: Final = 16
"""Datagrams read in one turn of the loop, so that a flood leaves room for everything else."""
LONGEST: Final = 2048
INTERFACES: Final = Path("/proc/net/if_inet6")
"""Where Linux says which IPv6 address belongs to which interface."""

Heard = Callable[[bytes, Address], None]


class Groups:
    """One's own part in the groups of those families of which one has an address.

    Args:
        where: which groups.
        own: own addresses; each tells an interface.
        heard: called with each datagram and its source.
    """

    def __init__(self, where: Multicast, own: Iterable[Address], heard: Heard) -> None:
        first = {group.version: group for group in reversed(where.groups)}
        self._pairs = [(first[address.version], address) for address in own if address.version in first]
        self._port = where.port
        self._heard = heard
        self._hops = where.hops
        self._sockets: list[tuple[socket.socket, Address]] = []
        self._failed: set[Address] = set()

    def join(self) -> None:
        """Listen from now on.

        Raises:
            OSError: a group cannot be joined, or its port cannot be had.
        """
        loop = asyncio.get_running_loop()
        for group, own in self._pairs:
            sock = socket.socket(_family(group), socket.SOCK_DGRAM)
            try:
                _join(sock, group, own, self._port, self._hops)
            except OSError:
                sock.close()
                self.leave()
                raise
            self._sockets.append((sock, group))
            loop.add_reader(sock, self._read, sock)

    def send(self, octets: bytes) -> None:
        """Send one datagram to each group; where there is no way to it is said once."""
        for sock, group in self._sockets:
            try:
                sock.sendto(octets, (str(group), self._port))
            except OSError as e:
                if group not in self._failed:
                    self._failed.add(group)
                    _log.warning("nothing can be sent to %s: %s", group, e.strerror)
            else:
                self._failed.discard(group)

    def leave(self) -> None:
        """Listen no more."""
        for sock, _ in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _read(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                octets, source = sock.recvfrom(LONGEST)
            except OSError:  # nothing is left, or nothing can be read: either way not now
                return
            self._heard(octets, canonical_address(ip_address(source[0].partition("%")[0])))


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _join(sock: socket.socket, group: Address, own: Address, port: int, hops: int) -> None:
    """Bound to the group itself: what comes to this port otherwise is none of our business."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # several processes of a host listen
    if isinstance(group, IPv4Address):
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own.packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
        sock.bind((str(group), port))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + own.packed)
        return
    index = struct.pack("@I", interface_of(own))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
    sock.bind((str(group), port, 0, interface_of(own)))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + index)


def interface_of(own: Address, interfaces: Path = INTERFACES) -> int:
    """The number of the interface that has an IPv6 address; 0 for the system's choice.

    Args:
        own: the address.
        interfaces: where that is said.
    """
    assert isinstance(own, IPv6Address)
    try:
        lines = interfaces.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.split()[0] == own.packed.hex()), 0)
