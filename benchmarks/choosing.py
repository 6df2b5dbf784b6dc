# SPDX-License-Identifier: Apache-2.0
"""A registrar's handlespace by policy: choosing three of n elements, adding and removing one, memory an element."""

from __future__ import annotations

import gc
import math
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random
from typing import Final

from figures import Figure, Figures, Options, quiet
from rserpool.handlespace import Handlespace
from rserpool.wire import PoolElement, TcpTransport, policies
from rserpool.wire.policies import MAX_LOAD, Policy
from support.steps import steps

SIZES: Final = (10, 100, 1_000, 10_000, 100_000)
HANDLE: Final = b"echo"
CHOSEN: Final = 3
JOBS: Final = ("choose", "add", "replace", "remove")
ROOM: Final = 2048
"""Octets that an element may take."""
POLICIES: Final[dict[str, Callable[[Random], Policy]]] = {
    "Round Robin": lambda _: policies.RoundRobin(),
    "Weighted Round Robin": lambda rng: policies.WeightedRoundRobin(rng.randrange(1, 100)),
    "Random": lambda _: policies.Random(),
    "Weighted Random": lambda rng: policies.WeightedRandom(rng.randrange(1, 100)),
    "Priority": lambda rng: policies.Priority(rng.randrange(10)),
    "Least Used": lambda rng: policies.LeastUsed(rng.randrange(MAX_LOAD)),
    "Least Used with Degradation": lambda rng: policies.LeastUsedDegradation(rng.randrange(MAX_LOAD), 1 << 22),
    "Priority Least Used": lambda rng: policies.PriorityLeastUsed(rng.randrange(MAX_LOAD), 1 << 22),
    "Randomized Least Used": lambda rng: policies.RandomizedLeastUsed(rng.randrange(MAX_LOAD)),
    "Priority Least Used with Degradation": (
        lambda rng: policies.PriorityLeastUsedDegradation(rng.randrange(MAX_LOAD), 1 << 22)
    ),
}


@dataclass(slots=True)
class Costs:
    """Microseconds of one operation each, and octets an element.

    Attributes:
        touch: to look up one element by chance, and its policy.
        steps: of the interpreter, for the same operations.
    """

    touch: float
    choose: float
    add: float
    replace: float
    remove: float
    steps: dict[str, float]
    octets: float = 0.0


def run(options: Options) -> Figures:
    notes = quiet(options)
    sizes = SIZES[:3] if options.quick else SIZES
    table: dict[str, dict[int, Costs]] = {}
    for name in POLICIES:
        table[name] = {n: _measure(name, n, 50 if options.quick else 1000) for n in sizes}
        table[name][sizes[-1]].octets = _octets(name, sizes[-1])
    _print(table)
    low, high = (sizes[0], sizes[-1]) if options.quick else (1_000, 100_000)
    allowed = math.log(high) / math.log(low)
    for name, costs in table.items():
        few, many = costs[low], costs[high]
        growth = {job: many.steps[job] / few.steps[job] for job in JOBS}
        clock = " / ".join(f"{getattr(many, job) / getattr(few, job):.2f}" for job in JOBS)
        yield Figure(
            name=f"{name}: growth from {low:,} to {high:,} elements, by that of log n",
            unit="",
            values=(max(growth.values()) / allowed,),
            goal=1.0,
            notes={
                "counts": f"steps of the interpreter, of what grows most; log n itself grows {allowed:.2f} times",
                f"steps of {' / '.join(JOBS)}": " / ".join(f"{g:.2f}" for g in growth.values()) + " times",
                "the same in time": f"{clock} times; to look up one element takes {many.touch / few.touch:.1f} times"
                " as long: what is large is not in the processor's cache",
                **notes,
            },
        )
        yield Figure(
            name=f"{name}: memory of an element, of {high:,}",
            unit="B",
            values=(costs[high].octets,),
            goal=ROOM,
            notes={"counts": "the element, its addresses and policy, the handlespace's tables, the policy's memory"},
        )


def _element(identifier: int, policy: Policy) -> PoolElement:
    """An element as it comes out of a message: nothing is shared with another one."""
    address = IPv4Address(0x0A000000 + identifier % 0x00FFFFFF)
    return PoolElement(
        identifier=identifier,
        home=0x2A + (1 << 30),
        life=30,
        transport=TcpTransport(port=7007, address=address),
        policy=policy,
        asap_transport=TcpTransport(port=3864, address=address),
    )


def _filled(name: str, n: int, rng: Random) -> tuple[Handlespace, list[int]]:
    space = Handlespace(Random(1))
    identifiers = rng.sample(range(1, 1 << 32), n)
    for identifier in identifiers:
        space.put(HANDLE, _element(identifier, POLICIES[name](rng)))
    return space, identifiers


def _measure(name: str, n: int, times: int) -> Costs:
    rng = Random(n)
    space, identifiers = _filled(name, n, rng)
    pool = space.pools[HANDLE]
    taken = set(identifiers)
    new = [i for i in rng.sample(range(1, 1 << 32), times) if i not in taken]
    added = [_element(i, POLICIES[name](rng)) for i in new]
    replaced = [_element(rng.choice(identifiers), POLICIES[name](rng)) for _ in range(times)]
    gc.collect()
    gc.disable()
    try:
        touch = _each(lambda e: pool.elements[e.identifier].policy, replaced)
        choose = _each(lambda _: pool.select(CHOSEN), added)
        replace = _each(lambda e: space.put(HANDLE, e), replaced)
        # one in, one out: the pool keeps its size, also where it is smaller than the number of runs
        adding, removing = [], []
        for element in added:
            began = time.perf_counter()
            space.put(HANDLE, element)
            between = time.perf_counter()
            space.remove((HANDLE, element.identifier))
            adding.append(between - began)
            removing.append(time.perf_counter() - between)
    finally:
        gc.enable()
    add, remove = statistics.median(adding) * 1e6, statistics.median(removing) * 1e6
    return Costs(touch, choose, add, replace, remove, _steps(space, added, replaced))


def _steps(space: Handlespace, added: list[PoolElement], replaced: list[PoolElement]) -> dict[str, float]:
    n = min(200, len(added))
    pool, coming, again, going = space.pools[HANDLE], iter(added), iter(replaced), iter(added)
    return {
        "choose": steps(lambda: pool.select(CHOSEN), n),
        "add": steps(lambda: space.put(HANDLE, next(coming)), n),
        "replace": steps(lambda: space.put(HANDLE, next(again)), n),
        "remove": steps(lambda: space.remove((HANDLE, next(going).identifier)), n),
    }


def _each(job: Callable[[PoolElement], object], elements: list[PoolElement]) -> float:
    times = []
    for element in elements:
        began = time.perf_counter()
        job(element)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _octets(name: str, n: int) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = _filled(name, n, Random(n))
        for _ in range(100):
            kept[0].pools[HANDLE].select(CHOSEN)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before - sys.getsizeof(kept[1])) / n
    finally:
        tracemalloc.stop()


def _print(table: dict[str, dict[int, Costs]]) -> None:
    """The whole table, as progress: what is judged are the figures that follow."""
    width = max(map(len, table))
    columns = ("touch", "choose", "add", "replace", "remove")
    head = f"{'policy':{width}} {'elements':>9} " + " ".join(f"{column:>8}" for column in columns)
    print(f"{head}  us, median", file=sys.stderr)
    for name, costs in table.items():
        for n, cost in costs.items():
            octets = f"  {cost.octets:,.0f} B an element" if cost.octets else ""
            row = f"{name:{width}} {n:9,} " + " ".join(f"{getattr(cost, column):8.2f}" for column in columns)
            print(row + octets, file=sys.stderr)
