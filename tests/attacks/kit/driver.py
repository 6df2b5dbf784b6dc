# SPDX-License-Identifier: Apache-2.0
"""The honest driver as a process of its own (:mod:`attacks.kit.honest`), and what it says of its operations."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.rogue import Leaf
from support.running import PATIENCE

PROGRAM: Final = Path(__file__).parent / "honest.py"
KINDS: Final = 5
"""Operations that each of its elements does in turn."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the honest driver did once.

    Attributes:
        what: ``connect``, ``register``, ``register again``, ``resolve`` or ``deregister``.
        registrar: index of the registrar.
        at: when it began, by the monotonic clock.
        seconds: how long it took.
        failure: why it failed; empty if it did not.
    """

    what: str
    registrar: int
    at: float
    seconds: float
    failure: str


class Driver:
    """The driver while it runs.

    Args:
        process: the program.
        elements: where its elements are, and who.

    Attributes:
        operations: what it has done so far.
        addresses: of its elements.
    """

    def __init__(self, process: subprocess.Popen[bytes], elements: Sequence[tuple[str, Leaf]]) -> None:
        self.operations: list[Operation] = []
        self.addresses = frozenset(address for address, _ in elements)
        self._process = process
        self._about = re.compile("|".join(f"element {leaf.pe_identifier:#010x} of" for _, leaf in elements))
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process's."""
        return self._process.pid

    def has_gone_round(self) -> bool:
        """Whether each of its elements has done everything once."""
        return len(self.operations) > KINDS * len(self.addresses)

    def is_about(self, line: str) -> bool:
        """Whether a line of a log is about one of its elements, which come and go all the time."""
        return self._about.search(line) is not None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.operations.append(Operation(**json.loads(line)))

    def end(self) -> None:
        """End it at once: its elements do not deregister."""
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def driving(
    file: Path,
    *,
    handle: str,
    bundle: bytes,
    registrars: Sequence[tuple[str, int]],
    elements: Sequence[tuple[str, Leaf]],
    known: Sequence[str],
) -> Iterator[Driver]:
    """Run the driver.

    Args:
        file: where its job is written.
        handle: of the pool.
        bundle: the pool's authority; empty without TLS.
        registrars: host and port of each.
        elements: one for each registrar: its address and its leaf.
        known: addresses of the other elements a resolution may tell of.
    """
    job = {
        "handle": handle,
        "bundle": bundle.decode(),
        "known": [*known, *(address for address, _ in elements)],
        "registrars": registrars,
        "elements": [
            {
                "address": address,
                "uid": leaf.identity.pod_uid,
                "chain": leaf.chain.decode(),
                "key": leaf.key_pem.decode(),
            }
            for address, leaf in elements
        ],
    }
    file.write_text(json.dumps(job))
    driver = Driver(subprocess.Popen([sys.executable, str(PROGRAM), str(file)], stdout=subprocess.PIPE), elements)
    try:
        yield driver
    finally:
        driver.end()


def since(operations: Sequence[Operation], began: float) -> list[Operation]:
    """Operations that ended after a moment of the monotonic clock."""
    return [o for o in operations if o.at + o.seconds >= began]
