# SPDX-License-Identifier: Apache-2.0
"""An API server in memory, with just what the operator touches: server-side apply, defaults, uids, finalizers.

Lies here and not beside the operator's tests, because a module of a folder ``operator`` cannot be imported: that name
is the standard library's. What runs on such a cluster (the controllers) is in :mod:`support.rig_cluster`.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from rserpool_operator.kube import Kind, Kube, KubeError, Object, Ref, kind_of, ref_of
from rserpool_operator.kube.kinds import (
    EVENT,
    NAMESPACE,
    POD_CERTIFICATE_REQUEST,
    SECRET,
    STATEFUL_SET,
    TOKEN_REVIEW,
)
from rserpool_operator.names import FIELD_MANAGER
from support.leaks import GUARD
from support.rig_stored import CERT_MANAGER, as_stored

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
}
"""Lists that are maps, by the field they are in; what is not here is replaced as a whole."""
_FIXED: Final = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")
"""What of a StatefulSet cannot be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A request that may change something.

    Attributes:
        before: the object as it was; ``None``: there was none.
        uid: which one is meant, as the writer says; empty: whichever has that name.
        actor: on whose behalf, as :attr:`World.actor` says it.
    """

    verb: str
    ref: Ref
    before: Object | None
    uid: str = ""
    actor: str = ""


@dataclass(slots=True)
class World:
    """The objects of a cluster.

    Attributes:
        objects: by kind, namespace and name.
        writes: all requests that may change something, in their order.
        reads: all others: the verb, the plural, and what was asked for.
        actor: noted in each of them.
        fails: asked before each write; what it returns is what the writer gets instead.
        lost: likewise, but the write is done: only its answer is lost.
        cert_manager: whether its kinds are known.
        pod_certificates: whether PodCertificateRequests are.
        tokens: token -> the status that a TokenReview of it gets.
    """

    objects: dict[Ref, Object] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    actor: str = ""
    fails: Callable[[], KubeError | None] = lambda: None
    lost: Callable[[], KubeError | None] = lambda: None
    cert_manager: bool = True
    pod_certificates: bool = True
    tokens: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    _applied: dict[tuple[Ref, str, str], Object] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def kube(self) -> WorldKube:
        """As the operator sees it."""
        return WorldKube(self)

    # What a test, or a controller, does. None of it is counted.

    def put(self, manifest: Object, kind: Kind | None = None) -> Object:
        """Have this object, whoever made it."""
        found = copy.deepcopy(manifest)
        metadata = found["metadata"]
        metadata.setdefault("uid", f"{next(self._numbers):08x}-0000-4000-8000-000000000000")
        metadata["resourceVersion"] = str(next(self._numbers))
        metadata.setdefault("generation", 1)
        kind = kind or kind_of(manifest)
        ref = Ref(kind, metadata.get("namespace", ""), metadata["name"])
        self.objects[ref] = as_stored(found, kind)
        if ref.kind.namespaced:
            self.namespace(ref.namespace)
        return self.objects[ref]

    def namespace(self, name: str, **labels: str) -> None:
        """Have this namespace; labels are added."""
        ref = Ref(NAMESPACE, "", name)
        if ref not in self.objects:
            metadata: Object = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
            self.objects[ref] = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.objects[ref]["metadata"]["labels"] |= labels

    def change(self, ref: Ref, change: Callable[[Object], None]) -> None:
        """Change an object as somebody else would."""
        live = self.objects[ref]
        before = copy.deepcopy(live)
        change(live)
        self._touch(ref, before)

    def remove(self, ref: Ref) -> None:
        """Delete an object as somebody else would: finalizers hold it."""
        live = self.objects[ref]
        if live["metadata"].get("finalizers"):
            live["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            live["metadata"]["resourceVersion"] = str(next(self._numbers))
        else:
            self._drop(ref)

    def of(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """All objects of a kind."""
        return [o for r, o in self.objects.items() if r.kind == kind and namespace in (None, r.namespace)]

    def known(self, kind: Kind) -> None:
        """Whether there is such a kind.

        Raises:
            KubeError: there is not.
        """
        missing = not self.cert_manager and kind.api_version.startswith(CERT_MANAGER)
        if missing or (kind == POD_CERTIFICATE_REQUEST and not self.pod_certificates):
            raise KubeError(404, "NotFound", "the server could not find the requested resource")

    # What comes by the API.

    def write(self, verb: str, ref: Ref, uid: str = "") -> Object | None:
        """Note a write; returns what is there.

        Raises:
            KubeError: the test wants it to fail.
        """
        self.known(ref.kind)
        error = self.fails()
        if error is not None:
            raise error
        live = self.objects.get(ref)
        self.writes.append(Write(verb=verb, ref=ref, before=copy.deepcopy(live), uid=uid, actor=self.actor))
        return live

    def answer(self, value: Object) -> Object:
        """The answer to a write.

        Raises:
            KubeError: the test wants it to be lost.
        """
        error = self.lost()
        if error is not None:
            raise error
        return copy.deepcopy(value)

    def create(self, kind: Kind, namespace: str, manifest: Object) -> Object:
        """POST."""
        if kind == TOKEN_REVIEW:
            GUARD.token(manifest["spec"]["token"], "a token that was reviewed")
            return {**manifest, "status": self.tokens.get(manifest["spec"]["token"], {"authenticated": False})}
        ref = Ref(kind, namespace, manifest["metadata"]["name"])
        if self.write("create", ref) is not None:
            raise KubeError(409, "AlreadyExists", f"{ref} already exists")
        self._must_be_open(ref)
        if kind == EVENT:
            _told("an Event", ref, manifest)
            self.events.append(manifest)
            return manifest
        return self.answer(self.put(manifest, kind))

    def apply(self, kind: Kind, manifest: Object, subresource: str, manager: str) -> Object:
        """PATCH with server-side apply, by force."""
        ref = ref_of(manifest)
        assert ref.kind == kind
        _told(subresource or "what is applied", ref, manifest)
        uid = manifest["metadata"].get("uid", "")
        live = self.write(f"apply {subresource}".strip(), ref, uid)
        if uid and (live is None or live["metadata"]["uid"] != uid):
            raise KubeError(409, "Conflict", f"{ref}: the object with that uid is gone")
        if live is None:
            if subresource:
                raise KubeError(404, "NotFound", f"{ref} not found")
            self._must_be_open(ref)
            self._applied[ref, manager, ""] = copy.deepcopy(manifest)
            return self.answer(self.put(manifest))
        before = copy.deepcopy(live)
        parts = {"status"} if subresource else set(manifest) - {"status", "apiVersion", "kind"}
        former = self._applied.get((ref, manager, subresource), {})
        for part in parts:
            live[part] = _merged(live.get(part), former.get(part), manifest.get(part), part)
        self._applied[ref, manager, subresource] = copy.deepcopy(manifest)
        live["metadata"] |= {key: before["metadata"][key] for key in ("uid", "resourceVersion", "generation")}
        self.objects[ref] = as_stored(live, kind)
        if kind == STATEFUL_SET:
            changed = [f for f in _FIXED if self.objects[ref]["spec"].get(f) != before["spec"].get(f)]
            if changed:
                self.objects[ref] = before
                raise KubeError(422, "Invalid", f"{ref}: updates to {changed} are forbidden")
        self._touch(ref, before)
        found = self.objects[ref]
        if "deletionTimestamp" in found["metadata"] and not found["metadata"].get("finalizers"):
            self._drop(ref)
        return self.answer(found)

    def merge(self, ref: Ref, operations: Object) -> Object:
        """PATCH with a JSON merge patch."""
        _told("a patch", ref, operations)
        live = self.write("patch", ref)
        if live is None:
            raise KubeError(404, "NotFound", f"{ref} not found")
        wanted = (operations.get("metadata") or {}).get("resourceVersion")
        if wanted not in (None, live["metadata"].get("resourceVersion")):
            raise KubeError(409, "Conflict", f"{ref} was changed meanwhile")
        before = copy.deepcopy(live)
        _merge_patch(live, operations)
        self._touch(ref, before)
        return self.answer(live)

    def delete(self, ref: Ref, uid: str) -> bool:
        """DELETE, with the uid as precondition."""
        live = self.write("delete", ref, uid)
        if live is None or (uid and live["metadata"]["uid"] != uid):
            return False
        self.remove(ref)
        self.answer({})
        return True

    def _must_be_open(self, ref: Ref) -> None:
        if not ref.kind.namespaced:
            return
        namespace = self.objects.get(Ref(NAMESPACE, "", ref.namespace))
        if namespace is None:
            raise KubeError(404, "NotFound", f"namespaces {ref.namespace!r} not found")
        if "deletionTimestamp" in namespace["metadata"]:
            raise KubeError(403, "Forbidden", f"namespace {ref.namespace} is being terminated")

    def _touch(self, ref: Ref, before: Object) -> None:
        live = self.objects[ref]
        if live == before:
            return
        live["metadata"]["resourceVersion"] = str(next(self._numbers))
        if live.get("spec") != before.get("spec"):
            live["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1

    def _drop(self, ref: Ref) -> None:
        del self.objects[ref]
        for key in [key for key in self._applied if key[0] == ref]:
            del self._applied[key]


class WorldKube(Kube):
    """The operator's view of such a cluster."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.on_answer = lambda _verb, _plural, _status: None

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        kind.path(namespace, name)  # which looks at the names
        self._world.reads.append(f"get {kind.plural} {namespace}/{name}")
        if not self._world.cert_manager and kind.api_version.startswith(CERT_MANAGER):
            return None
        return copy.deepcopy(self._world.objects.get(Ref(kind, namespace if kind.namespaced else "", name)))

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: str = "", *, metadata_only: bool = False
    ) -> list[Object]:
        self._world.reads.append(f"list {kind.plural} {namespace or ''}")
        self._world.known(kind)
        found = [copy.deepcopy(o) for o in self._world.of(kind, namespace) if selected(o, labels)]
        return [{"metadata": o["metadata"]} for o in found] if metadata_only else found

    async def get_list_head(self, kind: Kind, namespace: str) -> Object:
        return {"items": (await self.list(kind, namespace))[:1]}

    async def create(self, kind: Kind, namespace: str | None, manifest: Object) -> Object:
        return self._world.create(kind, namespace or "", copy.deepcopy(manifest))

    async def apply(
        self, kind: Kind, manifest: Object, *, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> Object:
        return self._world.apply(kind, copy.deepcopy(manifest), subresource, manager)

    async def patch(self, kind: Kind, namespace: str, name: str, operations: Object) -> Object:
        return self._world.merge(Ref(kind, namespace, name), copy.deepcopy(operations))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str = "") -> bool:
        return self._world.delete(Ref(kind, namespace, name), uid)


def _told(what: str, ref: Ref, manifest: Object) -> None:
    """Whoever may read it must not find a secret in it."""
    if ref.kind != SECRET:
        GUARD.note(f"{what} of {ref}", json.dumps(manifest, default=str))


def selected(manifest: Object, labels: str) -> bool:
    """Whether a label selector of equalities and existences selects an object."""
    there = manifest["metadata"].get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, equals, value = term.partition("=")
        if key not in there or (equals and there[key] != value):
            return False
    return True


def _merged(live: Any, former: Any, wanted: Any, name: str) -> Any:
    """Server-side apply of one field: what was ours and is not wanted any more goes; what is others' stays."""
    if isinstance(wanted, dict):
        live = dict(live) if isinstance(live, dict) else {}
        former = former if isinstance(former, dict) else {}
        for key in former.keys() - wanted.keys():
            rest = _without(live.get(key), former[key])
            live.pop(key, None)
            if rest is not None:
                live[key] = rest
        return live | {k: _merged(live.get(k), former.get(k), v, k) for k, v in wanted.items()}
    if isinstance(wanted, list):
        return _merged_list(live or [], former or [], wanted, name)
    return wanted


def _merged_list(live: list[Any], former: list[Any], wanted: list[Any], name: str) -> list[Any]:
    if name == "finalizers":
        return [*(f for f in live if f not in former and f not in wanted), *wanted]
    keys = _keys(name, wanted)
    if not keys:
        return wanted
    by_key = {_key(item, keys): item for item in live}
    were = {_key(item, keys): item for item in former}
    ours = {_key(item, keys) for item in wanted}
    found = [_merged(by_key.get(_key(i, keys)), were.get(_key(i, keys)), i, "") for i in wanted]
    return [*found, *(item for key, item in by_key.items() if key not in ours and key not in were)]


def _keys(name: str, items: Iterable[Any]) -> tuple[str, ...]:
    if name != "ports":
        return _KEYS.get(name, ())
    first: Any = next(iter(items), {})
    return next(((key, "protocol") for key in ("containerPort",) if key in first), ("port", "protocol"))


def _key(item: Object, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key, "TCP" if key == "protocol" else None) for key in keys)


def _without(live: Any, former: Any) -> Any:
    """What is left of a field when what was applied is taken away; ``None``: nothing."""
    if not isinstance(live, dict) or not isinstance(former, dict):
        return None
    rest = {k: _without(v, former[k]) if k in former else v for k, v in live.items()}
    return {k: v for k, v in rest.items() if v is not None} or None


def _merge_patch(live: Object, operations: Object) -> None:
    for key, value in operations.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict):
            _merge_patch(live.setdefault(key, {}), value)
        else:
            live[key] = value
