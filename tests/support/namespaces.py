# SPDX-License-Identifier: Apache-2.0
"""A network namespace of a test's own, with an interface that has addresses of both families.

Nothing of the host is touched. Root is not needed where users may make namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from rserpool.wire import Address
from rserpool_cli.up.loopback import ELEMENTS, OTHERS, REGISTRARS, Networks, read_networks

TESTS: Final = Path(__file__).parent.parent
WAYS: Final = (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net"))


CABLE: Final = "pool"


@cache
def way() -> tuple[str, ...] | None:
    """How to run a command in a new network namespace; ``None`` if nothing works here."""
    for words in WAYS:
        try:
            done = subprocess.run(
                [*words, "ip", "link", "set", "lo", "up"], capture_output=True, timeout=10, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            return words
    return None


def run_inside(module: str, *arguments: str, timeout: float) -> str:
    """Run a module of the tests in a namespace; returns what it printed, and fails as it failed."""
    words = way()
    if words is None:
        reason = "no network namespace can be made here: it needs unshare, ip, and root or user namespaces"
        if os.environ.get("CI"):
            pytest.fail(f"{reason} (with CI set, that is a failure)", pytrace=False)
        pytest.skip(reason)
    done = subprocess.run(
        [*words, sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{module} {' '.join(arguments)}:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}", pytrace=False)
    return done.stdout


def bring_up(networks: str, *, registrars: int, elements: int) -> Networks:
    """Inside: make an interface with the addresses that a pool of `rserpool up --network` uses; it carries multicast."""
    chosen = Networks(read_networks(networks))
    places = [chosen.place(REGISTRARS, i) for i in range(registrars)]
    places += [chosen.place(ELEMENTS, i) for i in range(elements)]
    places.append(chosen.place(OTHERS, 0))
    wanted: list[Address] = [address for place in places for address in (place.address, *place.also)]
    wanted += [chosen.lock, *(network[254 * 256 + 1] for network in chosen.networks)]
    _ip("link", "set", "lo", "up")
    _ip("link", "add", CABLE, "type", "veth", "peer", "name", f"{CABLE}-end")
    for end in (CABLE, f"{CABLE}-end"):
        _ip("link", "set", end, "up")
    for address in wanted:
        how = ["nodad"] if address.version == 6 else []
        _ip("addr", "add", f"{address}/{address.max_prefixlen}", "dev", CABLE, *how)
    return chosen


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
