# SPDX-License-Identifier: Apache-2.0
"""The operator is killed, and goes on."""

from __future__ import annotations

import random
import secrets
import time
from typing import Any

import pytest

from harness import apps, leavings, operators
from harness.cluster import SYSTEM
from harness.kubectl import apply, conditions, get, kubectl
from harness.waiting import NotYet, wait_for
from support.goals import TIMES

ROUNDS = 3
TAKEN_OVER = 20.0
"""Seconds in which the other replica reconciles a new pool; three times that is asserted."""


@pytest.fixture(scope="module", autouse=True)
def _members(namespace: str) -> None:
    apply([apps.pool(replicas=2), apps.echo(replicas=2)], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_members(namespace, "echo", 2, registrars=2)


def test_an_operator_killed_at_random_moments_makes_each_pool_once(namespace: str, record_property: Any) -> None:
    seed = secrets.randbits(32)
    moments, delays = random.Random(seed), []
    names = [f"round-{number}" for number in range(ROUNDS)]
    for number, name in enumerate(names):
        operators.until_complete()
        signer = ("CertManager", "Embedded")[number % 2]
        apply(apps.pool(name, signer=signer, replicas=1), namespace=namespace)
        delays.append(round(moments.uniform(0.0, 2.5), 2))
        time.sleep(delays[-1])  # a moment is a time
        for pod in operators.replicas():
            operators.kill(pod["metadata"]["name"])
    began = time.monotonic()
    for name in names:
        apps.until_ready(namespace, name, timeout=120)
    took = time.monotonic() - began
    record_property("figure", f"operator killed {ROUNDS} times {delays} s after an apply (seed {seed}): "
                    f"all Ready {took:.1f} s after the last")  # fmt: skip
    for name in names:
        found = apps.server_pool(namespace, name)
        uid = found["metadata"]["uid"]
        made = get("secrets", "-n", SYSTEM, "-l", f"rserpool.io/server-pool-uid={uid}")
        assert [s["metadata"]["name"] for s in made] == [f"{namespace}.{name}.{uid[:8]}-g1"]
        assert list(found["status"]["authority"]["keys"]) == ["1"]
        apps.until_members(namespace, name, 0, registrars=1)
    # what was there went on
    apps.until_members(namespace, "echo", 2, registrars=2)
    kubectl("-n", namespace, "delete", "serverpool", *names, "--timeout=60s")
    assert [n for n in leavings.of_pools_of(namespace) if ".round-" in n] == []


def test_when_the_leader_is_killed_the_other_one_takes_over(namespace: str, record_property: Any) -> None:
    first = operators.until_complete()
    before = {p["metadata"]["uid"] for p in apps.until_pods_ready(namespace, "echo", 2)}
    since, began = operators.now(), time.monotonic()
    operators.kill(first)
    apply(apps.pool("after", replicas=1), namespace=namespace)
    kubectl("-n", namespace, "scale", "deployment", "echo", "--replicas=3")

    def reconciled() -> float:
        found = conditions(apps.server_pool(namespace, "after"))
        if "Accepted" not in found:
            raise NotYet(found)
        return time.monotonic() - began

    def enrolled() -> float:
        new = {p["metadata"]["uid"] for p in apps.pods(namespace, "echo")} - before
        if not new:
            raise NotYet("the new member is not there")
        (newest,) = new
        said = [line["message"] for line in operators.lines(since) if newest in line["message"]]
        if not [text for text in said if text.startswith("certified ")]:
            raise NotYet(said)
        return time.monotonic() - began

    certified = wait_for(enrolled, 60, "the new member has a certificate")
    looked = wait_for(reconciled, TIMES * TAKEN_OVER, "the other replica reconciles the new pool")
    apps.until_members(namespace, "echo", 3, registrars=2)
    joined = time.monotonic() - began
    apps.until_ready(namespace, "after")
    record_property(
        "figure",
        f"leader killed: a member that starts then has its certificate after {certified:.1f} s and is registered "
        f"after {joined:.1f} s; a new pool is reconciled after {looked:.1f} s (goal {TAKEN_OVER:g} s)",
    )
    assert operators.until_complete() != first
