# SPDX-License-Identifier: Apache-2.0
"""What is really the case in a world, whatever its machines believe: who can reach whom, and since when."""

from __future__ import annotations

from itertools import combinations
from typing import cast

from rserpool.asap.server.desk import RegistrarDesk
from rserpool.handlespace import ElementKey, Handlespace
from simulation.nodes import Node, element_of, registrar
from simulation.world import World
from support.scope import POOL


def space_of(node: Node) -> Handlespace:
    """A registrar's handlespace."""
    return cast("RegistrarDesk", registrar(node).desk).space


def key_of(element: Node) -> ElementKey:
    return POOL, element_of(element).pe_identifier


class Truth:
    """Answers about a world; what costs much is worked out once for each moment.

    Attributes:
        serving_since: when each registrar that serves began to.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.serving_since: dict[Node, float] = {}
        self.registrars: list[Node] = []
        self.elements: list[Node] = []
        self.registrars_troubled_at = 0.0
        self.groups: list[list[Node]] = []

    def look(self) -> None:
        """Work out what holds now."""
        everybody = self.world.all_registrars()
        self.registrars = [n for n in everybody if n.serves]
        self.elements = self.world.all_elements()
        for node in self.registrars:
            self.serving_since.setdefault(node, self.world.now)
        troubles = [n.changed_at for n in everybody]
        troubles += [self.serving_since[n] for n in self.registrars]
        troubles += [self.path_troubled_at(a, b) for a, b in combinations(everybody, 2)]
        self.registrars_troubled_at = max(troubles, default=0.0)
        self.groups = self._groups()

    def path_troubled_at(self, a: Node, b: Node) -> float:
        """When something was last wrong with the packets between two, cut paths apart, which stay as they are."""
        there, back = self.world.paths.path(a.name, b.name), self.world.paths.path(b.name, a.name)
        if any(p.is_open and (p.extra or p.rate) for p in (there, back)):
            return self.world.now
        return max(there.changed_at, back.changed_at)

    def reach(self, a: Node, b: Node) -> bool:
        """Whether packets pass both ways, as they should."""
        return a is b or self.world.paths.clean_since(a.name, b.name) is not None

    def element_troubled_at(self, element: Node) -> float:
        """When something was last done to an element, or to its paths to registrars."""
        paths = (self.path_troubled_at(element, r) for r in self.world.all_registrars())
        return max(element.changed_at, *paths, 0.0)

    def in_reach(self, element: Node) -> list[Node]:
        """The registrars that serve, and that an element can reach."""
        return [r for r in self.registrars if self.reach(element, r)]

    def _groups(self) -> list[list[Node]]:
        """The registrars that serve, by who can reach whom; only those where everybody can reach everybody."""
        rest, groups = list(self.registrars), []
        while rest:
            group, found = [], [rest.pop(0)]
            while found:
                node = found.pop()
                group.append(node)
                near = [n for n in rest if self.world.paths.both_open(node.name, n.name)]
                found += near
                rest = [n for n in rest if n not in near]
            if all(self.reach(a, b) for a, b in combinations(group, 2)):
                groups.append(group)
        return groups
