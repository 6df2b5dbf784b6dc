# SPDX-License-Identifier: Apache-2.0
"""What is looked at: who holds what, and whether all hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rserpool.enrp import Registrar
from simulation.nodes import Node, dump_of, registrar


class Observations:
    """The world's ways to be looked at."""

    if TYPE_CHECKING:
        nodes: dict[str, Node]

    def live_registrars(self) -> list[Node]:
        return [n for n in self.nodes.values() if isinstance(n.machine, Registrar) and n.running and n.present]

    def handlespaces(self) -> list[dict[str, Any]]:
        """The canonical dumps of all registrars that run and serve."""
        return [dump_of(n)["handlespace"] for n in self.live_registrars() if n.serves]

    def agree(self) -> bool:
        """Whether all registrars hold the same."""
        spaces = self.handlespaces()
        return bool(spaces) and all(space == spaces[0] for space in spaces)

    def members(self, node: Node) -> dict[str, str]:
        """An element's address -> its home, in a registrar's handlespace."""
        return {
            e["transport"].split(":")[1]: e["home"]
            for pool in dump_of(node)["handlespace"]["pools"]
            for e in pool["elements"]
        }

    def everywhere(self, *elements: Node) -> bool:
        """Whether exactly these elements are registered at every registrar, and all hold the same."""
        wanted = {str(e.address) for e in elements}
        registrars = [n for n in self.live_registrars() if not n.frozen]
        return bool(registrars) and self.agree() and all(set(self.members(n)) == wanted for n in registrars)

    def all_homes_live(self) -> bool:
        """Whether every element's home is a registrar that runs."""
        ids = {f"{registrar(n).server_id:#010x}" for n in self.live_registrars()}
        return all(home in ids for n in self.live_registrars() for home in self.members(n).values())
