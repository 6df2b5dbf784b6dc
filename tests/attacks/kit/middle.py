# SPDX-License-Identifier: Apache-2.0
"""The man in the middle: a TCP proxy between real processes, which sees, keeps, changes and drops what they say.

It knows where records of TLS begin and end, and where messages of a plain pool do, and nothing else of what passes. The
far end sees the address of whoever called: registrars compare addresses, and somebody on the path does not change them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

PATIENCE: Final = 20.0
MOST_KEPT: Final = 64 * 1024 * 1024
"""Octets it remembers."""
APPLICATION_DATA: Final = 23
"""Type of the TLS records that carry what is said; in TLS 1.3 also the end of a handshake."""
_TLS_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4


class Unit(Enum):
    """What he takes for one thing that is said."""

    RECORD = "a record of TLS"
    MESSAGE = "a message of a plain pool"
    ANY = "whatever comes at once"


class Toward(Enum):
    """Where octets go."""

    SERVER = "to whoever was called"
    CLIENT = "to whoever called"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of TLS, or one message of a plain pool, as it came.

    Attributes:
        connection: which, from 0.
        number: how many have gone that way over that connection before.
    """

    connection: int
    toward: Toward
    number: int
    octets: bytes


Tamper = Callable[[Record], bytes | None]
"""What becomes of a record: other octets, none at all, or ``None``: the connection is cut."""


def flipped(octets: bytes, at: int = -1, mask: int = 1) -> bytes:
    """The same octets but for one, in which the bits of the mask are other ones."""
    changed = bytearray(octets)
    changed[at] ^= mask
    return bytes(changed)


@dataclass(slots=True)
class Interference:
    """What has been done to records, and to which.

    Attributes:
        left: how many records more it will be done to.
        done: those it was done to.
    """

    tamper: Tamper
    toward: Toward
    wanted: Callable[[Record], bool]
    left: int
    done: list[Record] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def await_done(self) -> list[Record]:
        """Wait until it has been done as often as was wanted."""
        assert self.over.wait(PATIENCE), f"only {len(self.done)} records came by {self.toward.value}"
        return self.done


class _Cutter:
    """Cuts a stream in records, by their headers."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._rest = b""

    def feed(self, octets: bytes) -> list[bytes]:
        if self._unit is Unit.ANY:
            return [octets]
        self._rest += octets
        found = []
        while (length := self._length()) is not None and len(self._rest) >= length:
            found.append(self._rest[:length])
            self._rest = self._rest[length:]
        return found

    def rest(self) -> bytes:
        """What no record has come of."""
        return self._rest

    def _length(self) -> int | None:
        tls = self._unit is Unit.RECORD
        if len(self._rest) < (_TLS_HEADER if tls else _MESSAGE_HEADER):
            return None
        if tls:
            return _TLS_HEADER + int.from_bytes(self._rest[3:5])
        length = max(int.from_bytes(self._rest[2:4]), _MESSAGE_HEADER)
        return length + -length % 4


class _Connection:
    def __init__(self, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.number = number
        self.writers = {Toward.CLIENT: client, Toward.SERVER: server}
        self.passed = {Toward.CLIENT: 0, Toward.SERVER: 0}

    def cut(self) -> None:
        for writer in self.writers.values():
            writer.transport.abort()


class Middle:
    """Listens in place of somebody, and passes on to him what comes.

    Args:
        at: where it listens: where those who are deceived believe the other one to be.
        to: where the other one really is.
        unit: what he looks for in it.

    Attributes:
        records: what has come by, in order, as it came.
        connections: how many there have been.
    """

    def __init__(self, at: tuple[str, int], to: tuple[str, int], unit: Unit = Unit.RECORD) -> None:
        self.at, self.to = at, to
        self.records: list[Record] = []
        self.connections = 0
        self._unit = unit
        self._kept = 0
        self._interferences: list[Interference] = []
        self._deaf: set[Toward] = set()
        self._open: dict[int, _Connection] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._do(self._listen())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _do(self, work: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await work

        future: Future[Any] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return future.result(PATIENCE)

    # -- what it may do

    def interfere(
        self, tamper: Tamper, toward: Toward, *, times: int = 1, only: Callable[[Record], bool] = lambda _: True
    ) -> Interference:
        """From now on do this to the next records that go there.

        Args:
            tamper: what.
            toward: which way they go.
            times: to so many of them.
            only: of which kind.
        """
        made = Interference(tamper, toward, only, times)
        self._interferences.append(made)
        return made

    def flip(self, toward: Toward, *, octet: int = -1, mask: int = 1, times: int = 1) -> Interference:
        """Flip bits of an octet of the next records that go there and carry what is said."""
        return self.interfere(lambda r: flipped(r.octets, octet, mask), toward, times=times, only=self.carries)

    def drop(self, toward: Toward, *, times: int = 1) -> Interference:
        """Let the next records vanish that go there; those behind them pass."""
        return self.interfere(lambda _: b"", toward, times=times, only=self.carries)

    def cut_within(self, toward: Toward, *, after: int = 7) -> Interference:
        """End the next connection that says something, in the middle of a record."""
        return self.interfere(lambda r: r.octets[:after], toward, only=self.carries)

    def carries(self, record: Record) -> bool:
        """Whether a record may carry what is said: handshakes in the clear do not."""
        return self._unit is not Unit.RECORD or record.octets[0] == APPLICATION_DATA

    @contextlib.contextmanager
    def silence(self, *ways: Toward) -> Iterator[None]:
        """Nothing passes that way, and nobody is told: a path that is blocked."""
        self._deaf |= set(ways)
        try:
            yield
        finally:
            self._deaf -= set(ways)

    def inject(self, octets: bytes, toward: Toward, connection: int | None = None) -> int:
        """Say something in the other's place, over a connection that stands (the newest); returns which."""

        async def write() -> int:
            number = max(self._open) if connection is None else connection
            writer = self._open[number].writers[toward]
            writer.write(octets)
            await writer.drain()
            return number

        found: int = self._do(write())
        return found

    def recorded(self, toward: Toward, connection: int | None = None) -> bytes:
        """All that has gone there, in one."""
        return b"".join(
            r.octets for r in list(self.records) if r.toward is toward and connection in (None, r.connection)
        )

    @property
    def standing(self) -> list[int]:
        """The connections that are up."""
        return sorted(self._open)

    def cut(self) -> None:
        """End all connections at once."""

        async def cut() -> None:
            for connection in list(self._open.values()):
                connection.cut()

        self._do(cut())

    # -- how it is done

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, *self.at, start_serving=True)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._open.values()):
            connection.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was cut off is closed in the next turns of the loop

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._between(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername")[0])
        far_reader, far_writer = await asyncio.open_connection(*self.to, local_addr=(source, 0))
        connection = _Connection(self.connections, writer, far_writer)
        self.connections += 1
        self._open[connection.number] = connection
        pumps = {
            asyncio.ensure_future(self._pump(connection, reader, Toward.SERVER)),
            asyncio.ensure_future(self._pump(connection, far_reader, Toward.CLIENT)),
        }
        try:
            await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            del self._open[connection.number]
            far_writer.transport.abort()

    async def _pump(self, connection: _Connection, reader: asyncio.StreamReader, toward: Toward) -> None:
        cutter, writer = _Cutter(self._unit), connection.writers[toward]
        try:
            while octets := await reader.read(65536):
                for record in cutter.feed(octets):
                    if not self._pass(connection, Record(connection.number, toward, connection.passed[toward], record)):
                        connection.cut()
                        return
                await writer.drain()
            writer.write(cutter.rest())
            writer.write_eof()
        except (OSError, RuntimeError):  # one side is gone: so is the other
            connection.cut()

    def _pass(self, connection: _Connection, record: Record) -> bool:
        """Keep a record, do to it what is to be done, and pass it on; returns whether the connection goes on."""
        connection.passed[record.toward] += 1
        self._kept += len(record.octets)
        assert self._kept <= MOST_KEPT, "more has come by than is kept"
        self.records.append(record)
        if record.toward in self._deaf:
            return True
        octets: bytes | None = record.octets
        for interference in self._interferences:
            if interference.left and record.toward is interference.toward and interference.wanted(record):
                octets = interference.tamper(record)
                interference.left -= 1
                interference.done.append(record)
                if not interference.left:
                    interference.over.set()
                break
        if octets:
            connection.writers[record.toward].write(octets)
        return octets is not None
