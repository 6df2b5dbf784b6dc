# SPDX-License-Identifier: Apache-2.0
"""The `[load]` section of a sidecar's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rserpool.daemon import parsers as parse
from rserpool.daemon.settings import KeyFaultError, setting

TOLD, CPU, HTTP, PROMETHEUS = SOURCES = ("told", "cpu", "http", "prometheus")
_PATH: Final = re.compile(r"(/[!-~]*)?")
_LABEL: Final = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
METRIC: Final = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)?\}})?")
"""A metric's name, and labels that its sample must have."""


def _path(raw: object) -> str:
    if not _PATH.fullmatch(parse.text(raw)):
        raise ValueError("write a path that begins with /, in ASCII, without spaces")
    return parse.text(raw)


def _metric(raw: object) -> str:
    if raw != "" and not METRIC.fullmatch(parse.text(raw)):
        raise ValueError('write a metric\'s name, with labels if need be: busy_ratio{pool="web"}')
    return parse.text(raw)


@dataclass(frozen=True, kw_only=True)
class LoadSection:
    """The load, from 0 to 1, that the load-adaptive policies go by; the other policies ignore it."""

    source: str = setting(
        parse.one_of(*SOURCES), "told: by POST /load on the control socket; or cpu, http, prometheus.", TOLD
    )
    port: int = setting(parse.port_or_none, "http, prometheus: port to ask; 0: the application's.", 0)
    path: str = setting(_path, "http, prometheus: path to ask for; empty: /load, /metrics.", "")
    metric: str = setting(_metric, "prometheus: the metric, with labels if need be.", "")
    interval: float = setting(parse.positive, "Between two measurements.", "1s")
    timeout: float = setting(parse.positive, "http, prometheus: for one answer.", "1s")
    smoothing: float = setting(parse.seconds, "Time constant of the moving average; 0: none.", "3s")
    keep: float = setting(
        parse.seconds, "Without a measurement the last one counts so long; then the load is 1.", "10s"
    )
    minimum_interval: float = setting(parse.positive, "Least time between two registrations with a new load.", "1s")
    minimum_change: float = setting(
        parse.number(0, 1), "Least change that is registered; twice that where it turns back.", 1 / 64
    )
    settle: float = setting(parse.positive, "After so long any difference that is left is registered.", "30s")
    cpus: float = setting(
        parse.number(0, 1e6), "cpu: CPUs that are a load of 1; 0: those the application may use.", 0.0
    )
    process_file: str = setting(parse.text, "cpu: file with the application's process ID; its children count too.", "")
    cgroup: str = setting(parse.text, "cpu: folder of the application's control group, version 1 or 2.", "")

    @property
    def place(self) -> str:
        """The path to ask for."""
        return self.path or ("/metrics" if self.source == PROMETHEUS else "/load")

    def check(self) -> None:
        """Whether what the source needs is there.

        Raises:
            KeyFaultError: it is not.
        """
        if self.source == PROMETHEUS and not self.metric:
            raise KeyFaultError("metric", 'is needed with source prometheus; write its name: busy_ratio{pool="web"}')
        if self.process_file and self.cgroup:
            raise KeyFaultError("cgroup", "process_file says already whose CPU time counts; write one of them")
