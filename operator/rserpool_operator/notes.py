# SPDX-License-Identifier: Apache-2.0
"""Events: what was decided, told to whoever looks at an object. Each once, and never more than a few a minute."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from rserpool.asap.limits import Rate, TokenBucket
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import EVENT
from rserpool_operator.plan import Note

_log: Final = logging.getLogger(__name__)
AGAIN_AFTER: Final = 600.0
"""Seconds in which the same is not said again."""
MOST: Final = 4096
RATE: Final = Rate(5, 50)
LONGEST: Final = 1000
"""Characters of a note; the API server takes 1024."""


class Notes:
    """Writes Events.

    Args:
        kube: where.
        pod: our own name.
        clock: seconds, never going backwards.
    """

    def __init__(self, kube: Kube, pod: str, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._pod = pod
        self._clock = clock
        self._said: OrderedDict[str, float] = OrderedDict()
        self._bucket = TokenBucket(RATE, clock())

    async def write(self, note: Note) -> None:
        """Say it, unless it was said a short while ago. That it cannot be said is no reason to stop anything."""
        now = self._clock()
        digest = hashlib.sha256(f"{note.about['uid']} {note.reason} {note.message}".encode()).hexdigest()[:16]
        said = self._said.get(digest)
        if (said is not None and now - said < AGAIN_AFTER) or not self._bucket.take(now):
            return
        self._said[digest] = now
        self._said.move_to_end(digest)
        if len(self._said) > MOST:
            self._said.popitem(last=False)
        level = logging.WARNING if note.warning else logging.INFO
        subject = f"{note.about['kind']} {note.about['namespace']}/{note.about['name']}"
        _log.log(level, "%s: %s: %s", subject, note.reason, note.message)
        try:
            await self._kube.create(EVENT, note.about["namespace"], self._event(note, digest))
        except KubeError as e:
            if e.status != 409:
                _log.info("an Event could not be written: %s", e)

    def _event(self, note: Note, digest: str) -> Object:
        when = datetime.now(UTC)
        name = f"{note.about['name'][:180]}.{digest}{int(when.timestamp()):x}"
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.about["namespace"]},
            "eventTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "rserpool.io/operator",
            "reportingInstance": self._pod,
            "action": "Reconcile",
            "reason": str(note.reason),
            "type": "Warning" if note.warning else "Normal",
            "regarding": dict(note.about),
            "note": note.message[:LONGEST],
        }
