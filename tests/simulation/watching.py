# SPDX-License-Identifier: Apache-2.0
"""How others see what happens in the world."""

from __future__ import annotations

from rserpool.asap.effects import Effect
from simulation.nodes import Node


class Watcher:
    """Told of every input of every machine, before and after; does nothing by itself."""

    def before(self, node: Node, source: Node | None) -> None:
        """A machine is about to be given an input; ``source`` is the far end it comes from, if there is one."""

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        """It has answered with these; none has been carried out yet."""
