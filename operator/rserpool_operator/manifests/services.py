# SPDX-License-Identifier: Apache-2.0
"""The two headless Services, and the optional NetworkPolicy in front of the registrars."""

from __future__ import annotations

from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.kube.kinds import Object
from rserpool_operator.manifests.common import asap_port, enrp_port, manifest, registrar_selector


def asap(pool: ServerPool, uid: str) -> Object:
    """The registrars that serve, for elements and users."""
    return _headless(pool, uid, names.asap_service(pool.metadata.name), "asap", asap_port(pool), unready=False)


def peers(pool: ServerPool, uid: str) -> Object:
    """All registrars, ready or not: those that start have to find each other."""
    return _headless(pool, uid, names.peers_service(pool.metadata.name), "enrp", enrp_port(pool), unready=True)


def _headless(pool: ServerPool, uid: str, name: str, port: str, number: int, *, unready: bool) -> Object:
    spec: Object = {
        "clusterIP": "None",
        "publishNotReadyAddresses": unready,
        "selector": registrar_selector(pool.metadata.name),
        "ports": [{"name": port, "port": number, "targetPort": number, "protocol": "TCP"}],
    }
    return manifest("v1", "Service", name, pool, uid, "registrar", spec=spec)


def network_policy(pool: ServerPool, uid: str) -> Object:
    """ENRP from the pool's registrars only; ASAP, health and metrics from everywhere (identity decides there)."""
    selector = {"matchLabels": registrar_selector(pool.metadata.name)}

    def port(number: int) -> Object:
        return {"protocol": "TCP", "port": number}

    spec: Object = {
        "podSelector": selector,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": selector}], "ports": [port(enrp_port(pool))]},
            {"ports": [port(asap_port(pool)), port(names.REGISTRAR_HTTP)]},
        ],
    }
    name = names.registrar_set(pool.metadata.name)
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, pool, uid, "registrar", spec=spec)
