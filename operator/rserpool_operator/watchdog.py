# SPDX-License-Identifier: Apache-2.0
"""Whether this replica still sees what happens. A watch that has died must not look healthy; a slow API server may.

Every minute it is compared what there is with what the watches have told: a change that is not heard of within two
looks means that its watch is dead, whatever its task says. If the API server does not answer, nothing is judged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rserpool_operator import names
from rserpool_operator.kube import Kind, Kube, KubeError
from rserpool_operator.kube.kinds import POD, SERVER_POOL, STATEFUL_SET

_log: Final = logging.getLogger(__name__)
INTERVAL: Final = 60.0
STUCK: Final = 120.0
"""Seconds after which a queue that has not moved is stuck."""
_OURS: Final = ",".join(f"{key}={value}" for key, value in names.MANAGED_BY.items())


@dataclass(frozen=True, slots=True)
class _Watch:
    kind: Kind
    labels: str


_WATCHES: Final = (_Watch(SERVER_POOL, ""), _Watch(STATEFUL_SET, _OURS), _Watch(POD, names.POOL_LABEL))


class Watchdog:
    """Judges.

    Args:
        kube: what there is.
        namespaces: which are watched; empty: all.
        watching: whether the watchers' threads run.
        beat: when the queue last moved, in the loop's time; ``None``: it need not.
    """

    def __init__(
        self,
        kube: Kube,
        namespaces: tuple[str, ...],
        watching: Callable[[], bool],
        beat: Callable[[], float | None],
    ) -> None:
        self._kube = kube
        self._namespaces = namespaces
        self._watching = watching
        self._beat = beat
        self._heard: dict[str, dict[str, str]] = {watch.kind.plural: {} for watch in _WATCHES}
        self._unheard: dict[str, set[tuple[str, str]]] = {}
        self._dead: dict[str, str] = {}

    def heard(self, plural: str, kind: str, body: Mapping[str, Any]) -> None:
        """A watch has told of something."""
        known = self._heard.get(plural)
        if known is None:
            return
        metadata = body["metadata"]
        if kind == "DELETED":
            known.pop(metadata["uid"], None)
        else:
            known[metadata["uid"]] = metadata.get("resourceVersion", "")

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Compare once."""
        for watch in _WATCHES:
            plural = watch.kind.plural
            try:
                there = await self._there(watch)
            except KubeError as e:
                _log.info("%s are not compared now: %s", plural, e)
                self._unheard.pop(plural, None)
                continue
            known = self._heard[plural]
            unheard = {(uid, version) for uid, version in there.items() if known.get(uid) != version}
            unheard |= {(uid, "gone") for uid in known.keys() - there.keys()}
            both = unheard & self._unheard.get(plural, set())
            self._unheard[plural] = unheard
            if both:
                self._dead[plural] = f"the watch of {plural} has not told of {len(both)} change(s) for a minute"
            else:
                self._dead.pop(plural, None)

    async def _there(self, watch: _Watch) -> dict[str, str]:
        found: dict[str, str] = {}
        for namespace in self._namespaces or (None,):
            for item in await self._kube.list(watch.kind, namespace, watch.labels, metadata_only=True):
                found[item["metadata"]["uid"]] = item["metadata"].get("resourceVersion", "")
        return found

    def trouble(self) -> str:
        """What is wrong with this replica; empty: nothing."""
        if not self._watching():
            return "a watcher has ended"
        if self._dead:
            return "; ".join(self._dead.values())
        beat = self._beat()
        if beat is not None and asyncio.get_running_loop().time() - beat > STUCK:
            return f"the queue has not moved for {STUCK:g} s"
        return ""
