# SPDX-License-Identifier: Apache-2.0
"""When all elements are owned by, and answer to, the registrars that are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scope import Registrar
from support.running import elements_of


def answering(left: Sequence[Registrar], count: int) -> Callable[[], bool]:
    """Whether these registrars all hold so many elements, with homes among them that have an association to each."""

    def so() -> bool:
        statuses = [r.ask("/status") or {} for r in left]
        if sum(s.get("counts", {}).get("attached", 0) for s in statuses) != count:
            return False
        dumps = [r.ask("/dump") or {} for r in left]
        alive = {dump.get("server_id") for dump in dumps}
        homes = [[e["home"] for e in elements_of(dump["handlespace"])] for dump in dumps if "handlespace" in dump]
        return len(homes) == len(left) and all(len(h) == count and set(h) <= alive for h in homes)

    return so
