# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - these are the inputs that all machines, or watchers, are given
"""Plays a script and says whether everything held that must."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from rserpool.asap.effects import Effect, Emit, Send
from rserpool.asap.events import ElementChanged, ElementStateChanged, Serving
from rserpool.wire import decode
from simulation.invariants import STANDING, Standing, Violation
from simulation.moments import MOMENTARY, Momentary, NoFalseAlarm
from simulation.nodes import Node
from simulation.script import Script
from simulation.stage import Stage
from simulation.truth import Truth
from simulation.watching import Watcher

TICK = 0.1
SETTLES = ("a pool settles", "PROTOCOL 10.2, 11.1")
NEVER_RAISES = ("a machine takes every input", "PROTOCOL 2.3")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a script has ended.

    Attributes:
        violation: the first thing that was wrong; ``None`` if nothing was.
        seconds: how long the world lasted.
        history: a digest of all events, which is the same for the same script and seed.
    """

    violation: Violation | None
    seconds: float
    history: str


class _Checker(Watcher):
    """Looks at all invariants, whenever something has changed and ten times a second."""

    def __init__(self, stage: Stage, only: Iterable[str] | None) -> None:
        self.world = stage.world
        self.truth = Truth(stage.world)
        kinds: tuple[type[Momentary], ...] = (*MOMENTARY, NoFalseAlarm) if stage.only_noise else MOMENTARY
        wanted = None if only is None else set(only)
        self.momentary = [kind(self.truth) for kind in kinds if wanted is None or kind.name in wanted]
        self.standing: list[Standing] = [s for s in STANDING if wanted is None or s.name in wanted]
        self.began = stage.world.now
        self.violation: Violation | None = None
        self._since: dict[tuple[object, ...], float] = {}
        self._changed = False
        self.look()

    def before(self, node: Node, source: Node | None) -> None:
        for invariant in self.momentary:
            invariant.before(node, source)

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        for invariant in self.momentary:
            invariant.after(node, source, effects)
        if any(
            isinstance(e, Emit) and isinstance(e.event, ElementChanged | ElementStateChanged | Serving) for e in effects
        ):
            self._changed = True
            self.world.clock.after(0.0, self._look_after)

    def _look_after(self) -> None:
        """Once for all that has changed at a time."""
        if self._changed:
            self.look()

    def look(self) -> None:
        """Look at what holds now."""
        self._changed = False
        self.truth.look()
        now = self.world.now
        wrong: dict[tuple[object, ...], float] = {}
        for invariant in self.standing:
            for finding in invariant.wrong(self.truth):
                key = (invariant, *finding.key)
                wrong[key] = since = self._since.get(key, now)
                if now - max(since, finding.since) > invariant.bound + 1e-6:
                    self._violated(invariant.name, invariant.section, finding.text)
        self._since = wrong
        for moment in self.momentary:
            if moment.found:
                self._violated(moment.name, moment.section, moment.found)

    def tick(self) -> None:
        """A tenth of a second has passed."""
        self.look()
        for moment in self.momentary:
            moment.now_and_then()
        self.world.clock.after(TICK, self.tick)

    def _violated(self, name: str, section: str, text: str) -> None:
        if self.violation is None:
            self.violation = Violation(name, section, self.world.now - self.began, text)


class _Teller(Watcher):
    """Tells what some nodes do, for people."""

    def __init__(self, stage: Stage, tell: Callable[[str], None], names: Collection[str]) -> None:
        self.world, self.tell, self.names, self.began = stage.world, tell, names, stage.world.now

    def after(self, node: Node, source: Node | None, effects: list[Effect]) -> None:
        if node.name not in self.names:
            return
        for effect in effects:
            at = f"{self.world.now - self.began:8.3f} {node.name}"
            match effect:
                case Send(association, octets) if association in node.ends:
                    end = node.ends[association]
                    message = decode(octets, end.association.service)
                    self.tell(f"{at} -> {end.far.node.name} {message}")
                case Emit(event):
                    self.tell(f"{at} {event}")
                case Send():
                    pass
                case _:
                    self.tell(f"{at} {effect}")


def run(
    script: Script,
    seed: int,
    *,
    only: Iterable[str] | None = None,
    tell: Callable[[str], None] | None = None,
    names: Collection[str] = (),
    settled: Callable[[], None] = lambda: None,
) -> Verdict:
    """Play a script.

    Args:
        script: what happens.
        seed: of everything the script leaves open.
        only: names of the invariants to look at; all, if left out.
        tell: told of what the nodes called ``names`` do.
        names: of nodes.
        settled: called when the pool has settled, before anything happens.
    """
    stage = Stage(script, seed)
    violation = None
    began = stage.world.now
    try:
        if stage.settle():
            began = stage.world.now
            checker = _Checker(stage, only)
            stage.world.watchers.append(checker)
            if tell is not None:
                stage.world.watchers.append(_Teller(stage, tell, names))
            settled()
            checker.tick()
            stage.schedule()
            stage.world.run_until(lambda: checker.violation is not None, script.length)
            violation = checker.violation
        else:
            violation = Violation(*SETTLES, stage.world.now - began, "the pool has not become complete")
    except Exception:  # noqa: BLE001 - whatever a machine raises is what is looked for
        where = traceback.format_exc()
        violation = Violation(*NEVER_RAISES, stage.world.now - began, where)
    return Verdict(violation, stage.world.now - began, _digest(stage))


def _digest(stage: Stage) -> str:
    whole = hashlib.sha256()
    for name, node in stage.world.nodes.items():
        for at, event in node.events:
            whole.update(f"{name} {at:.9f} {event!r}\n".encode())
    return whole.hexdigest()
