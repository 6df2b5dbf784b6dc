# SPDX-License-Identifier: Apache-2.0
"""What is said over the control channel: all of it is read, or one error says why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.daemon.control_channel import (
    LONGEST_MESSAGE,
    MOST_ANSWER,
    MOST_PODS,
    Answer,
    Bundle,
    ChannelError,
    Ended,
    Loaded,
    Settings,
    question,
    read_answer,
)
from support.rig_identity import UID

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.dictionaries(st.sampled_from(["settings", "bundle", "ended", "renew"]), JSON)


def read(value: object) -> Answer:
    return read_answer(200, json.dumps(value).encode())


def refused(status: int, body: bytes) -> str:
    with pytest.raises(ChannelError) as raised:
        read_answer(status, body)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_question_says_who_asks_what_is_loaded_and_how_it_is() -> None:
    loaded = Loaded(settings="s1", renew="r1")
    assert json.loads(question(Role.REGISTRAR, 25.0, loaded, {"serving": True})) == {
        "role": "registrar",
        "wait": 25.0,
        "loaded": {"settings": "s1", "bundle": "", "ended": "", "renew": "r1"},
        "transports": ["TCP"],
        "state": {"serving": True},
    }


def test_every_part_is_read_and_what_a_newer_operator_adds_is_not() -> None:
    answer = read(
        {
            "settings": {"version": "s2", "tables": {"policy": {"weight": 2}}, "more": 1},
            "bundle": {"version": "b2", "pem": "PEM"},
            "ended": {"version": "e2", "pod_uids": [UID]},
            "renew": {"version": "r2"},
            "tea": {"version": "t1"},
        }
    )
    assert answer == Answer(
        settings=Settings(version="s2", tables={"policy": {"weight": 2}}),
        bundle=Bundle(version="b2", pem=b"PEM"),
        ended=Ended(version="e2", pod_uids=(UID,)),
        renew="r2",
    )
    assert answer.versions == {("settings", "s2"), ("bundle", "b2"), ("ended", "e2"), ("renew", "r2")}


def test_what_was_revoked_and_is_no_uid_of_a_pod_keeps_nobody_from_reading_the_others() -> None:
    answer = read({"ended": {"version": "e", "pod_uids": ["echo-0", UID, UID.upper(), "\ud800"]}})
    assert answer.ended == Ended(version="e", pod_uids=(UID,))


def test_leaves_that_were_revoked_are_read_as_numbers_and_what_is_none_is_left_out() -> None:
    answer = read({"ended": {"version": "e", "pod_uids": [], "serials": ["0abc", "ABD", "", "0x1", "f" * 41]}})
    assert answer.ended == Ended(version="e", pod_uids=(), serials=(0xABC, 0xABD))


def test_a_refusal_of_the_leaf_is_told_from_others() -> None:
    for word, revoked in (("LeafRevoked", True), ("Revoked", False), (None, False)):
        with pytest.raises(ChannelError) as raised:
            read_answer(403, json.dumps({"reason": word, "message": "no"}).encode())
        assert raised.value.revoked is revoked


def test_an_answer_without_news_is_one() -> None:
    assert read({}) == Answer()
    assert read({}).versions == frozenset()


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        "settings",
        {"settings": None},
        {"settings": {"version": "s"}},
        {"settings": {"version": 1, "tables": {}}},
        {"settings": {"version": "s", "tables": []}},
        {"settings": {"version": "s", "tables": {"policy": 3}}},
        {"settings": {"version": "s", "tables": {"pool": {"handle": "\ud800"}}}},
        {"settings": {"version": "", "tables": {}}},
        {"settings": {"version": "x" * 257, "tables": {}}},
        {"bundle": {"pem": "PEM"}},
        {"bundle": {"version": "b"}},
        {"bundle": {"version": "b", "pem": None}},
        {"bundle": {"version": "b", "pem": "\udfff"}},
        {"bundle": []},
        {"ended": {"version": "e"}},
        {"ended": {"version": "e", "pod_uids": "all"}},
        {"ended": {"version": "e", "pod_uids": [1]}},
        {"ended": {"version": "e", "pod_uids": [], "serials": "all"}},
        {"ended": {"version": "e", "pod_uids": [], "serials": [1]}},
        {"ended": {"version": "e", "pod_uids": [], "serials": ["a"] * 257}},
        {"ended": {"version": "e", "pod_uids": [UID] * (MOST_PODS + 1)}},
        {"ended": {"pod_uids": [UID]}},
        {"ended": 1},
        {"renew": "r"},
        {"renew": {"version": "a\nb"}},
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_answer_that_is_not_as_it_should_be_is_refused_whole(value: Any) -> None:
    assert refused(200, json.dumps(value).encode()).startswith("the operator answered 200, not as it should")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"<html>"], ids=lambda body: repr(body[:8]))
@pytest.mark.parametrize("status", [200, 503])
def test_what_is_no_json_is_refused(status: int, body: bytes) -> None:
    assert refused(status, body) == f"the operator answered {status}, not as it should"


def test_an_answer_that_is_too_long_is_refused_unread() -> None:
    assert "too long" in refused(200, b" " * (MOST_ANSWER + 1))


def test_a_refusal_is_told_in_one_short_line() -> None:
    body = {"reason": "NotLeader", "message": "another replica\nleads" + "x" * 1000}
    text = refused(503, json.dumps(body).encode())
    assert text.startswith("the operator refuses: another replica leadsxxx")
    assert len(text) < LONGEST_MESSAGE + 40
    assert refused(403, b"{}") == "the operator answered 403, not as it should"


@given(JSON | PARTS, st.sampled_from([200, 403]))
def test_whatever_json_comes_is_an_answer_or_one_error(value: object, status: int) -> None:
    try:
        assert isinstance(read_answer(status, json.dumps(value).encode()), Answer)
    except ChannelError as e:
        assert str(e).isprintable()
