# SPDX-License-Identifier: Apache-2.0
"""Looks at what registrars hold many times a second, since it is seconds that are measured."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from harness.cluster import cluster
from harness.waiting import NotYet, wait_for

_LOOK: Final = """
import json, os, select, socket, sys, time

def ask():
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect(os.environ["RSERPOOL_CONTROL_SOCKET"])
        s.sendall(b"GET /dump HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
        answer = b""
        while part := s.recv(65536):
            answer += part
    told = json.loads(answer.partition(b"\\r\\n\\r\\n")[2])
    pools = told.get("handlespace", {}).get("pools", [])
    return {e["identifier"]: e["home"] for pool in pools for e in pool["elements"]}

last = None
while True:
    try:
        seen = ask()
    except (OSError, ValueError):
        seen = None
    if seen is not None and seen != last:
        print(json.dumps([time.time(), seen]), flush=True)
        last = seen
    if select.select([0], [], [], 0.05)[0]:  # who looks is gone
        sys.exit()
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a registrar held from a time on (seconds of the epoch): homes of elements, by PE identifier."""

    at: float
    elements: Mapping[str, str]


class Watch:
    """What some registrars hold, as it changes: nodes and tests have one clock, that of the machine they are on."""

    def __init__(self, namespace: str, pods: Collection[str]) -> None:
        self.pods = sorted(pods)
        self._seen: dict[str, list[Seen]] = {pod: [] for pod in self.pods}
        self._readers: list[threading.Thread] = []
        self._processes = [self._start(namespace, pod) for pod in self.pods]

    def _start(self, namespace: str, pod: str) -> subprocess.Popen[str]:
        look = ["exec", "-i", pod, "-c", "registrar", "--", "python3", "-c", _LOOK]
        process = subprocess.Popen(
            ["kubectl", "-n", namespace, *look],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=cluster().environment(),
        )
        reader = threading.Thread(target=self._read, args=(pod, process), daemon=True)
        reader.start()
        self._readers.append(reader)
        return process

    def _read(self, pod: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            at, elements = json.loads(line)
            self._seen[pod].append(Seen(at, elements))

    def close(self) -> None:
        """Look no more."""
        for process in self._processes:
            process.kill()
        for process, reader in zip(self._processes, self._readers, strict=True):
            process.wait()
            reader.join()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()

    def until_all_look(self, timeout: float = 30) -> None:
        """Wait until something was seen of every registrar."""
        wait_for(lambda: all(self._seen.values()), timeout, f"{', '.join(self.pods)} are looked at", every=0.05)

    def left(self, element: str, since: float, *, of: Collection[str] | None = None, timeout: float = 30) -> float:
        """Wait until an element has left every registrar (of those in `of`); returns seconds from `since`."""
        return self._when(lambda held: element not in held, f"{element} has left", since, of, timeout)

    def came(self, element: str, since: float, *, of: Collection[str] | None = None, timeout: float = 60) -> float:
        """Wait until an element is held by every registrar at once, after having left; returns seconds from `since`."""
        return self._when(lambda held: element in held, f"{element} is back", since, of, timeout)

    def all(self, since: float) -> list[Seen]:
        """All that was seen of any registrar since then."""
        return [seen for changes in self._seen.values() for seen in changes if seen.at >= since]

    def last(self) -> dict[str, Seen]:
        """What was seen last of each registrar."""
        return {pod: changes[-1] for pod, changes in self._seen.items()}

    def fewest(self, since: float) -> int:
        """The smallest number of elements that any registrar held since then."""
        before = [[s for s in changes if s.at < since][-1:] for changes in self._seen.values()]
        return min(len(seen.elements) for seen in [*self.all(since), *(s for last in before for s in last)])

    def _when(self, holds: Any, what: str, since: float, of: Collection[str] | None, timeout: float) -> float:
        pods = self.pods if of is None else sorted(of)

        def first(pod: str) -> float:
            for seen in [s for s in self._seen[pod] if s.at >= since]:
                if holds(seen.elements):
                    return seen.at
            raise NotYet(f"not at {pod}: {self._seen[pod][-1:]}")

        return wait_for(lambda: max(first(pod) for pod in pods), timeout, what, every=0.05) - since


@contextmanager
def watching(namespace: str, pods: Collection[str]) -> Iterator[Watch]:
    """Look at these registrars for as long as the block runs."""
    watch = Watch(namespace, pods)
    try:
        watch.until_all_look()
        yield watch
    finally:
        watch.close()


def now() -> float:
    """The time, as registrars and users say it."""
    return time.time()
