# SPDX-License-Identifier: Apache-2.0
"""A session outlives its element: it goes on at another one, with its cookie, after the application has agreed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from harness import apps, nodes
from harness.cluster import Cluster
from harness.kubectl import apply, get, kubectl, logs
from harness.namespaces import fresh
from harness.pools import dump, elements
from harness.waiting import NotYet, wait_for

ELEMENTS: Final = 3
COUNTER: Final = (Path(__file__).parent.parent / "examples" / "counter" / "counter.py").read_text()

CLIENT: Final = """
import asyncio, contextlib, itertools, json, time
from rserpool.client import PoolUser

def say(**fields):
    print(json.dumps({"at": time.time(), **fields}), flush=True)

def agree(failover):
    say(asked=failover.reason, old=failover.old.element.identifier, new=failover.new.element.identifier,
        cookie=bool(failover.cookie), protected=failover.new.security.protected)
    return True

lines = itertools.count(1)

async def counted(session):
    while True:
        sent = next(lines)
        await session.send(b"line\\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                heard = b""
                while not heard.endswith(b"\\n"):
                    heard += await session.receive()
                return int(heard.splitlines()[-1].split()[0]), sent

async def main():
    async with PoolUser() as users, users.session("echo", on_failover=agree, patience=30.0) as session:
        while True:
            number, sent = await counted(session)
            say(number=number, sent=sent, by=session.element.identifier, over=session.security.version)
            await asyncio.sleep(0.05)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """A pool whose elements keep nothing: what they have counted is in their users' cookies."""
    del cluster
    with fresh("e2e-37-sessions") as name:
        pool = apps.pool(controlChannel=True)
        client = apps.user("client", program=CLIENT)
        apply([pool, apps.application("counter", COUNTER, replicas=ELEMENTS), client], namespace=name)
        apps.until_ready(name)
        apps.until_pods_ready(name, "counter", ELEMENTS)
        apps.until_members(name, "echo", ELEMENTS)
        wait_for(lambda: [line for line in _said(name) if "number" in line], 60, "the client counts")
        yield name


def _said(namespace: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs("client", "user", namespace=namespace).splitlines() if line[:1] == "{"]


def _restarts(namespace: str) -> int:
    """Of the client: it ends when there is no pool yet, and begins anew."""
    return int(get("pod", "client", "-n", namespace)["status"]["containerStatuses"][0]["restartCount"])


def _pod_of(namespace: str, identifier: int) -> str:
    """The pod of an element, as the registrars know it."""
    held = elements(dump(namespace, "echo-registrar-0"))
    address = held[f"{identifier:#010x}"]["transport"].split(":")[1]
    (pod,) = [p for p in apps.pods(namespace, "counter") if p["status"]["podIP"] == address]
    return str(pod["metadata"]["name"])


@pytest.mark.parametrize("death", ["application killed", "pod deleted by force"])
def test_a_stream_goes_on_at_another_element_with_its_cookie_after_the_callback_agreed(
    home: str, death: str, record_property: Any
) -> None:
    before, restarts = _said(home), _restarts(home)
    counting = [line for line in before if "number" in line][-1]
    assert counting["over"] == "TLSv1.3"
    victim = counting["by"]
    pod = _pod_of(home, victim)
    if death == "application killed":
        nodes.kill_container(pod, "app", namespace=home)
    else:
        kubectl("-n", home, "delete", "pod", pod, "--grace-period=0", "--force")

    def went_on() -> list[dict[str, Any]]:
        after = _said(home)[len(before) :]
        if len([line for line in after if line.get("by") not in (None, victim)]) < 10:
            raise NotYet(after[-2:])
        return after

    after = wait_for(went_on, 60, "the client counts with another element")
    (asked,) = [line for line in after if "asked" in line]
    at = after.index(asked)
    assert asked["old"] == victim
    assert asked["cookie"]
    assert asked["protected"]
    assert all(line["by"] == victim for line in after[:at]), "asked before anything went to the new one"
    assert {line["by"] for line in after[at + 1 :]} == {asked["new"]}
    counts = [(line["number"], line["sent"]) for line in [*before, *after] if "number" in line]
    assert all(a[0] < b[0] for a, b in pairwise(counts)), f"something was forgotten: {counts}"
    assert all(number <= sent for number, sent in counts), f"something was counted twice: {counts}"
    last = [line for line in [*before, *after[:at]] if "number" in line][-1]
    gap = after[at + 1]["at"] - last["at"]
    record_property(
        "figure",
        f"{death} in the middle of a stream: goes on at another element after {gap:.2f} s (a lost line is said again "
        "after 1 s)",
    )
    apps.until_pods_ready(home, "counter", ELEMENTS)
    apps.until_members(home, "echo", ELEMENTS)
    assert _restarts(home) == restarts
