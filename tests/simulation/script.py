# SPDX-License-Identifier: Apache-2.0
"""What happens in a world, as data: a few lines that people read, and that are read back.

::

    world registrars=3 elements=4 latency=0.001 window=65536 length=20
      0.500 cut r1 e2
      4.250 stall r2 0.600
      9.000 heal r1 e2

Times are seconds after the pool has settled. An action on somebody who is not there, or cannot suffer it, does nothing,
so that every part of a script is a script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

VERBS = {
    "kill": "NODE: its process ends",
    "vanish": "NODE: its host is gone, and nobody hears of it",
    "freeze": "NODE: its process stops; its kernel goes on",
    "thaw": "NODE: it runs on",
    "stall": "NODE SECONDS: its process does not run for a while",
    "suspend": "NODE SECONDS: its host is stopped for a while, and its clock has counted that",
    "sleep": "NODE SECONDS: the same, and its clock has not",
    "restart": "NODE: it starts anew in its pod; nobody is told of the end of the former one if the host had vanished",
    "reboot": "NODE: its host starts anew at once: half-open associations at everybody else's",
    "replace": "REGISTRAR: it starts anew in another pod, with another address",
    "leave": "ELEMENT: its application is not healthy any more",
    "serve": "ELEMENT: its application is healthy again",
    "cut": "NODE NODE: no packet passes",
    "block": "NODE NODE: no packet passes from the first to the second",
    "heal": "NODE NODE: all packets pass again",
    "isolate": "NODE: it is cut off from everybody",
    "rejoin": "NODE: its paths are healed",
    "split": "NODES NODES: two groups, with commas, are cut off from each other",
    "mend": "all paths are healed",
    "spike": "NODE NODE EXTRA SECONDS: packets are late",
    "slow": "NODE NODE RATE SECONDS: few octets a second pass from the first to the second",
    "reset": "NODE NODE: their associations end, for both at once",
    "report": "USER ELEMENT: it could not be reached",
    "ask": "USER: a resolution",
    "weigh": "ELEMENT WEIGHT: it registers with another weight",
    "renew": "NODE: it has another leaf, and replaces its associations",
    "age": "NODE: the leaves of everybody it has to do with end soon",
    "attack": "ROLE: somebody with that certificate sends what it must not",
    "noise": "EXTRA SHARE SECONDS: delay spikes everywhere, and processes that stall for a share of the time",
}
NAMES = {
    "kill": 1,
    "vanish": 1,
    "freeze": 1,
    "thaw": 1,
    "stall": 1,
    "suspend": 1,
    "sleep": 1,
    "restart": 1,
    "reboot": 1,
    "replace": 1,
    "leave": 1,
    "serve": 1,
    "cut": 2,
    "block": 2,
    "heal": 2,
    "isolate": 1,
    "rejoin": 1,
    "spike": 2,
    "slow": 2,
    "reset": 2,
    "report": 2,
    "ask": 1,
    "weigh": 1,
    "renew": 1,
    "age": 1,
}
"""How many of a verb's arguments are names of nodes; the rest are numbers, but for ``split`` and ``attack``."""


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """Something happens.

    Attributes:
        at: seconds after the pool has settled.
        verb: one of :data:`VERBS`.
        arguments: names, then numbers.
    """

    at: float
    verb: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"{self.at:7.3f}", self.verb, *self.arguments))

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes it is about."""
        return self.arguments[: NAMES.get(self.verb, 0)]

    @property
    def numbers(self) -> tuple[float, ...]:
        """Its other arguments."""
        if self.verb in ("split", "attack"):
            return ()
        return tuple(float(a) for a in self.arguments[NAMES.get(self.verb, 0) :])

    @property
    def lasts(self) -> float:
        """Seconds until it ends by itself."""
        return self.numbers[-1] if self.verb in ("stall", "suspend", "sleep", "spike", "slow", "noise") else 0.0

    def with_numbers(self, *numbers: float) -> Action:
        """The same with other numbers."""
        kept = self.arguments[: NAMES.get(self.verb, 0)]
        return replace(self, arguments=(*kept, *(f"{n:g}" for n in numbers)))


@dataclass(frozen=True, slots=True)
class Script:
    """A world and what happens in it.

    Attributes:
        latency: one way, in seconds.
        window: octets a kernel keeps for a process that does not read.
        length: seconds after the pool has settled.
    """

    registrars: int = 3
    elements: int = 4
    users: int = 0
    latency: float = 0.001
    window: int = 65536
    length: float = 20.0
    actions: tuple[Action, ...] = ()

    def __str__(self) -> str:
        head = (
            f"world registrars={self.registrars} elements={self.elements} users={self.users} latency={self.latency:g} "
            f"window={self.window} length={self.length:g}"
        )
        return "\n".join((head, *(str(a) for a in self.actions)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` has written.

        Raises:
            ValueError: it is not a script.
        """
        lines = [line.split() for line in text.strip().splitlines() if line.strip()]
        if not lines or lines[0][0] != "world":
            raise ValueError("a script begins with its world")
        head = dict(pair.split("=", 1) for pair in lines[0][1:])
        actions = []
        for at, verb, *arguments in lines[1:]:
            if verb not in VERBS:
                raise ValueError(f"{verb} is not among {', '.join(VERBS)}")
            actions.append(Action(float(at), verb, tuple(arguments)))
        return cls(
            registrars=int(head["registrars"]),
            elements=int(head["elements"]),
            users=int(head.get("users", "0")),
            latency=float(head["latency"]),
            window=int(head["window"]),
            length=float(head["length"]),
            actions=tuple(actions),
        )
