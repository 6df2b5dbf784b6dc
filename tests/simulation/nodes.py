# SPDX-License-Identifier: Apache-2.0
"""A host with one process: a machine and its driver, which a scheduler may keep from running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import Effect, Endpoint, Machine, RequestId
from rserpool.asap.element import Element
from rserpool.asap.events import Event
from rserpool.asap.user import User
from rserpool.enrp import Registrar
from rserpool.wire import Policy, Ppid

if TYPE_CHECKING:
    from simulation.network import End

Call = Callable[[float], list[Effect]]
E = TypeVar("E")


@dataclass(eq=False)
class Node:
    """A host with one process, from its start to its end; who starts again is another node of the same name.

    Attributes:
        listening: where its process accepts associations.
        ca: whose certificates it has, and accepts.
        running: the process has not ended.
        present: the host is there.
        held: why the process does not run; its kernel goes on.
        asleep: nor does the kernel.
        offset: its monotonic clock, less the world's.
        inbox: what its process has to do as soon as it runs.
        changed_at: when anything was last done to it.
        stopped_at: when its process last stopped running, if it has since run again or not.
        wants: it is to be in its pool (an element).
        policy: with which an element begins.
        intruder: it belongs to nobody; whatever it sends must change nothing.
    """

    name: str
    number: int
    address: IPv4Address
    machine: Machine
    principal: Principal
    listening: dict[Endpoint, Ppid] = field(default_factory=dict)
    ca: str = "echo"
    running: bool = True
    present: bool = True
    held: set[str] = field(default_factory=set)
    asleep: bool = False
    offset: float = 0.0
    inbox: list[Callable[[], None]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    requests: set[RequestId] = field(default_factory=set)
    ends: dict[int, End] = field(default_factory=dict)
    ids: count[int] = field(default_factory=lambda: count(1))
    wake_at: float | None = None
    start: Call | None = None
    changed_at: float = 0.0
    began_at: float = 0.0
    stopped_at: float = float("-inf")
    wants: bool = False
    policy: Policy | None = None
    intruder: bool = False

    @property
    def frozen(self) -> bool:
        """Whether the process does not run."""
        return bool(self.held)

    @property
    def is_up(self) -> bool:
        """Whether host and process are there, and run."""
        return self.running and self.present and not self.held and not self.asleep

    @property
    def kernel_runs(self) -> bool:
        """Whether packets are received and answered."""
        return self.present and not self.asleep

    @property
    def serves(self) -> bool:
        """Whether it is a registrar that is up and lets elements and users in."""
        return self.is_up and isinstance(self.machine, Registrar) and self.machine.serving

    def seen(self, kind: type[E]) -> list[E]:
        """Events of a kind, in order."""
        return [e for _, e in self.events if isinstance(e, kind)]

    def defer(self, action: Callable[[], None]) -> None:
        """Have the process do something: now, or when it runs again."""
        if not self.running:
            return
        if self.held:
            self.inbox.append(action)
        else:
            action()


def registrar(node: Node) -> Registrar:
    assert isinstance(node.machine, Registrar)
    return node.machine


def element_of(node: Node) -> Element:
    assert isinstance(node.machine, Element)
    return node.machine


def home_of(element: Node) -> Node | None:
    """The registrar at the far end of the association an element holds for the one to its home."""
    end = element.ends.get(vars(element.machine)["_home"].association)
    return end.far.node if end is not None else None


def user_of(node: Node) -> User:
    assert isinstance(node.machine, User)
    return node.machine


def dump_of(node: Node) -> dict[str, Any]:
    return registrar(node).dump()
