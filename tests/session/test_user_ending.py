# SPDX-License-Identifier: Apache-2.0
"""How a session ends, and what it leaves behind."""

from __future__ import annotations

import pytest

from rserpool.session import frames
from rserpool.session.search import REMEMBERED, Search
from rserpool.session.sending import SendOptions
from rserpool.session.user_effects import (
    Deliver,
    Dial,
    ElementLost,
    Ending,
    HangUp,
    Resolve,
)
from rserpool.wire import asap
from support.rig_session import (
    POOL,
    Rig,
    element,
    elements,
    is_who_it_should_be,
    opened,
)


def test_a_session_that_may_not_fail_over_ends_and_gives_its_messages_back() -> None:
    rig = opened(1, 2, failover=False)
    rig.send(b"one")
    rig.send(b"two")
    rig.send(b"three")
    rig.lose("connection reset")
    assert rig.ended is not None
    assert (rig.ended.how, rig.ended.element, rig.ended.unsent) == (Ending.LOST, element(1), (b"two", b"three"))
    assert rig.tried == []
    assert rig.reported == [1]


def test_a_session_in_which_the_end_of_the_element_is_the_end() -> None:
    rig = opened(1, 2, ends_with_element=True)
    rig.data(b"all I know")
    rig.lose("it has hung up", orderly=True)
    assert rig.ended is not None
    assert (rig.ended.how, rig.received()) == (Ending.FINISHED, b"all I know")
    other = opened(1, 2, ends_with_element=True)
    other.lose("connection reset")
    assert other.at == 2


def test_garbage_costs_the_element_its_connection_and_is_a_failure() -> None:
    rig = opened(1, 2)
    attempt = rig.machine.attempt
    rig.octets(b"\xff" * 64)
    assert HangUp(attempt, abort=True) in rig.done
    assert (rig.reported, rig.at) == ([1], 2)
    [lost] = rig.of(ElementLost)
    assert lost.reason.startswith("what it sends is no frame, at offset 4")
    rig.octets(b"\0\0\0\x0b\0\0\0\x04\x0b\0\0\x02")
    assert rig.reported == [1, 2]
    assert rig.of(ElementLost)[-1].reason.startswith("what it sends is no ASAP message: ")


def test_a_closed_session_hangs_up_and_says_nothing_more() -> None:
    rig = opened(1, 2)
    rig.send(b"one")
    attempt = rig.machine.attempt
    rig.do(rig.machine.close(rig.now))
    assert HangUp(attempt, abort=False) in rig.done
    assert rig.ended is not None
    assert rig.ended.how is Ending.CLOSED
    rig.clear()
    rig.do(rig.machine.lost(attempt, "late", rig.now, orderly=False))
    rig.do(rig.machine.updated(elements(2), rig.now))
    rig.do(rig.machine.close(rig.now))
    rig.run(100)
    assert rig.done == []


@pytest.mark.parametrize("state", ["resolving", "connecting", "asking"])
def test_closed_at_any_moment_it_leaves_nothing_behind(state: str) -> None:
    rig = Rig(1, 2)
    if state == "resolving":
        rig.answer = None
    if state == "connecting":
        rig.far[element(1).identifier] = None
    rig.begin()
    if state == "asking":
        rig.agrees = None
        rig.lose()
    rig.do(rig.machine.close(rig.now))
    assert rig.machine.deadline() is None
    assert rig.ended is not None
    if state != "resolving":
        assert rig.of(HangUp)[-1] == HangUp(rig.machine.attempt, abort=True)
    rig.clear()
    rig.do(rig.machine.resolved(rig.pool, rig.now))
    rig.do(rig.machine.connected(rig.machine.attempt, is_who_it_should_be(1), rig.now))
    assert rig.of(Dial) == []
    assert rig.of(Deliver) == []
    assert rig.of(Resolve) == []


def test_a_message_that_insists_takes_a_session_over_that_would_have_ended() -> None:
    rig = opened(1, 2, failover=False)
    rig.send(b"gone with the first")
    rig.send(b"ordinary")
    rig.send(b"insists", SendOptions.SEND_FAILOVER)
    rig.clear()
    rig.lose()
    assert rig.at == 2
    assert rig.said() == [b"insists"]


def test_frames_that_are_not_for_a_user_are_ignored_and_counted() -> None:
    rig = opened(1, 2)
    rig.clear()
    for ppid in (12, 5, 0xFFFFFFFF):
        rig.octets(frames.encode(frames.Frame(ppid, b"whatever")))
    rig.control(asap.CookieEcho(cookie=b"the wrong way round"))
    rig.control(asap.EndpointKeepAlive(server_id=1, pool_handle=POOL))
    rig.octets(frames.encode(frames.Frame(frames.DATA, b"")))
    assert rig.done == []
    assert (rig.machine.ignored, rig.machine.cookie, rig.at) == (5, None, 1)


def test_a_connection_that_is_not_the_present_one_is_hung_up_and_not_heard() -> None:
    rig = opened(1, 2)
    old = rig.machine.attempt
    rig.lose()
    rig.clear()
    rig.do(rig.machine.connected(old, is_who_it_should_be(1), rig.now))
    assert rig.done == [HangUp(old, abort=True)]
    rig.do(rig.machine.received(old, b"ghost", rig.now))
    rig.do(rig.machine.writable(old, rig.now))
    assert rig.at == 2
    assert len(rig.done) == 1


def test_who_is_avoided_is_remembered_within_bounds() -> None:
    search = Search(None)
    for identifier in range(1, 10 * REMEMBERED):
        search.failed(identifier)
        search.declined(identifier)
        assert search.avoids(identifier)
    assert len(search._failed) <= REMEMBERED
    assert len(search._declined) <= REMEMBERED
