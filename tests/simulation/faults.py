# SPDX-License-Identifier: Apache-2.0
"""What can happen to nodes and to the paths between them."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from simulation.clock import Clock
from simulation.network import Network
from simulation.nodes import Call, Node
from simulation.paths import Paths


class Faults:
    """The world's ways to go wrong, and to come right again."""

    if TYPE_CHECKING:
        clock: Clock
        network: Network
        paths: Paths
        rng: Random
        nodes: dict[str, Node]

        def _give(self, node: Node, call: Call, source: Node | None) -> None: ...
        def _arm(self, node: Node) -> None: ...

    # -- processes and hosts

    def kill(self, node: Node) -> None:
        """End the process: its kernel closes all associations."""
        if node.running and node.present:
            node.running = False
            node.inbox.clear()
            self.network.close_all(node)
            self._touch(node)

    def vanish(self, node: Node) -> None:
        """Take the host away: nobody hears of it."""
        if node.present:
            node.running = node.present = False
            node.inbox.clear()
            self.network.forget(node)
            self._touch(node)

    def freeze(self, node: Node, why: str = "frozen") -> None:
        """Stop the process; its kernel goes on acknowledging, until its window is full."""
        if node.running and why not in node.held:
            if not node.held:
                node.stopped_at = self.clock.now
            node.held.add(why)
            self._touch(node)

    def thaw(self, node: Node, why: str = "frozen") -> None:
        """Let it run on.

        What came meanwhile is handled before the timers, or, as libuv does it, after they have been looked at once.
        """
        if why not in node.held:
            return
        node.held.discard(why)
        self._touch(node)
        if node.held or not node.running:
            return
        due = node.machine.deadline()
        if due is not None and due <= self.clock.now + node.offset and self.rng.random() < 0.5:
            self._give(node, node.machine.wake, None)
        inbox, node.inbox = node.inbox, []
        for index, action in enumerate(inbox):
            if node.held:  # it is stopped again by what it does
                node.inbox = inbox[index:]
                return
            if node.running:
                action()
        if node.running:
            node.wake_at = None
            self._arm(node)

    def stall(self, node: Node, seconds: float) -> None:
        """The process does not get the processor for a while."""
        if node.running and "stalled" not in node.held:
            self.freeze(node, "stalled")
            self.clock.after(seconds, partial(self.thaw, node, "stalled"))

    def suspend(self, node: Node, seconds: float, *, counted: bool) -> None:
        """Stop the whole host; its monotonic clock counts that time, or does not."""
        if not node.running or node.asleep:
            return
        node.asleep = True
        self.freeze(node, "suspended")

        def resume() -> None:
            node.asleep = False
            if not counted:
                node.offset -= seconds
            self.thaw(node, "suspended")

        self.clock.after(seconds, resume)

    def _touch(self, node: Node) -> None:
        node.changed_at = self.clock.now

    # -- paths

    def cut(self, a: Node, b: Node, *, back: bool = True) -> None:
        """Drop all packets from one host to another, and those back."""
        self.paths.change(a.name, b.name, is_open=False)
        if back:
            self.paths.change(b.name, a.name, is_open=False)

    def heal(self, a: Node, b: Node) -> None:
        """Let packets flow again, both ways."""
        for x, y in ((a.name, b.name), (b.name, a.name)):
            if not self.paths.path(x, y).is_clean:
                self.paths.change(x, y, is_open=True, extra=0.0, rate=0.0)

    def partition(self, left: list[Node], right: list[Node]) -> None:
        """Cut every path between two groups."""
        for a in left:
            for b in right:
                self.cut(a, b)

    def heal_all(self) -> None:
        """Let all packets flow again."""
        self.paths.repair()

    def spike(self, a: Node, b: Node, extra: float, seconds: float) -> None:
        """Delay what goes from one host to the other, and back, for a while."""
        for x, y in ((a.name, b.name), (b.name, a.name)):
            self.paths.change(x, y, extra=extra)
            self.clock.after(seconds, partial(self.paths.change, x, y, extra=0.0))

    def slow(self, a: Node, b: Node, rate: float, seconds: float) -> None:
        """Let few octets a second pass from one host to the other for a while."""
        self.paths.change(a.name, b.name, rate=rate)
        self.clock.after(seconds, partial(self.paths.change, a.name, b.name, rate=0.0))

    def reset(self, a: Node, b: Node) -> None:
        """End all associations between two hosts, for both at once, so that both dial again."""
        self.network.reset(a, b)
        for x, y in ((a.name, b.name), (b.name, a.name)):
            self.paths.path(x, y).changed_at = self.clock.now
