# SPDX-License-Identifier: Apache-2.0
"""Each kind of setting: what is read, from TOML and from the environment, and what is refused with what to write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from rserpool.daemon import parsers as parse

Parser = Callable[[object], Any]
INF, NAN = float("inf"), float("nan")

GOOD: list[tuple[Parser, object, object]] = [
    (parse.text, "", ""),
    (parse.nonempty, "  a ", "a"),
    (parse.boolean, True, True),
    (parse.boolean, "false", False),
    (parse.number(0, 1), 0, 0.0),
    (parse.number(0, 1), "1", 1.0),
    (parse.number(0, 1), "0.25", 0.25),
    (parse.integer(-5, 5), "-5", -5),
    (parse.integer(-5, 5), 5, 5),
    (parse.port, "65535", 65535),
    (parse.port_or_none, 0, 0),
    (parse.seconds, 0, 0.0),
    (parse.seconds, 1.5, 1.5),
    (parse.seconds, "500ms", 0.5),
    (parse.seconds, "10", 10.0),
    (parse.seconds, " 1.5 s ", 1.5),
    (parse.seconds, "5m", 300.0),
    (parse.seconds, "24h", 86400.0),
    (parse.optional(parse.port), "", None),
    (parse.optional(parse.port), 7, 7),
    (parse.address, "10.0.0.7", IPv4Address("10.0.0.7")),
    (parse.address, "fd00::7", IPv6Address("fd00::7")),
    (parse.path, "/a/b", Path("/a/b")),
    (parse.one_of("a", "b"), "b", "b"),
    (parse.texts, ["a", "b"], ("a", "b")),
    (parse.texts, " a ,, b,", ("a", "b")),
    (parse.texts, "", ()),
    (parse.places, ["echo-0.svc:1", "10.0.0.7:65535"], (("echo-0.svc", 1), ("10.0.0.7", 65535))),
    (parse.places, "[fd00::7]:3864,a:1", (("fd00::7", 3864), ("a", 1))),
]
BAD: list[tuple[Parser, list[object], str]] = [
    (parse.text, [1, True, None, ["a"], {}], "write text in quotes"),
    (parse.nonempty, ["", " \t"], "must not be empty"),
    (parse.boolean, [1, 0, "True", "yes", "", None, []], "write true or false"),
    (parse.number(0, 1), ["", "x", 1.01, -0.1, NAN, INF, "nan", "inf", True, None, [0]], "write a number from 0 to 1"),
    (
        parse.integer(0, 9),
        [10, -1, 1.0, "1.0", "0x1", "", " 1", True, None, [], "9" * 5000],
        "write a whole number from 0 to 9",
    ),
    (parse.port, [0, 65536, "http"], "write a whole number from 1 to 65535"),
    (
        parse.seconds,
        [-1, "-1s", "", "1d", "1 h 5 m", "one", "1e3", "1.s", True, None, NAN, INF, "9" * 400 + "h"],
        "write seconds, or a duration such as 500ms, 10s, 5m or 24h",
    ),
    (
        parse.address,
        ["localhost", "10.0.0", "10.0.0.256", "10.0.0.0/8", "[fd00::1]", ""],
        "write an IPv4 or IPv6 address",
    ),
    (parse.one_of("tcp", "udp"), ["TCP", "", 1, None, ["tcp"], {}], "write one of tcp, udp"),
    (parse.texts, [1, None, {"a": 1}, datetime.now(UTC)], "write a list of texts"),
    (parse.texts, [["a", 1], [["a"]]], "write text in quotes"),
]
NO_PLACES = [
    "a",
    ":1",
    "a:",
    "a:0",
    "a:65536",
    "a:-1",
    "a:http",
    "a: 1",
    "a:1_0",
    "a:\u0661",
    "fd00::7:3864",
    "[fd00::7]",
    "[fd00::7]3864",
    "[10.0.0.7:1",
    "fd00::7]:1",
    "[echo]:1",
    "10.0.0.256:1",
    "10.0:1",
    "-a:1",
    "a-:1",
    "a b:1",
    "a_b:1",
    "https://a:1",
    "a/b:1",
    "a@b:1",
    "h" * 300 + ":1",
]


@pytest.mark.parametrize(("parser", "raw", "value"), GOOD)
def test_a_good_value_is_read(parser: Parser, raw: object, value: object) -> None:
    read = parser(raw)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("parser", "raw", "message"), [(p, raw, message) for p, many, message in BAD for raw in many])
def test_a_bad_value_is_refused_with_what_to_write(parser: Parser, raw: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message + "$"):
        parser(raw)


@pytest.mark.parametrize("place", NO_PLACES)
def test_what_is_no_host_and_port_is_refused_and_shown(place: str) -> None:
    with pytest.raises(ValueError, match=r"is no place; write host:port or \[address\]:port$") as raised:
        parse.places(["a:1", place])
    assert repr(place)[:60] in str(raised.value)
