# SPDX-License-Identifier: Apache-2.0
"""Makes a script that fails short: fewer actions first (delta debugging), then a smaller world and rounder numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from simulation.script import Action, Script

Fails = Callable[[Script], bool]
"""Whether a script still fails in the same way."""

MOST_RUNS = 400


def shrink(script: Script, fails: Fails) -> Script:
    """The shortest script found that fails; ``script`` itself must."""
    budget = MOST_RUNS

    def try_it(candidate: Script) -> bool:
        nonlocal budget
        budget -= 1
        return budget >= 0 and fails(candidate)

    while budget > 0:
        before = script
        script = _fewer(script, try_it)
        script = _simpler(script, try_it)
        if script == before:
            break
    return script


def _fewer(script: Script, fails: Fails) -> Script:
    """Leave out ever smaller parts of the actions."""
    size = max(1, len(script.actions) // 2)
    while size and script.actions:
        at = 0
        while at < len(script.actions):
            candidate = replace(script, actions=script.actions[:at] + script.actions[at + size :])
            if fails(candidate):
                script = candidate
            else:
                at += size
        size //= 2
    return script


def _simpler(script: Script, fails: Fails) -> Script:
    """Try each simplification once, and keep what still fails."""
    for change in _worlds(script):
        candidate = replace(script, **change)
        if candidate != script and fails(candidate):
            script = candidate
    for index in range(len(script.actions)):
        for action in _actions(script.actions[index]):
            changed = (*script.actions[:index], action, *script.actions[index + 1 :])
            candidate = replace(script, actions=tuple(sorted(changed)))
            if candidate.actions[index] == action and fails(candidate):
                script = candidate
                break
    return script


def _worlds(script: Script) -> Iterator[dict[str, Any]]:
    """Smaller worlds, one less of something at a time."""
    named = {n for a in script.actions for word in a.arguments for n in word.split(",")}
    for field, letter, least in (("users", "u", 0), ("elements", "e", 1), ("registrars", "r", 1)):
        there = getattr(script, field)
        needed = max((i for i in range(1, there + 1) if f"{letter}{i}" in named), default=least)
        yield from ({field: n} for n in range(there - 1, max(needed, least) - 1, -1))
    yield {"latency": 0.001}
    yield {"window": 65536}


def _actions(action: Action) -> Iterator[Action]:
    """The same at a rounder time, or for a rounder length; the roundest first."""
    for digits in (0, 1, 2):
        at = round(action.at, digits)
        if at != action.at:
            yield replace(action, at=at)
    if action.numbers:
        for digits in (0, 1):
            rounded = [round(n, digits) for n in action.numbers]
            if all(rounded) and tuple(rounded) != action.numbers:
                yield action.with_numbers(*rounded)
