# SPDX-License-Identifier: Apache-2.0
"""What a session sends: queued, bounded, in pieces, again at the next element, or given back (RFC 5352 6.5.1, 6.5.5)."""

from __future__ import annotations

import pytest

from rserpool.session.backlog import PIECE, QueueFull
from rserpool.session.seeker import State
from rserpool.session.sending import SendOptions, check, check_within_session, recipients
from rserpool.session.user import SessionOver
from rserpool.session.user_effects import ElementRemoved, EndData, Ending, HangUp, Suspect, Transmit, Unsent
from support.rig_session import Rig, dead, element, elements, number_of, opened

OPTIONS = SendOptions


@pytest.mark.rfc("RFC 5352 6.5.1: messages wait while a pool is resolved")
def test_messages_wait_while_the_pool_is_resolved_and_go_in_order() -> None:
    rig = Rig(1)
    rig.answer = None
    rig.begin()
    for k in range(3):
        rig.send(b"%d" % k)
    assert rig.of(Transmit) == []
    rig.learn(elements(1))
    rig.do(rig.machine.resolved(rig.pool, rig.now))
    rig.drain()
    assert rig.said() == [b"0", b"1", b"2"]


@pytest.mark.rfc("RFC 5352 6.5.1: messages wait while a pool is resolved")
@pytest.mark.parametrize(
    ("messages", "size", "fits"), [(1024, 1, 1024), (2000, 1024, 1024), (2, 600_000, 1), (1, 2_000_000, 0)]
)
def test_what_waits_is_bounded_in_number_and_octets_and_says_so(messages: int, size: int, fits: int) -> None:
    rig = Rig(1)
    rig.answer = None
    rig.begin()
    for _ in range(fits):
        rig.send(bytes(size))
    if fits < messages or size == 1:
        with pytest.raises(QueueFull, match="wait to be sent"):
            rig.send(bytes(size))
    assert rig.machine.unsent == fits * size


def test_at_an_open_element_one_message_may_be_of_any_length_and_goes_in_pieces() -> None:
    rig = opened(1)
    octets = bytes(range(256)) * 12_000
    rig.send(octets)
    assert len(rig.of(Transmit)) == 1
    assert rig.machine.unsent == len(octets) - PIECE
    rig.drain()
    assert b"".join(s for s in rig.said() if isinstance(s, bytes)) == octets
    assert max(len(t.octets) for t in rig.of(Transmit)) <= PIECE + 8


def test_nothing_is_sent_before_the_connection_takes_more() -> None:
    rig = opened(1)
    rig.send(b"one")
    rig.send(b"two")
    assert rig.said() == [b"one"]
    assert rig.machine.wants_to_write
    rig.writable()
    assert rig.said() == [b"one", b"two"]
    assert not rig.machine.wants_to_write


def test_a_message_given_to_the_lost_connection_in_part_is_sent_again_as_a_whole() -> None:
    rig = opened(1, 2)
    octets = bytes(3 * PIECE)
    rig.send(octets)
    rig.writable()
    rig.lose()
    rig.drain()
    assert b"".join(s for s in rig.said() if isinstance(s, bytes)) == octets


def test_in_a_pool_without_a_control_channel_the_stream_is_the_data() -> None:
    rig = opened(1, 2, framed=False, secure=False)
    rig.send(b"hello")
    assert [t.octets for t in rig.of(Transmit)] == [b"hello"]
    rig.octets(b"\xff\xff raw")
    assert rig.received() == b"\xff\xff raw"
    rig.lose()
    assert rig.at == 2
    assert rig.machine.cookie is None


def test_an_empty_message_is_nothing() -> None:
    rig = opened(1)
    rig.send(b"")
    assert rig.of(Transmit) == []


def test_after_its_end_a_session_takes_nothing() -> None:
    rig = opened(1)
    rig.do(rig.machine.close(rig.now))
    with pytest.raises(SessionOver):
        rig.send()


# -- options


@pytest.mark.rfc("RFC 5352 6.5.5: the delivery options")
def test_a_message_that_must_not_go_elsewhere_comes_back_and_the_others_go_on() -> None:
    rig = opened(1, 2)
    rig.send(b"sent")
    rig.send(b"mine", OPTIONS.SEND_NO_FAILOVER)
    rig.send(b"any", OPTIONS.SEND_FAILOVER)
    rig.send(b"default")
    rig.clear()
    rig.lose("connection reset")
    rig.drain()
    assert rig.of(Unsent) == [Unsent(element(1), (b"mine",), "connection reset")]
    assert rig.said() == [b"any", b"default"]


@pytest.mark.rfc("RFC 5352 6.5.5: the delivery options")
def test_a_message_for_the_first_choice_only_comes_back_when_that_cannot_be_reached() -> None:
    rig = Rig(1, 2)
    rig.answer = None
    dead(rig, 1)
    rig.begin()
    rig.send(b"first or nobody", OPTIONS.SEND_NO_FAILOVER)
    rig.send(b"whoever")
    rig.learn(elements(1, 2))
    rig.do(rig.machine.resolved(rig.pool, rig.now))
    assert [u.messages for u in rig.of(Unsent)] == [(b"first or nobody",)]
    assert rig.said() == [b"whoever"]


@pytest.mark.rfc("RFC 5352 6.5.5: the delivery options")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (OPTIONS.UNORDERED, "TCP and TLS keep messages in order"),
        (OPTIONS.SEND_FAILOVER | OPTIONS.SEND_NO_FAILOVER, "fail over or not"),
        (OPTIONS.SEND_TO_ALL | OPTIONS.SEND_TO_LAST, "to all or to the last"),
        (OPTIONS.SEND_TO_SELF, "addition to SEND_TO_ALL"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_what_to_do(options: SendOptions, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(options)
    with pytest.raises(ValueError, match=words):
        opened(1).send(b"x", options)


def test_a_session_sends_to_its_element_and_not_to_all() -> None:
    with pytest.raises(ValueError, match=r"PoolUser\.send"):
        check_within_session(OPTIONS.SEND_TO_ALL)
    check_within_session(OPTIONS.SEND_TO_LAST)
    check_within_session(OPTIONS.USE_DEFAULT)


def test_the_numbers_are_the_rfcs() -> None:
    assert {o.name: o.value for o in OPTIONS} == {
        "SEND_FAILOVER": 1, "SEND_NO_FAILOVER": 2, "SEND_TO_LAST": 4, "SEND_TO_ALL": 8, "SEND_TO_SELF": 16,
        "UNORDERED": 0x1000,
    }  # fmt: skip
    assert OPTIONS.USE_DEFAULT.value == 0


@pytest.mark.rfc("RFC 5352 6.5.5: the delivery options")
@pytest.mark.parametrize(
    ("options", "last", "own", "wanted"),
    [
        (OPTIONS.USE_DEFAULT, 2, None, [3]),
        (OPTIONS.SEND_TO_LAST, 2, None, [2]),
        (OPTIONS.SEND_TO_LAST, None, None, [3]),
        (OPTIONS.SEND_TO_LAST, 9, None, [3]),
        (OPTIONS.SEND_TO_ALL, 2, None, [1, 2, 3]),
        (OPTIONS.SEND_TO_ALL, None, 2, [1, 3]),
        (OPTIONS.SEND_TO_ALL | OPTIONS.SEND_TO_SELF, None, 2, [1, 2, 3]),
    ],
)
def test_whom_a_message_to_a_pool_goes_to(
    options: SendOptions, last: int | None, own: int | None, wanted: list[int]
) -> None:
    numbers = {k: number_of(k) for k in (1, 2, 3, 9)}
    found = recipients(
        options,
        elements(1, 2, 3),
        lambda _: element(3),
        numbers[last] if last else None,
        numbers[own] if own else None,
    )
    assert found == [element(k) for k in wanted]


def test_in_an_empty_pool_there_is_nobody_to_send_to() -> None:
    for options in (OPTIONS.USE_DEFAULT, OPTIONS.SEND_TO_ALL, OPTIONS.SEND_TO_LAST):
        assert recipients(options, (), lambda _: None, None, None) == []


# -- the end of data


def test_the_end_of_data_is_said_after_the_data_and_once_and_the_answer_is_still_heard() -> None:
    rig = opened(1, 2)
    rig.send(b"one")
    rig.send(b"two")
    rig.do(rig.machine.end_data(rig.now))
    assert rig.of(EndData) == []
    rig.writable()
    rig.do(rig.machine.end_data(rig.now))
    assert [type(e) for e in rig.done] == [Transmit, Transmit, EndData]
    with pytest.raises(SessionOver):
        rig.send()
    rig.data(b"answer")
    rig.lose("it has hung up", orderly=True)
    assert rig.received() == b"answer"
    assert rig.ended is not None
    assert rig.ended.how is Ending.FINISHED


def test_at_the_next_element_the_end_of_data_is_said_again() -> None:
    rig = opened(1, 2)
    rig.do(rig.machine.end_data(rig.now))
    rig.lose("connection reset")
    assert [e.attempt for e in rig.of(EndData)] == [1, 2]
    assert rig.state() is State.OPEN


# -- elements that leave


def test_a_session_whose_element_leaves_the_pool_is_told_once_and_goes_on_while_the_connection_lives() -> None:
    rig = opened(1, 2)
    attempt = rig.machine.attempt
    for _ in range(3):
        rig.update(2)
    assert [e.element for e in rig.of(ElementRemoved)] == [element(1)]
    assert [s.attempt for s in rig.of(Suspect)] == [attempt]  # the system finds out whether it is dead
    rig.send(b"still there?")
    assert (rig.at, rig.reported) == (1, [])
    rig.lose("connection timed out")
    assert (rig.at, rig.reported) == (2, [1])


def test_an_element_that_comes_back_and_leaves_again_is_told_of_again() -> None:
    rig = opened(1, 2)
    rig.update(2)
    rig.update(1, 2)
    rig.update(2)
    assert len(rig.of(ElementRemoved)) == 2


def test_a_session_that_wants_to_leaves_an_element_that_was_removed_without_reporting_it() -> None:
    rig = opened(1, 2, leave_removed=True)
    rig.send(b"one")
    rig.send(b"two")
    attempt = rig.machine.attempt
    rig.clear()
    rig.update(2)
    assert HangUp(attempt, abort=False) in rig.done
    assert (rig.at, rig.reported, rig.said()) == (2, [], [b"two"])


def test_a_session_that_may_not_fail_over_stays_with_a_removed_element() -> None:
    rig = opened(1, 2, leave_removed=True, failover=False)
    rig.update(2)
    assert (rig.at, rig.ended) == (1, None)
    assert len(rig.of(ElementRemoved)) == 1


def test_a_change_of_other_elements_is_nothing_to_the_session() -> None:
    rig = opened(1, 2)
    rig.clear()
    rig.update(1)
    rig.update(1, 2, 3)
    assert rig.done == []
