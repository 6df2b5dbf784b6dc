# SPDX-License-Identifier: Apache-2.0
"""What runs on the cluster of :mod:`support.rig_world`: the garbage collector, StatefulSets, cert-manager, the operator."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.authority.embedded import self_signed
from rserpool_operator import names
from rserpool_operator.control.board import Boards
from rserpool_operator.installation import Installation
from rserpool_operator.kube import KubeError, Object, Ref, ref_of
from rserpool_operator.kube.kinds import CERTIFICATE, POD, SECRET, SERVER_POOL, STATEFUL_SET
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.reconcile import Reconciler
from rserpool_operator.work_queue import Key
from support.rig_world import World

SYSTEM: Final = "rserpool-system"
ROUNDS: Final = 60
"""After so many rounds what has not become quiet never will."""


def installation(**fields: Any) -> Installation:
    """An installed operator."""
    values: dict[str, Any] = {
        "namespace": SYSTEM,
        "enrolment_url": f"https://rserpool-operator.{SYSTEM}.svc:8443",
        "control_url": f"https://rserpool-operator-leader.{SYSTEM}.svc:8443",
        "authority": "-----BEGIN CERTIFICATE-----\nof the installation\n-----END CERTIFICATE-----\n",
        "cluster_domain": "cluster.local",
        "trust_domain": "cluster.local",
        "image": "registry.example/rserpool-node",
        "version": "1.0.0",
        "registrar_resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "sidecar_resources": {"requests": {"cpu": "10m", "memory": "42Mi"}, "limits": {"memory": "96Mi"}},
    }
    return Installation(**values | fields)


def raw_pool(name: str = "echo", namespace: str = "demo", **spec: Any) -> Object:
    """A ServerPool as a user writes it."""
    return {
        "apiVersion": "rserpool.io/v1alpha1",
        "kind": "ServerPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"elements": {"port": 7007}, **spec},
    }


def pool_ref(key: Key) -> Ref:
    return Ref(SERVER_POOL, key.namespace, key.name)


class Cluster:
    """A cluster with an operator.

    Attributes:
        world: its objects.
        bad_images: images with which no container ever becomes ready.
        operator: which version of it, and how it is configured.
    """

    def __init__(self, operator: Installation | None = None, *, cert_manager: bool = True) -> None:
        self.world = World(cert_manager=cert_manager)
        self.operator = operator or installation()
        self.bad_images: set[str] = set()
        self.world.namespace(SYSTEM)
        self.boards = Boards()
        self._clock = 0.0
        self.restart()

    def restart(self, operator: Installation | None = None) -> None:
        """A new process of the operator, which remembers nothing."""
        self.operator = operator or self.operator
        self.boards = Boards()
        notes = Notes(self.world.kube, "operator-0", lambda: self._clock)
        self.reconciler = Reconciler(self.world.kube, self.operator, self.boards, notes, OperatorMetrics())

    def time(self) -> datetime:
        """What certificates are dated by."""
        return datetime.now(UTC)

    def create(self, raw: Object) -> Key:
        """Have a ServerPool."""
        self.world.put(raw)
        return Key.of(raw)

    def change(self, key: Key, change: Callable[[Object], None]) -> None:
        """Edit a ServerPool."""
        self.world.change(pool_ref(key), change)

    def raw(self, key: Key) -> Object:
        return self.world.objects[pool_ref(key)]

    def status(self, key: Key) -> Object:
        found: Object = self.raw(key).get("status") or {}
        return found

    def condition(self, key: Key, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = {c["type"]: (c["status"], c["reason"]) for c in self.status(key).get("conditions", [])}
        return found.get(kind, ("", ""))

    def ready(self, key: Key) -> bool:
        return self.condition(key, "Ready")[0] == "True"

    async def reconcile(self, key: Key) -> None:
        """One look at one pool."""
        self._clock += 1.0
        raw = self.world.objects.get(pool_ref(key))
        self.world.actor = raw["metadata"]["uid"] if raw is not None else ""
        await self.reconciler.reconcile(key)

    def settle(self, *keys: Key, crash_after: int | None = None) -> bool:
        """Work until nothing is written any more; returns whether it came to that.

        Args:
            keys: the pools that are looked at.
            crash_after: so many writes, the operator dies.
        """
        left = crash_after
        lost = KubeError(0, "NoAnswer", "the operator has died")

        def fails() -> KubeError | None:
            nonlocal left
            if left is None:
                return None
            left -= 1
            return lost if left < 0 else None

        self.world.fails = fails
        try:
            return asyncio.run(self._settle(keys))
        except KubeError as e:
            if e is not lost:
                raise
            return False
        finally:
            self.world.fails = lambda: None

    async def _settle(self, keys: tuple[Key, ...]) -> bool:
        for _ in range(ROUNDS):
            before = len(self.world.writes)
            for key in keys:
                await self.reconcile(key)
            moved = self.step()
            if len(self.world.writes) == before and not moved:
                return True
        return False

    def writes_of_another_pass(self, *keys: Key) -> list[str]:
        """What one more look at each pool writes."""
        before = len(self.world.writes)

        async def look() -> None:
            for key in keys:
                await self.reconcile(key)

        asyncio.run(look())
        return [f"{w.verb} {w.ref}" for w in self.world.writes[before:]]

    # Controllers: each does what it would have done after some time.

    def step(self) -> bool:
        """Let all controllers work once; returns whether something has changed."""
        before = {ref: o["metadata"].get("resourceVersion") for ref, o in self.world.objects.items()}
        self._collect_garbage()
        if self.world.cert_manager:
            for certificate in self.world.of(CERTIFICATE):
                self._certificate(certificate)
        for stateful_set in self.world.of(STATEFUL_SET):
            self._stateful_set(stateful_set)
        return before != {ref: o["metadata"].get("resourceVersion") for ref, o in self.world.objects.items()}

    def _collect_garbage(self) -> None:
        """What has owners, none of which is there; an owner in another namespace is none."""
        while True:
            uids = {(r.namespace, o["metadata"].get("uid")) for r, o in self.world.objects.items()}
            lost = [
                ref
                for ref, o in self.world.objects.items()
                if "deletionTimestamp" not in o["metadata"]
                and (owners := o["metadata"].get("ownerReferences"))
                and not any((ref.namespace, owner["uid"]) in uids for owner in owners)
            ]
            if not lost:
                return
            for ref in lost:
                self.world.remove(ref)

    def _certificate(self, certificate: Object) -> None:
        metadata, spec = certificate["metadata"], certificate["spec"]
        ref = Ref(SECRET, metadata["namespace"], spec["secretName"])
        if ref not in self.world.objects:
            labels = spec["secretTemplate"]["labels"]
            self.world.put(ca_secret(ref.name, ref.namespace, labels, spec["commonName"], self.time()))
        ready = {"type": "Ready", "status": "True", "message": "Certificate is up to date and has not expired"}
        if "status" not in certificate:
            self.world.change(ref_of(certificate), lambda live: live.update(status={"conditions": [ready]}))

    def _stateful_set(self, owner: Object) -> None:
        metadata, spec = owner["metadata"], owner["spec"]
        revision = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
        current = owner.get("status", {}).get("currentRevision") or revision
        for ordinal in range(spec["replicas"]):
            ref = Ref(POD, metadata["namespace"], f"{metadata['name']}-{ordinal}")
            if ref not in self.world.objects:
                self.world.put(self._pod(owner, ref, ordinal, revision))
            else:
                self._start(ref)
        mine = [
            p
            for p in self.world.of(POD, metadata["namespace"])
            if any(o["uid"] == metadata["uid"] for o in p["metadata"].get("ownerReferences", []))
        ]
        for pod in mine:
            if int(pod["metadata"]["name"].rpartition("-")[2]) >= spec["replicas"]:
                self.world.remove(ref_of(pod))
        old = [p for p in mine if p["metadata"]["labels"]["revision"] != revision and ref_of(p) in self.world.objects]
        broken = [p for p in mine if p not in old and not is_ready(p)]
        if old and not broken:  # the last one first, one at a time; one that is broken stops it
            self.world.remove(ref_of(max(old, key=lambda p: p["metadata"]["name"])))
        status = {"currentRevision": current if old or broken else revision, "updateRevision": revision}
        if owner.get("status") != status:
            self.world.change(ref_of(owner), lambda live: live.update(status=status))

    def _pod(self, owner: Object, ref: Ref, ordinal: int, revision: str) -> Object:
        template, metadata = copy.deepcopy(owner["spec"]["template"]), owner["metadata"]
        reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": metadata["name"], "uid": metadata["uid"]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": ref.name,
                "namespace": ref.namespace,
                "labels": {**template["metadata"]["labels"], "revision": revision},
                "ownerReferences": [{**reference, "controller": True}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "podIPs": [{"ip": f"10.1.0.{ordinal + 1}"}]},
        }

    def _start(self, ref: Ref) -> None:
        pod = self.world.objects[ref]
        image = pod["spec"]["containers"][0]["image"]
        status = dict(pod["status"])
        if image in self.bad_images:
            waiting = {"reason": "ImagePullBackOff", "message": f"no such image: {image}"}
            status["containerStatuses"] = [{"name": "registrar", "state": {"waiting": waiting}}]
        else:
            status |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        if status != pod["status"]:
            self.world.change(ref, lambda live: live.update(status=status))


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def ca_secret(
    name: str, namespace: str, labels: Object, common_name: str = "a CA", now: datetime | None = None
) -> Object:
    """A Secret with a new CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    certificate = self_signed(key, common_name, now or datetime.now(UTC), timedelta(days=365)).public_bytes(pem)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "data": {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(private).decode()},
    }


def ca_ref(cluster: Cluster, key: Key, generation: int = 1) -> Ref:
    """The Secret of a pool's CA."""
    uid = cluster.raw(key)["metadata"]["uid"]
    return Ref(SECRET, SYSTEM, names.authority(key.namespace, key.name, uid, generation))


def member(name: str, pool: str, namespace: str = "demo", *, version: str = "1.0.0") -> Object:
    """A pod of an application that is a member."""
    sidecar = [{"name": names.SIDECAR, "image": f"node:{version}"}] if version else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.POOL_LABEL: pool},
            "annotations": {names.INJECTED: version} if version else {},
        },
        "spec": {"serviceAccountName": "default", "nodeName": "node-1", "initContainers": sidecar},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.2.0.1"}]},
    }
