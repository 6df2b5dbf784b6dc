# SPDX-License-Identifier: Apache-2.0
"""The markers ``@pytest.mark.rfc(...)`` of all tests, read from their source: nothing is imported, and nothing is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent.parent
_MENTION: Final = re.compile(r"\bmark\.rfc\b")
_NO_PROOF: Final = ("skip", "xfail")
"""Markers with which a test proves nothing."""


class MarkerError(ValueError):
    """A marker that cannot be read, or that is where it proves nothing; the text says where."""


@dataclass(frozen=True, slots=True, order=True)
class Proof:
    """One marker of one test.

    Attributes:
        file: below the folder of the tests, with slashes.
        test: the function's name.
        name: what the marker names: a requirement, or a section.
    """

    file: str
    test: str
    name: str


def all_proofs(folder: Path = TESTS) -> tuple[Proof, ...]:
    """The markers of all tests in a folder, in a fixed order.

    Raises:
        MarkerError: one is not a decorator of a test with plain text in it.
    """
    files = sorted(folder.rglob("test_*.py"))
    return tuple(sorted(p for f in files for p in proofs_of(f.read_text(), f.relative_to(folder).as_posix())))


def proofs_of(source: str, file: str) -> tuple[Proof, ...]:
    """The markers of one file.

    Raises:
        MarkerError: as :func:`all_proofs`.
    """
    mentions = len(_MENTION.findall(source))
    if not mentions:  # most files; parsing is what takes time
        return ()
    module = ast.parse(source)
    whole = [mark for mark in _module_marks(module) if _names([mark]) == ["rfc"]]
    tests = [n for n in _functions(module) if _names(n.decorator_list).count("rfc")]
    if whole:
        tests = [n for n in _functions(module) if n.name.startswith("test_")]
    for test in tests:
        if not test.name.startswith("test_"):
            raise MarkerError(f"{file}: {test.name} is no test, and has a marker")
        useless = set(_names(test.decorator_list)) & set(_NO_PROOF)
        if useless:
            raise MarkerError(f"{file}: {test.name} proves nothing, it is marked {', '.join(sorted(useless))}")
    decorators = len(whole) + sum(_names(test.decorator_list).count("rfc") for test in tests)
    if decorators != mentions:
        raise MarkerError(f"{file}: {mentions} markers are mentioned and {decorators} are decorators of tests")
    return tuple(Proof(file, test.name, name) for test in tests for name in _arguments(test, whole, file))


def _module_marks(module: ast.Module) -> list[ast.expr]:
    """What is said of all tests of a module by ``pytestmark``."""
    found = [n.value for n in module.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"]
    return [mark for value in found for mark in (value.elts if isinstance(value, ast.List) else [value])]


def _functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of the module and of its classes: what pytest collects."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _names(decorators: Iterable[ast.expr]) -> list[str]:
    """The names of pytest's markers among decorators."""
    calls = [d.func if isinstance(d, ast.Call) else d for d in decorators]
    return [c.attr for c in calls if isinstance(c, ast.Attribute) and ast.unparse(c.value) == "pytest.mark"]


def _arguments(test: ast.FunctionDef | ast.AsyncFunctionDef, whole: Iterable[ast.expr], file: str) -> Iterator[str]:
    for decorator in (*whole, *test.decorator_list):
        if _names([decorator]) != ["rfc"]:
            continue
        names = decorator.args if isinstance(decorator, ast.Call) else []
        texts = [n.value for n in names if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if not texts or len(texts) != len(names):
            raise MarkerError(f"{file}: a marker of {test.name} does not name requirements in plain text")
        yield from texts
