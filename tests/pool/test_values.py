# SPDX-License-Identifier: Apache-2.0
"""Durations as Kubernetes writes them. What is none is among the bad manifests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.pool.values import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [
        ("0s", 0, "0s"),
        ("500ms", 0.5, "500ms"),
        ("10s", 10, "10s"),
        ("90s", 90, "90s"),
        ("1h30m", 5400, "90m"),
        ("1m30s500ms", 90.5, "90500ms"),
        ("1.5h", 5400, "90m"),
        ("24h", 86400, "24h"),
        ("60m", 3600, "1h"),
        ("1000ms", 1, "1s"),
    ],
)
def test_a_duration_is_read_and_written_in_its_largest_unit(text: str, seconds: float, written: str) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert format_duration(parse_duration(text)) == written


@given(st.integers(0, 10**12))
def test_what_is_written_is_read_as_it_was(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.one_of(st.text(), st.text("0123456789.hms "), st.none(), st.integers(), st.booleans()))
def test_anything_is_a_duration_or_refused_with_what_to_write(value: object) -> None:
    try:
        assert parse_duration(value) >= timedelta(0)
    except ValueError as e:
        assert str(e) == "write a duration such as 500ms, 10s, 5m or 24h"


@pytest.mark.parametrize("text", ["99999999999999h", f"{'9' * 400}s"])
def test_a_duration_longer_than_anything_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0.001h", 3600),
        ("0.001m", 60),
        ("0.001s", 1),
        ("876000h", 3_153_600_000_000),
        ("30m1h", 5_400_000),
        ("1m1m", 120_000),
    ],
)
def test_a_duration_is_exact_to_the_millisecond(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("text", ["876000h1ms", "1.5ms", "0.0001h", "٣s", "000000000000000000001s", "10s\n"])
def test_what_cel_cannot_hold_or_tell_apart_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration such as"):
        parse_duration(text)
