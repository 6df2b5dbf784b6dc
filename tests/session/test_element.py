# SPDX-License-Identifier: Apache-2.0
"""The element's end of a connection: cookie first, then data; what does not belong there is refused, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.events import Ignored, Malformed, Refused
from rserpool.session.cookies import CookieError, CookieKeys, Opened
from rserpool.session.element import (
    CONTROLS,
    FIRST_FRAME,
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
    may_use,
)
from rserpool.session.frames import Frame, FrameReader, control, data, encode
from rserpool.wire import Message, PoolElement, Ppid, TcpTransport, asap, decode, policies
from rserpool.wire import encode as encode_message
from rserpool.wire.enrp import Presence
from support.strategies import messages

POOL = b"cluster.local/demo/echo"
T, UNIX = 1000.0, 1_800_000_000.0
KEYS = CookieKeys((1, bytes(range(32))))
PEER = "anonymous at 10.0.0.9 at 10.0.0.9:4711"
ELEMENT = PoolElement(
    identifier=7, home=1, life=300, transport=TcpTransport(port=7008, address=IPv4Address("10.0.0.2")),
    policy=policies.RoundRobin(),
)  # fmt: skip
CARD = asap.BusinessCard(pool_handle=b"echo", elements=(ELEMENT,))


def session(keys: CookieKeys | None = KEYS) -> ElementSession:
    return ElementSession(ElementSessionConfig(pool=POOL, keys=keys), PEER, T)


def said(*frames: bytes, of: ElementSession | None = None, now: float = T, unix: float = UNIX) -> list[Effect]:
    return (of or session()).received(b"".join(frames), now, unix)


def echo(cookie: bytes) -> bytes:
    return control(asap.CookieEcho(cookie=cookie))


def words(text: bytes) -> bytes:
    return b"".join(data(text))


def told(effects: list[Effect]) -> list[Refused | Malformed | Ignored]:
    return [effect.event for effect in effects if isinstance(effect, Tell)]


@pytest.mark.rfc("RFC 5352 3.8: cookies go to a user over the control channel")
def test_a_cookie_that_comes_first_is_known_before_the_application_is_connected() -> None:
    here = session()
    effects = said(echo(KEYS.seal(b"state", POOL, UNIX - 30)), words(b"more"), of=here)
    assert effects == [Judged(accepted=True), Open(), Relay(b"more")]
    assert here.cookie == Opened(b"state", 30.0)
    assert here.cookie_refused == ""


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
@pytest.mark.parametrize(
    ("cookie", "reason"),
    [
        (KEYS.seal(b"state", POOL, UNIX)[:-4] + bytes(4), "not authentic"),
        (KEYS.seal(b"state", b"cluster.local/demo/other", UNIX), "of another pool"),
        (KEYS.seal(b"state", POOL, UNIX - 3601), "too old"),
        (KEYS.seal(b"state", POOL, UNIX + 61), "from the future"),
        (CookieKeys((9, bytes(32))).seal(b"state", POOL, UNIX), "unknown key id"),
        (b"whatever", "no cookie has its length"),
        (bytes(60_000), "no cookie has its length"),
    ],
)
def test_a_cookie_that_is_not_believed_is_counted_and_told_and_the_connection_goes_on(
    cookie: bytes, reason: str
) -> None:
    here = session()
    effects = said(echo(cookie), words(b"more"), of=here)
    assert effects[0] == Judged(accepted=False)
    assert told(effects) == [
        Refused(threat="2.16", peer=PEER, what="ASAP_COOKIE_ECHO", reason=f"the cookie is not believed: {reason}")
    ]
    assert effects[2:] == [Open(), Relay(b"more")]
    assert here.cookie is None
    assert here.cookie_refused == reason


def test_without_keys_no_cookie_is_believed_or_made() -> None:
    here = session(None)
    said(echo(KEYS.seal(b"state", POOL, UNIX)), of=here)
    assert here.cookie_refused == "this element has no keys"
    with pytest.raises(CookieError, match="no keys"):
        here.seal(b"state", UNIX)


@pytest.mark.rfc("RFC 5352 3.8: cookies go to a user over the control channel")
def test_a_cookie_that_is_not_the_first_frame_has_no_effect() -> None:
    for before in (words(b"x"), encode(Frame(0, b"")), encode(Frame(77, b"x")), echo(KEYS.seal(b"a", POOL, UNIX))):
        here = session()
        said(before, of=here)
        first = here.cookie
        effects = said(echo(KEYS.seal(b"b", POOL, UNIX)), of=here)
        assert told(effects) == [
            Ignored(peer=PEER, what="ASAP_COOKIE_ECHO", reason="it is not the first frame of the connection")
        ]
        assert here.cookie == first


def test_a_cookie_that_takes_its_time_is_believed_all_the_same() -> None:
    here = session()
    assert here.wake(T + FIRST_FRAME) == [Open()]
    effects = said(echo(KEYS.seal(b"state", POOL, UNIX)), of=here, now=T + 9)
    assert effects == [Judged(accepted=True)]
    assert here.cookie is not None


def test_an_application_that_speaks_first_is_connected_after_a_moment_of_silence() -> None:
    here = session()
    assert here.deadline() == T + FIRST_FRAME
    assert here.wake(T + FIRST_FRAME - 0.001) == []
    assert here.wake(T + FIRST_FRAME) == [Open()]
    assert here.deadline() is None
    assert here.wake(T + 1) == []
    assert said(words(b"late"), of=here) == [Relay(b"late")]


@pytest.mark.rfc("PROTOCOL 9.6")
@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=8), st.lists(st.integers(0, 600), max_size=9))
def test_user_data_comes_out_as_it_went_in_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    here, stream, at, effects = session(), b"".join(map(words, pieces)), 0, list[Effect]()
    for cut in [*sorted(c for c in cuts if c < len(stream)), len(stream)]:
        effects += said(stream[at:cut], of=here)
        at = cut
    assert effects[0] == Open()
    relayed = [e.octets for e in effects[1:] if isinstance(e, Relay)]
    assert len(relayed) == len(effects) - 1
    assert b"".join(relayed) == b"".join(pieces)


@given(st.binary(max_size=200_000))
def test_what_the_application_says_is_framed(octets: bytes) -> None:
    sent = [e.octets for e in session().said(octets) if isinstance(e, Send)]
    frames = FrameReader().feed(b"".join(sent))
    assert {f.ppid for f in frames} <= {0}
    assert b"".join(f.payload for f in frames) == octets


@pytest.mark.rfc(
    "RFC 5352 3.8: cookies go to a user over the control channel",
    "RFC 5352 3.9: a business card goes to a user where there is a control channel",
)
def test_cookies_and_business_cards_go_to_the_user_as_control_messages() -> None:
    here = session()
    sent = [e.octets for e in (*here.recommend(CARD), *here.seal(b"state", UNIX)) if isinstance(e, Send)]
    frames = FrameReader().feed(b"".join(sent))
    assert [f.ppid for f in frames] == [11, 11]
    card, cookie = (decode(f.payload, Ppid.ASAP) for f in frames)
    assert card == CARD
    assert isinstance(cookie, asap.Cookie)
    assert KEYS.open(cookie.cookie, POOL, UNIX, 60).payload == b"state"


def test_an_end_of_the_users_words_is_handed_on_once_and_the_application_may_go_on() -> None:
    here = session()
    assert said(words(b"all"), of=here) == [Open(), Relay(b"all")]
    assert here.finished() == [Finish()]
    assert here.finished() == []
    assert said(words(b"and more"), of=here) == []
    assert [type(e) for e in here.said(b"answer")] == [Send]
    assert session().finished() == [Open(), Finish()], "an application is told of a user that says nothing, too"


def garbage() -> dict[str, Callable[[ElementSession], list[Effect]]]:
    cut = words(b"half")[:-1]
    return {
        "too long a frame": lambda s: said(words(b"x"), bytes(4) + b"\xff\xff\xff\xff", of=s),
        "no message": lambda s: said(encode(Frame(11, b"GET / HTTP/1.1")), of=s),
        "an empty message": lambda s: said(encode(Frame(11, b"")), of=s),
        "an end within a frame": lambda s: [*said(cut, of=s), *s.finished()],
    }


@pytest.mark.parametrize("what", garbage())
def test_garbage_costs_the_connection_and_nothing_else(what: str) -> None:
    here = session()
    effects = garbage()[what](here)
    assert isinstance(effects[-1], End)
    (event,) = told(effects)
    assert isinstance(event, Malformed)
    assert event.reason == effects[-1].reason
    assert here.is_over
    assert here.deadline() is None
    assert [here.wake(T + 1), said(words(b"x"), of=here), here.finished(), here.said(b"x"), here.recommend(CARD)] == [
        []
    ] * 5
    assert here.seal(b"x", UNIX) == []


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
@given(messages.filter(lambda m: not isinstance(m, asap.CookieEcho)))
def test_no_other_message_has_an_effect_and_those_of_registrars_are_refused(message: Message) -> None:
    enrp = type(message).__module__.endswith("enrp")
    frame = encode(Frame(Ppid.ENRP if enrp else Ppid.ASAP, encode_message(message)))
    effects = said(frame, words(b"more"))
    (event,) = told(effects)
    assert [e for e in effects if not isinstance(e, Tell)] == [Open(), Relay(b"more")]
    if isinstance(message, asap.Cookie | asap.BusinessCard | asap.AsapError):
        assert isinstance(event, Ignored)
    else:
        assert isinstance(event, Refused)
        assert event.threat == "2.16"


def test_who_floods_the_control_channel_loses_the_connection() -> None:
    here = session()
    flood = encode(Frame(11, encode_message(asap.EndpointUnreachable(pool_handle=b"echo", pe_identifier=7))))
    effects = said(flood * 100, of=here)
    assert isinstance(effects[-1], End)
    assert len(told(effects)) == CONTROLS.burst + 1
    assert told(effects)[-1] == Refused(
        threat="2.16", peer=PEER, what="control messages", reason="more than 10 control messages a second"
    )
    patient = session()
    for second in range(60):
        effects = said(flood * 10, encode(Frame(78, b"")), of=patient, now=T + 1.1 * second)
        assert not any(isinstance(e, End) for e in effects), second


def test_presence_of_a_registrar_is_refused_by_its_protocol_alone() -> None:
    frame = encode(Frame(Ppid.ENRP, b"anything at all"))
    assert told(said(frame)) == [
        Refused(
            threat="2.16", peer=PEER, what="ENRP", reason="no ENRP message belongs on a connection with a pool user"
        )
    ]
    as_asap = encode(Frame(Ppid.ASAP, encode_message(Presence(sender=1, receiver=2))))
    assert isinstance(told(said(as_asap))[0], Refused | Malformed)


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=5))
def test_of_any_octets_nothing_but_effects_comes(stream: bytes, cuts: list[int]) -> None:
    here, at = session(), 0
    for cut in [*sorted(cuts), len(stream)]:
        effects = said(stream[at:cut], of=here)
        assert sum(isinstance(e, End) for e in effects) <= 1
        at = max(at, cut)
    assert len(here.finished()) <= 2


def test_keys_that_change_count_from_then_on() -> None:
    here = session()
    newer = CookieKeys((2, bytes(32)), {1: KEYS.current[1]})
    here.config = ElementSessionConfig(pool=POOL, keys=newer)
    (sent,) = here.seal(b"state", UNIX)
    assert isinstance(sent, Send)
    cookie = decode(FrameReader().feed(sent.octets)[0].payload, Ppid.ASAP)
    assert isinstance(cookie, asap.Cookie)
    assert cookie.cookie[1] == 2


def test_users_and_elements_may_use_an_element_anonymous_ones_where_the_pool_wants_them_registrars_never() -> None:
    may = {
        role: [may_use(Principal(role=role, name="x"), anonymous=anonymous) is None for anonymous in (True, False)]
        for role in Role
    }
    assert may == {
        Role.USER: [True, True],
        Role.ELEMENT: [True, True],
        Role.UNVERIFIED: [True, True],
        Role.ANONYMOUS: [True, False],
        Role.REGISTRAR: [False, False],
    }
    denial = may_use(Principal(role=Role.REGISTRAR, name="x"), anonymous=True)
    assert denial is not None
    assert denial.threat == "2.16"
