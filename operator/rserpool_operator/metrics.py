# SPDX-License-Identifier: Apache-2.0
"""The operator's metrics. Names and meanings are an interface (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from rserpool import __version__

POOL: Final = ("namespace", "pool")
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
        self.ca_not_before = Gauge(
            "rserpool_operator_ca_not_before_timestamp_seconds",
            "When the life of the CA that signs a pool's certificates began.",
            POOL,
            registry=registry,
        )
        self.ca_not_after = Gauge(
            "rserpool_operator_ca_not_after_timestamp_seconds",
            "When the CA that signs a pool's certificates expires.",
            POOL,
            registry=registry,
        )
        self.ca_phase = Gauge(
            "rserpool_operator_ca_phase",
            "1 for where the replacement of a pool's CA is.",
            [*POOL, "phase"],
            registry=registry,
        )
        self.ca_missing = Gauge(
            "rserpool_operator_ca_missing",
            "Pods that have not taken part in a change of the pool's CA yet, 20 at most.",
            POOL,
            registry=registry,
        )
        self._phases: dict[tuple[str, str], str] = {}
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

    def show_authority(self, namespace: str, pool: str, authority: Mapping[str, Any]) -> None:
        """Show a pool's ``status.authority``."""
        key, phase = (namespace, pool), str(authority.get("phase", ""))
        if self._phases.get(key) not in (None, phase):
            self.ca_phase.remove(*key, self._phases[key])
        if phase:
            self._phases[key] = phase
            self.ca_phase.labels(*key, phase).set(1)
        self.ca_missing.labels(*key).set(len(authority.get("missing") or ()))
        for gauge, field in ((self.ca_not_before, "notBefore"), (self.ca_not_after, "notAfter")):
            at = authority.get(field)
            if at:
                gauge.labels(*key).set(datetime.fromisoformat(at).timestamp())

    def forget_authority(self, namespace: str, pool: str) -> None:
        """The pool is gone, or another replica tells of it now."""
        key = (namespace, pool)
        phase = self._phases.pop(key, None)
        if phase is not None:
            self.ca_phase.remove(*key, phase)
        for gauge in (self.ca_missing, self.ca_not_before, self.ca_not_after):
            with suppress(KeyError):
                gauge.remove(*key)
