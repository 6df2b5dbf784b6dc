# SPDX-License-Identifier: Apache-2.0
"""How much a machine holds: every table in every part of it, found by looking, so that a new one is not forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from rserpool.asap.limits import Buckets
from rserpool.asap.timers import Timers

Table = dict[Any, Any] | set[Any] | list[Any] | deque[Any]


def tables(thing: object, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Table, object]]:
    """All tables of a machine, with the path to each and the object it belongs to."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict | set | list | deque):
        yield path, thing, thing
        values = thing.values() if isinstance(thing, dict) else thing
        for value in list(values)[:50]:
            yield from tables(value, f"{path}[]", seen)
        return
    if not type(thing).__module__.startswith("rserpool.") or type(thing).__module__.startswith("rserpool.wire"):
        return
    for name in _names(thing):
        value = getattr(thing, name, None)
        if isinstance(value, dict | set | list | deque):
            if id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}", value, thing
                values = value.values() if isinstance(value, dict) else value
                for inner in list(values)[:50]:
                    yield from tables(inner, f"{path}.{name}[]", seen)
        elif not callable(value):
            yield from tables(value, f"{path}.{name}", seen)


def _names(thing: object) -> list[str]:
    slots = [s for c in type(thing).__mro__ for s in getattr(c, "__slots__", ())]
    return [*slots, *getattr(thing, "__dict__", {})]


def too_large(machine: object, there: int) -> Iterator[tuple[str, int, int]]:
    """Tables that hold more than what there is explains: path, size, and how much is allowed.

    Args:
        machine: whose.
        there: associations, elements, and hosts in the world.
    """
    for path, table, owner in tables(machine):
        most = 16 + 4 * there
        if isinstance(owner, Timers) and isinstance(table, list):  # timers that were set anew stay in it for a while
            most = 64 + 4 * (len(owner) + 1)
        elif isinstance(owner, Buckets):  # of identities, also of those that are gone, up to a fixed number
            most = 4096
        if len(table) > most:
            yield path, len(table), most
