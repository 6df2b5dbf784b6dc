# SPDX-License-Identifier: Apache-2.0
"""One pool, once: read what there is, decide, carry it out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from rserpool_operator.carry_out import carry_out
from rserpool_operator.control.board import Boards
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.observe import find_pool, member_pods, observe
from rserpool_operator.plan import Note, Plan, about_pod, plan
from rserpool_operator.reasons import Reason
from rserpool_operator.work_queue import NEVER, Key

_log: Final = logging.getLogger(__name__)
FORGOTTEN: Final = timedelta(minutes=5)
AGAIN: Final = 1.0
"""Seconds after a conflict: somebody else has written meanwhile, which is nothing bad."""


class Reconciler:
    """Reconciles pools, in the leader."""

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        boards: Boards,
        notes: Notes,
        metrics: OperatorMetrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._boards = boards
        self._notes = notes
        self._metrics = metrics
        self._clock = clock
        self._ready: dict[Key, bool] = {}
        self._began: float | None = None

    async def reconcile(self, key: Key) -> float | None:
        """Do what is to be done about one pool; returns the seconds after which to look again.

        Raises:
            KubeError: the API server does not answer, or refuses.
        """
        began = time.monotonic()
        self._began = began if self._began is None else self._began
        outcome = "failed"
        try:
            after = await self._reconcile(key)
            outcome = "done"
        except KubeError as e:
            if e.status != 409:
                raise
            outcome = "conflict"
            _log.debug("%s: %s", key, e)
            after = AGAIN
        finally:
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.reconcile_seconds.observe(time.monotonic() - began)
        return after

    async def _reconcile(self, key: Key) -> float | None:
        assert self._began is not None
        raw = await find_pool(self._kube, key.namespace, key.name)
        if raw is None:
            return await self._gone(key)
        self._boards.expire(key, FORGOTTEN)
        listening = timedelta(seconds=time.monotonic() - self._began)
        reports, now = self._boards.reports(key), self._clock()
        observed = await observe(self._kube, raw, self._installation, reports, listening, now)
        decided = plan(observed, self._installation)
        if decided.channel is not None:
            self._boards.tell(key, decided.channel)
        await self._say(decided.notes)
        for effect in decided.effects:
            self._metrics.writes.labels(type(effect).__name__).inc()
            _log.info("%s: %s", key, _describe(effect))
        await carry_out(decided, observed, self._kube)
        self._count(key, decided, raw)
        return decided.look_again

    async def _gone(self, key: Key) -> float:
        """There is no such pool: its processes go on; pods that wait for it are told."""
        self._boards.forget(key)
        self._ready.pop(key, None)
        self._metrics.forget_authority(key.namespace, key.name)
        self._show()
        message = f"there is no ServerPool {key}: the sidecar waits until it is created"
        for pod in await member_pods(self._kube, key.namespace, key.name):
            metadata = pod["metadata"]
            about = about_pod(key.namespace, metadata["name"], metadata["uid"])
            await self._notes.write(Note(about=about, reason=Reason.POOL_NOT_FOUND, message=message, warning=True))
        return NEVER

    async def _say(self, notes: Iterable[Note]) -> None:
        for note in notes:
            await self._notes.write(note)

    def _count(self, key: Key, decided: Plan, raw: Object) -> None:
        status = decided.status if decided.status is not None else raw.get("status") or {}
        conditions = status.get("conditions") or []
        self._metrics.show_authority(key.namespace, key.name, status.get("authority") or {})
        self._ready[key] = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        self._show()

    def _show(self) -> None:
        for word, wanted in (("true", True), ("false", False)):
            self._metrics.pools.labels(word).set(sum(ready is wanted for ready in self._ready.values()))


def _describe(effect: object) -> str:
    """An effect in a log line: what, never contents."""
    manifest = getattr(effect, "manifest", None)
    if manifest is not None:
        return f"apply {manifest['kind']} {manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"
    ref, name = getattr(effect, "ref", None), getattr(effect, "name", None)
    if ref is not None:
        return f"delete {ref}"
    return f"{type(effect).__name__} {name}" if name is not None else f"{type(effect).__name__}"
