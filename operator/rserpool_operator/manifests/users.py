# SPDX-License-Identifier: Apache-2.0
"""What pool users' pods mount: where the registrars are and whom to trust. Spoiling it harms only its spoiler."""

from __future__ import annotations

from rserpool.pool import ServerPool
from rserpool.pool.model import Mode
from rserpool_operator import names
from rserpool_operator.kube.kinds import Object
from rserpool_operator.manifests.common import asap_port, labels, owner, registrar_hosts


def config_map(pool: ServerPool, uid: str, namespace: str, bundle: str, cluster_domain: str) -> Object:
    """The ConfigMap in one namespace that may use the pool.

    An owner in another namespace would be taken for one that is gone, so there the operator deletes it itself.
    """
    home, name = pool.metadata.namespace, pool.metadata.name
    hosts = registrar_hosts(home, name, pool.spec.registrars.replicas, cluster_domain)
    metadata: Object = {
        "name": names.users_config_map(name, home),
        "namespace": namespace,
        "labels": labels(pool, "users") | {names.OWNER_NAMESPACE_LABEL: home, names.OWNER_UID_LABEL: uid},
    }
    if namespace == home:
        metadata["ownerReferences"] = [owner(pool, uid)]
    data = {
        "registrars": "".join(f"{host}:{asap_port(pool)}\n" for host in hosts),
        "pool": f"{home}/{name}\n",
        "handle": pool.handle.decode() + "\n",
    }
    if pool.spec.control_channel:
        data["control-channel"] = "true\n"
    if pool.spec.security.mode is Mode.INSECURE:
        data["insecure"] = "this pool has no security: no TLS, nobody is verified\n"
    else:
        data["bundle.pem"] = bundle
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
