# SPDX-License-Identifier: Apache-2.0
"""The metrics of running daemons are those that docs/metrics.md names, no more and no fewer."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from rserpool.transport.http import Target, ask
from support.running import REPOSITORY, RunningPool, manifest, pool_running, started

ROW = re.compile(r"^\| `(rserpool_\w+)` \| (\w+) \|", re.MULTILINE)


def test_registrars_and_sidecars_have_the_metrics_that_are_documented() -> None:
    both, registrar, sidecar = documented()
    with pool_running(manifest(more="  controlChannel: true\n")) as pool:
        started(pool)
        assert exposed(pool, pool.registrars[0].address, 8080) == both | registrar
        assert exposed(pool, pool.elements[0].address, 8081) == both | sidecar


def documented() -> tuple[set[tuple[str, str]], ...]:
    """Names and types of each part of the page."""
    _, both, registrar, sidecar, *_ = (REPOSITORY / "docs" / "metrics.md").read_text().split("\n## ")
    return tuple(set(ROW.findall(part)) for part in (both, registrar, sidecar))


def exposed(pool: RunningPool, host: str, port: int) -> set[tuple[str, str]]:
    """Names and types of what a daemon serves."""
    text = pool.run(ask(Target(host=host, port=port), "GET", "/metrics")).body.decode()
    return {
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type)
        for family in text_string_to_metric_families(text)
        if family.name.startswith("rserpool_")
    }
