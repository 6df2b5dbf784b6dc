# SPDX-License-Identifier: Apache-2.0
"""Every metric that a registrar, a sidecar and the operator export: its labels, and the values of those that are words."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

import rserpool_operator
from rserpool.asap.events import (
    Change,
    ElementChanged,
    ElementState,
    ElementStateChanged,
    HuntChanged,
    Ignored,
    Lagged,
    Malformed,
    PeerChanged,
    PeerState,
    Refused,
)
from rserpool.daemon.metrics import THREATS
from rserpool.transport.http import Target, ask
from rserpool_operator.metrics import OperatorMetrics
from rserpool_registrar.observe import Observer as RegistrarObserver
from rserpool_sidecar.observe import Observer as SidecarObserver
from support.rig_model import element, in_background, runtime_folder, server_pool

SCRAPE: Final = frozenset(("namespace", "pod", "container", "job", "instance", "endpoint"))
"""What Prometheus adds to each sample."""
OF_POOLS: Final = SCRAPE | {"pool"}
"""Likewise to those of registrars and sidecars, by the chart's PodMonitors."""


@dataclass
class Exported:
    """One kind of process.

    Attributes:
        labels: of each sample's name.
        values: of each (name, label), as far as they were seen.
    """

    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    values: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def take(self, text: str) -> None:
        """What a scrape brought."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                assert self.labels.get(sample.name, sample.labels.keys()) == sample.labels.keys()
                self.labels[sample.name] = frozenset(sample.labels)
                for label, value in sample.labels.items():
                    self.values[sample.name, label].add(value)


@cache
def of_daemons() -> Exported:
    """Registrars and sidecars: what a running pool serves, and what their observers make of every kind of event."""
    found = Exported()
    pool = server_pool(controlChannel=True, policy={"type": "LeastUsed"}, registrars={"replicas": 2})
    with runtime_folder(), in_background(pool, 1) as (running, background):
        for process in (running.plan.registrars[0], running.plan.sidecars[0]):
            target = Target(host=str(process.place.address), port=process.place.ports["http"])
            found.take(background.do(ask(target, "GET", "/metrics")).body.decode())
    for registry in _observed():
        found.take(generate_latest(registry).decode())
    return found


def _observed() -> Iterator[CollectorRegistry]:
    registrar = RegistrarObserver(dict, lambda: 0.0)
    sidecar = SidecarObserver(dict, lambda: 0.0)
    for change in Change:
        registrar.event(ElementChanged(pool_handle=b"echo", element=element(1, 7007), change=change, reason="a test"))
    for state in PeerState:
        registrar.event(PeerChanged(server_id=1, state=state, name="", reason="a test"))
    for stands in ElementState:
        sidecar.event(ElementStateChanged(pool_handle=b"echo", pe_identifier=1, state=stands, reason="a test"))
    for outcome in (True, False):
        sidecar.event(HuntChanged(found=outcome, registrar="", reason="a test"))
    for observer in (registrar, sidecar):
        for threat in THREATS:
            observer.event(Refused(threat=threat, peer="a test", what="message", reason="a test"))
        observer.event(Malformed(peer="a test", offset=0, reason="a test"))
        observer.event(Ignored(peer="a test", what="message", reason="a test"))
        observer.event(Lagged(seconds=1.0))
        yield observer.metrics.registry


@cache
def of_operator() -> Exported:
    """The operator: each metric with a sample; values are the words that its code writes."""
    found = Exported()
    metrics = OperatorMetrics()
    for attribute in vars(metrics).values():
        if isinstance(attribute, MetricWrapperBase) and attribute._labelnames:
            attribute.labels(*attribute._labelnames)
    found.take(generate_latest(metrics.registry).decode())
    words = set(re.findall(r'"([A-Za-z_0-9]+)"', _operators_code())) | {f"{n}xx" for n in range(1, 6)}
    for place in found.values:
        found.values[place] |= words
    return found


def _operators_code() -> str:
    folder = Path(inspect.getfile(rserpool_operator)).parent
    return "".join(path.read_text() for path in sorted(folder.rglob("*.py")))


def labels_of(metric: str) -> frozenset[str]:
    """All labels that a metric has in Prometheus.

    Raises:
        ValueError: nobody exports it.
    """
    daemons, operator = of_daemons().labels, of_operator().labels
    if metric == "up":
        return OF_POOLS
    if metric in daemons and metric.startswith(("rserpool_", "process_")):
        return daemons[metric] | OF_POOLS
    if metric in operator:
        return operator[metric] | SCRAPE
    raise ValueError(f"nobody exports {metric}")


def values_of(metric: str, label: str) -> set[str] | None:
    """The values that a metric's own label can have; ``None``: the scrape's, which nobody knows here."""
    found: Iterable[Mapping[tuple[str, str], set[str]]] = (of_daemons().values, of_operator().values)
    there = [values[metric, label] for values in found if (metric, label) in values]
    return set[str]().union(*there) if there else None
