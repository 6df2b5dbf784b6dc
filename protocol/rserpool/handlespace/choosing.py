# SPDX-License-Identifier: Apache-2.0
"""Which element of an answer a pool user takes next (RFC 5356 4 and 5, the pool user's side)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from random import Random as RandomSource
from typing import Final

from rserpool.wire import PolicyType, PoolElement, policies

_UNIFORM: Final = frozenset({PolicyType.RANDOM, PolicyType.WEIGHTED_RANDOM, PolicyType.RANDOMIZED_LEAST_USED})
"""The registrar has applied the weights when it made the list; the user draws uniformly from it (RFC 5356 4.4.3)."""
_IN_ORDER: Final = frozenset(
    {
        PolicyType.LEAST_USED,
        PolicyType.LEAST_USED_DEGRADATION,
        PolicyType.PRIORITY_LEAST_USED,
        PolicyType.PRIORITY_LEAST_USED_DEGRADATION,
    }
)
"""The first of the list is the one to use, the others are there for when it cannot be (RFC 5356 5.1.3)."""


class UserSelector:
    """A pool user's memory of one pool's policy: the answer it works with, and how far it has gone round.

    Args:
        rng: where the random policies take their chances from.
    """

    __slots__ = ("_elements", "_next", "_rng", "_type")

    def __init__(self, rng: RandomSource) -> None:
        self._rng = rng
        self._type: int = PolicyType.ROUND_ROBIN
        self._elements: list[PoolElement] = []
        self._next = 0  # round robin: where in the list the next choice begins

    @property
    def elements(self) -> tuple[PoolElement, ...]:
        """The elements of the answer in use, in the order received."""
        return tuple(self._elements)

    def update(self, policy_type: int, elements: Sequence[PoolElement], *, pushed: bool = False) -> None:
        """Take a fresh answer, in the order received; an element that is in it twice counts once.

        Args:
            policy_type: the pool's policy; one that is not known is used as Round Robin.
            elements: the answer's elements.
            pushed: the registrar sent it unasked, to a subscriber. Its heads have not moved for it: round robin goes on
                behind the element used last, instead of starting with the first again.
        """
        last = self._elements[self._next - 1].identifier if pushed and self._next else None
        self._type = policy_type
        self._elements = list({element.identifier: element for element in elements}.values())
        self._next = next((at + 1 for at, element in enumerate(self._elements) if element.identifier == last), 0)

    def choose(self, without: Collection[int] = ()) -> PoolElement | None:
        """The element to use next.

        Args:
            without: PE identifiers to leave out, such as of those that have just failed.

        Returns:
            ``None`` if the answer holds no other element.
        """
        if self._type in _UNIFORM:
            able = [element for element in self._elements if element.identifier not in without]
            return self._rng.choice(able) if able else None
        if self._type in _IN_ORDER:
            return next((element for element in self._elements if element.identifier not in without), None)
        best = self._highest(without) if self._type == PolicyType.PRIORITY else None
        for at in self._circle():
            element = self._elements[at]
            if element.identifier not in without and (best is None or _priority(element) == best):
                self._next = at + 1
                return element
        return None

    def _circle(self) -> Iterator[int]:
        """The places of the list, from the next one round to the one before it."""
        n = len(self._elements)
        return ((self._next + i) % n for i in range(n))

    def _highest(self, without: Collection[int]) -> int | None:
        """The highest priority there is (RFC 5356 4.5.3); among several such elements it goes round."""
        return max((_priority(e) for e in self._elements if e.identifier not in without), default=None)


def _priority(element: PoolElement) -> int:
    return element.policy.priority if isinstance(element.policy, policies.Priority) else 0
