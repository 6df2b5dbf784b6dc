# SPDX-License-Identifier: Apache-2.0
"""Scripts from seeds, by kinds of trouble."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from simulation.script import Action, Script

TAIL = 9.0
"""Quiet seconds at the end, in which everything has to come right."""


class _Writer:
    """Writes one script."""

    def __init__(self, seed: int, kind: str) -> None:
        self.rng = Random(f"{kind} {seed}")
        self.registrars = self.rng.choice([1, 2, 2, 3, 3, 3, 4, 5])
        self.elements = self.rng.randint(2, 6)
        self.users = 0
        self.latency = self.rng.choice([0.0005, 0.001, 0.001, 0.003, 0.01])
        self.window = 65536
        self.span = self.rng.uniform(1.0, 14.0)
        self.actions: list[Action] = []

    def script(self) -> Script:
        last = max((a.at + a.lasts for a in self.actions), default=0.0)
        return Script(
            registrars=self.registrars,
            elements=self.elements,
            users=self.users,
            latency=self.latency,
            window=self.window,
            length=round(last + TAIL, 3),
            actions=tuple(sorted(self.actions)),
        )

    def when(self) -> float:
        return round(self.rng.uniform(0.0, self.span), 3)

    def add(self, at: float, verb: str, *arguments: object) -> None:
        texts = (f"{a:g}" if isinstance(a, float) else str(a) for a in arguments)
        self.actions.append(Action(round(at, 3), verb, tuple(texts)))

    def several(self, most: int) -> range:
        return range(self.rng.randint(1, most))

    def a_registrar(self) -> str:
        return f"r{self.rng.randint(1, self.registrars)}"

    def an_element(self) -> str:
        return f"e{self.rng.randint(1, self.elements)}"

    def anybody(self) -> str:
        return self.a_registrar() if self.rng.random() < 0.5 else self.an_element()

    def a_pair(self) -> tuple[str, str]:
        """A registrar, and somebody it has to do with."""
        first = self.a_registrar()
        if self.registrars > 1 and self.rng.random() < 0.5:
            others = [f"r{i}" for i in range(1, self.registrars + 1) if f"r{i}" != first]
            pair = first, self.rng.choice(others)
        else:
            pair = first, self.an_element()
        return pair if self.rng.random() < 0.5 else (pair[1], pair[0])

    def for_a_while(self, least: float = 0.1, most: float = 12.0) -> float:
        """Short, about as long as the timers, or long."""
        return round(self.rng.choice([self.rng.uniform(least, 1.5), self.rng.uniform(1.0, 4.0), most]), 3)

    # -- trouble

    def end_and_restart(self, name: str, at: float) -> None:
        how = self.rng.choice(["kill", "kill", "vanish", "freeze", "reboot"])
        self.add(at, how, name)
        if how == "freeze":
            self.add(at + self.for_a_while(), "thaw", name)
        elif how != "reboot" and self.rng.random() < 0.7:
            again = "replace" if name[0] == "r" and self.rng.random() < 0.3 else "restart"
            self.add(at + self.for_a_while(0.01), again, name)

    def registrars_fail(self) -> None:
        self.registrars = max(2, self.registrars)
        for _ in self.several(4):
            self.end_and_restart(self.a_registrar(), self.when())

    def elements_fail(self) -> None:
        for _ in self.several(5):
            self.end_and_restart(self.an_element(), self.when())

    def both_fail(self) -> None:
        at = self.when()
        self.end_and_restart(self.an_element(), at)
        self.end_and_restart(self.a_registrar(), at + self.rng.choice([0.0, 0.0, self.rng.uniform(0, 2)]))
        for _ in self.several(3):
            self.end_and_restart(self.anybody(), self.when())

    def paths_fail(self) -> None:
        for _ in self.several(5):
            at = self.when()
            a, b = self.a_pair()
            verb = self.rng.choice(["cut", "cut", "block", "reset"])
            self.add(at, verb, a, b)
            if verb != "reset" and self.rng.random() < 0.85:
                self.add(at + self.for_a_while(), "heal", a, b)

    def parts_fail(self) -> None:
        self.registrars = max(2, self.registrars)
        for _ in self.several(2):
            at = self.when()
            if self.rng.random() < 0.4:
                name = self.anybody()
                self.add(at, "isolate", name)
                self.add(at + self.for_a_while(0.3), "rejoin", name)
                continue
            names = [f"r{i + 1}" for i in range(self.registrars)] + [f"e{i + 1}" for i in range(self.elements)]
            left = [n for n in names if self.rng.random() < 0.5]
            right = [n for n in names if n not in left]
            if left and right:
                self.add(at, "split", ",".join(left), ",".join(right))
                self.add(at + self.for_a_while(0.3), "mend")

    def clocks_fail(self) -> None:
        for _ in self.several(4):
            self.add(self.when(), self.rng.choice(["suspend", "sleep"]), self.anybody(), self.for_a_while())

    def processes_stall(self) -> None:
        self.window = self.rng.choice([400, 2000, 65536])
        for _ in self.several(6):
            self.add(self.when(), "stall", self.anybody(), self.for_a_while(0.05, 6.0))

    def paths_are_slow(self) -> None:
        for _ in self.several(4):
            a, b = self.a_pair()
            if self.rng.random() < 0.5:
                self.add(self.when(), "slow", a, b, float(self.rng.choice([200, 1000, 5000])), self.for_a_while())
            else:
                self.add(self.when(), "spike", a, b, round(self.rng.uniform(0.05, 0.6), 3), self.for_a_while())

    def users_report(self) -> None:
        self.users = 3
        for _ in range(self.rng.randint(5, 40)):
            self.add(self.when(), "report", f"u{self.rng.randint(1, 3)}", self.an_element())
        for _ in self.several(2):
            self.end_and_restart(self.an_element(), self.when())
        for _ in self.several(6):
            self.add(self.when(), "ask", f"u{self.rng.randint(1, 3)}")

    def elements_come_and_go(self) -> None:
        for _ in self.several(6):
            at, name = self.when(), self.an_element()
            self.add(at, "leave", name)
            self.add(at + self.for_a_while(0.0, 3.0), "serve", name)
        for _ in self.several(6):
            self.add(self.when(), "weigh", self.an_element(), float(self.rng.randint(1, 9)))
        if self.rng.random() < 0.5:
            self.end_and_restart(self.anybody(), self.when())

    def somebody_attacks(self) -> None:
        roles = ["anonymous", "user", "element", "stranger", "registrar"]
        for _ in self.several(2):
            self.add(self.when() / 2, "attack", self.rng.choice(roles))
        if self.rng.random() < 0.6:
            self.end_and_restart(self.anybody(), self.when())

    def leaves_are_renewed(self) -> None:
        """That takes nobody out, unless something else does."""
        self.users = 2
        for _ in self.several(12):
            self.add(self.when(), self.rng.choice(["renew", "age"]), self.anybody())
        for _ in self.several(3):
            self.add(self.when(), self.rng.choice(["renew", "age", "ask"]), f"u{self.rng.randint(1, 2)}")
        if self.rng.random() < 0.4:
            self.end_and_restart(self.anybody(), self.when())

    def anything_fails(self) -> None:
        for _ in self.several(3):
            self.rng.choice(
                [
                    self.registrars_fail,
                    self.elements_fail,
                    self.paths_fail,
                    self.parts_fail,
                    self.clocks_fail,
                    self.processes_stall,
                    self.paths_are_slow,
                    self.elements_come_and_go,
                    self.somebody_attacks,
                ]
            )()

    def associations_end(self) -> None:
        """Again and again, for both ends at once, so that both dial at the same time."""
        at = 0.0
        for _ in range(self.rng.randint(60, 160)):
            at += self.rng.uniform(0.02, 0.4)
            self.add(at, "reset", *self.a_pair())

    def noise(self) -> None:
        self.registrars = 3
        self.add(0.0, "noise", 0.3, 0.05, 60.0)


KINDS: dict[str, Callable[[_Writer], None]] = {
    "registrars": _Writer.registrars_fail,
    "elements": _Writer.elements_fail,
    "both": _Writer.both_fail,
    "paths": _Writer.paths_fail,
    "parts": _Writer.parts_fail,
    "clocks": _Writer.clocks_fail,
    "stalls": _Writer.processes_stall,
    "slow": _Writer.paths_are_slow,
    "reports": _Writer.users_report,
    "churn": _Writer.elements_come_and_go,
    "attacks": _Writer.somebody_attacks,
    "leaves": _Writer.leaves_are_renewed,
    "mixed": _Writer.anything_fails,
    "resets": _Writer.associations_end,
    "noise": _Writer.noise,
}


def generate(seed: int, kind: str) -> Script:
    """The script of a seed.

    Args:
        seed: any number.
        kind: one of :data:`KINDS`.
    """
    writer = _Writer(seed, kind)
    KINDS[kind](writer)
    return writer.script()
