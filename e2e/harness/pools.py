# SPDX-License-Identifier: Apache-2.0
"""What a pool's registrars hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from harness import api, operators
from harness.kubectl import KubectlError, Manifest, get

Dump = dict[str, Any]
_ASK: Final = """
import os, socket
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(5)
    s.connect(os.environ["RSERPOOL_CONTROL_SOCKET"])
    s.sendall(b"GET /dump HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
    while octets := s.recv(65536):
        while octets:
            octets = octets[os.write(1, octets):]
"""
"""What `rserpool dump` does, without all that a command loads: it is run very often. (Images are compiled for -OO.)"""


def pods_of(kind: str, name: str, *, namespace: str) -> list[Manifest]:
    """Pods that a StatefulSet, Job or the like controls, by name; those that are ending too."""
    return [
        pod
        for pod in get("pods", "-n", namespace)
        for owner in pod["metadata"].get("ownerReferences", [])
        if (owner["kind"], owner["name"]) == (kind, name)
    ]


def registrar_pods(namespace: str, pool: str) -> list[Manifest]:
    """The pool's registrar pods by name, whatever state they are in."""
    found = pods_of("StatefulSet", f"{pool}-registrar", namespace=namespace)
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def restarts(pod: Manifest) -> int:
    """How often containers of a pod were started again."""
    both = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    return sum(int(status["restartCount"]) for status in both)


def lives(pods: Iterable[Manifest]) -> dict[str, tuple[str, int]]:
    """UID of each pod, and how often its containers were started again, by name."""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"], restarts(pod)) for pod in pods}


def registrars(namespace: str, pool: str) -> list[str]:
    """Names of the pool's registrar pods that run."""
    return [p["metadata"]["name"] for p in registrar_pods(namespace, pool) if p["status"].get("phase") == "Running"]


def dump(namespace: str, pod: str, container: str = "registrar") -> Dump:
    """What one registrar holds."""
    try:
        answer = api.run_in(pod, container, "python3", "-OO", "-I", "-S", "-c", _ASK, namespace=namespace)
    except api.ApiError as e:
        raise KubectlError(("exec", pod), e.status, str(e)) from None
    head, _, body = answer.partition("\r\n\r\n")
    if " 200 " not in head:
        raise KubectlError(("exec", pod), 1, f"the registrar does not tell what it holds: {head[:100]!r}")
    told: Dump = json.loads(body)
    return told


def dumps(namespace: str, pool: str) -> dict[str, Dump]:
    """Dumps of all the pool's registrars, by pod, asked at the same time."""
    pods = registrars(namespace, pool)
    if not pods:
        return {}
    with ThreadPoolExecutor(len(pods)) as threads:
        return dict(zip(pods, threads.map(lambda pod: dump(namespace, pod), pods), strict=True))


def counted(namespace: str, pod: str) -> int | None:
    """How many elements a registrar holds, by its metrics; ``None``: it cannot be asked so.

    A dump starts a process in its container, which takes a hundred times as much.
    """
    try:
        text = operators.page(pod, namespace=namespace)
    except KubectlError:
        return None
    return round(operators.total(operators.samples(text, "rserpool_elements"), state="known"))


def canonical(dump: Dump, without: Collection[int | str] = ()) -> dict[str, Any]:
    """The handlespace of a dump, equal for two registrars exactly if they hold the same.

    With PE identifiers in `without` it is the handlespace but for these elements: pools that hold nothing else are
    left out, and so are all checksums, which cover them.
    """
    space: dict[str, Any] = dump["handlespace"]
    if not without:
        return space
    identifiers = {i.lower() if isinstance(i, str) else f"{i:#010x}" for i in without}
    pools = []
    for pool in space["pools"]:
        elements = [e for e in pool["elements"] if e["identifier"] not in identifiers]
        if elements or not pool["elements"]:
            pools.append({**pool, "elements": elements})
    return {"pools": pools}


def without_homes(space: dict[str, Any]) -> list[dict[str, Any]]:
    """The pools of a handlespace that hold something, whoever is home: where processors are short that changes."""
    return [
        {**pool, "elements": [{key: value for key, value in e.items() if key != "home"} for e in pool["elements"]]}
        for pool in space["pools"]
        if pool["elements"]
    ]


def elements(dump: Dump) -> dict[str, dict[str, Any]]:
    """Elements of all pools in a dump, by PE identifier."""
    return {e["identifier"]: e for pool in dump["handlespace"]["pools"] for e in pool["elements"]}


def agreement(namespace: str, pool: str, *, registrars: int, elements: int) -> dict[str, Any] | None:
    """The handlespace that all `registrars` hold, when it is one and has so many elements.

    Raises:
        AssertionError: not so, and how it is.
    """
    metrics = {pod: counted(namespace, pod) for pod in _running(namespace, pool)}
    assert set(metrics.values()) <= {elements, None}, f"elements at registrars: {metrics}, wanted {elements}"
    told = dumps(namespace, pool)
    assert len(told) == registrars, f"{len(told)} of {registrars} registrars run"
    phases = {pod: d["phase"] for pod, d in told.items()}
    assert set(phases.values()) == {"serving"}, f"phases of registrars: {phases}"
    counts = {pod: len(_elements(d)) for pod, d in told.items()}
    assert set(counts.values()) == {elements}, f"elements at registrars: {counts}, wanted {elements}"
    spaces = [canonical(d) for d in told.values()]
    assert all(space == spaces[0] for space in spaces), "registrars hold different handlespaces"
    return spaces[0]


_elements, _running = elements, registrars
