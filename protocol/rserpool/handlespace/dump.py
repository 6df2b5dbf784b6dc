# SPDX-License-Identifier: Apache-2.0
"""The canonical dump: equal for two registrars exactly if they hold the same handlespace."""

from __future__ import annotations

from typing import Any

from rserpool.handlespace.space import Handlespace
from rserpool.wire import PolicyType, PoolElement, SctpTransport, Transport, UnknownPolicy, policies, readable_handle
from rserpool.wire.transports import OpaqueTransport


def dump(space: Handlespace) -> dict[str, Any]:
    """Pools, elements and owners' checksums as JSON data: sorted, without timers or anything local to a registrar."""
    pools = []
    for handle in sorted(space.pools):
        pool = space.pools[handle]
        elements = [_element(pool.elements[i]) for i in sorted(pool.elements)]
        pools.append(
            {
                "handle": readable_handle(handle),
                "policy": _policy_name(pool.policy.TYPE),
                "transport": pool.transport_type.name.removesuffix("_TRANSPORT"),
                "elements": elements,
            }
        )
    checksums = {f"{owner:#010x}": f"{space.checksum(owner):#06x}" for owner in space.owners}
    return {"pools": pools, "checksums": checksums}


def _element(element: PoolElement) -> dict[str, Any]:
    return {
        "identifier": f"{element.identifier:#010x}",
        "home": f"{element.home:#010x}",
        "life": element.life,
        "transport": describe_transport(element.transport),
        "policy": describe_policy(element.policy),
        "asap": None if element.asap_transport is None else describe_transport(element.asap_transport),
    }


def describe_transport(transport: Transport) -> str:
    """A transport in one word, such as ``tcp:10.1.2.3:7007``."""
    kind = transport.TYPE.name.removesuffix("_TRANSPORT").lower().replace("_", "-")
    if isinstance(transport, OpaqueTransport):
        return f"{kind}:{transport.value.hex()}"
    addresses = "+".join(f"[{a}]" if a.version == 6 else str(a) for a in transport.addresses)
    control = "/control" if isinstance(transport, SctpTransport) and transport.use else ""
    return f"{kind}:{addresses}:{transport.port}{control}"


def describe_policy(policy: policies.Policy) -> str:
    """A policy with its parameters, such as ``WeightedRoundRobin(weight=3)``."""
    if isinstance(policy, UnknownPolicy):
        return f"{policy.TYPE:#010x}({policy.data.hex()})"
    return repr(policy)


def _policy_name(policy_type: int) -> str:
    try:
        return PolicyType(policy_type).name
    except ValueError:
        return f"{policy_type:#010x}"
