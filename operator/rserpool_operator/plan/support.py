# SPDX-License-Identifier: Apache-2.0
"""What a ServerPool may ask for and this version cannot give: said plainly, before anything is begun."""

from __future__ import annotations

from rserpool.pool import ServerPool
from rserpool.pool.model import TransportName


def unsupported(pool: ServerPool) -> str:
    """What this version lacks for a pool, and what to write instead; empty: nothing."""
    spec = pool.spec
    if TransportName.TCP not in spec.transport.order:
        return "spec.transport.order: this version speaks ASAP and ENRP over TCP only: add TCP"
    return ""
