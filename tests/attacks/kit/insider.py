# SPDX-License-Identifier: Apache-2.0
"""A hacked registrar: a genuine leaf, the highest server ID, and an association to every true registrar.

It keeps itself alive as a registrar does, answers what it is asked, and says besides whatever the attacker likes.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from attacks.kit.system import System
from rserpool.asap.authorisation import Role
from rserpool.handlespace.checksum import block_sum, fold
from rserpool.wire import RFC, Framer, Message, PoolElement, PoolEntry, Ppid, UpdateAction, decode, encode, enrp
from support.rig_refusals import HANDLE
from support.rogue import Rogue

SERVER_ID: Final = 0xFFFFFFFE
HEARTBEAT: Final = 0.3
PAUSE: Final = 0.02


@dataclass(slots=True)
class _Line:
    sock: ssl.SSLSocket
    framer: Framer = field(default_factory=Framer)
    lock: threading.Lock = field(default_factory=threading.Lock)
    up: bool = True


class Insider:
    """The hacked registrar.

    Attributes:
        owns: elements it says are its own: its tables hold them, its checksum is about them.
        checksum: what it says instead; ``None``: the true one.
        heard: how many messages of each kind each registrar has sent.
    """

    def __init__(self, system: System) -> None:
        self.rogue: Rogue = system.stranger(system.a.leaf(Role.REGISTRAR))
        self.owns: dict[int, PoolElement] = {}
        self.checksum: int | None = None
        self.heard: list[Counter[str]] = [Counter() for _ in system.a.registrars]
        self._places = [(r.address, r.enrp_port) for r in system.a.registrars]
        self._lines: list[_Line] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live)

    @property
    def standing(self) -> int:
        """How many registrars it still speaks with."""
        return sum(line.up for line in self._lines)

    def join(self) -> None:
        """Introduce itself to everybody."""
        context = self.rogue.context()
        for host, port in self._places:
            sock = context.wrap_socket(self.rogue.connect(host, port))
            self._lines.append(_Line(sock))
        self.say(self._presence(reply=True))
        self._thread.start()

    def leave(self) -> None:
        """Hang up, without a word."""
        self._over.set()
        self._thread.join()
        for line in self._lines:
            line.sock.close()

    def say(self, *messages: Message, to: int | None = None) -> None:
        """Say something to one of the registrars, or to all."""
        octets = b"".join(encode(message, RFC) for message in messages)
        for line in self._lines if to is None else [self._lines[to]]:
            self._write(line, octets)

    def claim(self, *elements: PoolElement, to: int | None = None) -> None:
        """Say that elements are its own."""
        self.say(*(update(element) for element in elements), to=to)

    def _write(self, line: _Line, octets: bytes) -> None:
        with line.lock:
            try:
                line.sock.settimeout(5)
                line.sock.sendall(octets)
            except OSError:
                line.up = False

    def _presence(self, *, reply: bool = False) -> enrp.Presence:
        own = fold(sum(block_sum(HANDLE, identifier) for identifier in list(self.owns)))
        checksum = own if self.checksum is None else self.checksum
        return enrp.Presence(sender=SERVER_ID, reply_required=reply, checksum=checksum)

    def _live(self) -> None:
        next_beat = 0.0
        while not self._over.is_set():
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + HEARTBEAT
                self.say(self._presence())
            for index, line in enumerate(self._lines):
                if line.up:
                    self._listen(index, line)
            time.sleep(PAUSE)

    def _listen(self, index: int, line: _Line) -> None:
        messages: list[Message] = []
        with line.lock:
            try:
                while line.up and (line.sock.pending() or select.select([line.sock], [], [], 0)[0]):
                    line.sock.settimeout(1)
                    octets = line.sock.recv(65536)
                    line.up = bool(octets)
                    messages += [decode(m, Ppid.ENRP, RFC) for m in line.framer.feed(octets)]
            except OSError:
                line.up = False
        for message in messages:
            self.heard[index][type(message).__name__] += 1
            answer = self._answer(message)
            if answer is not None:
                self._write(line, encode(answer, RFC))

    def _answer(self, message: Message) -> Message | None:
        match message:
            case enrp.Presence(reply_required=True):
                return self._presence()
            case enrp.HandleTableRequest(sender=sender):
                entries = tuple(self.owns.values())
                pools = (PoolEntry(pool_handle=HANDLE, elements=entries),) if entries else ()
                return enrp.HandleTableResponse(sender=SERVER_ID, receiver=sender, pools=pools)
            case enrp.ListRequest(sender=sender):
                return enrp.ListResponse(sender=SERVER_ID, receiver=sender)
            case enrp.InitTakeover(sender=sender, target=target) if target != SERVER_ID:
                return enrp.InitTakeoverAck(sender=SERVER_ID, receiver=sender, target=target)
        return None


def update(element: PoolElement, action: UpdateAction = UpdateAction.ADD_PE) -> enrp.HandleUpdate:
    """An announcement of the insider's."""
    return enrp.HandleUpdate(sender=SERVER_ID, action=action, pool_handle=HANDLE, element=element)


@contextlib.contextmanager
def insider(system: System) -> Iterator[Insider]:
    """One that has joined, and everybody knows."""
    made = Insider(system)
    made.join()
    name = f"{SERVER_ID:#010x}"

    def knowing() -> list[bool]:
        """Which of the registrars know it, of all that answer."""
        return [name in {p["server_id"] for p in dump["peers"]} for dump in system.a.dumps().values()]

    def known() -> bool:
        return sum(knowing()) == len(system.a.registrars)

    def forgotten() -> bool:
        found = knowing()
        return len(found) == len(system.a.registrars) and not any(found)

    try:
        system.wait("the insider is a peer of everybody", known)
        yield made
    finally:
        made.leave()
    system.wait("everybody has forgotten the insider", forgotten)
