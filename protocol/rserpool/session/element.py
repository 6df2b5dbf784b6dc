# SPDX-License-Identifier: Apache-2.0
"""The element's end of one connection with a pool user: user data, cookies and business cards (RFC 5352 3.8, 3.9).

The machine is told what the user has sent and what the application wants said; it answers with effects as data. The
application is connected once it is known whether the user has brought a cookie: after the first frame, or a moment
without one, since an application may be the one that speaks first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rserpool.asap.authorisation import Denial, Principal, Role
from rserpool.asap.events import Ignored, Malformed, Refused
from rserpool.asap.limits import Rate, TokenBucket
from rserpool.session.cookies import CookieError, CookieKeys, Opened
from rserpool.session.frames import CONTROL, DATA, Frame, FrameError, FrameReader, control, data
from rserpool.wire import DecodeError, Ppid, decode, name_of
from rserpool.wire.asap import AsapError, BusinessCard, Cookie, CookieEcho

THREAT: Final = "2.16"
"""Section of the threats document that is about this channel."""
FIRST_FRAME: Final = 0.05
"""Seconds for which the application is not connected yet, so that the first frame can be a cookie."""
CONTROLS: Final = Rate(10, 20)
"""Frames of one connection that are not user data; who sends more of them loses it."""
MOST_ELEMENTS: Final = 128
"""Elements in a business card: their parameters fit into one message."""
NO_KEYS: Final = "this element has no keys"


@dataclass(frozen=True, slots=True)
class Open:
    """Connect to the application."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Give user data to the application; never before :class:`Open`."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The user says no more: end this direction of the application's connection."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these octets to the user: one frame."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class End:
    """End the user's connection and the application's at once.

    Attributes:
        reason: one line for the log.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Log and count what was not as it should be."""

    event: Refused | Malformed | Ignored


@dataclass(frozen=True, slots=True)
class Judged:
    """A cookie that the user has brought was believed, or not."""

    accepted: bool


Effect = Open | Relay | Finish | Send | End | Tell | Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementSessionConfig:
    """What all connections of an element have in common.

    Attributes:
        pool: name of the pool, as cookies are sealed for it.
        keys: of the pool; ``None``: there are none, so there are no cookies.
        max_age: seconds for which cookies are believed.
    """

    pool: bytes
    keys: CookieKeys | None
    max_age: float = 3600.0


def may_use(principal: Principal, *, anonymous: bool) -> Denial | None:
    """Whether somebody may use an element by its channel: pool users and the pool's elements, if need be anonymous.

    Args:
        principal: who the peer proved to be; its certificate, if any, is of this pool.
        anonymous: whether the pool serves users without a certificate.
    """
    if principal.role is Role.ANONYMOUS and not anonymous:
        return Denial(THREAT, "without a certificate nobody may use this pool")
    if principal.role is Role.REGISTRAR:
        return Denial(THREAT, "a registrar is no pool user")
    return None


class ElementSession:
    """One connection whose handshake is done and whose user may be served.

    Args:
        config: of the element; a later one may replace it.
        peer: the user's identity and address, for the log.
        now: seconds of any origin that never goes backwards.

    Attributes:
        cookie: what the user brought, if it is believed.
        cookie_refused: why what it brought is not; empty: it is, or there was none.
    """

    def __init__(self, config: ElementSessionConfig, peer: str, now: float) -> None:
        self.config = config
        self.cookie: Opened | None = None
        self.cookie_refused = ""
        self._peer = peer
        self._reader = FrameReader()
        self._controls = TokenBucket(CONTROLS, now)
        self._open_at: float | None = now + FIRST_FRAME
        self._first = True
        self._ended = False
        self._finished = False

    @property
    def is_over(self) -> bool:
        """Whether the connection has been given up."""
        return self._ended

    def deadline(self) -> float | None:
        """When to call :meth:`wake`; ``None`` for never."""
        return None if self._ended else self._open_at

    def wake(self, now: float) -> list[Effect]:
        """The deadline has come: the user waits for the application to speak first."""
        if self._ended or self._open_at is None or now < self._open_at:
            return []
        return self._open()

    # -- the user's side

    def received(self, octets: bytes, now: float, unix: float) -> list[Effect]:
        """Octets of the stream have come in.

        Args:
            octets: as they came, cut anywhere.
            now: as before.
            unix: seconds since the epoch, by which cookies are dated.
        """
        if self._ended or self._finished:
            return []
        try:
            frames = self._reader.feed(octets)
        except FrameError as e:
            return self._garbage(e.offset, e.reason)
        effects: list[Effect] = []
        for frame in frames:
            effects += self._frame(frame, now, unix)
            if self.is_over:
                break
        return effects

    def finished(self) -> list[Effect]:
        """The user has ended its direction; what the application says is relayed on."""
        if self._ended or self._finished:
            return []
        if self._reader.pending:
            return self._garbage(self._reader.offset, "the stream ends within a frame")
        self._finished = True
        return [*self._open(), Finish()]

    def _frame(self, frame: Frame, now: float, unix: float) -> list[Effect]:
        first, self._first = self._first, False
        if frame.ppid == DATA:
            return [*self._open(), Relay(frame.payload)] if frame.payload else self._open()
        if not self._controls.take(now):
            return self._end(f"more than {CONTROLS.per_second:g} control messages a second", "control messages")
        effects: list[Effect]
        if frame.ppid == CONTROL:
            effects = self._control(frame.payload, unix, first=first)
        elif frame.ppid == Ppid.ENRP:
            effects = [self._refused("ENRP", "no ENRP message belongs on a connection with a pool user")]
        else:
            effects = [self._ignored("frame", f"of payload protocol identifier {frame.ppid}")]
        return effects if self.is_over else [*effects, *self._open()]

    def _control(self, payload: bytes, unix: float, *, first: bool) -> list[Effect]:
        try:
            message = decode(payload, Ppid.ASAP)
        except DecodeError as e:
            return self._garbage(e.offset, f"of a control message: {e.reason}")
        name = name_of(message)
        match message:
            case CookieEcho(cookie=cookie) if first:
                return self._judge(cookie, unix)
            case CookieEcho():
                return [self._ignored(name, "it is not the first frame of the connection")]
            case Cookie() | BusinessCard() | AsapError():
                return [self._ignored(name, "an element keeps none of a user's")]
            case _:
                return [self._refused(name, "it does not belong on a connection with a pool user")]

    def _judge(self, cookie: bytes, unix: float) -> list[Effect]:
        keys = self.config.keys
        try:
            if keys is None:
                raise CookieError(NO_KEYS)  # noqa: TRY301 - judged with what else makes a cookie useless
            self.cookie = keys.open(cookie, self.config.pool, unix, self.config.max_age)
        except CookieError as e:
            self.cookie_refused = e.reason
            return [
                Judged(accepted=False),
                self._refused("ASAP_COOKIE_ECHO", f"the cookie is not believed: {e.reason}"),
            ]
        return [Judged(accepted=True)]

    # -- the application's side

    def said(self, octets: bytes) -> list[Effect]:
        """The application has said something to the user."""
        return [] if self._ended else [Send(frame) for frame in data(octets)]

    def seal(self, payload: bytes, unix: float) -> list[Effect]:
        """The application wants the user to keep a cookie; it takes the place of the one before (RFC 5352 3.8).

        Raises:
            CookieError: there are no keys, or the payload is empty or too long.
        """
        if self.config.keys is None:
            raise CookieError(NO_KEYS)
        cookie = self.config.keys.seal(payload, self.config.pool, unix)
        return self._say(Cookie(cookie=cookie))

    def recommend(self, card: BusinessCard) -> list[Effect]:
        """Tell the user to which elements to fail over, in what order (RFC 5352 3.9)."""
        return self._say(card)

    def _say(self, message: Cookie | BusinessCard) -> list[Effect]:
        return [] if self._ended else [Send(control(message))]

    # --

    def _open(self) -> list[Effect]:
        if self._open_at is None:
            return []
        self._open_at = None
        return [Open()]

    def _garbage(self, offset: int, reason: str) -> list[Effect]:
        self._ended = True
        return [Tell(Malformed(peer=self._peer, offset=offset, reason=reason)), End(reason)]

    def _end(self, reason: str, what: str) -> list[Effect]:
        self._ended = True
        return [self._refused(what, reason), End(reason)]

    def _refused(self, what: str, reason: str) -> Tell:
        return Tell(Refused(threat=THREAT, peer=self._peer, what=what, reason=reason))

    def _ignored(self, what: str, reason: str) -> Tell:
        return Tell(Ignored(peer=self._peer, what=what, reason=reason))
