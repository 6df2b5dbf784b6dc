# SPDX-License-Identifier: Apache-2.0
"""What is secret in the cluster, and the search of all that our processes have written there for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from harness import api
from harness.cluster import SYSTEM
from harness.known import KNOWN
from harness.kubectl import KubectlError, Manifest, exec_in, get, logs

OURS: Final = frozenset(("registrar", "rserpool-sidecar", "operator"))
"""Containers whose logs are searched: an application may write what it likes."""
MEMBERS: Final = 4
"""Pods of a namespace whose own token and key are learnt; of everybody's keys the form is known."""
MOST: Final = 40
"""Pods, and objects of a kind, of a namespace that are searched: thousands of the same tell nothing more."""
_READ: Final = """
import os
for path in ("/run/rserpool/token/token", "/run/rserpool/identity/identity.pem"):
    if os.path.exists(path):
        print(open(path).read())
"""


@dataclass
class Searched:
    """What was done so far.

    Attributes:
        texts: how many were searched.
        keys: private keys that were read of Secrets and pods.
        leaks: where secrets are, without these.
    """

    texts: int = 0
    keys: int = 0
    leaks: list[str] = field(default_factory=list)


SEARCHED: Final = Searched()
"""By this run of the tests, in all namespaces that it had."""


def look(namespace: str) -> list[str]:
    """Learn the secrets of a namespace and of the operator's, search all that can be read in it; returns the leaks.

    What is on its way out meanwhile is left out.
    """
    for place in {SYSTEM, namespace}:
        for secret in get("secrets", "-n", place):
            _learn(secret)
    pods = [pod for pod in get("pods", "-n", namespace) if not _simulated(pod)][:MOST]
    for name, container in [place for pod in pods for place in _running(pod)][:MEMBERS]:
        with suppress(KubectlError):
            told = exec_in(name, container, "python3", "-c", _READ, namespace=namespace)
            SEARCHED.keys += KNOWN.pem(told.encode(), f"a key in pod {name}")
            KNOWN.text(told.partition("\n")[0].strip(), f"the token of pod {name}")
    found: list[str] = []
    for place, text in _texts(namespace, pods):
        SEARCHED.texts += 1
        found += [f"{place}, line {leak.line}: {leak.what}" for leak in KNOWN.find(text)]
    return found


def _simulated(pod: Manifest) -> bool:
    """On a node of kwok: there is no process, and who asks for its log waits for long."""
    return str(pod["spec"].get("nodeName", "")).startswith("kwok-")


def _learn(secret: Manifest) -> None:
    name = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
    if secret.get("type", "").startswith("helm.sh/"):
        return  # the chart as it was installed
    for key, value in (secret.get("data") or {}).items():
        data, what = base64.b64decode(value), f"{key} of the Secret {name}"
        found = KNOWN.pem(data, what)
        SEARCHED.keys += found
        if found or b"-----BEGIN CERTIFICATE" in data:
            continue
        KNOWN.octets(data, what)
        for word in data.decode("ascii", "replace").split():
            KNOWN.text(word, what)


def _running(pod: Manifest) -> Iterator[tuple[str, str]]:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if container["name"] in OURS - {"operator"} and "running" in container.get("state", {}):
            yield pod["metadata"]["name"], container["name"]


def _texts(namespace: str, pods: list[Manifest]) -> Iterator[tuple[str, str]]:
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        yield f"pod {namespace}/{name}", json.dumps([pod["metadata"], status])
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            if container["name"] not in OURS:
                continue
            for previous in (False, True) if container.get("restartCount") else (False,):
                with suppress(KubectlError):
                    text = logs(name, container["name"], namespace=namespace, previous=previous)
                    yield f"log of {namespace}/{name}/{container['name']}{' (previous)' * previous}", text
    for kind in ("events.events.k8s.io", "serverpools", "configmaps", "statefulsets", "services"):
        with suppress(KubectlError, api.ApiError):
            for thing in get(kind, "-n", namespace)[-MOST:]:
                yield f"{kind} {namespace}/{thing['metadata']['name']}", json.dumps(thing)
