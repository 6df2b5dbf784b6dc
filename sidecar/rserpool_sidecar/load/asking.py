# SPDX-License-Identifier: Apache-2.0
"""The application says its load: over HTTP, as a number or as a metric in Prometheus' format."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rserpool.transport.http import HttpError, Response, Target, ask
from rserpool.wire import Address
from rserpool_sidecar.load.section import METRIC, PROMETHEUS, LoadSection

MOST_NUMBER: Final = 4096
MOST_METRICS: Final = 1024 * 1024
MOST_SAMPLES: Final = 1000
"""Lines about one metric that are read."""
Measure = Callable[[], Awaitable[float | None]]
"""Measures once, from 0 to 1; ``None``: there is no figure yet."""


class UnmeasuredError(Exception):
    """There is no figure; the text says why, in one line."""


def asked(addresses: Sequence[Address], port: int, section: LoadSection) -> Measure:
    """Measure by asking the application.

    Args:
        addresses: where it may listen, in the order in which they are tried.
        port: where it answers.
        section: what to ask for, and how to read it.
    """
    most = MOST_METRICS if section.source == PROMETHEUS else MOST_NUMBER

    async def measure() -> float:
        response = await _first_answer(addresses, port, section, most)
        where = f"GET {section.place} on port {port}"
        if response.status != 200:
            raise UnmeasuredError(f"{where} answered {response.status}")
        try:
            text = response.body.decode()
            return metric(text, section.metric) if section.source == PROMETHEUS else number(text)
        except UnicodeDecodeError:
            raise UnmeasuredError(f"{where}: the answer is not UTF-8") from None
        except UnmeasuredError as e:
            raise UnmeasuredError(f"{where}: {e}") from None

    return measure


async def _first_answer(addresses: Sequence[Address], port: int, section: LoadSection, most: int) -> Response:
    failure = "no address"
    for address in addresses:
        target = Target(host=str(address), port=port, local=address)
        try:
            return await ask(target, "GET", section.place, timeout=section.timeout, most=most)
        except HttpError as e:
            failure = str(e)
    raise UnmeasuredError(f"GET {section.place} on port {port}: {failure}")


def number(text: str) -> float:
    """Read an answer: a number from 0 to 1, or JSON that has one under ``load``.

    Raises:
        UnmeasuredError: it is not one.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UnmeasuredError('the answer is neither a number nor {"load": a number from 0 to 1}') from None
    return _fraction(found.get("load") if isinstance(found, dict) else found)


def metric(text: str, wanted: str) -> float:
    """Read a metric from 0 to 1 in Prometheus' text format.

    Args:
        text: all metrics.
        wanted: a name, with labels the sample must have if need be.

    Raises:
        UnmeasuredError: there is not exactly one such sample, or it is no number from 0 to 1.
    """
    name, labels = _selector(wanted)
    found = [value for has, value in _samples(text, name) if labels.items() <= has.items()]
    if not found:
        raise UnmeasuredError(f"there is no metric {wanted}")
    if len(found) > 1:
        raise UnmeasuredError(f"{len(found)} metrics are {wanted}; name labels that only one of them has")
    return _fraction(found[0])


def _selector(wanted: str) -> tuple[str, dict[str, str]]:
    parts = METRIC.fullmatch(wanted)
    samples = _samples(f"{wanted} 0", parts[1]) if parts is not None else []
    if parts is None or len(samples) != 1:
        raise UnmeasuredError(f"{wanted!r} names no metric")
    return parts[1], samples[0][0]


def _samples(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples of one name, parsed as Prometheus does; the other lines are none of our business."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - few sidecars need it

    lines = [line for line in text.split("\n") if line.startswith(name) and line[len(name) : len(name) + 1] in "{ \t"]
    if len(lines) > MOST_SAMPLES:
        raise UnmeasuredError(f"more than {MOST_SAMPLES} lines are about {name}")
    try:
        families = list(text_string_to_metric_families("\n".join(lines) + "\n"))
    except Exception:  # noqa: BLE001 - the parser promises nothing about what is not in its format
        raise UnmeasuredError(f"what is said of {name} is not in Prometheus' text format") from None
    return [(dict(s.labels), float(s.value)) for family in families for s in family.samples if s.name == name]


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UnmeasuredError("the load is no number from 0 to 1")
    return float(value)
