# SPDX-License-Identifier: Apache-2.0
"""The operator's metrics. Names and meanings are an interface (docs/metrics.md)."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from rserpool import __version__

_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OperatorMetrics:
    """A replica's registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types for it
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge("rserpool_build_info", "The version that runs.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.leading = Gauge("rserpool_operator_leading", "1 in the replica that reconciles.", registry=registry)
        self.pools = Gauge("rserpool_operator_pools", "Pools, by whether they are Ready.", ["ready"], registry=registry)
        self.reconciles = Counter(
            "rserpool_operator_reconciles", "Times a pool was looked at.", ["outcome"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "rserpool_operator_reconcile_seconds", "How long that took.", buckets=_SECONDS, registry=registry
        )
        self.writes = Counter("rserpool_operator_effects", "Effects carried out, by kind.", ["kind"], registry=registry)
        self.api = Counter(
            "rserpool_operator_api_requests",
            "Requests to the API server.",
            ["verb", "resource", "status"],
            registry=registry,
        )
        self.enrolments = Counter(
            "rserpool_operator_enrolments", "Certificates asked for, by outcome.", ["way", "outcome"], registry=registry
        )
        self.handshakes = Counter(
            "rserpool_operator_refused_handshakes",
            "TLS handshakes that failed, by reason.",
            ["reason"],
            registry=registry,
        )
        self.controls = Counter(
            "rserpool_operator_control_requests",
            "Requests on the control channel, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.admissions = Counter(
            "rserpool_operator_admissions", "Pods that were looked at, by outcome.", ["outcome"], registry=registry
        )
