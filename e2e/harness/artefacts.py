# SPDX-License-Identifier: Apache-2.0
"""What is kept of a failure, in one folder: logs, Events, descriptions, pools and what their registrars hold.

Secrets and the requests for certificates are not asked for, so nothing of them can be in it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeVar

from harness import nodes, pools
from harness.cluster import REPOSITORY, SYSTEM
from harness.kubectl import KubectlError, Manifest, get, kubectl
from harness.namespaces import LABEL

T = TypeVar("T")
FOLDER: Final = REPOSITORY / "e2e" / "artefacts"
_KINDS: Final = "pods,statefulsets,deployments,jobs,services,endpointslices,poddisruptionbudgets,configmaps,leases"
_NO_POOLS: Final = "the server doesn't have a resource type"


@cache
def folder() -> Path:
    """Of this run of the tests."""
    return FOLDER / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def collect(test: str) -> Path:
    """Keep what there is to see now; returns the folder, named after the test.

    Whatever cannot be had is left out or said in its place: this is called when all is bad.
    """
    target = folder() / re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")
    target.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[str, Callable[[], str]]] = [
        ("nodes.txt", _kubectl("get", "nodes", "-o", "wide")),
        ("pods.txt", _kubectl("get", "pods", "-A", "-o", "wide")),
        ("events.txt", _kubectl("get", "events", "-A", "--sort-by=.metadata.creationTimestamp")),
        ("serverpools.yaml", _kubectl("get", "serverpools.rserpool.io", "-A", "-o", "yaml")),
        ("webhooks.yaml", _kubectl("get", "mutatingwebhookconfigurations", "-o", "yaml")),
    ]
    jobs += [(f"kubelet/{node}.log", partial(nodes.kubelet_log, node)) for node in _try(nodes.containers)]
    for namespace in _try(_namespaces):
        jobs.append((f"{namespace}/objects.txt", _kubectl("-n", namespace, "get", _KINDS, "-o", "wide")))
        jobs.append((f"{namespace}/describe.txt", _kubectl("-n", namespace, "describe", "pods,statefulsets,jobs")))
        for pod in _try(partial(_pods, namespace)):
            jobs += _logs(namespace, pod)
    for namespace, name in _try(_pools):
        for registrar in _try(partial(pools.registrars, namespace, name)):
            jobs.append((f"{namespace}/{registrar}.dump.json", partial(_dump, namespace, registrar)))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda job: _write(target / job[0], job[1]), jobs))
    return target


def _namespaces() -> list[str]:
    ours = [n["metadata"]["name"] for n in get("namespaces", "-l", LABEL)]
    return [*ours, SYSTEM, "cert-manager"]


def _pods(namespace: str) -> list[Manifest]:
    found: list[Manifest] = get("pods", "-n", namespace)
    return found


def _pools() -> list[tuple[str, str]]:
    found: list[Manifest] = get("serverpools.rserpool.io", "-A")
    return [(pool["metadata"]["namespace"], pool["metadata"]["name"]) for pool in found]


def _logs(namespace: str, pod: Manifest) -> Iterable[tuple[str, Callable[[], str]]]:
    name = pod["metadata"]["name"]
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        command = ("-n", namespace, "logs", name, "-c", container["name"], "--timestamps")
        yield f"{namespace}/{name}.{container['name']}.log", _kubectl(*command)
        if container.get("restartCount"):
            yield f"{namespace}/{name}.{container['name']}.previous.log", _kubectl(*command, "--previous")


def _dump(namespace: str, pod: str) -> str:
    return json.dumps(pools.dump(namespace, pod), indent=1)


def _kubectl(*arguments: str) -> Callable[[], str]:
    return partial(kubectl, *arguments, timeout=20)


def _try(look: Callable[[], list[T]]) -> list[T]:
    try:
        return look()
    except Exception:  # noqa: BLE001 - the rest is still wanted
        return []


def _write(path: Path, produce: Callable[[], str]) -> None:
    try:
        text = produce()
    except KubectlError as e:
        if _NO_POOLS in e.message:
            return
        text = f"{e}\n"
    except Exception as e:  # noqa: BLE001 - the rest is still wanted
        text = f"{type(e).__name__}: {e}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":  # for up.sh, when there is a cluster and no test yet
    print(f"Logs and Events: {collect(sys.argv[1])}", file=sys.stderr)
