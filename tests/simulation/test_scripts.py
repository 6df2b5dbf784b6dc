# SPDX-License-Identifier: Apache-2.0
"""Scripts are data: written, read back, generated from a seed, played to the same end each time, and made short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation import replay
from simulation.generate import KINDS, generate
from simulation.run import run
from simulation.script import VERBS, Action, Script
from simulation.shrink import shrink
from simulation.stage import Stage

FIVE = tuple(Action(float(n), "stall", ("e1", "0.123")) for n in range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_is_read_back_as_it_was_written(kind: str) -> None:
    for seed in range(20):
        script = generate(seed, kind)
        assert script.actions
        assert Script.parse(str(script)) == script


def test_every_verb_is_written_by_some_kind_and_played_by_the_stage() -> None:
    written = {a.verb for kind in KINDS for seed in range(60) for a in generate(seed, kind).actions}
    assert written == set(VERBS)
    assert all(hasattr(Stage, f"_{verb}") for verb in VERBS)


@pytest.mark.parametrize("text", ["", "0.5 kill r1", "world registrars=1 elements=1\n0.5 eat r1"])
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        Script.parse(text)


def test_the_same_seed_is_the_same_history_in_every_process() -> None:
    """Whatever order sets of names or endpoints have there."""
    code = (
        "from simulation.generate import generate; from simulation.run import run\n"
        "print([run(generate(s, 'mixed'), s).history for s in (3, 4)])"
    )
    said = set()
    for hashing in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hashing, "PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=100
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert run(generate(3, "mixed"), 3).history in said.pop()


def test_a_failing_script_is_made_as_short_as_it_can_be() -> None:
    script = Script(registrars=4, elements=6, users=2, latency=0.003, actions=(*FIVE, Action(7.321, "kill", ("r2",))))

    def fails(candidate: Script) -> bool:
        return any(a.verb == "kill" for a in candidate.actions)

    assert shrink(script, fails) == Script(registrars=2, elements=1, users=0, actions=(Action(7.0, "kill", ("r2",)),))


def test_what_two_actions_do_together_keeps_both_and_rounds_what_it_can() -> None:
    script = Script(actions=(*FIVE, Action(6.25, "stall", ("r3", "1.777")), Action(7.0, "kill", ("r2",))))

    def fails(candidate: Script) -> bool:
        long = any(a.verb == "stall" and a.names == ("r3",) and a.numbers[0] > 1.6 for a in candidate.actions)
        return long and any(a.verb == "kill" for a in candidate.actions)

    short = shrink(script, fails)
    assert short.actions == (Action(6.0, "stall", ("r3", "2")), Action(7.0, "kill", ("r2",)))


def test_the_command_says_how_a_failure_is_seen_again_and_gives_a_script_that_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an element that takes no keep-alives for a sign of life."""
    from simulation.mutations import MUTATIONS

    mutation = next(m for m in MUTATIONS if m.name == "a failed element is not dropped")
    mutation.apply(monkeypatch)
    seed = next(s for s in range(20) if run(generate(s, mutation.kind), s).violation)
    assert replay.main([mutation.kind, str(seed)]) == 1
    said = capsys.readouterr().out
    assert f"-m simulation.replay {mutation.kind} {seed}" in said
    short = Script.parse(said[said.index("world ") : said.rindex("\n", 0, len(said.rstrip()))])
    assert len(short.actions) <= 2
    found = run(short, seed).violation
    assert found is not None
    assert found.invariant == mutation.invariant


def test_the_command_says_that_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main(["elements", "1"]) == 0
    assert "nothing violated" in capsys.readouterr().out
