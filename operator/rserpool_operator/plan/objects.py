# SPDX-License-Identifier: Apache-2.0
"""Which objects have to be written: those that are not there, or differ in what is ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rserpool_operator import names
from rserpool_operator.kube.kinds import Object, Ref, controller_of, ref_of
from rserpool_operator.plan.effects import Apply


def owned_by(live: Object, uid: str) -> bool:
    """Whether an object is this pool's: by its controller, or, where that cannot be, by its label."""
    if controller_of(live).get("uid") == uid:
        return True
    return bool((live["metadata"].get("labels") or {}).get(names.OWNER_UID_LABEL) == uid)


def former_pools(live: Object, name: str) -> bool:
    """Whether an object is that of a former ServerPool of this name: the garbage collector will take it."""
    controller = controller_of(live)
    return (controller.get("kind"), controller.get("name")) == ("ServerPool", name)


def apply_if_needed(manifest: Object, objects: Mapping[Ref, Object]) -> Apply | None:
    """An effect that makes the object what the manifest says; ``None`` if it is."""
    live = objects.get(ref_of(manifest))
    marked = marked_with_hash(manifest)
    if live is None:
        return Apply(marked)
    if _same(marked, live):
        return None
    return Apply({**marked, "metadata": {**marked["metadata"], "uid": live["metadata"]["uid"]}})


def apply_keeping_template(manifest: Object, objects: Mapping[Ref, Object], shape: str) -> Apply | None:
    """As :func:`apply_if_needed`; pods are replaced only for what the annotation ``shape`` stands for.

    A pod template follows from much that may change while its pods run well: another operator's code, another value of
    the chart. As long as the shape is the same, the template that is there stays.
    """
    live = objects.get(ref_of(manifest))
    template = manifest["spec"]["template"]
    frame = {**manifest, "spec": {k: v for k, v in manifest["spec"].items() if k != "template"}}
    effect = apply_if_needed(frame, objects)
    if effect is None:
        return None
    before = ((live or {}).get("metadata") or {}).get("annotations") or {}
    if live is not None and before.get(shape) == manifest["metadata"]["annotations"][shape]:
        template = live["spec"]["template"]
    return Apply({**effect.manifest, "spec": {**effect.manifest["spec"], "template": template}})


def marked_with_hash(manifest: Object) -> Object:
    """With a hash of itself: what was in a former manifest and is not in this one shows in nothing else."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**manifest["metadata"].get("annotations", {}), names.APPLIED: digest}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def _same(wanted: Any, live: Any) -> bool:
    """Whether all that is wanted is so; the API server adds defaults."""
    if live is None and not wanted:  # the API server leaves out what is empty, false or 0
        return True
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(_same(v, live.get(k)) for k, v in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(wanted) == len(live)
            and all(_same(w, h) for w, h in zip(wanted, live, strict=True))
        )
    return bool(wanted == live) and isinstance(wanted, bool) is isinstance(live, bool)
