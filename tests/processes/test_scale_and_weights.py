# SPDX-License-Identifier: Apache-2.0
"""A pool that grows and shrinks, and one whose weights show in who is chosen."""

from __future__ import annotations

from collections import Counter

import pytest

from rserpool.client import PoolUser
from rserpool.handlespace import describe_transport
from support.running import RunningPool, manifest, pool_running, started


@pytest.mark.rfc("RFC 3237 2.12: the number of users and pools is not limited by the protocol")
@pytest.mark.timeout(180)
def test_a_pool_grows_from_three_to_thirty_elements_and_shrinks_to_two() -> None:
    with pool_running(manifest()) as pool:
        started(pool)
        first = {e.transport for e in pool.elements}

        assert pool.command("scale", "30").returncode == 0
        assert len(pool.elements) == 30
        pool.settled_with_all(within=90)
        assert first <= {e.transport for e in pool.elements}

        scaled = pool.command("scale", "2")
        assert (scaled.returncode, scaled.stdout) == (0, "demo/echo: from 30 elements to 2\n")
        assert len(pool.elements) == 2
        pool.settled_with_all(within=5)  # they left of their own accord: no timer has to run out
        assert not list(pool.directory.glob("s5.*"))


def test_weights_show_in_who_is_chosen() -> None:
    weights = (5, 2, 1)
    with pool_running(manifest(policy="{type: WeightedRoundRobin}"), "--weights", "5,2,1") as pool:
        started(pool)
        chosen = pool.run(choices(pool, 160))
        for element, weight in zip(pool.elements, weights, strict=True):
            assert chosen[element.transport] == pytest.approx(160 * weight / 8, abs=8)


async def choices(pool: RunningPool, count: int) -> Counter[str]:
    async with PoolUser(pool.scope) as users:
        return Counter(
            [describe_transport((await users.resolve("echo", fresh=True)).elements[0].transport) for _ in range(count)]
        )
