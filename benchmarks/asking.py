# SPDX-License-Identifier: Apache-2.0
"""A pool user in a process of its own that resolves all the time, while something happens to the registrars."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rserpool.wire import Address
from scope import DOMAIN, NAMESPACE, POOL, Scope, run

PROGRAM: Final = str(Path(__file__).parent / "asker.py")


class Asker:
    """It asks as long as its ``with`` lasts.

    Args:
        pool: whose registrars; it knows those that are there now.
        address: where it speaks from.
        where: what runs it there.
        every: seconds from one question to the next.

    Attributes:
        asked: what came of each question, as they ended: ``at`` (monotonic), ``took`` (seconds), ``failed``.
    """

    def __init__(self, pool: Scope, address: Address | None, where: Sequence[str] = (), every: float = 0.05) -> None:
        job = {
            "registrars": [[str(r.place.address), r.place.ports["asap"]] for r in pool.registrars],
            "bundle": pool.authority.bundle.decode(),
            "namespace": NAMESPACE,
            "pool": POOL,
            "trust_domain": DOMAIN,
            "handle": POOL,
            "address": str(address),
            "every": every,
        }
        self.asked: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] = run([*where, sys.executable, PROGRAM, json.dumps(job)], {})
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.asked.append(json.loads(line))
