# SPDX-License-Identifier: Apache-2.0
"""What must hold in every world, in the fast profile, whatever happens: conditions that may fail for so long only.

Each is looked at whenever a handlespace or an element's state has changed, and ten times a second. It names what is
wrong at the moment; what stays wrong for longer than its bound, counted from the last trouble that its docstring
excuses, is a violation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from simulation.nodes import Node, element_of, home_of, registrar
from simulation.truth import Truth, key_of, space_of


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant does not hold.

    Attributes:
        at: seconds after the pool has settled.
    """

    invariant: str
    section: str
    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} ({self.section}), at {self.at:.3f} s: {self.text}"


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something is not as it should be.

    Attributes:
        key: what; the same as long as it is the same thing.
        since: the last trouble that excuses it.
    """

    key: tuple[object, ...]
    since: float
    text: str


class Standing(ABC):
    """A condition that may fail for so long only.

    Attributes:
        name: in a few words.
        section: what demands it.
        bound: seconds for which it may fail.
    """

    name: ClassVar[str]
    section: ClassVar[str]
    bound: ClassVar[float]

    @abstractmethod
    def wrong(self, truth: Truth) -> Iterator[Wrong]:
        """What is wrong now."""


class DeadIsGone(Standing):
    """An element that is dead, or has left, is served by no registrar that runs, after 3 s.

    Every later fault of a registrar, or of a path between registrars, begins the count anew: it may delay the news by
    as much as a takeover takes. Faults of paths to the element do not.
    """

    name = "a dead element is served for 3 s at most"
    section = "PROTOCOL 8, 10.8"
    bound = 3.0

    def wrong(self, truth: Truth) -> Iterator[Wrong]:
        for element in truth.elements:
            if element.is_up and element.wants:
                continue
            since = max(element.changed_at, truth.registrars_troubled_at)
            for r in truth.registrars:
                if space_of(r).get(key_of(element)) is not None:
                    yield Wrong((element, r), since, f"{r.name} serves {element.name}, which is dead")


class CutIsBack(Standing):
    """An element that can reach a registrar is registered, and at each registrar its home can reach, after 5 s.

    The count begins with the last fault of the element, of its paths to registrars, of a registrar, or of a path
    between registrars, and when a registrar begins to serve. An element need not be anywhere while no registrar that
    serves can be reached, nor at registrars its home cannot reach.
    """

    name = "an element that can reach a registrar is missing for 5 s at most"
    section = "PROTOCOL 11.5, RFC 5352 3.6"
    bound = 5.0

    def wrong(self, truth: Truth) -> Iterator[Wrong]:
        for element in truth.elements:
            if not (element.is_up and element.wants):
                continue
            near = truth.in_reach(element)
            if not near:
                continue
            machine = element_of(element)
            since = max(truth.element_troubled_at(element), truth.registrars_troubled_at)
            home = home_of(element)
            if home not in near or not machine.registered:
                where = home.name if home else "nowhere"
                yield Wrong((element, None), since, f"{element.name} is {machine.state.value}, its home is {where}")
                continue
            for r in truth.registrars:
                if (r is home or truth.reach(r, home)) and space_of(r).get(key_of(element)) is None:
                    yield Wrong((element, r), since, f"{element.name} is missing at {r.name}; its home is {home.name}")


class OneOwner(Standing):
    """Registrars that can all reach each other agree on the home of an element, one of them, after 3 s.

    The count begins with the last fault of a registrar, of a path between registrars, of the element, or of its paths
    to registrars. Registrars between which there is a way only through others need not agree: nobody relays updates.
    """

    name = "an element has one owner within 3 s"
    section = "PROTOCOL 10.5, 10.7, RFC 5353 3.5.2"
    bound = 3.0

    def wrong(self, truth: Truth) -> Iterator[Wrong]:
        for group in truth.groups:
            ids = {registrar(r).server_id for r in group}
            for element in truth.elements:
                key = key_of(element)
                known = [e for r in group if (e := space_of(r).get(key)) is not None]
                homes = {e.home for e in known}
                if len(homes) > 1 or not homes <= ids:
                    since = max(truth.registrars_troubled_at, truth.element_troubled_at(element))
                    named = ", ".join(f"{h:#010x}" for h in sorted(homes))
                    yield Wrong((element, group[0]), since, f"{element.name} has the homes {named}")


class AllTheSame(Standing):
    """Registrars that can all reach each other hold the same, after 2 s and three heartbeats.

    The count begins with the last fault of a registrar or of a path between registrars. What happens to elements, and
    to their paths, is no excuse.
    """

    name = "handlespaces are equal within 2 s and three heartbeats"
    section = "PROTOCOL 10.6, 18 Recovery, RFC 5353 3.6"
    bound = 2.0 + 3 * 0.4

    def wrong(self, truth: Truth) -> Iterator[Wrong]:
        for group in truth.groups:
            first, *others = group
            held = dict(_held(first))
            for r in others:
                there = dict(_held(r))
                if there != held:
                    differ = sorted({f"{key[1]:#010x}" for key, _ in set(held.items()) ^ set(there.items())})
                    text = f"{first.name} and {r.name} differ in {', '.join(differ)}"
                    yield Wrong((first, r), truth.registrars_troubled_at, text)
                    continue
                sums = [[space_of(n).checksum(o) for o in space_of(first).owners] for n in (first, r)]
                if sums[0] != sums[1]:
                    yield Wrong((first, r, "sums"), truth.registrars_troubled_at, f"sums of {first.name}, {r.name}")


def _held(node: Node) -> Iterator[tuple[tuple[bytes, int], object]]:
    return (((handle, element.identifier), element) for handle, element in space_of(node))


STANDING: tuple[Standing, ...] = (DeadIsGone(), CutIsBack(), OneOwner(), AllTheSame())
