# SPDX-License-Identifier: Apache-2.0
"""What a ServerPool means to the daemons: their configuration, as tables of sections and keys.

The same for a pool on one machine and on a cluster; what differs there (addresses, ports, where identities come from)
is added by whoever starts the daemons.
"""

from __future__ import annotations

from datetime import timedelta

from rserpool.pool.model import Dialect, Health, ServerPool

Tables = dict[str, dict[str, object]]


def registrar_tables(pool: ServerPool, trust_domain: str) -> Tables:
    """A registrar's configuration, as far as the ServerPool decides it."""
    spec = pool.spec
    return {
        "pool": _pool(pool, trust_domain),
        "security": {"mode": str(spec.security.mode)},
        "users": {"anonymous": spec.users.anonymous},
        "timers": _given(
            profile=str(spec.timers.profile),
            heartbeat=spec.timers.heartbeat_cycle,
            last_heard=spec.timers.max_time_last_heard,
            no_response=spec.timers.max_time_no_response,
            takeover=spec.timers.takeover_timeout,
            keep_alive=spec.timers.keep_alive_interval,
            keep_alive_timeout=spec.timers.keep_alive_timeout,
        ),
        "limits": {
            "registrations_per_second": spec.limits.registrations_per_second,
            "resolutions_per_second": spec.limits.resolutions_per_second,
            "reports_per_second": spec.limits.endpoint_unreachable_per_second,
            "elements": spec.limits.elements,
        },
    }


def sidecar_tables(pool: ServerPool, trust_domain: str) -> Tables:
    """A sidecar's configuration, as far as the ServerPool decides it."""
    spec = pool.spec
    elements = spec.elements
    tables: Tables = {
        "pool": _pool(pool, trust_domain),
        "security": {"mode": str(spec.security.mode)},
        "application": {"port": elements.port, "protocol": str(elements.protocol)},
        "policy": {
            "type": str(spec.policy.type),
            "weight": elements.weight,
            "priority": elements.priority,
            "degradation": elements.load_degradation,
        },
        "load": _load(pool),
        "health": _health(elements.health or Health()),
        "timers": _given(profile=str(spec.timers.profile), registration_life=spec.timers.registration_life),
    }
    if spec.control_channel:  # whoever starts the sidecar adds the keys of the pool's cookies
        tables["channel"] = {"enabled": True, "anonymous": spec.users.anonymous} | _given(drain=elements.drain)
    return tables


def _pool(pool: ServerPool, trust_domain: str) -> dict[str, object]:
    return {
        "namespace": pool.metadata.namespace,
        "name": pool.metadata.name,
        "handle": pool.handle.decode(),
        "trust_domain": trust_domain,
        "dialect": "rsplib" if pool.spec.dialect is Dialect.RSPLIB else "rfc",
    }


def _load(pool: ServerPool) -> dict[str, object]:
    """What a sidecar measures: nothing, where the policy does not go by it."""
    load = pool.spec.elements.load
    if not pool.spec.policy.type.adaptive:
        return {}
    return _given(
        source=str(load.source),
        path=load.path,
        port=load.port,
        metric=load.metric,
        smoothing=load.smoothing,
        minimum_interval=load.minimum_interval,
        minimum_change=load.minimum_change,
    )


def _health(health: Health) -> dict[str, object]:
    table: dict[str, object] = {
        "initial_delay": health.initial_delay_seconds,
        "period": health.period_seconds,
        "timeout": health.timeout_seconds,
        "failure_threshold": health.failure_threshold,
        "success_threshold": health.success_threshold,
    }
    probe = health.tcp_socket or health.http_get
    if probe is not None and probe.port is not None:
        table["port"] = probe.port
    if health.http_get is not None:
        table["probe"] = "httpGet"
        table["path"] = health.http_get.path
        table["headers"] = [f"{header.name}: {header.value}" for header in health.http_get.http_headers]
    return table


def _given(**values: object) -> dict[str, object]:
    """Only what is set; durations in seconds."""
    return {
        key: value.total_seconds() if isinstance(value, timedelta) else value
        for key, value in values.items()
        if value is not None
    }
