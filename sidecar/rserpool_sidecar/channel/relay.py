# SPDX-License-Identifier: Apache-2.0
"""Ends pool users' connections with the element's leaf, and relays to the application (PROTOCOL 9.6, threat 2.16).

Each connection is one of three: a stranger's until its handshake is done, a pool user's, or refused. Their numbers are
bounded, and what each of them may cost is bounded in :mod:`rserpool_sidecar.channel.connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rserpool.asap.authorisation import Principal
from rserpool.asap.events import Refused
from rserpool.daemon.logs import PeerLog
from rserpool.identity import IdentityError
from rserpool.identity.decisions import unverified
from rserpool.session.element import THREAT, ElementSessionConfig, may_use
from rserpool.transport.half_open import HalfOpen
from rserpool.transport.http import HttpServer
from rserpool.transport.security import Security
from rserpool.transport.stream import Cause, Ending
from rserpool.transport.tcp import BACKLOG, where
from rserpool.transport.tls import Credentials, TlsEngine, make_context
from rserpool.wire import Address
from rserpool.wire.asap import BusinessCard
from rserpool_sidecar.channel.cards import CardError, CardMaker
from rserpool_sidecar.channel.connection import BusyError, Owner, UserConnection
from rserpool_sidecar.channel.local import MOST_CONNECTIONS, LocalPaths
from rserpool_sidecar.channel.section import ChannelSection
from rserpool_sidecar.channel.streams import RelayStream

if TYPE_CHECKING:
    from OpenSSL import SSL

    from rserpool.asap.events import Ignored, Malformed

_log: Final = logging.getLogger("rserpool.sidecar")
SWEEP: Final = 30.0
"""Seconds at most between two looks for connections that are silent."""


class ChannelRelay(Owner):
    """The element's side of the control channel.

    Args:
        section: how it is configured.
        address: the element's own, on which it takes users.
        security: of the sidecar; ``None``: a pool without security, so no TLS here either.
        pool: name of the pool, as cookies are sealed for it.
        application: addresses at which the application may listen, and its port.
        cards: makes business cards.
        tell: told of refusals, and of what was malformed or without effect.
    """

    def __init__(
        self,
        section: ChannelSection,
        address: Address,
        security: Security | None,
        *,
        pool: bytes,
        application: tuple[tuple[Address, ...], int],
        cards: CardMaker,
        tell: Callable[[Refused | Malformed | Ignored], None],
    ) -> None:
        self._section = section
        self._address = address
        self._security = security
        self._context: tuple[Credentials, bool, SSL.Context] | None = None
        self._servers: list[asyncio.Server] = []
        self._half_open: HalfOpen[RelayStream] = HalfOpen()
        self._connections: set[UserConnection] = set()
        self._addresses: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._peer_log = PeerLog(_log)
        self._empty = asyncio.Event()
        self._empty.set()
        self._card: BusinessCard | None = None
        self._order: tuple[int, ...] = ()
        self._refreshing: asyncio.Task[None] | None = None
        self._local = HttpServer(LocalPaths(self), most=MOST_CONNECTIONS)
        self._pool = pool
        self.config = self._session_config()
        self.application = application
        self.cards = cards
        self.ports: dict[int, UserConnection] = {}
        self.tell = tell
        self.judged = lambda accepted: self.count("accepted" if accepted else "refused")
        self.trouble = self._application_trouble
        self.gone = self._forget

    def _session_config(self) -> ElementSessionConfig:
        return ElementSessionConfig(pool=self._pool, keys=self._section.keys, max_age=self._section.max_age)

    async def start(self) -> None:
        """Take users, and the application's requests.

        Raises:
            OSError: one of the ports cannot be had; the text says which.
        """
        section, loop = self._section, asyncio.get_running_loop()
        try:
            await self._local.listen(section.http_address, section.http_port)
            server = await loop.create_server(self._arrival, str(self._address), section.port, backlog=BACKLOG)
        except OSError as e:
            await self._local.close()
            raise OSError(f"the control channel's ports {section.port} and {section.http_port}: {e}") from None
        self._servers.append(server)

    async def run(self) -> None:
        """End connections on which nobody says anything, for ever."""
        while True:
            idle = self._section.idle
            await asyncio.sleep(min(SWEEP, idle / 4) if idle else SWEEP)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                if idle and now - connection.active_at > idle:
                    connection.end(f"it was silent for {idle:g} s")

    def reconfigure(self, section: ChannelSection, application: tuple[tuple[Address, ...], int]) -> None:
        """Go on with other settings: keys at once, for all; limits for who comes from now on. Ports stay."""
        self._section, self.application = section, application
        self.config = self._session_config()
        for connection in self._connections:
            connection.session.config = self.config

    async def drain(self, seconds: float) -> None:
        """Take no more users; those that are there go on, as long as that may take (RFC 3237 2.7)."""
        self._take_no_more()
        if self._connections:
            _log.info("%d connections of pool users go on for %g s at most", len(self._connections), seconds)
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                _log.warning("%d connections of pool users are cut off", len(self._connections))

    async def close(self) -> None:
        """End everything at once."""
        self._take_no_more()
        if self._refreshing is not None:
            self._refreshing.cancel()
        for connection in list(self._connections):
            connection.end("the sidecar ends")
        await self._local.close()

    def _take_no_more(self) -> None:
        for server in self._servers:
            server.close()
        for stream in self._half_open.forget_all():
            stream.abort()

    # -- users come

    def _arrival(self) -> RelayStream:
        """Somebody has connected: half open until it has shaken hands, and shown a certificate if it has to."""
        engine = TlsEngine(self._server_context(self._security), server=True) if self._security else None
        stream = RelayStream(engine)

        def turned_away(ending: Ending) -> None:
            self._half_open.remove(stream, stream.peer[0])
            if ending.cause in (Cause.HANDSHAKE, Cause.NOT_TLS):
                self._refuse(stream, "2.15" if ending.cause is Cause.NOT_TLS else THREAT, ending.reason)

        def crowded_out(reason: str) -> None:
            stream.abort()
            turned_away(Ending(Cause.HANDSHAKE, reason))

        def connected() -> None:
            if not self._is_too_many(stream):
                self._half_open.add(stream, stream.peer[0], crowded_out)

        stream.on_connected = connected
        stream.on_ready = lambda: self._arrived(stream)
        stream.on_end = turned_away
        return stream

    def _server_context(self, security: Security) -> SSL.Context:
        """The element's leaf as it is now: connections that stand go on with the one they have."""
        credentials, anonymous = security.credentials, self._section.anonymous
        known = self._context
        if known is None or known[0] is not credentials or known[1] is not anonymous:
            context = make_context(credentials, require_certificate=not anonymous)
            known = self._context = (credentials, anonymous, context)
        return known[2]

    def _arrived(self, stream: RelayStream) -> None:
        self._half_open.remove(stream, stream.peer[0])
        try:
            principal = self._principal(stream)
        except IdentityError as e:
            stream.close()
            self._refuse(stream, THREAT, str(e))
            return
        denial = may_use(principal, anonymous=self._section.anonymous)
        if denial is not None:
            stream.close()
            self._refuse(stream, denial.threat, denial.reason)
            return
        if self._is_too_many(stream):
            return
        connection = UserConnection(self, stream, principal)
        self._connections.add(connection)
        self._addresses[stream.peer[0]] += 1
        self._empty.clear()
        self.count("connections")
        connection.begin(self._card)
        self._keep_card_fresh()

    def _principal(self, stream: RelayStream) -> Principal:
        if self._security is None:
            return unverified(where(stream))
        assert stream.engine is not None
        return self._security.principal(stream.engine.peer_certificate, stream.peer[0])

    def _is_too_many(self, stream: RelayStream) -> bool:
        """Whether there is no room for one more, or none for one more of that address; then it is ended."""
        section, source = self._section, stream.peer[0]
        if len(self._connections) >= section.connections:
            reason = f"{section.connections} connections of pool users are open"
        elif self._addresses[source] >= section.connections_per_address:
            reason = f"{section.connections_per_address} connections from its address are open"
        else:
            return False
        stream.abort()
        self.count("full")
        extra = {"peer": where(stream)}
        self._peer_log.write(logging.WARNING, source, "full", f"refused a pool user: {reason}", extra, _now())
        return True

    def _refuse(self, stream: RelayStream, threat: str, reason: str) -> None:
        self.count("handshake")
        self.tell(Refused(threat=threat, peer=where(stream), what="handshake", reason=reason))

    def _application_trouble(self, reason: str) -> None:
        self.count("application")
        message = f"a pool user was refused, since the application cannot be reached: {reason}"
        self._peer_log.write(logging.WARNING, "application", "application", message, {}, _now())

    def _forget(self, connection: UserConnection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            source = connection.source
            self._addresses[source] -= 1
            if not self._addresses[source]:
                del self._addresses[source]
            if not self._connections:
                self._empty.set()

    # -- business cards

    async def recommend(self, order: tuple[int, ...]) -> tuple[BusinessCard, tuple[int, ...]]:
        """Send all users a business card, and those that come.

        Raises:
            CardError: there can be none.
        """
        card, missing = await self.cards.make(order)
        self._order, self._card = order, card
        for connection in list(self._connections):
            with contextlib.suppress(BusyError):  # who does not read cannot be told
                connection.recommend(card)
        return card, missing

    def _keep_card_fresh(self) -> None:
        """The next user is told where the elements are by then; this one resolves the pool anyway."""
        if self._order and not self.cards.is_fresh and self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            self._card, _ = await self.cards.make(self._order)
        except CardError as e:
            _log.debug("the business card stays as it was: %s", e)
        finally:
            self._refreshing = None

    # -- what is looked at

    @property
    def users(self) -> int:
        """Connections of pool users that are up."""
        return len(self._connections)

    def count(self, what: str) -> None:
        """Count."""
        self._counts[what] += 1

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What metrics show."""
        now, came = "Connections of pool users that are up.", "Connections of pool users that were taken."
        refused, cookies = "Pool users that were refused, by why.", "Cookies, by what became of them."
        found: dict[str, tuple[str, float]] = {
            "rserpool_user_connections": (now, len(self._connections)),
            "rserpool_user_half_open": ("Pool users that have not shaken hands yet.", len(self._half_open)),
            "rserpool_user_connections_total": (came, self._counts["connections"]),
        }
        for why in ("handshake", "full", "application"):
            found[f"rserpool_user_refusals_total|reason={why}"] = (refused, self._counts[why])
        for outcome in ("sealed", "accepted", "refused"):
            found[f"rserpool_cookies_total|outcome={outcome}"] = (cookies, self._counts[outcome])
        return found


def _now() -> float:
    return asyncio.get_running_loop().time()
