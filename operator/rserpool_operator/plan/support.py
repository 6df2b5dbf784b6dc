# SPDX-License-Identifier: Apache-2.0
"""What a ServerPool may ask for and this version cannot give: said plainly, before anything is begun."""

from __future__ import annotations

from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment, TransportName


def unsupported(pool: ServerPool) -> str:
    """What this version lacks for a pool, and what to write instead; empty: nothing."""
    spec = pool.spec
    if TransportName.TCP not in spec.transport.order:
        return "spec.transport.order: this version speaks ASAP and ENRP over TCP only: add TCP"
    if spec.security.enrolment is Enrolment.POD_CERTIFICATE:
        return "spec.security.enrolment: PodCertificate is not in this version: re-create the pool with Token"
    return ""
