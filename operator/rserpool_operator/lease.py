# SPDX-License-Identifier: Apache-2.0
"""A Lease as the lock of the official client's leader election.

Its own (``LeaseLock``) cannot create a Lease in version 37.0.2 (``pretty=True`` where text is demanded), and writes
local time as if it were UTC.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client import ApiException
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import LEASE


class Lease(BaseLock):  # type: ignore[misc] # the library has no types that are looked at
    """The lock.

    Args:
        kube: where it is.
        name: of the Lease.
        namespace: its namespace.
        identity: of this candidate.
    """

    def __init__(self, kube: Kube, name: str, namespace: str, identity: str) -> None:
        super().__init__(name, namespace, identity)
        self._kube = kube
        self._version = ""

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """The record, or why there is none."""
        try:
            live = await self._kube.get(LEASE, namespace, name)
        except KubeError as e:
            return False, _failure(e.status, e.reason)
        if live is None:
            return False, _failure(404, "NotFound")
        self._version = live["metadata"]["resourceVersion"]
        spec = live.get("spec") or {}
        seconds = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity") or None,
            str(seconds) if seconds else None,
            spec.get("acquireTime"),
            spec.get("renewTime"),
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make it; returns whether that was done."""
        manifest = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": _spec(election_record),
        }
        try:
            await self._kube.create(LEASE, namespace, manifest)
        except KubeError:
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Write it, unless somebody else has written since it was read; returns whether that was done."""
        patch = {"metadata": {"resourceVersion": self._version}, "spec": _spec(updated_record)}
        try:
            await self._kube.patch(LEASE, namespace, name, patch)
        except KubeError:
            return False
        return True


def _failure(status: int, reason: str) -> ApiException:
    failure = ApiException(status=status, reason=reason)
    failure.body = json.dumps({"code": status})
    return failure


def _spec(record: LeaderElectionRecord) -> Object:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(record.lease_duration),
        "acquireTime": _micro_time(record.acquire_time),
        "renewTime": _micro_time(record.renew_time),
    }


def _micro_time(text: str) -> str:
    """As Kubernetes writes it; the election writes local time without a zone."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
