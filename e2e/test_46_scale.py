# SPDX-License-Identifier: Apache-2.0
"""A pool gets more registrars, and fewer: elements are handed over, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness import apps
from harness.cluster import Cluster
from harness.kubectl import apply, kubectl
from harness.namespaces import fresh
from harness.pools import registrars
from harness.waiting import NotYet, wait_for
from harness.watching import now, watching
from support.goals import TIMES

GOAL: Final = 1.0
"""Seconds: a resolution of a user that knows all registrars."""
ELEMENTS: Final = 4
STAY: Final = ("echo-registrar-0", "echo-registrar-1")


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool of three registrars, and a user of all its elements."""
    del cluster
    with fresh("e2e-46-scale") as name:
        apply(
            [apps.pool(), apps.echo(replicas=ELEMENTS), apps.user("user", each=True, environment=apps.PATIENT)],
            namespace=name,
        )
        apps.until_ready(name)
        apps.until_pods_ready(name, "echo", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS)
        apps.until_served(name, "user")
        yield name


def _scale(namespace: str, count: int) -> dict[str, Any]:
    """Ask for so many registrars, and wait until these and no others hold all elements."""
    patch = json.dumps({"spec": {"registrars": {"replicas": count}}})
    kubectl("-n", namespace, "patch", "serverpool", "echo", "--type=merge", "-p", patch)

    def there() -> bool:
        found = registrars(namespace, "echo")
        if len(found) != count:
            raise NotYet(found)
        return True

    wait_for(there, 90, f"there are {count} registrars")
    held = apps.until_members(namespace, "echo", ELEMENTS, registrars=count, timeout=90)
    apps.until_ready(namespace)
    return dict(held)


def test_three_registrars_become_five_and_two_and_no_request_fails(home: str, record_property: Any) -> None:
    since = now()
    with watching(home, STAY) as watch:
        _scale(home, 5)
        grown = now()
        _scale(home, 2)
        shrunk = now()
        apps.until_served(home, "user")

        def taken_over() -> bool:
            one, two = (watch.last()[pod].elements for pod in STAY)
            if one != two or len(set(one.values())) > len(STAY):
                raise NotYet(one, two)
            return True

        wait_for(taken_over, 15, "all elements are at home with the two that stay")
        assert watch.fewest(since) == ELEMENTS, "no element was missing at any time"
    asked = apps.asked(home, "user", since)
    record_property(
        "figure",
        f"registrars 3 → 5 in {grown - since:.1f} s, 5 → 2 in {shrunk - grown:.1f} s: {len(asked)} requests, "
        f"{len(apps.failures(asked))} failed, slowest resolve {max(a.resolve for a in asked):.2f} s",
    )
    assert apps.failures(asked) == []
    assert max(a.resolve for a in asked) <= TIMES * GOAL

    def told() -> bool:
        said = apps.server_pool(home)["status"]
        if (said["registrars"]["ready"], said["elements"]["registered"]) != (2, ELEMENTS):
            raise NotYet(said["registrars"], said["elements"])
        return True

    wait_for(told, 60, "the status counts two registrars and all elements")
