# SPDX-License-Identifier: Apache-2.0
"""Hosts that can vanish: network namespaces on a switch, each with a net of its own. Needs root, and `ip`.

Taken off the switch, a host is gone as if its power had failed: nobody refuses, resets or closes anything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from rserpool_cli.up.loopback import Place
from scope import Scope

REGISTRAR, ELEMENT, USER = 1, 2, 3
_LINK: Final = "10.77.0"
"""Net of the switch, /24; host N is .N there, and owns 10.(100 + N).0.0/16."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host."""

    number: int
    name: str

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a program on it."""
        return ("ip", "netns", "exec", self.name)

    def address(self, index: int = 0) -> IPv4Address:
        """One of its own."""
        return IPv4Address(f"10.{100 + self.number}.{index // 250}.{index % 250 + 1}")


class Hosts:
    """All hosts of one measurement, and the switch between them."""

    def __init__(self) -> None:
        self._mark = f"rsp{os.getpid()}"
        self._switch = f"{self._mark}s"
        self._hosts: list[Host] = []
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _ip("-n", self._switch, "link", "set", "br0", "up")

    @property
    def client(self) -> IPv4Address:
        """Nobody speaks from here."""
        return IPv4Address("0.0.0.0")

    def place(self, kind: int, index: int, **ports: int) -> Place:
        """A place on a host of its own."""
        return Place(self.host(kind, index).address(), ports)

    def host(self, kind: int, index: int) -> Host:
        """The host of a process, made when it is first asked for."""
        name = f"{self._mark}{'0reu'[kind]}{index}"
        known = next((h for h in self._hosts if h.name == name), None)
        if known is not None:
            return known
        host = Host(len(self._hosts) + 1, name)
        _ip("netns", "add", name)
        link = ("type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self._switch, "link", "add", f"v{host.number}", *link)
        _ip("-n", self._switch, "link", "set", f"v{host.number}", "master", "br0", "up")
        _ip("-n", name, "addr", "add", f"{_LINK}.{host.number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "local", f"{_net(host)}", "dev", "lo")
        for other in self._hosts:
            _ip("-n", name, "route", "add", _net(other), "via", f"{_LINK}.{other.number}")
            _ip("-n", other.name, "route", "add", _net(host), "via", f"{_LINK}.{host.number}")
        self._hosts.append(host)
        return host

    def vanish(self, host: Host) -> None:
        """Take a host off the switch."""
        _ip("-n", self._switch, "link", "set", f"v{host.number}", "nomaster")

    def close(self) -> None:
        """Take everything away."""
        for name in [*(h.name for h in self._hosts), self._switch]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class HostsScope(Scope):
    """A scope whose processes are on hosts of their own."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        super().__init__(folder, hosts, secure=True)
        self.hosts = hosts

    def on_host(self, kind: int, index: int) -> tuple[str, ...]:
        """What runs a process where it belongs."""
        return self.hosts.host(kind, index).command

    def element_place(self, group: int, index: int) -> Place:
        """All elements of a group are on one host."""
        return Place(self.hosts.host(ELEMENT, group).address(index), {"asap": 3864})

    def registered(self, count: int) -> float:
        """As its metrics would say, but asked on the control sockets: their hosts cannot be reached from here."""

        def there() -> bool:
            counts = [(r.ask("/status") or {}).get("counts", {}) for r in self.registrars]
            known = all(c.get("elements") == count for c in counts)
            return known and sum(c["attached"] for c in counts) == count

        return self.wait(f"{count} elements are registered", there, 0.2)


def can_have_hosts() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    return "" if shutil.which("ip") else "there is no `ip` (Debian: iproute2)"


@contextlib.contextmanager
def scope_on_hosts() -> Iterator[HostsScope]:
    """Hosts, and a scope on them; all ends together."""
    hosts = Hosts()
    try:
        with tempfile.TemporaryDirectory(prefix="rsp-") as folder:
            made = HostsScope(Path(folder), hosts)
            try:
                yield made
            finally:
                made.end()
    finally:
        hosts.close()


def _net(host: Host) -> str:
    return f"10.{100 + host.number}.0.0/16"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
