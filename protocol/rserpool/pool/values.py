# SPDX-License-Identifier: Apache-2.0
"""Values that Kubernetes manifests write as strings."""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, GetPydanticSchema, StringConstraints
from pydantic_core import core_schema

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: object) -> timedelta:
    """Read a duration as Go and Kubernetes write it: ``10s``, ``1h30m``, ``500ms``.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(text, str) and _DURATION.fullmatch(text):
        with contextlib.suppress(OverflowError):
            return timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text)))
    raise ValueError("write a duration such as 500ms, 10s, 5m or 24h")


def format_duration(duration: timedelta) -> str:
    """Write a duration in the largest unit that divides it."""
    milliseconds = round(duration.total_seconds() * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def _duration_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.no_info_before_validator_function(
        _parsed,
        core_schema.timedelta_schema(),
        serialization=core_schema.plain_serializer_function_ser_schema(format_duration),
    )


def _parsed(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else parse_duration(value)


Duration = Annotated[timedelta, GetPydanticSchema(_duration_schema)]
"""A positive or zero length of time."""

LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Label = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=63)]
"""A DNS label, as Kubernetes names namespaces and service accounts."""

PoolName = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=40)]
"""Name of a ServerPool: names of its objects, with what is added to them, must be DNS labels too."""

Port = Annotated[int, Field(ge=1, le=65535)]
U32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
"""A number a policy parameter can carry."""


def _unique(value: object) -> object:
    if isinstance(value, list) and len({repr(v) for v in value}) < len(value):
        raise ValueError("write each item once")
    return value


Unique = BeforeValidator(_unique)
"""A list without repeats."""
