# SPDX-License-Identifier: Apache-2.0
"""A pool's CA is replaced under load, by another key and by each other signer's: nothing fails, no pod is restarted.

Each signer takes seventeen minutes, twelve of which are waited on purpose: runs only with E2E_ROTATION=1.
E2E_PATIENCE, 2 unless it is set, is for how many seconds users wait: on a machine with too much to do write more.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness import apps, operators, pools
from harness.cluster import SYSTEM
from harness.command import rserpool
from harness.kubectl import apply, conditions, events, get, kubectl
from harness.manifests import certificate, issuer
from harness.waiting import NotYet, wait_for

pytestmark = [
    pytest.mark.skipif(not os.environ.get("E2E_ROTATION"), reason="write E2E_ROTATION=1: a replacement takes minutes"),
    pytest.mark.timeout(900),
]
REGISTRARS, MEMBERS = 3, 3
PATIENCE = 420.0
"""Seconds for a whole replacement; three minutes of it are waited on purpose."""

USER = """
import asyncio, json, os, sys, time
from rserpool.client import PoolUser, PoolUserError

handle, every, anew = os.environ["HANDLE"], float(os.environ["EVERY"]), int(os.environ["ANEW"])
patience = float(os.environ["PATIENCE"])

def say(**fields):
    print(json.dumps({"at": round(time.time(), 4), **fields}), flush=True)

async def once(user, number):
    began = time.monotonic()
    try:
        resolution = await user.resolve(handle, fresh=True)
    except PoolUserError as e:
        why = f"{type(e).__name__}: {e}"
        say(n=number, resolve=round(time.monotonic() - began, 4), failed="resolve", why=why)
        return
    took = round(time.monotonic() - began, 4)
    assert resolution.elements
    say(n=number, resolve=took)  # no more: after ten MiB a kubelet begins a new log

async def newly(number):
    async with PoolUser(patience=patience) as user:  # a connection of its own, and so a handshake
        await once(user, number)

async def main():
    async with PoolUser(patience=patience) as standing:
        number, clock, running = 0, asyncio.get_running_loop().time, set()
        due = clock()
        while True:
            number += 1
            task = asyncio.create_task(once(standing, number) if number % anew else newly(number))
            running.add(task)
            task.add_done_callback(running.discard)
            due = max(due + every, clock() - 1)
            await asyncio.sleep(due - clock())

asyncio.run(main())
"""
"""Resolves over the connection that stands; every ANEW-th time over a new one."""


@pytest.fixture(scope="module", autouse=True, params=["CertManager", "Embedded"])
def pool(request: pytest.FixtureRequest, namespace: str) -> Iterator[str]:
    """A pool with members and two users: one asks only, the other goes to the elements, too."""
    name = f"echo-{request.param.lower()}"
    apply([apps.pool(name, signer=request.param), apps.echo(name, pool=name, replicas=MEMBERS)], namespace=namespace)
    apps.until_ready(namespace, name)
    apps.until_members(namespace, name, MEMBERS)
    patience = {"PATIENCE": os.environ.get("E2E_PATIENCE", "2")}
    asks = {"ANEW": "5", **patience}
    apply(
        [
            apps.user(f"asks-{name}", uses=name, handle=name, every=0.02, program=USER, environment=asks),
            apps.user(f"uses-{name}", uses=name, handle=name, every=0.05, environment=patience),
        ],
        namespace=namespace,
    )
    for user in ("asks", "uses"):
        apps.until_served(namespace, f"{user}-{name}")
    yield name
    kubectl("-n", namespace, "delete", "pod", f"asks-{name}", f"uses-{name}", "--wait=false")
    kubectl("-n", namespace, "delete", "deployment", name, "--wait=false")


def authority(namespace: str, pool: str) -> dict[str, Any]:
    found: dict[str, Any] = apps.server_pool(namespace, pool)["status"]["authority"]
    return found


def until(namespace: str, pool: str, what: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    def reached() -> dict[str, Any]:
        found = authority(namespace, pool)
        if not true(found):
            raise NotYet(found)
        return found

    return wait_for(reached, PATIENCE, f"the CA of {namespace}/{pool} {what}")


def lives(namespace: str, pool: str) -> dict[str, tuple[str, int]]:
    """UID of each pod of a pool, and how often its containers were started again."""
    return pools.lives([*pools.registrar_pods(namespace, pool), *apps.pods(namespace, pool)])


def secrets(namespace: str, pool: str) -> list[str]:
    """Names of the pool's CA Secrets; nobody has to see more of them."""
    label = f"rserpool.io/server-pool-uid={apps.server_pool(namespace, pool)['metadata']['uid']}"
    return sorted(
        line.rpartition("/")[2] for line in kubectl("-n", SYSTEM, "get", "secrets", "-l", label, "-o", "name").split()
    )


def expired_or_refused(namespace: str, pool: str) -> float:
    """Handshakes that failed, and messages that were refused, at all registrars."""
    found = 0.0
    for number in range(REGISTRARS):
        text = operators.page(f"{pool}-registrar-{number}", namespace=namespace)
        found += operators.total(operators.samples(text, "rserpool_refusals_total"))
    return found


@dataclass(frozen=True)
class Before:
    """A pool as it was before its CA was replaced."""

    namespace: str
    pool: str
    lives: dict[str, tuple[str, int]]
    refused: float
    since: str
    began: float

    def unharmed(self, what: str) -> str:
        """That nothing failed since, and nothing was restarted; returns what can be said of it."""
        after = lives(self.namespace, self.pool)
        assert {name: life for name, life in after.items() if name in self.lives} == self.lives
        asked = apps.asked(self.namespace, f"asks-{self.pool}", self.began)
        used = apps.asked(self.namespace, f"uses-{self.pool}", self.began)
        # applications speak plain TCP: that one does not answer in time on a busy machine has nothing to do with a CA
        failed = apps.failures(asked) + apps.failures([r for r in used if r.failed == "resolve"])
        refused = expired_or_refused(self.namespace, self.pool) - self.refused
        assert (failed, refused) == ([], 0)
        assert len(asked) > 1000
        assert [line for line in operators.lines(self.since) if "PRIVATE KEY" in str(line)] == []
        slow = sum(bool(r.failed) for r in used)
        slowest = max(r.resolve for r in asked)
        return (
            f"{what}: {len(asked) + len(used)} resolutions, {len(failed)} failed, slowest {slowest:.3f} s;"
            f" {slow} of {len(used)} applications did not answer within 2 s"
        )


def before(namespace: str, pool: str) -> Before:
    """The pool as it is now."""
    return Before(
        namespace, pool, lives(namespace, pool), expired_or_refused(namespace, pool), operators.now(), time.time()
    )


def test_the_key_is_replaced_under_load_while_operators_die_and_a_member_comes(
    namespace: str, pool: str, record_property: Any
) -> None:
    was = before(namespace, pool)
    (former,) = secrets(namespace, pool)
    assert "generation 2 of its CA is asked for" in rserpool("rotate-ca", f"{namespace}/{pool}")
    until(namespace, pool, "is being prepared", lambda a: a["phase"] == "Preparing" and "2" in a["keys"])
    operators.kill(operators.leader())
    kubectl("-n", namespace, "scale", "deployment", pool, f"--replicas={MEMBERS + 1}")
    until(namespace, pool, "is activated", lambda a: a["phase"] == "Activating")
    operators.until_complete()
    operators.kill(operators.leader())
    kubectl("-n", namespace, "scale", "deployment", pool, f"--replicas={MEMBERS + 2}")
    done = until(namespace, pool, "is replaced", lambda a: (a["phase"], a["generation"]) == ("Active", 2))
    assert set(done["keys"]) == {"2"}
    operators.until_complete()
    wait_for(lambda: secrets(namespace, pool) == [former.replace("-g1", "-g2")], 30, "the former CA's Secret is gone")
    apps.until_members(namespace, pool, MEMBERS + 2)
    until(namespace, pool, "is trusted by all, alone", lambda a: not a.get("missing"))
    record_property("figure", was.unharmed(f"CA of {pool} replaced"))
    told = [e for e in events(namespace) if e["reason"] == "CAReplacing"]
    assert told
    shown = operators.everywhere("rserpool_operator_ca_phase")
    assert operators.total(shown, namespace=namespace, pool=pool, phase="Active") == 1


def test_a_pool_that_has_come_to_another_generation_is_whole(namespace: str, pool: str) -> None:
    found = apps.until_ready(namespace, pool)
    said = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
    assert said["AuthorityReady"] == ("True", "AuthorityIssued")
    assert said["TrustCurrent"] == ("True", "TrustLoaded")
    assert said["Stalled"][0] == "False"
    assert get("configmap", f"rserpool.{pool}.{namespace}", "-n", namespace)["data"]["bundle.pem"].count("BEGIN") == 1


def signer_of(namespace: str, pool: str) -> dict[str, Any]:
    found: dict[str, Any] = apps.server_pool(namespace, pool)["spec"]["security"]["signer"]
    return found


def write_signer(namespace: str, pool: str, signer: dict[str, Any]) -> None:
    """As a user does; what was written before is taken out."""
    patch = [{"op": "replace", "path": "/spec/security/signer", "value": signer}]
    kubectl("-n", namespace, "patch", "serverpool", pool, "--type=json", "-p", json.dumps(patch))


def grown(namespace: str, pool: str, by: int) -> int:
    """The Deployment has so many members more; returns how many that are."""
    members = int(get("deployment", pool, "-n", namespace)["spec"]["replicas"]) + by
    kubectl("-n", namespace, "scale", "deployment", pool, f"--replicas={members}")
    return members


def moved(namespace: str, pool: str, signer: dict[str, Any]) -> dict[str, Any]:
    """The pool has moved there, while the operator died and a member came; returns the signer as it is recorded."""
    number = authority(namespace, pool)["generation"] + 1
    write_signer(namespace, pool, signer)
    until(namespace, pool, "is being prepared", lambda a: a["phase"] == "Preparing" and str(number) in a["keys"])
    operators.kill(operators.leader())
    until(namespace, pool, "is activated", lambda a: a["phase"] == "Activating")
    operators.until_complete()
    members = grown(namespace, pool, 1)
    done = until(namespace, pool, "has moved", lambda a: (a["phase"], a["generation"]) == ("Active", number))
    assert set(done["signers"]) == {str(number)}
    apps.until_members(namespace, pool, members)
    ours = int(signer["type"] != "IssuerRef")
    wait_for(lambda: len(secrets(namespace, pool)) == ours, 30, "the former CA's Secret is gone")
    until(namespace, pool, "is trusted by all, alone", lambda a: not a.get("missing"))
    found: dict[str, Any] = done["signers"][str(number)]
    return found


def test_a_pool_moves_to_the_other_signer_of_ours_under_load(namespace: str, pool: str, record_property: Any) -> None:
    was, signer = before(namespace, pool), signer_of(namespace, pool)["type"]
    other = {"CertManager": "Embedded", "Embedded": "CertManager"}[signer]
    assert moved(namespace, pool, {"type": other}) == {"type": other}
    made = get("certificates", "-n", SYSTEM, "-l", f"rserpool.io/server-pool={pool}")
    assert len(made) == (1 if other == "CertManager" else 0)
    record_property("figure", was.unharmed(f"{pool} moved from {signer} to {other}"))


@pytest.fixture(scope="module")
def theirs(namespace: str, pool: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """An issuer of the user's, as a signer, and its CA."""
    root, ca = f"{namespace}-{pool}-root", f"{namespace}-{pool}-ca"
    apply([issuer(root), certificate(ca, root), issuer(ca, secret=ca)], namespace=SYSTEM)
    try:
        wait_for(
            lambda: conditions(get("issuer", ca, "-n", SYSTEM)).get("Ready", {}).get("status") == "True",
            30,
            "the issuer is ready",
        )
        pem = base64.b64decode(get("secret", ca, "-n", SYSTEM)["data"]["tls.crt"])
        bundle = base64.b64encode(pem).decode()
        yield {"type": "IssuerRef", "issuerRef": {"name": ca}, "caBundle": bundle}, pem
    finally:
        kubectl("-n", namespace, "delete", "serverpool", pool, "--ignore-not-found")
        kubectl("-n", SYSTEM, "delete", "issuer", root, ca, "--ignore-not-found")
        kubectl("-n", SYSTEM, "delete", f"certificate/{ca}", f"secret/{ca}", "--ignore-not-found")


def mounted(namespace: str, pool: str) -> str:
    """The bundle that pool users mount."""
    return str(get("configmap", f"rserpool.{pool}.{namespace}", "-n", namespace)["data"]["bundle.pem"])


def test_a_pool_moves_to_a_users_issuer_under_load_while_the_operator_dies_and_a_member_comes(
    namespace: str, pool: str, theirs: tuple[dict[str, Any], bytes], record_property: Any
) -> None:
    was, signer = before(namespace, pool), signer_of(namespace, pool)["type"]
    recorded = theirs[0]["issuerRef"] | {"kind": "Issuer", "group": "cert-manager.io"}
    assert moved(namespace, pool, theirs[0]) == theirs[0] | {"issuerRef": recorded}
    assert mounted(namespace, pool).encode() == theirs[1]
    record_property("figure", was.unharmed(f"{pool} moved from {signer} to IssuerRef"))


def test_a_pool_moves_on_to_a_signer_of_ours_under_load(
    namespace: str, pool: str, theirs: tuple[dict[str, Any], bytes], record_property: Any
) -> None:
    assert signer_of(namespace, pool)["type"] == "IssuerRef"
    was, number = before(namespace, pool), authority(namespace, pool)["generation"] + 1
    other = "CertManager" if "embedded" in pool else "Embedded"
    write_signer(namespace, pool, {"type": other})
    until(namespace, pool, "is ours", lambda a: (a["phase"], a["generation"]) == ("Active", number))
    assert len(secrets(namespace, pool)) == 1
    until(namespace, pool, "is trusted by all, alone", lambda a: not a.get("missing"))
    assert mounted(namespace, pool).encode() != theirs[1]
    ours = f"rserpool.io/server-pool={pool},app.kubernetes.io/component in (leaf, trial)"
    assert get("certificaterequests", "-n", SYSTEM, "-l", ours) == []
    apps.until_members(namespace, pool, grown(namespace, pool, 1))  # who comes now is signed for by it
    record_property("figure", was.unharmed(f"{pool} moved from IssuerRef to {other}"))
    assert apps.until_ready(namespace, pool)["status"]["authority"]["phase"] == "Active"
