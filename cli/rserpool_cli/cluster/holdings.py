# SPDX-License-Identifier: Apache-2.0
"""What several registrars hold, as one list, and where they do not say the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Dump = Mapping[str, Any]
MOST: Final = 10
"""Differences that are named; who has more of them has another problem."""
_PLACE: Final = re.compile(r"[\w-]+:(?P<hosts>.+):\d+(/control)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One element.

    Attributes:
        place: transport, such as ``tcp:10.1.2.3:7007``.
        home: the registrar that looks after it, by its name if that is known.
        holders: registrars that hold it.
    """

    handle: str
    identifier: str
    place: str
    home: str
    policy: str
    holders: tuple[str, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, without port."""
        found = _PLACE.fullmatch(self.place)
        return tuple(a.removeprefix("[").removesuffix("]") for a in found["hosts"].split("+")) if found else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All of it.

    Attributes:
        serving: names of the registrars whose word counts.
        differences: sentences; empty: they hold the same.
    """

    elements: tuple[Held, ...]
    serving: tuple[str, ...]
    differences: tuple[str, ...]


def merge(dumps: Mapping[str, Dump]) -> Holdings:
    """From the dumps of registrars by their names; those that do not serve yet are passed over."""
    serving = {name: d for name, d in dumps.items() if d.get("phase") == "serving" and "handlespace" in d}
    servers = {str(d.get("server_id")): name for name, d in serving.items()}
    seen: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, dump in serving.items():
        for pool in dump["handlespace"]["pools"]:
            for element in pool["elements"]:
                seen.setdefault((pool["handle"], element["identifier"]), {})[name] = element
    elements = [_held(key, by, servers) for key, by in sorted(seen.items())]
    return Holdings(
        elements=tuple(elements), serving=tuple(serving), differences=_shortened(_differences(serving, seen, servers))
    )


def _held(key: tuple[str, str], by: Mapping[str, dict[str, Any]], servers: Mapping[str, str]) -> Held:
    # its home knows best; while they differ, anybody's word is as good as another's
    home = next((name for name, element in by.items() if servers.get(element["home"]) == name), next(iter(by)))
    element = by[home]
    return Held(
        handle=key[0],
        identifier=key[1],
        place=element["transport"],
        home=servers.get(element["home"], element["home"]),
        policy=element["policy"],
        holders=tuple(by),
    )


def _differences(
    serving: Mapping[str, Dump],
    seen: Mapping[tuple[str, str], Mapping[str, dict[str, Any]]],
    servers: Mapping[str, str],
) -> Iterable[str]:
    spaces = [d["handlespace"] for d in serving.values()]
    if all(space == spaces[0] for space in spaces):
        return
    named = False
    for (_, identifier), by in sorted(seen.items()):
        lacking = [name for name in serving if name not in by]
        if lacking:
            named = True
            yield f"{identifier} is not known to {', '.join(lacking)}"
        for field, word in (("home", "home"), ("transport", "address"), ("policy", "policy")):
            told = {name: element[field] for name, element in by.items()}
            if len(set(told.values())) > 1:
                named = True
                values = ", ".join(f"{servers.get(value, value)} to {name}" for name, value in told.items())
                yield f"{identifier} has different values of its {word}: {values}"
    if not named:
        yield "their handlespaces are not equal: compare what `dump` shows"


def _shortened(sentences: Iterable[str]) -> tuple[str, ...]:
    found = list(sentences)
    more = (f"and {len(found) - MOST} more",) if len(found) > MOST else ()
    return (*found[:MOST], *more)
