# SPDX-License-Identifier: Apache-2.0
"""What a pool's processes are told: settings that follow from the ServerPool, and whom to trust."""

from __future__ import annotations

from rserpool.identity.revoked import Revoked, serial_text
from rserpool.pool import ServerPool
from rserpool.pool.settings import registrar_tables, sidecar_tables
from rserpool_operator.installation import Installation
from rserpool_operator.manifests.common import asap_port, enrp_port, registrar_hosts
from rserpool_operator.plan.authority import AuthorityPlan
from rserpool_operator.plan.effects import Channel


def channel_of(
    pool: ServerPool,
    installation: Installation,
    authority: AuthorityPlan,
    renew: str,
    revoked: tuple[str, ...],
    keys: tuple[str, ...] = (),
) -> Channel:
    """The channel's contents: ``revoked`` pods by their UIDs; ``keys`` of cookies, which are the elements' alone."""
    namespace, name = pool.metadata.namespace, pool.metadata.name
    hosts = registrar_hosts(namespace, name, pool.spec.registrars.replicas, installation.cluster_domain)
    registrar = registrar_tables(pool, installation.trust_domain)
    registrar["peers"] = {"addresses": [f"{host}:{enrp_port(pool)}" for host in hosts]}
    element = sidecar_tables(pool, installation.trust_domain)
    element["registrars"] = {"addresses": [f"{host}:{asap_port(pool)}" for host in hosts]}
    if keys:
        element["channel"]["keys"] = list(keys)
    return Channel(
        registrar=dict(registrar),
        element=dict(element),
        bundle=authority.bundle,
        renew=renew,
        issuer=authority.issuer,
        revoked=revoked,
        serials=tuple(sorted(serial_text(serial) for serial in Revoked.of(pool.spec.security.revoked).serials)),
    )
