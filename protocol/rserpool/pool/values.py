# SPDX-License-Identifier: Apache-2.0
"""Values that Kubernetes manifests write as strings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, GetPydanticSchema, StringConstraints
from pydantic_core import core_schema

from rserpool.identity.revoked import REVOKED_PATTERN

DURATION_PATTERN: Final = (
    r"^([0-9]{1,6}(\.[0-9]{1,3})?h|[1-5]?[0-9]{1,7}(\.[0-9]{1,3})?m"
    r"|[1-3]?[0-9]{1,9}(\.[0-9]{1,3})?s|[1-3]?[0-9]{1,12}ms)+$"
)
"""Whole milliseconds; with DURATION_LENGTH no more than CEL's and Go's 64 bits of nanoseconds can hold."""
DURATION_LENGTH: Final = 20
LONGEST_DURATION: Final = timedelta(days=36500)
"""Hundred years: the longest that format_duration writes so that it can be read again."""
DURATION_ADVICE: Final = "write a duration such as 500ms, 10s, 5m or 24h"
_PART: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ms|h|m|s)")
_DURATION: Final = re.compile(DURATION_PATTERN)
_UNITS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration(text: object) -> timedelta:
    """Read a duration as Go and Kubernetes write it: ``10s``, ``1h30m``, ``500ms``; hundred years at most.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(text, str) and len(text) <= DURATION_LENGTH and _DURATION.fullmatch(text):
        milliseconds = sum(
            int(whole) * _UNITS[unit] + int(fraction.ljust(3, "0")) * _UNITS[unit] // 1000
            for whole, fraction, unit in _PART.findall(text)
        )
        if (duration := timedelta(milliseconds=milliseconds)) <= LONGEST_DURATION:
            return duration
    raise ValueError(DURATION_ADVICE)


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


RevokedEntry = Annotated[str, StringConstraints(pattern=REVOKED_PATTERN, min_length=1, max_length=64)]
"""A leaf's serial number, a pod's UID or the name of a service account."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
"""A whole number may be written 3.0: it is one in JSON, and so to the API server."""
Port = Annotated[int, Field(ge=1, le=65535), Whole]
METRIC_PATTERN: Final = (
    r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"(,[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*")*)?\})?$'
)
"""A metric's name in Prometheus' format, and labels it must have; their values without quotes and backslashes."""
METRIC_ADVICE: Final = 'write a metric\'s name, with labels if need be: busy_ratio{pool="web"}'
U32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF), Whole]
"""A number a policy parameter can carry."""
I32: Final = 0x7FFFFFFF
"""Kubernetes' largest number of this kind: seconds of probes, generations."""


def _unique(value: object) -> object:
    if isinstance(value, list) and len({repr(v) for v in value}) < len(value):
        raise ValueError("write each item once")
    return value


Unique = BeforeValidator(_unique)
"""A list without repeats."""
