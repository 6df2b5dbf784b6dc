# SPDX-License-Identifier: Apache-2.0
"""Five hundred pools with ten members each, on nodes that kwok makes up: how far behind the operator is, what it takes.

Nobody runs there: kwok says that registrars and members are Ready, and none of them asks the operator for anything.
All else is as ever. It takes seven minutes and more, too long for each run of CI: E2E_MANY=1 asks for it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from harness import apps, kwok, operators
from harness.cluster import SYSTEM, cluster
from harness.kubectl import KubectlError, get
from harness.namespaces import fresh
from harness.waiting import NotYet, wait_for

POOLS: Final = int(os.environ.get("E2E_MANY_POOLS", "500"))
MEMBERS: Final = 10
A_NAMESPACE: Final = 25
"""Pools of one namespace."""
SAMPLES: Final = 200
LONGEST: Final = float(os.environ.get("E2E_MANY_SECONDS", "400"))
"""Seconds for taking them: on a machine that has no time they are fewer."""
CHANGES: Final = 10.0
"""Changes a second of other pools meanwhile."""
MOST: Final = 400.0
"""MiB for a replica of the operator."""
GROUP: Final = ("rserpool.io", "v1alpha1")
Key = tuple[str, str]

pytestmark = [
    pytest.mark.skipif(os.environ.get("E2E_MANY") != "1", reason="takes seven minutes and more: E2E_MANY=1"),
    pytest.mark.timeout(3600),
]


def api() -> client.ApiClient:
    return config.new_client_from_config(config_file=str(cluster().kubeconfig))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a watch says of all pools: when the operator was done with each generation, how many members it sees."""

    done: dict[Key, tuple[int, float]] = field(default_factory=dict)
    members: dict[Key, int] = field(default_factory=dict)
    ready: set[Key] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Watch, until it is over."""
        pools = client.CustomObjectsApi(api())
        while not self.over.is_set():
            try:
                stream = Watch().stream(
                    pools.list_cluster_custom_object, *GROUP, "serverpools", timeout_seconds=60, _request_timeout=70
                )
                for event in stream:
                    self._see(event["object"])
                    if self.over.is_set():
                        return
            except (ApiException, OSError):
                time.sleep(1)

    def _see(self, pool: dict[str, Any]) -> None:
        metadata, status = pool["metadata"], pool.get("status") or {}
        key, generation = (metadata["namespace"], metadata["name"]), int(status.get("observedGeneration", 0))
        with self.changed:
            if generation > self.done.get(key, (0, 0.0))[0]:
                self.done[key] = (generation, time.monotonic())
            self.members[key] = int((status.get("elements") or {}).get("matched", 0))
            if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())):
                self.ready.add(key)
            self.changed.notify_all()

    def until(self, key: Key, generation: int, timeout: float = 60) -> float:
        """Wait until a generation of a pool was dealt with; returns when that was."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.done.get(key, (0, 0.0))[0] >= generation, timeout), key
            return self.done[key][1]


@contextmanager
def in_background(work: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(75)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The operator's replicas, looked at every few seconds: the most each has had."""

    most: dict[str, float] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(3):
            for name, mib in now_of().items():
                self.most[name] = max(self.most.get(name, 0.0), mib)


def now_of() -> dict[str, float]:
    """MiB of each replica that answers."""
    found = {}
    for pod in operators.replicas():
        name = str(pod["metadata"]["name"])
        with suppress(KubectlError):  # it is being ended
            values = operators.samples(operators.page(name), "process_resident_memory_bytes")
            found[name] = operators.total(values) / 2**20
    return found


def restarts() -> int:
    pods = get("pods", "-n", SYSTEM, "-l", operators.SELECTOR)
    return sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses", []))


def said(memory: dict[str, float]) -> str:
    """The leader's first."""
    leader = operators.leader()
    return said_of({name: memory[name] for name in sorted(memory, key=lambda name: name != leader)})


def said_of(memory: dict[str, float]) -> str:
    return ", ".join(f"{mib:.0f}" for mib in memory.values()) + " MiB"


def change(key: Key, count: int, made: client.CustomObjectsApi) -> tuple[float, int]:
    """Change a pool so that its PodDisruptionBudget has to follow; returns when, and its generation then."""
    budget = {"podDisruptionBudget": {"maxUnavailable": 1 + count % 5}}
    began = time.monotonic()
    answer = made.patch_namespaced_custom_object(
        *GROUP, key[0], "serverpools", key[1], {"spec": {"registrars": budget}}
    )
    return began, int(answer["metadata"]["generation"])


def lags(keys: list[Key], seen: Seen) -> list[float]:
    """Seconds from changing one pool after the other to the end of what the operator did about it, sorted."""
    made, dice, found = client.CustomObjectsApi(api()), random.Random(97), []
    over = time.monotonic() + LONGEST
    for count in range(SAMPLES):
        if time.monotonic() > over:
            break
        key = dice.choice(keys)
        began, generation = change(key, count, made)
        found.append(seen.until(key, generation) - began)
    return sorted(found)


@contextmanager
def changes(keys: list[Key]) -> Iterator[None]:
    """Change these pools all the time."""
    over = threading.Event()

    def run() -> None:
        made, dice, count, due = client.CustomObjectsApi(api()), random.Random(98), 0, time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            change(dice.choice(keys), count, made)
            count, due = count + 1, due + 1 / CHANGES

    with in_background(run, over):
        yield


def quantiles(found: list[float]) -> str:
    return f"p50 {found[len(found) // 2]:.2f} s, p99 {p99(found):.2f} s, most {found[-1]:.2f} s of {len(found)}"


def p99(found: list[float]) -> float:
    return found[len(found) * 99 // 100]


def all_at_once(work: Callable[[Any], Any], things: list[Any]) -> None:
    """A few at a time; what the API server or a webhook has no time for is tried again."""

    def patiently(thing: Any) -> None:
        for _ in range(20):
            try:
                work(thing)
            except ApiException as e:
                if e.status not in (409, 429, 500, 503, 504):
                    raise
                if e.status != 409:  # it was made, and the answer was lost
                    time.sleep(2)
                    continue
            return
        raise AssertionError(thing["metadata"]["name"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(patiently, things))


def pool_of(key: Key) -> dict[str, Any]:
    pool = apps.pool(key[1], replicas=1)
    pool["metadata"]["namespace"] = key[0]
    pool["spec"]["registrars"] |= {"nodeSelector": kwok.PLACE["nodeSelector"], "tolerations": kwok.PLACE["tolerations"]}
    return pool


def member_of(key: Key, number: int, node: str) -> dict[str, Any]:
    pod = apps.member(f"{key[1]}-{number}", pool=key[1])
    pod["metadata"]["namespace"] = key[0]
    pod["spec"] |= {**kwok.PLACE, "nodeName": node}
    return pod


def test_five_hundred_pools_with_ten_members_each(record_property: Any, tmp_path: Path) -> None:
    kwok.build()
    seen, memory, before, restarted = Seen(), Memory(), now_of(), restarts()
    with ExitStack() as stack:
        nodes = stack.enter_context(kwok.nodes(10, tmp_path / "kwok.log"))
        homes = [stack.enter_context(fresh(f"e2e-many-{n}")) for n in range(-(-POOLS // A_NAMESPACE))]
        keys = [(homes[n // A_NAMESPACE], f"pool-{n}") for n in range(POOLS)]
        stack.enter_context(in_background(seen.run, seen.over))
        stack.enter_context(in_background(memory.run, memory.over))
        made, core = client.CustomObjectsApi(api()), client.CoreV1Api(api())

        began = time.monotonic()
        all_at_once(
            lambda p: made.create_namespaced_custom_object(*GROUP, p["metadata"]["namespace"], "serverpools", p),
            [pool_of(key) for key in keys],
        )
        wait_for(lambda: _are_ready(keys, seen), 1200, f"{POOLS} pools are Ready", every=1)
        record_property("figure", f"{POOLS} pools: made, and all Ready, after {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        members = [member_of(key, n, nodes[n]) for key in keys for n in range(MEMBERS)]
        all_at_once(lambda p: core.create_namespaced_pod(p["metadata"]["namespace"], p), members)
        created = time.monotonic() - began
        wait_for(lambda: _counted(keys, seen), 1200, f"all pools count {MEMBERS} members", every=1)
        record_property(
            "figure",
            f"{len(members)} members: admitted after {created:.0f} s, counted after {time.monotonic() - began:.0f} s",
        )
        wait_for(_at_rest, 300, "the operator is at rest", every=1)
        record_property(
            "figure",
            f"memory of the operator's replicas, the leader's first: {said(before)} before, {said(now_of())} with"
            f" {POOLS} pools at rest, {said_of(memory.most)} at most",
        )
        operators.kill(next(name for name in now_of() if name != operators.leader()))
        operators.until_complete()
        time.sleep(10)  # it looks at everything there is, and is looked at meanwhile
        record_property("figure", f"and {said(now_of())} with one that has just begun, {said_of(memory.most)} at most")
        alone = lags(keys, seen)
        record_property("figure", f"reconcile lag, one change at a time: {quantiles(alone)}")
        half = POOLS // 2
        with changes(keys[:half]):
            busy = lags(keys[half:], seen)
        record_property("figure", f"reconcile lag, beside {CHANGES:g} changes a second: {quantiles(busy)}")
        record_property("figure", f"memory at most after all that: {said_of(memory.most)}")
        assert restarts() == restarted
        assert max(memory.most.values()) <= MOST, memory.most
        assert p99(alone) < 10
        assert p99(busy) < 30


def _are_ready(keys: list[Key], seen: Seen) -> bool:
    missing = set(keys) - seen.ready
    if missing:
        raise NotYet(f"{len(missing)} are not")
    return True


def _counted(keys: list[Key], seen: Seen) -> bool:
    complete = sum(seen.members.get(key, 0) == MEMBERS for key in keys)
    if complete < len(keys):
        raise NotYet(f"{complete} do")
    return True


def _at_rest() -> bool:
    """Pools are looked at now and then, and nothing is written any more."""
    before, began = operators.total(operators.writes("leases")), time.monotonic()
    time.sleep(5)
    rate = (operators.total(operators.writes("leases")) - before) / (time.monotonic() - began)
    if rate > 1:
        raise NotYet(f"{rate:.1f} writes a second")
    return True
