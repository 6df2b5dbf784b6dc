# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a manifest, in words that tell what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import ErrorDetails

from rserpool.identity.revoked import REVOKED_PATTERN

Path = tuple[str | int, ...]
_LONGEST_VALUE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault.

    Attributes:
        path: the field, as manifests spell it.
        message: what is wrong with which value, and what to write.
        line: of the file, from 1; 0 if unknown.
    """

    path: Path
    message: str
    line: int = 0

    @property
    def field(self) -> str:
        """The field as Kubernetes writes it, such as ``spec.transport.order[0]``."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.path else self.message


class ManifestError(ValueError):
    """A manifest that cannot be used; all its faults at once."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> Iterable[str]:
        """One line a fault, with file and line number."""
        for problem in self.problems:
            where = f"{self.source}:{problem.line}" if problem.line else self.source
            yield f"{where}: {problem}"


def shown(value: object) -> str:
    """A value in a message: short, on one line."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def explain(error: ErrorDetails, siblings: Iterable[str]) -> Problem:
    """Put one of pydantic's errors into our words.

    Args:
        error: what it found.
        siblings: the fields there are where it found an unknown one.
    """
    path = tuple(error["loc"])
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return Problem(path=path, message="is required")
        case "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), list(siblings), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(siblings))}"
            return Problem(path=path, message=f"unknown field; {hint}")
        case "value_error":
            return Problem(path=path, message=f"{shown(value)}: {context['error']}")
        case kind:
            return Problem(path=path, message=f"{shown(value)}: {_advice(kind, context, error['msg'])}")


_ADVICE: Final = {
    "enum": "write {expected}",
    "literal_error": "write {expected}",
    "greater_than_equal": "write {ge} or more",
    "greater_than": "write more than {gt}",
    "less_than_equal": "write {le} or less",
    "string_pattern_mismatch": "write what matches {pattern}",
    "string_too_long": "write at most {max_length} characters",
    "string_too_short": "write at least one character",
    "too_short": "write at least {min_length} item(s)",
    "too_long": "write at most {max_length} item(s)",
    "int_type": "write a whole number, without quotes",
    "int_from_float": "write a whole number, without quotes",
    "float_type": "write a number, without quotes",
    "finite_number": "write a number from 0.01 to 1000000",
    "bool_type": "write true or false",
    "string_type": "write text; put it into quotes",
    "list_type": "write a list",
    "dict_type": "write a mapping of fields",
    "model_type": "write a mapping of fields",
    "model_attributes_type": "write a mapping of fields",
}


_WORDS: Final = {REVOKED_PATTERN: "write serial:HEX, the UID of a pod or the name of a service account"}
"""Of patterns that say little to whoever reads them."""


def _advice(kind: str, context: dict[str, Any], otherwise: str) -> str:
    """What to write instead."""
    if context.get("pattern") in _WORDS:
        return _WORDS[context["pattern"]]
    advice = _ADVICE.get(kind)
    return advice.format(**context).replace("'", "") if advice else otherwise
