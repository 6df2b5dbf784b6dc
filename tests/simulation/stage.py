# SPDX-License-Identifier: Apache-2.0
"""Plays a script: builds its world, waits until the pool has settled, and does what is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from rserpool.asap.authorisation import Role
from rserpool.asap.effects import AssociationId
from rserpool.asap.element import Element
from rserpool.asap.user import User
from rserpool.enrp import Registrar
from rserpool.wire import policies
from simulation.intruder import let_in
from simulation.nodes import Node, element_of, registrar, user_of
from simulation.script import Action, Script
from simulation.world import World
from support.scope import POOL

SETTLES = 8.0
"""Seconds in which a pool has to be complete at every registrar."""


class Stage:
    """A world that follows a script.

    Attributes:
        world: the world.
        only_noise: nothing happens in it that could take anybody out.
    """

    def __init__(self, script: Script, seed: int) -> None:
        self.script = script
        self.world = World(seed, script.latency)
        self.world.network.window = script.window
        self.rng = Random(f"stage {seed}")
        self.only_noise = all(a.verb in ("noise", "ask", "weigh", "renew", "age") for a in script.actions)
        self._attackers = 0

    def settle(self) -> bool:
        """Build everybody; returns whether the pool has become complete."""
        world, script = self.world, self.script
        registrars = world.registrars(script.registrars)
        if world.run_until(lambda: all(registrar(n).serving for n in registrars), SETTLES) is None:
            return False
        policy = policies.WeightedRoundRobin(weight=1)
        elements = [world.element(f"e{i + 1}", policy=policy) for i in range(script.elements)]
        for i in range(script.users):
            world.user(f"u{i + 1}", role=Role.USER if i == 0 else Role.ANONYMOUS)
        if world.run_until(lambda: world.everywhere(*elements), SETTLES) is None:
            return False
        world.run(self.rng.uniform(5.0, 7.0))  # what happens comes at any phase of the timers, of an element at home
        return world.everywhere(*elements)

    def schedule(self) -> None:
        """Have everything happen that is written."""
        for action in self.script.actions:
            self.world.clock.after(action.at, partial(self._play, action))

    def _play(self, action: Action) -> None:
        nodes = [self.world.nodes[name] for name in action.names if name in self.world.nodes]
        if len(nodes) == len(action.names):
            getattr(self, f"_{action.verb}")(action, *nodes)

    # -- processes and hosts

    def _kill(self, _: Action, node: Node) -> None:
        self.world.kill(node)

    def _vanish(self, _: Action, node: Node) -> None:
        self.world.vanish(node)

    def _freeze(self, _: Action, node: Node) -> None:
        self.world.freeze(node)

    def _thaw(self, _: Action, node: Node) -> None:
        self.world.thaw(node)

    def _stall(self, action: Action, node: Node) -> None:
        self.world.stall(node, action.numbers[0])

    def _suspend(self, action: Action, node: Node) -> None:
        self.world.suspend(node, action.numbers[0], counted=True)

    def _sleep(self, action: Action, node: Node) -> None:
        self.world.suspend(node, action.numbers[0], counted=False)

    def _restart(self, _: Action, node: Node) -> None:
        again = self.world.restart_registrar if isinstance(node.machine, Registrar) else self.world.restart_element
        again(node)

    def _reboot(self, action: Action, node: Node) -> None:
        self.world.vanish(node)
        self._restart(action, node)

    def _replace(self, _: Action, node: Node) -> None:
        self.world.replace_registrar(node)

    def _leave(self, _: Action, node: Node) -> None:
        if node.wants:
            node.wants = False
            node.changed_at = self.world.now
            self.world.do(node, lambda now: element_of(node).leave(now, "not healthy"))

    def _serve(self, _: Action, node: Node) -> None:
        if not node.wants:
            node.wants = True
            node.changed_at = self.world.now
            self.world.do(node, element_of(node).serve)

    def _weigh(self, action: Action, node: Node) -> None:
        policy = policies.WeightedRoundRobin(weight=int(action.numbers[0]))
        self.world.do(node, lambda now: element_of(node).set_policy(policy, now))

    # -- leaves

    def _renew(self, _: Action, node: Node) -> None:
        machine = node.machine
        if isinstance(machine, Registrar | Element | User):
            self.world.do(node, lambda now: machine.renewed(now, 1.0))

    def _age(self, _: Action, node: Node) -> None:
        for number in list(node.ends):
            self.world.do(node, partial(node.machine.ageing, AssociationId(number)))

    # -- paths

    def _cut(self, _: Action, a: Node, b: Node) -> None:
        self.world.cut(a, b)

    def _block(self, _: Action, a: Node, b: Node) -> None:
        self.world.cut(a, b, back=False)

    def _heal(self, _: Action, a: Node, b: Node) -> None:
        self.world.heal(a, b)

    def _others(self, node: Node) -> list[Node]:
        return [n for n in self.world.nodes.values() if n.name != node.name and not n.intruder]

    def _isolate(self, _: Action, node: Node) -> None:
        self.world.partition([node], self._others(node))

    def _rejoin(self, _: Action, node: Node) -> None:
        for other in self._others(node):
            self.world.heal(node, other)

    def _split(self, action: Action) -> None:
        groups = [[self.world.nodes[n] for n in text.split(",") if n in self.world.nodes] for text in action.arguments]
        self.world.partition(*groups)

    def _mend(self, _: Action) -> None:
        self.world.heal_all()

    def _spike(self, action: Action, a: Node, b: Node) -> None:
        self.world.spike(a, b, *action.numbers)

    def _slow(self, action: Action, a: Node, b: Node) -> None:
        self.world.slow(a, b, *action.numbers)

    def _reset(self, _: Action, a: Node, b: Node) -> None:
        self.world.reset(a, b)

    # -- users, intruders, noise

    def _report(self, _: Action, user: Node, element: Node) -> None:
        identifier = element_of(element).pe_identifier
        self.world.do(user, lambda now: user_of(user).report(POOL, identifier, now))

    def _ask(self, _: Action, user: Node) -> None:
        self.world.do(user, lambda now: user_of(user).resolve(POOL, now)[1])

    def _attack(self, action: Action) -> None:
        self._attackers += 1
        let_in(self.world, action.arguments[0], f"x{self._attackers}", Random(self.rng.getrandbits(64)))

    def _noise(self, action: Action) -> None:
        """Each process stalls for up to half a second at a time; each path has a spike now and then."""
        extra, share, seconds = action.numbers
        until = self.world.now + seconds
        rng = Random(self.rng.getrandbits(64))
        names = [n.name for n in self.world.nodes.values()]
        for name in names:
            self._again(until, lambda name=name: self._stall_once(name, share, rng))  # type: ignore[misc] # mypy infers no lambda with a default
        for a in names:
            for b in names:
                if a < b and "r" in a[0] + b[0]:
                    self._again(until, lambda a=a, b=b: self._spike_once(a, b, extra, rng))  # type: ignore[misc] # mypy infers no lambda with a default

    def _again(self, until: float, action: Callable[[], float]) -> None:
        """Have it happen, and again after as many seconds as it says."""
        if self.world.now < until:
            self.world.clock.after(action(), partial(self._again, until, action))

    def _stall_once(self, name: str, share: float, rng: Random) -> float:
        length = rng.uniform(0.02, 0.5)
        pause = rng.expovariate(share / length / (1 - share))
        self.world.clock.after(pause, lambda: self.world.stall(self.world.nodes[name], length))
        return pause + length

    def _spike_once(self, a: str, b: str, extra: float, rng: Random) -> float:
        length, pause = rng.uniform(0.1, 1.0), rng.expovariate(0.2)
        self.world.clock.after(pause, lambda: self.world.spike(self.world.nodes[a], self.world.nodes[b], extra, length))
        return pause + length
