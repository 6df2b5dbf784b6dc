# SPDX-License-Identifier: Apache-2.0
"""The scope that the machines' tests play in: its pool handle, its ports, and the identities its authority gave out."""

from __future__ import annotations

from rserpool.asap.authorisation import Role
from rserpool.identity import LeafIdentity

ASAP_PORT, ENRP_PORT, APP_PORT = 3864, 9902, 7007
POOL = b"echo"


def identity(role: Role, number: int, pool: str = "echo") -> LeafIdentity:
    """The leaf of pod ``number``: the same number is the same pod."""
    uid = f"{number:08x}-0000-4000-8000-{number:012x}"
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool=pool, role=role, pod_uid=uid)
