# SPDX-License-Identifier: Apache-2.0
"""A few seeds of every kind of trouble, with every invariant; thousands are in test_seeds.py."""

from __future__ import annotations

import pytest

from simulation import replay
from simulation.generate import KINDS, generate
from simulation.run import run
from simulation.script import Script

QUICK = [kind for kind in KINDS if kind not in ("noise", "resets")]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", QUICK)
def test_every_invariant_holds_whatever_happens(kind: str, seed: int) -> None:
    script = generate(seed, kind)
    verdict = run(script, seed)
    assert verdict.violation is None, replay.report(kind, seed, script, verdict)


FOUND = {
    "a registrar that was taken over claims what it no longer has, and says so a moment later": (
        16,
        """
world registrars=5 elements=4 latency=0.001 window=65536 length=8
  5.600 stall r4 1.3
""",
    ),
    "a registrar that was away reads the table of a former home before that of the present one": (
        10,
        """
world registrars=5 elements=4 latency=0.0005 window=65536 length=18
  3.000 suspend e2 2
  4.300 suspend r5 12
""",
    ),
    "a registrar does not know that a peer has ended their association": (
        181,
        """
world registrars=3 elements=6 latency=0.001 window=65536 length=12
  0.000 suspend r2 2
  0.600 sleep r1 3
""",
    ),
    "an element comes to a home by a takeover after that home's table was read": (
        545,
        """
world registrars=4 elements=6 latency=0.0005 window=65536 length=14
  3.000 stall r3 1.9
  5.000 stall r2 2
""",
    ),
    "an element is lost to a registrar that is gone, and had claimed it": (
        249,
        """
world registrars=3 elements=3 latency=0.001 window=65536 length=18
  0.000 split r2,r3,e1,e3 r1,e2
  2.000 mend
  4.000 split r1,r2,e1 r3,e2,e3
 10.000 mend
""",
    ),
}
"""What the simulator has found: a seed and a script for each."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_not_found_again(name: str) -> None:
    seed, text = FOUND[name]
    for other in range(seed, seed + 5):
        assert run(Script.parse(text), other).violation is None
