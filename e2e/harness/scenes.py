# SPDX-License-Identifier: Apache-2.0
"""Where attacks take place: pools whose registrars are looked at before and after, and what the operator says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from harness import operators
from harness.intruder import Members
from harness.kubectl import events
from harness.pools import canonical, dumps, elements, without_homes

ENROLMENTS: Final = "rserpool_operator_enrolments_total"


@dataclass(frozen=True, kw_only=True)
class Watched(Members):
    """Pools of one namespace.

    Attributes:
        pools: their names.
        held: what every registrar held at the start.
    """

    pools: tuple[str, ...]
    held: dict[str, Any]

    def is_unmoved(self) -> None:
        """Fails unless the registrars of all these pools hold what they held at the start.

        Who is home may have changed, among themselves: one that has no processor for a second is taken over.
        """
        told = {pod: dump for pool in self.pools for pod, dump in dumps(self.home, pool).items()}
        held = {pod: without_homes(canonical(dump)) for pod, dump in told.items()}
        assert held == {pod: without_homes(space) for pod, space in self.held.items()}
        homes = {e["home"] for dump in told.values() for e in elements(dump).values()}
        assert homes <= {dump["server_id"] for dump in told.values()}


def holdings(home: str, *pools: str) -> dict[str, Any]:
    """What every registrar of these pools holds."""
    return {pod: canonical(d) for pool in pools for pod, d in dumps(home, pool).items()}


@contextmanager
def refused(scene: Watched, *reasons: str, pod: str = "", namespace: str = "", way: str = "token") -> Iterator[None]:
    """What the operator counts and writes while the block runs; what registrars hold stays as it is."""
    since, before = operators.now(), operators.everywhere(ENROLMENTS)
    yield
    after = operators.everywhere(ENROLMENTS)
    for reason in reasons:
        counts = [operators.total(found, way=way, outcome=reason) for found in (before, after)]
        assert counts[1] > counts[0], f"{reason} by {way} is counted {counts[0]:g} times, as before"
    logged = {line["reason"]: line for line in operators.lines(since) if "refused enrolment" in line["message"]}
    told = [e["note"] for e in events(namespace or scene.home, about=pod)] if pod else []
    for reason in reasons:
        assert reason in logged, f"{reason} is not logged, only {sorted(logged)}"
        if pod:
            assert logged[reason]["peer"] == f"pod {namespace or scene.home}/{pod}"
            assert [note for note in told if note.startswith(f"{reason}: ")], f"no Event says {reason}, only {told}"
    scene.is_unmoved()


def registrar_refusals(namespace: str, pod: str, **labels: str) -> float:
    """What a registrar has refused."""
    text = operators.page(pod, namespace=namespace)
    return operators.total(operators.samples(text, "rserpool_refusals_total"), **labels)
