# SPDX-License-Identifier: Apache-2.0
"""How pods end: when, and with which exit statuses."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from harness.cluster import cluster
from harness.kubectl import Manifest, kubectl
from harness.waiting import wait_for


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a pod ended."""

    seconds: float
    """From its deletion to the end of its last container, as its kubelet says it, in whole seconds."""
    codes: dict[str, int]
    """Exit statuses of its containers."""


def ends(namespace: str, pods: list[str]) -> dict[str, End]:
    """Delete pods, and see how they end."""
    command = ["kubectl", "-n", namespace, "get", "pods", "--watch", "-o", "json"]
    with tempfile.NamedTemporaryFile("w+") as file:  # a pipe would be full before it is read
        watch = subprocess.Popen(command, stdout=file, env=cluster().environment())
        try:
            kubectl("-n", namespace, "delete", "pods", *pods, timeout=90)
            return wait_for(lambda: _all_ended(Path(file.name), pods), 20, "the watch has told of all ends")
        finally:
            watch.kill()
            watch.wait()


def _all_ended(told: Path, pods: list[str]) -> dict[str, End]:
    """Of these pods, by name.

    Raises:
        LookupError, ValueError: not all is told yet.
    """
    seen = list(_documents(told.read_text()))
    return {pod: _end([s for s in seen if s["metadata"]["name"] == pod]) for pod in pods}


def _end(seen: list[Manifest]) -> End:
    """Of a pod, as it was at all times."""
    first, *_ = (pod["metadata"] for pod in seen if "deletionTimestamp" in pod["metadata"])
    grace = timedelta(seconds=first["deletionGracePeriodSeconds"])
    deleted = datetime.fromisoformat(first["deletionTimestamp"]) - grace
    status = seen[-1]["status"]
    ended = {
        c["name"]: c["state"]["terminated"] for c in [*status["initContainerStatuses"], *status["containerStatuses"]]
    }
    finished = max(datetime.fromisoformat(state["finishedAt"]) for state in ended.values())
    codes = {name: int(state["exitCode"]) for name, state in ended.items()}
    return End(seconds=(finished - deleted).total_seconds(), codes=codes)


def _documents(text: str) -> Iterator[Manifest]:
    """JSON objects that follow each other; the last may have been cut off."""
    decoder, at = json.JSONDecoder(), 0
    while (begin := text.find("{", at)) >= 0:
        try:
            found, at = decoder.raw_decode(text, begin)
        except ValueError:
            return
        yield found
