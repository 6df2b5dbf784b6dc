# SPDX-License-Identifier: Apache-2.0
"""Thousands of short scripts, and some long ones: ``make test-sim``.

``SIMULATION_SEEDS`` says how many seeds of each kind are tried (150 if it is not set), ``SIMULATION_FROM`` where they
begin. A failure names the one command that plays it again, and shows the shortest script found.
"""

from __future__ import annotations

import os

import pytest

from simulation import replay
from simulation.generate import KINDS, generate
from simulation.run import run
from simulation.script import Action, Script

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "150"))
FIRST = int(os.environ.get("SIMULATION_FROM", "1000"))
PART = 25
LONG = 1800.0

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(0)]
SHORT = [kind for kind in KINDS if kind not in ("noise", "resets")]


@pytest.mark.parametrize("begin", range(FIRST, FIRST + SEEDS, PART))
@pytest.mark.parametrize("kind", SHORT)
def test_every_invariant_holds_for_thousands_of_seeds(kind: str, begin: int) -> None:
    for seed in range(begin, min(begin + PART, FIRST + SEEDS)):
        script = generate(seed, kind)
        verdict = run(script, seed)
        assert verdict.violation is None, replay.report(kind, seed, script, verdict)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, SEEDS // 10)))
def test_every_invariant_holds_while_associations_end_again_and_again(seed: int) -> None:
    script = generate(seed, "resets")
    verdict = run(script, seed)
    assert verdict.violation is None, replay.report("resets", seed, script, verdict)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, SEEDS // 50)))
def test_thirty_minutes_of_late_packets_and_stalls_remove_no_healthy_element_and_no_registrar(seed: int) -> None:
    script = Script(
        registrars=3, elements=6, length=LONG + 9, actions=(Action(0.0, "noise", ("0.3", "0.05", f"{LONG:g}")),)
    )
    verdict = run(script, seed)
    assert verdict.violation is None, f"with seed {seed}:\n{script}\n{verdict.violation}"
    assert verdict.seconds >= LONG


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, SEEDS // 50)))
def test_ten_minutes_of_all_kinds_of_trouble_one_after_the_other(seed: int) -> None:
    """State that piles up, and what one trouble leaves to the next."""
    actions: list[Action] = []
    at = 0.0
    for number in range(30):
        part = generate(seed * 1000 + number, "mixed")
        actions += [Action(round(at + a.at, 3), a.verb, a.arguments) for a in part.actions if a.verb != "attack"]
        at += part.length
        actions.append(Action(round(at - 9.0, 3), "mend"))
        for name in ("r1", "r2", "r3", "e1", "e2", "e3", "e4"):
            actions.append(Action(round(at - 8.999, 3), "thaw", (name,)))
    script = Script(registrars=3, elements=4, length=at, actions=tuple(sorted(actions)))
    verdict = run(script, seed)
    assert verdict.violation is None, f"with seed {seed}: {verdict.violation}"
