# SPDX-License-Identifier: Apache-2.0
"""From what the watches see to which pool is to be looked at, and which pods have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from rserpool_operator import names
from rserpool_operator.control.board import Boards
from rserpool_operator.observed import Member
from rserpool_operator.pod_states import has_ended, member_of
from rserpool_operator.trust import Truster
from rserpool_operator.work_queue import Key

_log: Final = logging.getLogger(__name__)


class _Known(NamedTuple):
    """What a plan would know of a member, whichever way its leaf is obtained."""

    pool: Key
    late: Member
    early: Member


class Happenings:
    """Remembers just enough to see what has changed.

    Args:
        boards: told of pods that have ended.
        truster: told of pools and authorities that have changed.
        look_at: puts a pool into the queue; does nothing in a replica that does not lead.
        on_left: called with a pod that is no member any more, and the pool it was of.
    """

    def __init__(
        self,
        boards: Boards,
        truster: Truster,
        look_at: Callable[[Key], None],
        on_left: Callable[[Key, Mapping[str, Any]], None],
    ) -> None:
        self._boards = boards
        self._truster = truster
        self._look_at = look_at
        self._on_left = on_left
        self.pools: set[Key] = set()
        self._members: dict[str, _Known] = {}
        self._namespaces: dict[str, object] = {}

    def member(self, uid: str) -> Key | None:
        """The pool a pod is a member of, as far as was seen."""
        known = self._members.get(uid)
        return known.pool if known is not None else None

    def seen(self, plural: str, kind: str, body: Mapping[str, Any]) -> None:
        """Something was seen."""
        match plural:
            case "serverpools":
                self._pool(kind, body)
            case "pods":
                self._pod(kind, body)
            case "namespaces":
                self._namespace(kind, body)
            case _:
                self._object(plural, body)

    def _pool(self, kind: str, body: Mapping[str, Any]) -> None:
        key = Key.of(body)
        if kind == "DELETED":
            self.pools.discard(key)
        else:
            self.pools.add(key)
        self._truster.look_again(key)
        self._look_at(key)

    def _pod(self, kind: str, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        uid, namespace = metadata["uid"], metadata["namespace"]
        label = (metadata.get("labels") or {}).get(names.POOL_LABEL)
        before, pod = self.member(uid), dict(body)
        over = kind == "DELETED" or has_ended(pod) or not label
        now = None if over else Key(namespace, str(label))
        if before is not None and before != now:
            self._boards.pod_ended(before, uid)
            self._look_at(before)
            self._on_left(before, body)
        if now is None:
            self._members.pop(uid, None)
            if before is None and label:
                self._boards.pod_ended(Key(namespace, str(label)), uid)
            return
        self._truster.remember_pod(uid, metadata["name"])
        if before != now:
            self._boards.pod_is_back(now, uid)
        known = _Known(now, member_of(pod, early=False), member_of(pod, early=True))
        if self._members.get(uid) != known:  # most of what happens to a pod is nothing that a plan would know of
            self._members[uid] = known
            self._look_at(now)

    def _namespace(self, kind: str, body: Mapping[str, Any]) -> None:
        name, labels = body["metadata"]["name"], dict(body["metadata"].get("labels") or {})
        state = None if kind == "DELETED" or "deletionTimestamp" in body["metadata"] else labels
        if self._namespaces.get(name) == state and name in self._namespaces:
            return
        known = name in self._namespaces or kind
        self._namespaces[name] = state
        if known:  # what is there at the start is no news
            for key in self.pools:
                self._look_at(key)

    def _object(self, plural: str, body: Mapping[str, Any]) -> None:
        labels = body["metadata"].get("labels") or {}
        pool = labels.get(names.OWNER_LABEL)
        if not pool:
            return
        key = Key(labels.get(names.OWNER_NAMESPACE_LABEL) or body["metadata"]["namespace"], pool)
        if plural == "secrets":
            self._truster.look_again(key)
        self._look_at(key)
