# SPDX-License-Identifier: Apache-2.0
"""kubectl, as a user has it: what the tests speak to the cluster with; but for what is asked again and again."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness import api
from harness.cluster import cluster
from harness.known import KNOWN

Manifest = dict[str, Any]


class KubectlError(Exception):
    """kubectl ended with an error."""

    def __init__(self, command: Sequence[str], status: int, message: str) -> None:
        super().__init__(f"kubectl {' '.join(command)}: exit status {status}: {message.strip()}")
        self.status = status
        self.message = message.strip()
        """What it wrote on standard error."""


def kubectl(*arguments: str, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002 - as subprocess has it
    """Run it; returns standard output.

    Raises:
        KubectlError: it failed, or did not end within `timeout` seconds.
    """
    try:
        done = subprocess.run(  # noqa: PLW1510 - the status is looked at below
            ["kubectl", *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=cluster().environment(),
        )
    except subprocess.TimeoutExpired as e:
        raise KubectlError(arguments, -1, f"not ended within {timeout} s") from e
    if done.returncode:
        raise KubectlError(arguments, done.returncode, done.stderr or done.stdout)
    if {"create", "token"} <= set(arguments):
        KNOWN.text(done.stdout.strip(), "a token that a test asked for")
    return done.stdout


def get(*arguments: str) -> Any:
    """``kubectl get … -o json``: an object, or the list of them."""
    with _as_kubectl("get", *arguments), contextlib.suppress(api.NotHereError):
        return api.get(*arguments)
    answer = json.loads(kubectl("get", *arguments, "-o", "json"))
    return answer["items"] if answer.get("kind") == "List" else answer


def apply(manifests: str | Manifest | Sequence[Manifest], *, namespace: str | None = None) -> str:
    """``kubectl apply``: of one manifest, of several, or of the text of a file; returns what kubectl says."""
    if isinstance(manifests, str):
        text = manifests
    else:
        items = [manifests] if isinstance(manifests, dict) else list(manifests)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    return kubectl(*_in(namespace), "apply", "-f", "-", input=text)


def exec_in(pod: str, container: str, *command: str, namespace: str, timeout: float = 60) -> str:
    """Run a command in a container; returns its standard output."""
    return kubectl("-n", namespace, "exec", pod, "-c", container, "--", *command, timeout=timeout)


def logs(pod: str, container: str, *, namespace: str, previous: bool = False) -> str:
    """What a container has written, or the one before it of that name."""
    if previous:
        return kubectl("-n", namespace, "logs", pod, "-c", container, "--previous")
    with _as_kubectl("-n", namespace, "logs", pod, "-c", container):
        return api.logs(pod, container, namespace=namespace)


def events(namespace: str, *, about: str | None = None) -> list[Manifest]:
    """Events of a namespace, oldest first; with `about` those about the object of that name."""
    found: list[Manifest] = get("events.events.k8s.io", "-n", namespace)
    found.sort(key=lambda e: str(e["metadata"]["creationTimestamp"]))
    return [e for e in found if about is None or e.get("regarding", {}).get("name") == about]


def conditions(thing: Manifest) -> dict[str, Manifest]:
    """Conditions of an object's status by type."""
    return {c["type"]: c for c in thing.get("status", {}).get("conditions", [])}


@contextmanager
def _as_kubectl(*command: str) -> Iterator[None]:
    try:
        yield
    except api.ApiError as e:
        raise KubectlError(command, e.status, str(e)) from None


def _in(namespace: str | None) -> list[str]:
    return [] if namespace is None else ["-n", namespace]
