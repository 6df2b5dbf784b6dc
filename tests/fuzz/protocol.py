# SPDX-License-Identifier: Apache-2.0
"""Readers of the protocol itself: messages, streams of messages, frames, cookies, announcements, a whole registrar."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import Final

from fuzz.trial import Read, Target, always
from rserpool.asap.announce import Announced
from rserpool.asap.authorisation import Role
from rserpool.session import frames
from rserpool.session.cookies import CookieError, CookieKeys
from rserpool.session.element import ElementSession, ElementSessionConfig
from rserpool.session.frames import FrameError, FrameReader
from rserpool.wire import RFC, RSPLIB, DecodeError, Dialect, Framer, Ppid, asap, decode, encode, ppid_of, to_jsonable
from support import samples
from support.rig_asapserver import PEER_ID, Rig
from support.wiredata import captures, vectors

POOL: Final = b"echo"
KEYS: Final = CookieKeys((1, b"k" * 32), {2: b"o" * 32})
NOW: Final = 1_800_000_000.0
_IDLE: Final = 70.0
"""Seconds that pass behind each input of a registrar: every timer but a registration's life comes."""


def _messages(ppid: Ppid) -> Iterator[bytes]:
    yield from (v.octets for v in vectors() if v.ppid is ppid)
    yield from (encode(m) for m in samples.SAMPLES if ppid_of(m) is ppid)


def _codec(ppid: Ppid, dialect: Dialect) -> Read:
    def read(octets: bytes) -> None:
        try:
            message = decode(octets, ppid, dialect)
        except DecodeError as e:
            assert 0 <= e.offset <= len(octets), "the fault is outside of the message"
            assert "\n" not in str(e), "a reason is one line"
            raise
        to_jsonable(message)
        if dialect is RFC:
            again = encode(message)
            assert decode(again, ppid) == message, "what was read is not what is written"

    return read


def _stream(octets: bytes) -> None:
    """Cut anywhere, a stream holds the same messages; the first octet says how it is cut."""
    step, octets = (octets[0] or 1) if octets else 1, octets[1:]
    whole, pieces = Framer(), Framer()
    refused = None
    try:
        messages = whole.feed(octets)
    except DecodeError as e:
        refused, messages = e, []
    assert whole.pending < 65536 + 4 or refused
    found: list[bytes] = []
    try:
        for at in range(0, len(octets), step):
            found += pieces.feed(octets[at : at + step])
    except DecodeError:
        assert refused is not None, "refused in pieces only"
    else:
        assert refused is None, "refused as a whole only"
        assert found == messages
    if refused is not None:
        raise refused


def _frames(octets: bytes) -> None:
    step, octets = (octets[0] or 1) if octets else 1, octets[1:]
    reader, found = FrameReader(), []
    for at in range(0, len(octets), step):
        found += reader.feed(octets[at : at + step])
        assert reader.pending <= frames.HEADER + frames.MAX_PAYLOAD
    assert octets.startswith(b"".join(frames.encode(frame) for frame in found))


def _session(octets: bytes) -> None:
    """An element's end of a session: whatever comes, it neither fails nor grows."""
    session = ElementSession(ElementSessionConfig(pool=POOL, keys=KEYS), "somebody", 0.0)
    for at in range(0, len(octets), 1000):
        if session.is_over:
            break
        session.received(octets[at : at + 1000], at / 1000, NOW)
    session.finished()


def _session_seeds() -> Iterator[bytes]:
    cookie = KEYS.seal(b"state", POOL, NOW)
    echo = frames.control(asap.CookieEcho(cookie=cookie))
    yield echo + b"".join(frames.data(b"hello"))
    yield b"".join(frames.data(b"hello" * 100))
    yield frames.control(asap.BusinessCard(pool_handle=POOL, elements=(samples.element(),)))


def _cookie(octets: bytes) -> None:
    opened = KEYS.open(octets, POOL, NOW, 3600.0)
    assert KEYS.seal(opened.payload, POOL, NOW - opened.age)[-32:]


def _announcement(octets: bytes) -> None:
    heard = Announced(10.0, 0.0)
    for _ in range(3):
        heard.heard(octets, ip_address("10.0.0.7"), 1.0)
    heard.wake(20.0)
    assert heard.endpoints == ()


def _registrar(octets: bytes) -> None:
    """Messages to a registrar; the first octet says of whom: element, anonymous user, user, or another registrar."""
    rig = Rig()
    rig.element(1).register()
    who = octets[0] % 4 if octets else 0
    far = (
        rig.element(2),
        rig.user(3, Role.ANONYMOUS),
        rig.user(4),
        rig.peer(PEER_ID),
    )[who]
    for message in Framer().feed(octets[1:]):
        if not far.is_up():
            break
        rig.hear(far, message)
        rig.run(0.01)
    rig.run(_IDLE)
    assert set(rig.machine._desk.space.pools) <= {POOL}, "a pool that nobody may have"


def _registrar_seeds() -> Iterator[bytes]:
    for who, ppid in ((0, Ppid.ASAP), (1, Ppid.ASAP), (3, Ppid.ENRP)):
        yield from (bytes([who]) + octets for octets in _messages(ppid))


def _rsplib(ppid: Ppid) -> Iterator[bytes]:
    return (c.octets for c in captures() if c.ppid is ppid and len(c.octets) < 2000)


TARGETS: Final = (
    *(
        Target(
            name=f"{ppid.name.lower()}-{'rfc' if dialect is RFC else 'rsplib'}",
            open=always(_codec(ppid, dialect)),
            refuses=(DecodeError,),
            seeds=partial(_messages if dialect is RFC else _rsplib, ppid),
        )
        for ppid in Ppid
        for dialect in (RFC, RSPLIB)
    ),
    Target(
        name="stream",
        open=always(_stream),
        refuses=(DecodeError,),
        seeds=lambda: [b"\7" + b"".join(_messages(Ppid.ASAP)), b"\1" + b"\1\0\0\4" * 9],
        longest=8192,
    ),
    Target(
        name="frames",
        open=always(_frames),
        refuses=(FrameError,),
        seeds=lambda: [b"\5" + seed for seed in _session_seeds()],
        longest=8192,
    ),
    Target(name="session", open=always(_session), seeds=_session_seeds, longest=8192),
    Target(
        name="cookie",
        open=always(_cookie),
        refuses=(CookieError,),
        seeds=lambda: [KEYS.seal(b"state" * n, POOL, NOW) for n in (1, 2, 3, 4, 100)],
    ),
    Target(
        name="announcement",
        open=always(_announcement),
        seeds=lambda: [encode(m) for m in samples.SAMPLES if isinstance(m, asap.ServerAnnounce)],
    ),
    Target(name="registrar", open=always(_registrar), refuses=(DecodeError,), seeds=_registrar_seeds),
)
