# SPDX-License-Identifier: Apache-2.0
"""An application to be pooled, and users of it: small programs in pods of the node image, since no other is at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from harness import kubectl as k
from harness.cluster import cluster
from harness.kubectl import Manifest, exec_in, get
from harness.manifests import CONTAINER_SECURITY, POD_SECURITY
from harness.pools import Dump, agreement
from harness.waiting import NotYet, wait_for
from support.goals import TIMES

SIDECAR: Final = "rserpool-sidecar"
"""The container that the webhook adds."""
PORT: Final = 7007
RESOURCES: Final = {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}}
PATIENT: Final = {"WAIT": "8", "PATIENCE": "4"}
"""Of users beside other tests: an application or a registrar that has no processor for a second is no fault of ours."""
WITHIN: Final = TIMES * 60.0
"""Seconds in which a pool is Ready, and its members are found."""
MEASURES: Final = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}}

ECHO: Final = """
import asyncio, os, signal
name, manner = os.environ["POD_NAME"].encode(), os.environ.get("ON_SIGTERM", "finish")

async def serve(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(name + b" " + line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()

async def main():
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    if manner == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(serve, "0.0.0.0", 7007, backlog=512)
    await over.wait()
    server.close()

asyncio.run(main())
"""
"""Echoes with its name in front. On SIGTERM it ends at once, or (ON_SIGTERM=ignore) not at all."""

USER: Final = """
import asyncio, contextlib, json, os, sys, time
from rserpool.client import PoolUser, PoolUserError
from rserpool.handlespace import describe_transport

handle, every = os.environ["HANDLE"], float(os.environ.get("EVERY", "0.05"))
first, patience = None if os.environ.get("EACH") else 1, float(os.environ.get("PATIENCE", "1"))
wait = float(os.environ.get("WAIT", "2"))
count = int(os.environ.get("USERS", "1"))

def say(**fields):
    print(json.dumps({"at": round(time.time(), 4), **fields}), flush=True)

async def once(users, number):
    began = time.monotonic()
    try:
        resolution = await users.resolve(handle, fresh=True)
    except PoolUserError as e:
        say(n=number, resolve=round(time.monotonic() - began, 4), failed="resolve", why=f"{type(e).__name__}: {e}")
        return
    took = round(time.monotonic() - began, 4)
    got = sorted(f"{e.identifier:#010x}" for e in resolution.elements)
    by = ""
    for element in resolution.elements[:first]:
        address, began = str(element.transport.address), time.time()
        try:
            async with asyncio.timeout(wait):
                reader, writer = await asyncio.open_connection(address, element.transport.port)
                writer.write(b"hello %d\\n" % number)
                answer = (await reader.readline()).decode().split()
                writer.close()
        except (OSError, TimeoutError) as e:
            why = f"{address}: {type(e).__name__}: {e}"
            say(n=number, resolve=took, got=got, failed="connect", why=why, since=began)
            return
        if answer[-1:] != [str(number)]:
            say(n=number, resolve=took, got=got, failed="answer", why=f"{address}: {answer}", since=began)
            return
        by = by or answer[0]
    say(n=number, resolve=took, got=got, by=by)

async def main():
    async with contextlib.AsyncExitStack() as stack:
        several = [await stack.enter_async_context(PoolUser(patience=patience)) for _ in range(count)]
        running, number, clock = set(), 0, asyncio.get_running_loop().time
        due = clock()
        while True:
            number += 1
            task = asyncio.create_task(once(several[number % len(several)], number))
            running.add(task)
            task.add_done_callback(running.discard)
            due = max(due + every, clock() - 1)
            await asyncio.sleep(due - clock())

asyncio.run(main())
"""
"""Resolves, connects to the first element it gets (with EACH, to every one), sends a line, reads the answer; says how
each time went. With USERS it is several users, who ask in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of a user."""

    at: float
    number: int
    resolve: float
    """Seconds that `resolve()` took."""
    got: tuple[str, ...] = ()
    """PE identifiers in the answer."""
    by: str = ""
    failed: str = ""
    why: str = ""


def pool(name: str = "echo", *, signer: str = "Embedded", replicas: int = 3, **spec: Any) -> Manifest:
    """A ServerPool of echo servers."""
    own: dict[str, Any] = {
        "registrars": {"replicas": replicas},
        "elements": {"port": PORT, "drain": "3s"},
        "transport": {"order": ["TCP"]},
        "security": {"signer": {"type": signer}},
    }
    return {
        "apiVersion": "rserpool.io/v1alpha1",
        "kind": "ServerPool",
        "metadata": {"name": name},
        "spec": {**own, **spec},
    }


def echo(name: str = "echo", *, pool: str = "echo", replicas: int = 3, manner: str = "finish", **pod: Any) -> Manifest:
    """A Deployment of echo servers that are members of a pool (none if it is empty)."""
    labels = {"app": name} | ({"rserpool.io/pool": pool} if pool else {})
    container = _container("echo", ECHO, {"ON_SIGTERM": manner}) | {"ports": [{"containerPort": PORT}]}
    return _deployment(name, labels, container, replicas, pod)


def application(
    name: str,
    program: str,
    *,
    pool: str = "echo",
    replicas: int = 3,
    environment: dict[str, str] | None = None,
    **pod: Any,
) -> Manifest:
    """A Deployment of any Python program that serves at the pool's port; its container is called "app"."""
    container = _container("app", program, environment or {}) | {"ports": [{"containerPort": PORT}]}
    return _deployment(name, {"app": name, "rserpool.io/pool": pool}, container, replicas, pod)


def member(name: str, *, pool: str = "echo", manner: str = "finish") -> Manifest:
    """A pod like those of :func:`echo` that no Deployment makes anew when it is gone."""
    template = echo(name, pool=pool, manner=manner)["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}


def user(
    name: str,
    *,
    uses: str = "echo",
    handle: str = "echo",
    every: float = 0.05,
    each: bool = False,
    environment: dict[str, str] | None = None,
    program: str = USER,
    **pod: Any,
) -> Manifest:
    """A pod that uses a pool all the time: the first element of each answer, or each of them; or with a `program`."""
    own = {"HANDLE": handle, "EVERY": str(every)} | ({"EACH": "1"} if each else {})
    # it measures, so it must not be the one that waits for a processor
    container = _container("user", program, own | (environment or {})) | {"resources": MEASURES}
    template = _template({"app": name, "rserpool.io/uses": uses}, container, pod)
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}


def idle(name: str, **labels: str) -> Manifest:
    """A pod of the node image that does nothing, to run commands in; underscores in labels' names stand for slashes."""
    container = _container("main", "import signal; signal.pause()", {})
    template = _template(
        {"app": name} | {k.replace("__", "/").replace("_", "."): v for k, v in labels.items()}, container, {}
    )
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}}


def _container(name: str, program: str, environment: dict[str, str]) -> Manifest:
    own = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return {
        "name": name,
        "image": cluster().image("node"),
        "command": ["python3", "-c", program],
        "env": [own, *({"name": key, "value": value} for key, value in environment.items())],
        "resources": RESOURCES,
        "securityContext": CONTAINER_SECURITY,
    }


def _template(labels: dict[str, str], container: Manifest, pod: dict[str, Any]) -> Manifest:
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {**POD_SECURITY, "runAsUser": 1000},
        "containers": [container],
    }
    return {"metadata": {"labels": labels}, "spec": {**spec, **pod}}


def _deployment(name: str, labels: dict[str, str], container: Manifest, replicas: int, pod: dict[str, Any]) -> Manifest:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": name}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": _template(labels, container, {"topologySpreadConstraints": [spread], **pod}),
        },
    }


# -- waiting for what they make


def server_pool(namespace: str, name: str = "echo") -> Manifest:
    """The ServerPool as it is."""
    found: Manifest = get("serverpool", name, "-n", namespace)
    return found


def until_ready(namespace: str, name: str = "echo", timeout: float = WITHIN) -> Manifest:
    """Wait until a pool is Ready with all its registrars; returns it."""

    def ready() -> Manifest:
        found = server_pool(namespace, name)
        said = {
            c["type"]: (c["status"], c["reason"], c["message"]) for c in found.get("status", {}).get("conditions", [])
        }
        if said.get("Ready", ("",))[0] != "True" or said["RegistrarsReady"][0] != "True":
            raise NotYet(said)
        return found

    return wait_for(ready, timeout, f"ServerPool {namespace}/{name} is Ready")


def until_members(namespace: str, name: str, members: int, *, registrars: int = 3, timeout: float = WITHIN) -> Dump:
    """Wait until all registrars hold the same, with so many elements; returns the handlespace."""
    return wait_for(
        lambda: agreement(namespace, name, registrars=registrars, elements=members),
        timeout,
        f"{registrars} registrars of {namespace}/{name} agree on {members} elements",
        every=0.5,
    )


def pods(namespace: str, app: str) -> list[Manifest]:
    """Pods of an application that are not on their way out, by name."""
    found = [p for p in get("pods", "-n", namespace, "-l", f"app={app}") if "deletionTimestamp" not in p["metadata"]]
    return sorted(found, key=lambda p: str(p["metadata"]["name"]))


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def until_pods_ready(namespace: str, app: str, count: int, timeout: float = WITHIN) -> list[Manifest]:
    """Wait until so many pods of an application are there and Ready; returns them."""

    def ready() -> list[Manifest]:
        found = pods(namespace, app)
        states = {p["metadata"]["name"]: is_ready(p) for p in found}
        if len(found) != count or not all(states.values()):
            raise NotYet(states)
        return found

    return wait_for(ready, timeout, f"{count} pods of {app} are ready")


def asked(namespace: str, name: str, since: float = 0.0) -> list[Asked]:
    """How the requests of a user went, those that ended at `since` (seconds of the epoch) or later."""
    found = []
    for line in k.logs(name, "user", namespace=namespace).splitlines():
        if not line.startswith("{"):  # the library has something to say too
            continue
        told = json.loads(line)
        if told["at"] >= since:
            found.append(
                Asked(
                    at=told["at"],
                    number=told["n"],
                    resolve=told["resolve"],
                    got=tuple(told.get("got", ())),
                    by=told.get("by", ""),
                    failed=told.get("failed", ""),
                    why=told.get("why", ""),
                )
            )
    return found


def failures(requests: list[Asked]) -> list[str]:
    """What went wrong, a line each."""
    return [f"{r.at:.3f} #{r.number} {r.failed} ({r.resolve:.3f} s): {r.why}" for r in requests if r.failed]


def until_served(namespace: str, name: str, timeout: float = WITHIN) -> None:
    """Wait until a user has been served a few times in a row."""

    def served() -> bool:
        last = asked(namespace, name)[-5:]
        if len(last) < 5 or failures(last):
            raise NotYet(failures(last) or "nothing asked yet")
        return True

    wait_for(served, timeout, f"user {name} is served")


def run_python(namespace: str, pod: str, container: str, program: str, *arguments: str, timeout: float = 60) -> str:
    """Run a Python program in a container; returns what it prints."""
    return exec_in(pod, container, "python3", "-c", program, *arguments, namespace=namespace, timeout=timeout)
