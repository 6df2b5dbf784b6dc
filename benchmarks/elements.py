# SPDX-License-Identifier: Apache-2.0
"""Many elements in one process: the sidecar's machine, driver and transport, without its probe and its HTTP.

``elements.py FILE`` runs those of a JSON file, and writes a line with their counts every second until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from rserpool.asap.authorisation import Authoriser, Role
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.element import Element, ElementConfig
from rserpool.asap.events import ElementState, ElementStateChanged, Event
from rserpool.asap.profiles import FAST
from rserpool.identity import InsecureScope, SecureScope, pe_identifiers
from rserpool.transport.driver import Driver
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import Ppid, TcpTransport, policies
from scope import DOMAIN, NAMESPACE, POOL, credentials


class Counted:
    """All elements, and what happened to them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._timers, life = FAST.endpoint, job["life"]
        if life is not None:
            self._timers = replace(self._timers, life=life, t4=life / 3, silent_home=0.0)
        self._registrars = tuple(
            Endpoint(TransportKind.TCP, (ip_address(host),), port) for host, port in job["registrars"]
        )
        self.machines: list[Element] = []
        self.homeless = 0

    async def start(self) -> None:
        for element in self._job["elements"]:
            await self._start(element)
            await asyncio.sleep(1 / self._job["a_second"])

    async def _start(self, element: dict[str, Any]) -> None:
        address = ip_address(element["address"])
        config = ElementConfig(
            pool_handle=POOL.encode(),
            identifiers=pe_identifiers(element["uid"]),
            transport=TcpTransport(port=7007, address=address),
            policy=policies.RoundRobin(),
            listening=Endpoint(TransportKind.TCP, (address,), element["port"]),
            registrars=self._registrars,
            timers=self._timers,
        )
        security: Security | None = None
        authoriser: Authoriser = InsecureScope()
        if self._job["secure"]:
            security = Security(
                trust_domain=DOMAIN,
                namespace=NAMESPACE,
                pool=POOL,
                role=Role.ELEMENT,
                credentials=credentials(
                    element["chain"].encode(), element["key"].encode(), self._job["bundle"].encode()
                ),
            )
            authoriser = SecureScope(pool_handle=POOL.encode(), anonymous=False, registrar_threat="2.6")
        machine = Element(config, authoriser, Random())
        network = TcpNetwork(address, security, TcpLimits(handshake=self._timers.connect, idle=0.0))
        driver = Driver(machine, network, self._event)
        await network.listen(Ppid.ASAP, element["port"], driver)
        self.machines.append(machine)
        driver.call(machine.serve)

    def _event(self, event: Event) -> None:
        if isinstance(event, ElementStateChanged) and event.state is ElementState.NO_HOME and event.reason:
            self.homeless += 1


async def main(job: dict[str, Any]) -> None:
    elements = Counted(job)
    starting = asyncio.create_task(elements.start())
    while True:
        registered = sum(machine.registered for machine in elements.machines)
        print(json.dumps({"registered": registered, "homeless": elements.homeless}), flush=True)
        await asyncio.sleep(1)
        if starting.done():
            starting.result()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(Path(sys.argv[1]).read_text())))
