# SPDX-License-Identifier: Apache-2.0
"""Reads as much of PromQL as the chart's rules and dashboard use: what is looked at, and which labels come out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Labels = frozenset[str]
Known = Callable[[str], Labels]
"""Labels of a metric, those of its scrape included."""

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<duration>\d+(?:ms|[smhdwy]))|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<sign>==|!=|=~|!~|>=|<=|[-+*/%^<>(){}\[\],:=]))"""
)
_AGGREGATORS: Final = frozenset(("sum", "min", "max", "count", "avg"))
_OF_RANGES: Final = frozenset(("rate", "increase"))
_TAKES: Final = {"time": 0, "absent": 1, "histogram_quantile": 2, "clamp_max": 2}
"""How many arguments."""
_FUNCTIONS: Final = frozenset((*_TAKES, *_OF_RANGES))
_BINDING: Final = {
    **dict.fromkeys(("or",), 1),
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(("==", "!=", ">", "<", ">=", "<="), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one metric; matchers are (label, operator, value)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    ranged: bool


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregation by labels."""

    by: Labels
    inner: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Two sides; `on` and `ignoring` say which labels are compared, `many` that the left side keeps its own."""

    operator: str
    left: Node
    right: Node
    on: Labels | None
    ignoring: Labels
    many: bool


Node = Selector | Scalar | Call | Aggregate | Binary


def parse(text: str) -> Node:
    """An expression.

    Raises:
        ValueError: it is none, or uses more of the language than is known here; says at which token.
    """
    reader = _Reader(text)
    node = reader.expression(0)
    reader.expect("")
    if isinstance(node, Selector) and node.ranged:
        raise ValueError(f"{text}: a range is no result")
    return node


def selectors(node: Node) -> Iterator[Selector]:
    """All that is looked at."""
    match node:
        case Selector():
            yield node
        case Call(arguments=parts):
            for part in parts:
                yield from selectors(part)
        case Aggregate(inner=inner):
            yield from selectors(inner)
        case Binary(left=left, right=right):
            yield from selectors(left)
            yield from selectors(right)


def result(node: Node, known: Known) -> Labels:
    """The labels that come out.

    Raises:
        ValueError: something is grouped or matched by a label that is not there.
    """
    match node:
        case Selector(metric=metric, matchers=matchers):
            _there(frozenset(label for label, _, _ in matchers), known(metric), metric)
            return known(metric)
        case Call(name="histogram_quantile", arguments=(_, inner)):
            found = result(inner, known)
            _there(frozenset(("le",)), found, "histogram_quantile")
            return found - {"le"}
        case Call(name="absent", arguments=(inner,)):
            result(inner, known)
            return frozenset()
        case Call(arguments=parts):
            return frozenset[str]().union(*(result(part, known) for part in parts))
        case Aggregate(by=by, inner=inner):
            _there(by, result(inner, known), "by")
            return by
        case Binary():
            return _of_two(node, known)
    return frozenset()


def _of_two(node: Binary, known: Known) -> Labels:
    left, right = result(node.left, known), result(node.right, known)
    _there(node.on or frozenset(), left & right, node.operator)
    if isinstance(node.right, Scalar) or (isinstance(node.right, Call) and node.right.name == "time"):
        return left
    if isinstance(node.left, Scalar) or (isinstance(node.left, Call) and node.left.name == "time"):
        return right
    if node.operator == "or":
        return left | right
    if node.operator in ("and", "unless") or node.many:
        return left
    compared = node.on if node.on is not None else left - node.ignoring
    if node.on is None and not _constant(node.right) and left - node.ignoring != right - node.ignoring:
        raise ValueError(f"{node.operator}: {sorted(left)} never match {sorted(right)}")
    return compared if not _constant(node.right) else left


def _constant(node: Node) -> bool:
    """Whether it is made of numbers alone."""
    return not list(selectors(node))


def _there(wanted: Labels, there: Labels, where: str) -> None:
    if not wanted <= there:
        raise ValueError(f"{where}: there is no label {', '.join(sorted(wanted - there))}, only {sorted(there)}")


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"{text[:at]} >>> {text[at:]}")
            self._tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            at = found.end()
        self._tokens.append(("end", ""))
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _take(self, *kinds: str) -> str:
        kind, text = self._tokens[self._at]
        if kinds and kind not in kinds:
            raise ValueError(f"{self._text}: token {self._at}: {text!r} is no {' or '.join(kinds)}")
        self._at += 1
        return text

    def expect(self, text: str) -> None:
        if self._take() != text:
            raise ValueError(f"{self._text}: token {self._at}: {text!r} is missing before {self._tokens[self._at - 1]}")

    def _takes(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self._at += 1
        return True

    def expression(self, least: int) -> Node:
        left = self._single()
        while (binding := _BINDING.get(self._peek(), 0)) > least:
            operator = self._take()
            on: Labels | None = None
            ignoring: Labels = frozenset()
            many = False
            if self._takes("on"):
                on = self._labels()
            elif self._takes("ignoring"):
                ignoring = self._labels()
            if self._takes("group_left"):
                many = True
                self._labels()
            right = self.expression(binding)
            for side in (left, right):
                if isinstance(side, Selector) and side.ranged:
                    raise ValueError(f"{self._text}: {operator} takes no range")
            left = Binary(operator, left, right, on, ignoring, many)
        return left

    def _single(self) -> Node:
        if self._takes("("):
            inner = self.expression(0)
            self.expect(")")
            return inner
        kind, text = self._tokens[self._at]
        if kind == "number":
            self._at += 1
            return Scalar()
        name = self._take("name")
        if name in _AGGREGATORS:
            return self._aggregate(name)
        if self._peek() == "(":
            return self._call(name)
        if name in _BINDING or name in ("by", "on"):
            raise ValueError(f"{self._text}: {text} is no metric")
        return self._selector(name)

    def _aggregate(self, name: str) -> Aggregate:
        by = self._labels() if self._takes("by") else frozenset[str]()
        inner = self._arguments()
        if len(inner) != 1 or (isinstance(inner[0], Selector) and inner[0].ranged):
            raise ValueError(f"{self._text}: {name} takes one vector")
        return Aggregate(by, inner[0])

    def _call(self, name: str) -> Call:
        if name not in _FUNCTIONS:
            raise ValueError(f"{self._text}: {name} is no function that is known here")
        arguments = self._arguments()
        ranges = [a for a in arguments if isinstance(a, Selector) and a.ranged]
        wanted = _TAKES.get(name, 1)
        if len(arguments) != wanted or len(ranges) != int(name in _OF_RANGES):
            raise ValueError(f"{self._text}: {name} is given something else than it takes")
        return Call(name, arguments)

    def _arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        found: list[Node] = []
        while not self._takes(")"):
            if found:
                self.expect(",")
            found.append(self.expression(0))
        return tuple(found)

    def _labels(self) -> Labels:
        self.expect("(")
        found: list[str] = []
        while not self._takes(")"):
            if found:
                self.expect(",")
            found.append(self._take("name"))
        return frozenset(found)

    def _selector(self, metric: str) -> Selector:
        matchers: list[tuple[str, str, str]] = []
        if self._takes("{"):
            while not self._takes("}"):
                if matchers:
                    self.expect(",")
                label, operator = self._take("name"), self._take("sign")
                if operator not in ("=", "!=", "=~", "!~"):
                    raise ValueError(f"{self._text}: {operator} matches nothing")
                matchers.append((label, operator, self._take("string")[1:-1]))
        ranged = self._takes("[")
        if ranged:
            self._take("duration")
            self.expect("]")
        return Selector(metric, tuple(matchers), ranged)
