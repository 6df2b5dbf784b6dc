# SPDX-License-Identifier: Apache-2.0
"""Hosts that vanish without a word, on a network of namespaces: an element's, a registrar's, two at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from answering import answering
from asking import Asker
from figures import Figure, Figures, Options, quiet, say
from hosts import ELEMENT, REGISTRAR, USER, HostsScope, can_have_hosts, scope_on_hosts
from simulation.nodes import Node
from simulation.world import World
from support.running import elements_of

ELEMENT_GONE: Final = 3.0
TAKEN_OVER: Final = {100: 3.0, 1000: 6.0}
"""One of two registrars, with so many elements in the scope."""
ONE_OF_THREE, TWO_OF_THREE, RESOLVED = 3.0, 6.0, 1.0
RSPLIB: Final = {
    "element": "5 to 10 s",
    "registrar": "39.7 s until re-registration; it never takes over",
}
"""The reference implementation's, with its default timers, over SCTP, on such namespaces."""


PHASES: Final = 50


def run(options: Options) -> Figures:
    yield _simulated(5 if options.quick else PHASES)
    why_not = can_have_hosts()
    if why_not:
        say(f"vanish: not measured: {why_not}")
        return
    yield _elements(options)
    for count, goal in TAKEN_OVER.items():
        few = 10 if options.quick else count
        yield from _registrars(options, registrars=2, victims=1, count=few, goal=goal)
    few = 10 if options.quick else 100
    yield from _registrars(options, registrars=3, victims=1, count=few, goal=ONE_OF_THREE)
    yield from _registrars(options, registrars=3, victims=2, count=few, goal=TWO_OF_THREE)


def _simulated(phases: int) -> Figure:
    """The very machines on a virtual clock: the host vanishes at another phase of all timers each time."""
    values = []
    for seed in range(phases):
        world = World(seed)
        registrars = world.registrars(3)
        elements = [world.element(f"e{number}") for number in range(3)]
        if world.run_until(partial(world.everywhere, *elements), 5.0) is None:
            raise SystemExit(f"seed {seed}: the elements are not registered")
        world.run(world.rng.uniform(2.0, 5.0))
        world.vanish(elements[0])
        address = str(elements[0].address)
        took = world.run_until(partial(_nowhere, world, registrars, address), 30.0)
        values.append(30.0 if took is None else took)
    what = f"{phases} seeds, three registrars; until no registrar holds it"
    return Figure(
        name="element's host vanishes, simulated phases",
        unit="s",
        values=tuple(values),
        goal=ELEMENT_GONE,
        notes={"what": what, "rsplib": RSPLIB["element"]},
    )


def _nowhere(world: World, registrars: list[Node], address: str) -> bool:
    return not any(address in world.members(registrar) for registrar in registrars)


def _elements(options: Options) -> Figure:
    values, busy = [], quiet(options)
    with scope_on_hosts() as pool:
        pool.start(3)
        for turn in range(options.runs):
            pool.elements(1, group=turn)
        pool.registered(options.runs)
        time.sleep(2.0)
        for turn in range(options.runs):
            transport = f"tcp:{pool.element_place(turn, 0).address}:7007"
            began = time.monotonic()
            pool.hosts.vanish(pool.hosts.host(ELEMENT, turn))
            pool.wait("the element is out of all registrars", _out(pool, transport), 0.01)
            values.append(time.monotonic() - began)
            say(f"element's host vanished: {values[-1]:.2f} s")
    what = "its host is taken off the network; until no registrar of three holds it"
    notes = {"what": what, "rsplib": RSPLIB["element"]}
    return Figure(
        name="element's host vanishes", unit="s", values=tuple(values), goal=ELEMENT_GONE, notes={**notes, **busy}
    )


def _out(pool: HostsScope, transport: str) -> Callable[[], bool]:
    def out() -> bool:
        dumps = [r.ask("/dump") for r in pool.registrars]
        held = [{e["transport"] for e in elements_of(d["handlespace"])} for d in dumps if d is not None]
        return len(held) == len(pool.registrars) and not any(transport in transports for transports in held)

    return out


def _registrars(options: Options, *, registrars: int, victims: int, count: int, goal: float) -> Figures:
    values: list[float] = []
    slowest: list[float] = []
    failures: list[str] = []
    busy = quiet(options)
    for _ in range(options.runs):
        with scope_on_hosts() as pool:
            pool.start(registrars)
            pool.elements(count)
            pool.registered(count)
            host = pool.hosts.host(USER, 0)
            with Asker(pool, host.address(), host.command) as user:
                time.sleep(2.0)  # keep-alives are spread by then
                gone, left = pool.registrars[:victims], pool.registrars[victims:]
                began = time.monotonic()
                for index, _registrar in enumerate(gone):
                    pool.hosts.vanish(pool.hosts.host(REGISTRAR, index))
                pool.wait("all elements answer elsewhere", answering(left, count), 0.02)
                values.append(time.monotonic() - began)
                time.sleep(1.5)
            asked = [a for a in user.asked if a["at"] >= began]
            slowest.append(max(a["took"] for a in asked))
            failures += [a["failed"] for a in asked if a["failed"]]
            said = f"{len(asked)} resolved, slowest {slowest[-1]:.2f} s"
            say(f"{victims} of {registrars} vanished: {values[-1]:.2f} s; {said}")
    name = f"{victims} of {registrars} registrars {'vanishes' if victims == 1 else 'vanish'}, {count:,} elements"
    until = "every registrar left holds all elements with a living home that has an association to each"
    yield Figure(
        name=name,
        unit="s",
        values=tuple(values),
        goal=None if options.quick else goal,
        notes={"what": f"hosts are taken off the network; until {until}", "rsplib": RSPLIB["registrar"], **busy},
    )
    yield Figure(
        name=f"slowest resolve() meanwhile, {victims} of {registrars}, {count:,} elements",
        unit="s",
        values=tuple(slowest),
        goal=RESOLVED,
        notes={"what": "a user that knows all registrars asks every 50 ms", "failed": "; ".join(failures) or "none"},
    )
