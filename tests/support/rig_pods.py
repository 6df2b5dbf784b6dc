# SPDX-License-Identifier: Apache-2.0
"""Pods as users write them, and what the webhook makes of them."""

from __future__ import annotations

import copy
from typing import Any, Final

from rserpool_operator import names
from rserpool_operator.kube import Object
from support.rig_cluster import installation

INSTALLATION: Final = installation()
TEAM_A: Final = {"namespaces": {"matchLabels": {"team": "a"}}}
"""``spec.users`` of a pool that namespaces with this label may use."""


def pod(*containers: Object, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "app-", "labels": labels or {}},
        "spec": {"containers": list(containers) or [{"name": "app", "image": "app:1"}], **spec},
    }


def sidecar(of: Object) -> Object:
    (found,) = [c for c in of["spec"]["initContainers"] if c["name"] == names.SIDECAR]
    return dict(found)


def patched(before: Object, operations: list[Object]) -> Object:
    """RFC 6902, as much of it as is needed: ``add``, which also replaces a member."""
    after = copy.deepcopy(before)
    for operation in operations:
        assert operation["op"] == "add"
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        target = after
        for part in parents:
            target = target[part]
        target[last] = operation["value"]
    return after
