# SPDX-License-Identifier: Apache-2.0
"""Members in order of a number, the longest unused first among equals; lots by weight: both against plain models."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rserpool.handlespace.lots import Lots
from rserpool.handlespace.order import Order

members = st.integers(0, 15)
numbers = st.integers(-3, 3)


class OrderAgainstAList(RuleBasedStateMachine):
    """The model is a list, sorted anew each time: Python's sort is stable."""

    def __init__(self) -> None:
        super().__init__()
        self.order = Order()
        self.model: list[tuple[int, int]] = []  # member, number; those used last are last

    def place(self, member: int) -> int | None:
        return next((i for i, (m, _) in enumerate(self.model) if m == member), None)

    @rule(member=members, number=numbers)
    def add_or_take_out(self, member: int, number: int) -> None:
        at = self.place(member)
        if at is None:
            self.order.add(member, number)
            self.model.append((member, number))
        else:
            self.order.remove(member)
            del self.model[at]

    @rule(member=members, number=numbers, behind=st.booleans())
    def move(self, member: int, number: int, behind: bool) -> None:
        at = self.place(member)
        if at is not None:
            self.order.move(member, number, behind=behind)
            self.model[at] = (member, number)
            if behind:
                self.model.append(self.model.pop(at))

    @rule(limit=st.integers(0, 18))
    def the_first_are_the_models(self, limit: int) -> None:
        expected = [member for member, _ in sorted(self.model, key=lambda entry: entry[1])]
        assert self.order.first(limit) == expected[: limit or None]

    @invariant()
    def everybody_is_there_once_with_its_number(self) -> None:
        assert len(self.order) == len(self.model)
        for member, number in self.model:
            assert member in self.order
            assert self.order.number(member) == number


class LotsAgainstADictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lots = Lots(Random(3))
        self.model: dict[int, int] = {}

    @rule(member=members, weight=st.integers(0, 3))
    def add_or_take_out(self, member: int, weight: int) -> None:
        if member in self.model:
            self.lots.remove(member)
            del self.model[member]
        else:
            self.lots.add(member, weight)
            self.model[member] = weight

    @rule(member=members, weight=st.integers(0, 3))
    def change(self, member: int, weight: int) -> None:
        if member in self.model:
            self.lots.change(member, weight)
            self.model[member] = weight

    @rule(limit=st.integers(0, 18))
    def everybody_who_can_be_drawn_is_drawn_once(self, limit: int) -> None:
        able = {member for member, weight in self.model.items() if weight} or self.model.keys()
        drawn = self.lots.draw(limit)
        assert len(drawn) == min(limit or len(able), len(able))
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= able

    @invariant()
    def the_sums_are_those_of_the_weights(self) -> None:
        weights: list[int] = self.lots._weights
        assert dict(zip(self.lots._members, weights, strict=True)) == self.model
        assert self.lots._total == sum(weights)
        assert self.lots._sums[1:] == [sum(weights[i - (i & -i) : i]) for i in range(1, len(weights) + 1)]
        assert len(self.lots) == len(self.model)


def _checked(machine: type[RuleBasedStateMachine]) -> Any:
    case = machine.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
    return case


TestOrder = _checked(OrderAgainstAList)
TestLots = _checked(LotsAgainstADictionary)


def test_every_lot_falls_to_the_one_whose_part_of_the_sum_it_is() -> None:
    for n in range(1, 18):
        lots = Lots(Random(1))
        weights = [i * 7 % 5 for i in range(n)]
        for member, weight in enumerate(weights):
            lots.add(member, weight)
        assert Counter(lots._place_of(lot) for lot in range(sum(weights))) == {
            member: weight for member, weight in enumerate(weights) if weight
        }
