# SPDX-License-Identifier: Apache-2.0
"""What happens to scopes of IPv6, and of both families; each runs in a network namespace of its own.

`python -m support.scopes_of_ipv6 SCENARIO`, inside. What is not as it should be is an AssertionError.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from rserpool.client import PoolUser
from rserpool.daemon.control import control
from rserpool.wire import Address, TcpTransport
from rserpool_cli.up.loopback import REGISTRARS
from support.namespaces import bring_up
from support.running import ElementProcess, RunningPool, manifest, pool_running, started

V6: Final = "fd00:77::/112"
BOTH: Final = "10.77.0.0/16,fd00:77::/112"
TAKEN_OVER: Final = 10.0
ASAP_PORT: Final = 3864


async def _resolved(pool: RunningPool, own: Address, registrars: Sequence[Address]) -> set[str]:
    """What a user at that address is told."""
    scope = replace(pool.scope, local=own, registrars=tuple((str(address), ASAP_PORT) for address in registrars))
    async with PoolUser(scope) as users:
        found = await users.resolve("echo")
    transports: list[TcpTransport] = [e.transport for e in found.elements if isinstance(e.transport, TcpTransport)]
    assert len(transports) == len(found.elements)
    return {str(transport.address) for transport in transports}


def _kill_home_of(pool: RunningPool, element: ElementProcess) -> None:
    """Its elements are taken over by the others; the registrar comes back and has everything."""
    victim = pool.home_of(element)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    pool.settled([e.transport for e in pool.elements], without=[victim.name], within=TAKEN_OVER)
    pool.settled_with_all()


def ipv6_alone() -> None:
    """Three registrars and three elements that have nothing but IPv6."""
    chosen = bring_up(V6, registrars=3, elements=3)
    with pool_running(manifest(), "--network", V6) as pool:
        started(pool)
        places = [*(r.address for r in pool.registrars), *(e.address for e in pool.elements)]
        assert {ip_address(place).version for place in places} == {6}
        registrars = [ip_address(r.address) for r in pool.registrars]
        told = pool.run(_resolved(pool, chosen.client, registrars))
        assert told == {e.address for e in pool.elements}
        _kill_home_of(pool, pool.elements[0])


def both_families() -> None:
    """Registrars at addresses of both families; elements and users of each."""
    chosen = bring_up(BOTH, registrars=3, elements=4)
    with pool_running(manifest(), "--network", BOTH, "--elements", "4") as pool:
        started(pool)
        assert sorted(ip_address(e.address).version for e in pool.elements) == [4, 4, 6, 6]
        places = [chosen.place(REGISTRARS, i) for i in range(3)]
        assert [r.address for r in pool.registrars] == [str(place.address) for place in places]
        first, second = [place.address for place in places], [place.also[0] for place in places]
        users = [network[254 * 256 + 1] for network in chosen.networks]
        everybody = {e.address for e in pool.elements}
        for own, registrars in zip((users[0], users[1], users[1]), (first, second, [*first, *second]), strict=True):
            assert pool.run(_resolved(pool, own, registrars)) == everybody, own
        for version in (6, 4):
            _kill_home_of(pool, next(e for e in pool.elements if ip_address(e.address).version == version))


def announced() -> None:
    """Elements whose configured registrars are not there find those that announce themselves, in both families."""
    bring_up(BOTH, registrars=2, elements=2)
    os.environ["RSERPOOL_REGISTRARS_ADDRESSES"] = "10.77.200.1:3864,[fd00:77::c801]:3864"
    with pool_running(manifest(replicas=2), "--network", BOTH, "--elements", "2", "--multicast") as pool:
        started(pool)
        for element, family in zip(pool.elements, ("tcp:10.77.", "tcp:[fd00:77:"), strict=True):
            pool.wait(f"both registrars are heard at {family}", lambda e=element: len(_heard(pool, e)) == 2)  # type: ignore[misc] # mypy infers no lambda with a default
            assert all(place.startswith(family) for place in _heard(pool, element))


def _heard(pool: RunningPool, element: ElementProcess) -> list[str]:
    found: list[str] = pool.run(control(Path(element.socket), "GET", "/status"))["announced"]
    return found


SCENARIOS: Final[dict[str, Callable[[], None]]] = {
    "ipv6-alone": ipv6_alone,
    "both-families": both_families,
    "announced": announced,
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]]()
