# SPDX-License-Identifier: Apache-2.0
"""A pool of registrars and elements, from cold start through every kind of failure."""

from __future__ import annotations

from support.simulator import World, dump_of, registrar


def test_three_registrars_started_at_once_serve_within_a_second_and_agree() -> None:
    world = World()
    registrars = world.registrars(3)
    assert world.run_until(lambda: all(registrar(n).serving for n in registrars), 3.0) is not None
    elements = [world.element(f"e{i}") for i in range(3)]
    assert world.run_until(lambda: world.everywhere(*elements), 1.0) is not None
    world.run(5)
    assert world.everywhere(*elements)
    assert len(dump_of(registrars[0])["peers"]) == 2
