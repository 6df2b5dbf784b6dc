# SPDX-License-Identifier: Apache-2.0
"""One pool user's connection: its stream, the application's, and the machine between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Final

from rserpool.asap.authorisation import Principal
from rserpool.session.element import (
    Effect,
    ElementSession,
    ElementSessionConfig,
    End,
    Finish,
    Judged,
    Open,
    Relay,
    Send,
    Tell,
)
from rserpool.transport.stream import Ending, describe
from rserpool.transport.tcp import where
from rserpool.wire import Address
from rserpool.wire.asap import BusinessCard
from rserpool_sidecar.channel.streams import RelayStream

if TYPE_CHECKING:
    from rserpool.asap.events import Ignored, Malformed, Refused

CONNECT: Final = 3.0
"""Seconds for the application to accept a connection."""
MOST_UNSENT: Final = 256 * 1024
"""Octets that may wait for a user before the application's control messages are refused, too."""


class Owner:
    """What a connection needs of those it belongs to.

    Attributes:
        config: of all sessions.
        application: addresses at which the application may listen, and its port.
        ports: connections by the local port of their application's side, which is their name.
        tell: what was not as it should be.
        judged: a cookie was believed, or not.
        trouble: the application could not be reached, in words.
        gone: this connection is over.
    """

    config: ElementSessionConfig
    application: tuple[tuple[Address, ...], int]
    ports: dict[int, UserConnection]
    tell: Callable[[Refused | Malformed | Ignored], None]
    judged: Callable[[bool], None]
    trouble: Callable[[str], None]
    gone: Callable[[UserConnection], None]


class Hold(Enum):
    """Why a user has to wait."""

    CONNECTING = "the application is not connected yet"
    FULL = "the application does not read"


class BusyError(Exception):
    """The user does not read what it is sent; control messages have to wait."""


class UserConnection:
    """One connection, from the end of its handshake.

    Args:
        owner: see there.
        user: its stream, which is ready.
        principal: who the user proved to be.

    Attributes:
        address, source: the user's, with its port and without.
        active_at: when something was last said in either direction; seconds of the loop's clock.
        port: local port of the application's side: its name; 0 while it is not connected.
    """

    def __init__(self, owner: Owner, user: RelayStream, principal: Principal) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._user = user
        self._application: RelayStream | None = None
        self._before: list[bytes] = []
        self._holds: set[Hold] = set()
        self._user_is_done = False
        self._application_is_done = False
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.principal = principal
        self.peer = f"{principal} at {where(user)}"
        self.address = where(user)
        self.source = user.peer[0]
        self.active_at = self._loop.time()
        self.port = 0
        self.session = ElementSession(owner.config, self.peer, self.active_at)
        user.on_bytes = self._user_said
        user.on_finished = lambda: self._do(self.session.finished())
        user.on_full = self._user_is_full
        user.on_end = lambda ending: self.end(ending.reason)

    def begin(self, card: BusinessCard | None) -> None:
        """Begin, with the elements to fail over to, if the application has said which (RFC 5352 3.9)."""
        if card is not None:
            self._do(self.session.recommend(card))
        deadline = self.session.deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._wake, deadline)

    def _wake(self, due: float) -> None:
        self._timer = None
        self._do(self.session.wake(max(due, self._loop.time())))

    # -- what the application asks for through its side of the channel

    def seal(self, payload: bytes) -> None:
        """Send the user a cookie.

        Raises:
            CookieError: it cannot be made.
            BusyError: the user does not read.
        """
        self._has_room()
        self._do(self.session.seal(payload, time.time()))

    def recommend(self, card: BusinessCard) -> None:
        """Send the user a business card.

        Raises:
            BusyError: the user does not read.
        """
        self._has_room()
        self._do(self.session.recommend(card))

    def _has_room(self) -> None:
        if self._user.unsent > MOST_UNSENT:
            raise BusyError("the user does not read what it is sent")

    # -- what the streams say

    def _user_said(self, octets: bytes) -> None:
        now = self.active_at = self._loop.time()
        self._do(self.session.received(octets, now, time.time()))

    def _application_said(self, octets: bytes) -> None:
        self.active_at = self._loop.time()
        self._do(self.session.said(octets))

    def _application_finished(self) -> None:
        self._application_is_done = True
        self._user.finish()
        self._close_if_done()

    def _application_ended(self, ending: Ending) -> None:
        """The application has let go: of a user to whom it had said all, in order; else the user has to know."""
        if self._application_is_done:
            self._over_and_out()
            self._user.close()
        else:
            self.end(f"the application has ended it: {ending.reason}")

    def _user_is_full(self, full: bool) -> None:
        if self._application is not None:
            (self._application.pause if full else self._application.resume)()

    def _application_is_full(self, full: bool) -> None:
        self._hold(Hold.FULL, hold=full)

    def _hold(self, why: Hold, *, hold: bool) -> None:
        before = bool(self._holds)
        (self._holds.add if hold else self._holds.discard)(why)
        if bool(self._holds) is not before:
            (self._user.pause if hold else self._user.resume)()

    # -- what is to be done

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Relay(octets):
                    self._relay(octets)
                case Send(octets):
                    self._user.write(octets)
                case Open():
                    self._hold(Hold.CONNECTING, hold=True)
                    self._connecting = self._loop.create_task(self._connect())
                case Finish():
                    self._user_is_done = True
                    self._finish_application()
                case Tell(event):
                    self._owner.tell(event)
                case Judged(accepted):
                    self._owner.judged(accepted)
                case End(reason):
                    self.end(reason)

    def _relay(self, octets: bytes) -> None:
        if self._application is None:
            self._before.append(octets)
        else:
            self._application.write(octets)

    def _finish_application(self) -> None:
        if self._application is not None:
            self._application.finish()
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._user_is_done and self._application_is_done:
            self._over_and_out()
            self._user.close()
            if self._application is not None:
                self._application.close()

    async def _connect(self) -> None:
        """Connect to the application, wherever it listens."""
        addresses, port = self._owner.application
        reason = ""
        for address in addresses:
            reason = await self._reach(address, port)
            if not reason:
                return
        self._owner.trouble(reason)
        self.end(f"the application cannot be reached: {reason}")

    async def _reach(self, address: Address, port: int) -> str:
        """Connect to it there; returns why not. The name is known before the application can ask for it."""
        stream = RelayStream(None)
        stream.on_ready = lambda: self._connected(stream)
        stream.on_bytes, stream.on_finished = self._application_said, self._application_finished
        stream.on_full, stream.on_end = self._application_is_full, self._application_ended
        try:
            with self._named(address) as sock:
                async with asyncio.timeout(CONNECT):
                    await self._loop.sock_connect(sock, (str(address), port))
                    await self._loop.create_connection(lambda: stream, sock=sock)
        except TimeoutError:
            return f"port {port} accepts no connection within {CONNECT:g} s"
        except OSError as e:
            return f"port {port}: {describe(e)}"
        return ""

    @contextlib.contextmanager
    def _named(self, address: Address) -> Iterator[socket.socket]:
        """A socket whose port is this connection's name; neither stays if it comes to nothing."""
        sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
        try:
            sock.setblocking(False)
            sock.bind((str(address), 0))
            name = int(sock.getsockname()[1])
            if name in self._owner.ports:  # another family's port of the same number
                raise OSError("its name is taken")  # noqa: TRY301 - let go of as in every other case
            self.port = name
            self._owner.ports[name] = self
            yield sock
        except BaseException:
            sock.close()
            self._forget_name()
            raise

    def _forget_name(self) -> None:
        if self._owner.ports.get(self.port) is self:
            del self._owner.ports[self.port]
        self.port = 0

    def _connected(self, stream: RelayStream) -> None:
        if self._over:
            stream.abort()
            return
        self._application = stream
        for octets in self._before:
            stream.write(octets)
        self._before.clear()
        if self._user_is_done:
            self._finish_application()
        self._hold(Hold.CONNECTING, hold=False)

    # -- the end

    def end(self, reason: str) -> None:
        """End both sides at once; nobody takes what was cut off for a good end."""
        del reason
        if self._over:
            return
        self._over_and_out()
        self._user.abort()
        if self._application is not None:
            self._application.abort()

    def _over_and_out(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        self._forget_name()
        self._before.clear()
        self._owner.gone(self)
