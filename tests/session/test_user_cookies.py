# SPDX-License-Identifier: Apache-2.0
"""The newest cookie goes first to the next element, and what comes early waits (RFC 5352 3.8)."""

from __future__ import annotations

import pytest

from rserpool.session.user import MOST_EARLY
from rserpool.wire import asap
from support.rig_session import (
    opened,
)


@pytest.mark.rfc("RFC 5352 3.8: the newest cookie goes first to the next element")
def test_the_newest_cookie_goes_unchanged_and_first_and_to_each_next_element() -> None:
    rig = opened(1, 2, 3)
    for cookie in (b"old", b"new", bytes(range(256))):
        rig.control(asap.Cookie(cookie=cookie))
    rig.lose()
    rig.send(b"data")
    assert rig.said() == [asap.CookieEcho(cookie=bytes(range(256))), b"data"]
    rig.lose()
    assert rig.said()[0] == asap.CookieEcho(cookie=bytes(range(256)))


def test_without_a_cookie_none_is_echoed_and_the_first_element_never_gets_one() -> None:
    rig = opened(1, 2)
    rig.send(b"data")
    assert rig.said() == [b"data"]
    rig.lose()
    rig.send(b"more")
    assert rig.said() == [b"more"]


def test_a_cookie_that_comes_before_the_application_has_agreed_counts_after_it() -> None:
    rig = opened(1, 2)
    rig.agrees = None
    rig.lose()
    rig.control(asap.Cookie(cookie=b"early"))
    rig.data(b"greeting")
    assert (rig.machine.cookie, rig.received()) == (None, b"")
    rig.agree()
    assert (rig.machine.cookie, rig.received()) == (b"early", b"greeting")
    assert rig.said() == []  # its own cookie need not go back to it


def test_what_comes_before_the_application_has_agreed_is_bounded() -> None:
    rig = opened(1, 2, 3)
    rig.agrees = None
    rig.lose()
    rig.octets(b"\0" * MOST_EARLY)
    assert rig.tried == [2]
    rig.octets(b"\0")
    assert rig.tried == [2, 3]
    rig.agree()
    assert rig.received() == b""


def test_what_a_refused_element_has_said_is_not_delivered() -> None:
    rig = opened(1, 2, 3)
    rig.agrees = None
    rig.lose()
    rig.data(b"do not listen to me")
    rig.decline()
    rig.agree()
    assert rig.received() == b""
