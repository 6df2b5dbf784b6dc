# SPDX-License-Identifier: Apache-2.0
"""Metrics in Prometheus' format: what both daemons count. Names and meanings are an interface (docs/metrics.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rserpool import __version__
from rserpool.asap.events import Event, Ignored, Lagged, Malformed, Refused
from rserpool.daemon.logs import PeerLog, identity_of
from rserpool.transport.http import Request, Response

THREATS: Final = tuple(f"2.{n}" for n in range(1, 17))
Gauges = Callable[[], Mapping[str, tuple[str, float]]]


class DaemonMetrics:
    """A daemon's registry, with what both daemons count, and the log lines that go with it.

    Args:
        gauges: name, or ``name|label=value`` -> (help, value), read at each scrape; ``_total`` makes it a counter.
        logger: where refusals are written, once a minute for each peer and threat.
        clock: seconds, never going backwards.
    """

    def __init__(self, gauges: Gauges, logger: logging.Logger, clock: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no type for it
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._log = PeerLog(logger)
        self._logger = logger
        self._clock = clock
        self._refusals = Counter(
            "rserpool_refusals",
            "What was refused, by section of the threats document and by what it was.",
            ["threat", "what"],
            registry=self.registry,
        )
        for threat in THREATS:
            self._refusals.labels(threat, "message")
        self._malformed = Counter("rserpool_malformed", "Octets that were no message.", registry=self.registry)
        self._ignored = Counter(
            "rserpool_ignored", "Good messages without effect, by rule.", ["what"], registry=self.registry
        )
        self._lag = Counter(
            "rserpool_lag_seconds",
            "Time for which the process did not run when it should have.",
            registry=self.registry,
        )
        self.registry.register(_Gauges(gauges))

    def count(self, event: Event) -> bool:
        """Count and log an event both daemons have; returns whether it was one."""
        match event:
            case Refused(threat=threat, peer=peer, what=what, reason=reason):
                self._refusals.labels(threat, what).inc()
                self._write(logging.WARNING, peer, threat, f"refused {what}: {reason}", {"threat": threat})
            case Malformed(peer=peer, offset=offset, reason=reason):
                self._malformed.inc()
                self._write(logging.WARNING, peer, "malformed", f"not a message: offset {offset}: {reason}", {})
            case Ignored(peer=peer, what=what, reason=reason):
                self._ignored.labels(what).inc()
                self._write(logging.INFO, peer, what, f"ignored {what}: {reason}", {})
            case Lagged(seconds=seconds):
                self._lag.inc(seconds)
                self._logger.warning("the process did not run for %.1f s; deadlines were moved by that", seconds)
            case _:
                return False
        return True

    def _write(self, level: int, peer: str, subject: str, message: str, extra: Mapping[str, object]) -> None:
        self._log.write(level, identity_of(peer), subject, message, {"peer": peer, **extra}, self._clock())

    async def serve(self, _: Request) -> Response:
        """Answer a scrape."""
        return Response(body=generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


class _Gauges:
    """What is read when it is asked for."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("rserpool_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for name, (text, value) in self._gauges().items():
            plain, _, label = name.partition("|")
            key, _, word = label.partition("=")
            family = families.get(plain)
            if family is None:
                kind = CounterMetricFamily if plain.endswith("_total") else GaugeMetricFamily
                family = families[plain] = kind(plain, text, labels=[key] if key else [])
            family.add_metric([word] if key else [], value)
        yield from families.values()
