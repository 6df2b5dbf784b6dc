# SPDX-License-Identifier: Apache-2.0
"""A Prometheus looks at a running pool, and the chart's alerts fire when its registrars fall silent, and end with that.

The pool is one of `rserpool up`, on this machine; its processes are scraped under labels of the chart's PodMonitors.
Time is shortened in one way only: each `for` of the rules is two seconds. Needs Prometheus (e2e/lab/binaries.sh).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import pytest
import yaml

from charts import test_rules
from charts.rendering import program
from support.ports import free_port
from support.running import RegistrarProcess, RunningPool, manifest, pool_running, started

FOR: Final = "2s"
"""Instead of each rule's own."""
PATIENCE: Final = 40.0
OPERATORS: Final = {"RSerPoolOperatorAbsent"}
"""What fires rightly: there is none."""
Alert = tuple[str, str]
"""Its name, and the pod or the pool that it speaks of."""


@dataclass
class Prometheus:
    """One that runs."""

    url: str

    def ask(self, path: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def scraped(self) -> int:
        """Targets that are up."""
        return sum(target["health"] == "up" for target in self.ask("targets")["activeTargets"])

    def firing(self) -> set[Alert]:
        """But for those of the operator."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("pod") or alert["labels"].get("pool", ""))
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing" and alert["labels"]["alertname"] not in OPERATORS
        }

    def until(self, wanted: set[Alert], without: Collection[Alert]) -> float:
        """Wait until those fire, and none of the others; returns the seconds."""
        began, found = time.monotonic(), set[Alert]()
        while time.monotonic() - began < PATIENCE:
            found = self.firing()
            if wanted <= found and found.isdisjoint(without):
                return time.monotonic() - began
            time.sleep(0.2)
        raise AssertionError(f"wanted {sorted(wanted)} without {sorted(without)}, firing: {sorted(found)}")


def rules() -> dict[str, Any]:
    """The chart's, that wait a few seconds."""
    found = yaml.safe_load(test_rules.CHART.read_text())
    for group in found["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
            rule["for"] = FOR
    return {"groups": found["groups"]}


def job(name: str, targets: dict[str, str]) -> dict[str, Any]:
    """What the PodMonitor of that name makes of pods and their addresses."""
    labels = {"namespace": "demo", "pool": "echo"}
    return {
        "job_name": f"rserpool-system/rserpool-{name}",
        "static_configs": [{"targets": [at], "labels": {**labels, "pod": pod}} for pod, at in targets.items()],
    }


@contextmanager
def watched(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these each second."""
    timing = {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    config = {"global": timing, "rule_files": [str(folder / "rules.yaml")], "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus", "e2e/lab/binaries.sh builds it, or https://prometheus.io/download")]
    command += [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://{address}")
        began = time.monotonic()
        while True:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() - began < PATIENCE, "not every target is scraped"
            try:
                if found.scraped() == sum(len(j["static_configs"]) for j in jobs):
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(replicas=3), "--elements", "2") as running:
        started(running)
        yield running


@pytest.fixture(scope="module")
def prometheus(pool: RunningPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    registrars = {r.name: f"{r.address}:{r.http_port}" for r in pool.registrars}
    sidecars = {e.name: f"{e.address}:8081" for e in pool.elements}
    with watched(
        tmp_path_factory.mktemp("prometheus"), [job("registrars", registrars), job("sidecars", sidecars)]
    ) as it:
        yield it


@contextmanager
def silenced(*registrars: RegistrarProcess) -> Iterator[None]:
    """Registrars that hang."""
    for registrar in registrars:
        assert registrar.pid is not None
        os.kill(registrar.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for registrar in registrars:
            assert registrar.pid is not None
            os.kill(registrar.pid, signal.SIGCONT)


def test_a_pool_that_is_well_makes_no_alert_fire(prometheus: Prometheus) -> None:
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert prometheus.firing() == set()
        time.sleep(0.5)


def test_alerts_fire_one_after_the_other_as_registrars_fall_silent_and_end_when_they_are_back(
    pool: RunningPool, prometheus: Prometheus, record_property: Any
) -> None:
    first, second, third = pool.registrars
    took: list[float] = []
    with silenced(first):
        took.append(prometheus.until({("RSerPoolNotScraped", first.name)}, {("RSerPoolTooFewRegistrars", "echo")}))
        with silenced(second):
            both = {("RSerPoolNotScraped", r.name) for r in (first, second)}
            took.append(prometheus.until({*both, ("RSerPoolTooFewRegistrars", "echo")}, ()))
            with silenced(third):
                took.append(prometheus.until({("RSerPoolNoRegistrar", "echo")}, {("RSerPoolTooFewRegistrars", "echo")}))
    silent = {("RSerPoolNotScraped", r.name) for r in pool.registrars}
    silent |= {("RSerPoolNoRegistrar", "echo"), ("RSerPoolTooFewRegistrars", "echo")}
    took.append(prometheus.until(set(), silent))
    record_property("figure", f"alerts of silent registrars: {', '.join(f'{t:.1f}' for t in took)} s (for: {FOR})")
