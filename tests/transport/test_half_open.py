# SPDX-License-Identifier: Apache-2.0
"""Who makes room when there are too many strangers (threats 2.1, 2.2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rserpool.transport.half_open import MOST, HalfOpen


class Door:
    """Strangers by number, and who was turned away, in order."""

    def __init__(self, most: int = MOST) -> None:
        self.half_open: HalfOpen[int] = HalfOpen(most)
        self.away: list[int] = []

    def come(self, number: int, source: str) -> None:
        def end(reason: str) -> None:
            assert reason == "too many connections without a handshake"
            self.away.append(number)
            self.half_open.remove(number, source)

        self.half_open.add(number, source, end)


def test_256_strangers_are_kept_and_one_more_replaces_the_oldest() -> None:
    door = Door()
    for number in range(256):
        door.come(number, "10.0.0.1")
    assert (len(door.half_open), door.away) == (256, [])
    door.come(256, "10.0.0.1")
    door.come(257, "10.0.0.1")
    assert (len(door.half_open), door.away) == (256, [0, 1])


def test_the_oldest_of_the_busiest_source_makes_room_not_the_oldest_of_all() -> None:
    door = Door(4)
    door.come(0, "honest")
    for number in range(1, 10):
        door.come(number, "flood")
    assert door.away == [1, 2, 3, 4, 5, 6]
    door.come(10, "another")
    assert door.away[6:] == [7]


def test_who_has_proved_itself_frees_its_place_once() -> None:
    door = Door(2)
    door.come(0, "a")
    door.come(1, "a")
    for _ in range(2):
        door.half_open.remove(0, "a")
    door.half_open.remove(5, "nobody")
    assert len(door.half_open) == 1
    door.come(2, "a")
    assert door.away == []
    door.come(3, "a")
    assert door.away == [1]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60), st.integers(1, 5))
def test_it_never_holds_more_than_it_may_and_counts_right(steps: list[tuple[int, bool]], most: int) -> None:
    door, here = Door(most), dict[int, str]()
    for number, (source, comes) in enumerate(steps):
        if comes:
            here[number] = str(source)
            door.come(number, str(source))
            for gone in door.away:
                here.pop(gone, None)
        elif here:
            first = next(iter(here))
            door.half_open.remove(first, here.pop(first))
        assert len(door.half_open) == len(here) <= most
