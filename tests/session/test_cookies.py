# SPDX-License-Identifier: Apache-2.0
"""Cookies: what one element seals every other of the pool opens, and nothing else (threat 2.16)."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rserpool.session.cookies import MAX_PAYLOAD, SKEW, CookieError, CookieKeys, Opened

POOL = b"cluster.local/demo/echo"
NOW = 1_800_000_000.0
HOUR = 3600.0
KEY, OLDER = bytes(range(32)), bytes(range(100, 132))
KEYS = CookieKeys((2, KEY), {1: OLDER})

payloads = st.binary(min_size=1, max_size=300)


def refused(octets: bytes, *, pool: bytes = POOL, now: float = NOW, keys: CookieKeys = KEYS) -> str:
    """Why a cookie is not believed."""
    with pytest.raises(CookieError) as raised:
        keys.open(octets, pool, now, HOUR)
    assert str(raised.value) == raised.value.reason
    return raised.value.reason


def crafted(
    body: bytes = b"state\2\2", *, version: int = 1, key_id: int = 2, issued: int = int(NOW), pool: bytes = POOL,
    key: bytes = KEY,
) -> bytes:  # fmt: skip
    """A cookie put together by hand, from the page's words."""
    head = struct.pack("!BBI", version, key_id, issued) + hashlib.sha256(pool).digest()[:8]
    return head + body + hmac.new(key, head + body, "sha256").digest()


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
@given(payloads, st.integers(0, int(HOUR)))
def test_what_is_sealed_is_opened_with_its_age_and_its_length_is_a_multiple_of_four(payload: bytes, age: int) -> None:
    cookie = KEYS.seal(payload, POOL, NOW)
    assert len(cookie) % 4 == 0
    assert payload in cookie
    opened = KEYS.open(cookie, POOL, NOW + age, HOUR)
    assert opened == Opened(payload, age)


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_a_cookie_is_laid_out_as_the_page_says() -> None:
    assert KEYS.seal(b"state!!!", POOL, NOW + 0.9) == crafted(b"state!!!\2\2")
    assert KEYS.open(crafted(b"abcdef\4\4\4\4"), POOL, NOW, HOUR).payload == b"abcdef"


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
@given(payloads, st.data())
def test_a_cookie_of_which_anything_was_altered_is_refused(payload: bytes, choice: st.DataObject) -> None:
    cookie = bytearray(KEYS.seal(payload, POOL, NOW))
    at = choice.draw(st.integers(0, len(cookie) - 1))
    cookie[at] ^= choice.draw(st.integers(1, 255))
    expected = {0: "unknown version"}.get(at, "not authentic")
    reason = refused(bytes(cookie))
    assert reason == expected or (at == 1 and reason == "unknown key id")


@given(st.binary(max_size=400))
def test_octets_of_anybody_are_refused_and_never_more_than_that(octets: bytes) -> None:
    assert refused(octets) in {"no cookie has its length", "unknown version", "unknown key id", "not authentic"}


@given(payloads, payloads, st.integers(1, 46))
def test_two_cookies_spliced_are_none(one: bytes, other: bytes, at: int) -> None:
    first, second = KEYS.seal(one, POOL, NOW), KEYS.seal(other, POOL, NOW + 5)
    spliced = first[:at] + second[at:]
    assume(spliced not in (first, second))
    assert refused(spliced, now=NOW + 5) in {"not authentic", "no cookie has its length"}


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_a_cookie_of_another_pool_is_refused_even_if_the_pools_had_one_key() -> None:
    assert refused(KEYS.seal(b"state", b"cluster.local/demo/other", NOW)) == "of another pool"
    other = CookieKeys((2, bytes(32)))
    assert refused(other.seal(b"state", POOL, NOW)) == "not authentic"


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_a_cookie_is_believed_until_it_is_too_old() -> None:
    cookie = KEYS.seal(b"state", POOL, NOW)
    assert KEYS.open(cookie, POOL, NOW + HOUR, HOUR).age == HOUR
    assert refused(cookie, now=NOW + HOUR + 1) == "too old"


def test_the_clocks_of_elements_may_differ_by_a_minute_and_no_more() -> None:
    cookie = KEYS.seal(b"state", POOL, NOW + SKEW)
    assert KEYS.open(cookie, POOL, NOW, HOUR) == Opened(b"state", 0.0)
    assert refused(KEYS.seal(b"state", POOL, NOW + SKEW + 1)) == "from the future"


@pytest.mark.rfc("threats 2.16: data and control share one connection, cookies are signed")
def test_a_new_key_takes_over_without_a_cookie_lost_and_the_oldest_is_believed_no_more() -> None:
    first, second, third = (1, OLDER), (2, KEY), (3, bytes(32))
    before = CookieKeys(first).seal(b"state", POOL, NOW)
    handed_out = CookieKeys(first, dict([second]))
    assert handed_out.open(CookieKeys(second).seal(b"s", POOL, NOW), POOL, NOW, HOUR).payload == b"s"
    in_use = CookieKeys(second, dict([first]))
    assert in_use.open(before, POOL, NOW, HOUR).payload == b"state"
    assert in_use.seal(b"state", POOL, NOW)[1] == 2
    assert refused(before, keys=CookieKeys(third, dict([second]))) == "unknown key id"


@pytest.mark.parametrize("length", [0, MAX_PAYLOAD + 1])
def test_nothing_and_too_much_is_not_sealed(length: int) -> None:
    with pytest.raises(CookieError, match="1 to 4096 octets"):
        KEYS.seal(bytes(length), POOL, NOW)


def test_the_longest_payload_is_sealed_and_opened() -> None:
    cookie = KEYS.seal(bytes(MAX_PAYLOAD), POOL, NOW)
    assert KEYS.open(cookie, POOL, NOW, HOUR).payload == bytes(MAX_PAYLOAD)
    assert refused(cookie + bytes(4)) == "no cookie has its length"


@pytest.mark.parametrize("body", [b"state\0", b"state\5\5\5\5\5", b"sta\1\2", b"\0\0", b"\4\4"])
def test_who_has_the_key_and_pads_in_another_way_is_refused_too(body: bytes) -> None:
    assert refused(crafted(body)) == "malformed"


@pytest.mark.parametrize(
    ("current", "older"),
    [((256, KEY), {}), ((-1, KEY), {}), ((1, KEY[:31]), {}), ((1, KEY), {2: b"short"}), ((1, KEY), {1: OLDER})],
)
def test_keys_that_cannot_be_are_refused_without_being_shown(
    current: tuple[int, bytes], older: dict[int, bytes]
) -> None:
    with pytest.raises(ValueError, match="key") as raised:
        CookieKeys(current, older)
    assert "x01" not in str(raised.value)


def test_keys_show_themselves_nowhere() -> None:
    assert repr(KEYS) == "CookieKeys()"
