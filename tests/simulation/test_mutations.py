# SPDX-License-Identifier: Apache-2.0
"""Every invariant can fail: each defect that is put into the machines is noticed by the invariant it breaks."""

from __future__ import annotations

import pytest

from simulation.invariants import STANDING
from simulation.moments import MOMENTARY, NoFalseAlarm
from simulation.mutations import MUTATIONS, Mutation
from simulation.run import Verdict, run


def play(mutation: Mutation, seed: int, patch: pytest.MonkeyPatch) -> Verdict:
    """A script with the defect."""
    if mutation.late:
        return run(mutation.script_of(seed), seed, only=[mutation.invariant], settled=lambda: mutation.apply(patch))
    mutation.apply(patch)
    return run(mutation.script_of(seed), seed, only=[mutation.invariant])


def test_for_every_invariant_there_are_defects_that_break_it() -> None:
    invariants = {type(s) for s in STANDING} | {*MOMENTARY, NoFalseAlarm}
    broken = [m.breaks for m in MUTATIONS]
    assert {kind for kind in invariants if broken.count(kind) >= 3} == invariants
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.simulation
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_defect_is_noticed_by_the_invariant_it_breaks(mutation: Mutation) -> None:
    for seed in range(mutation.seeds):
        with pytest.MonkeyPatch.context() as patch:
            violation = play(mutation, seed, patch).violation
        if violation is not None and violation.invariant == mutation.invariant:
            assert run(mutation.script_of(seed), seed).violation is None  # it is the defect, not the script
            return
    pytest.fail(f"{mutation.seeds} seeds of {mutation.kind} do not show that {mutation.name}")
