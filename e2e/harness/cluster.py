# SPDX-License-Identifier: Apache-2.0
"""The cluster that ``e2e/up.sh`` has made: what it is called, and how to reach it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parent.parent.parent
SYSTEM: Final = "rserpool-system"
"""Namespace of the operator."""
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rserpool-e2e"
NAME: Final = "rserpool-e2e"


class NoClusterError(Exception):
    """There is no cluster to test on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One kind cluster with our images and chart."""

    name: str
    version: str
    """Tag of the images, and version of the chart's."""
    offline: bool
    """Made without a registry: images other than ours cannot be had, and NetworkPolicies are not enforced."""
    kubeconfig: Path

    @property
    def next_version(self) -> str:
        """A second tag of the same images, for upgrades."""
        return f"{self.version}-next"

    def image(self, name: str) -> str:
        """One of ours, ``node`` or ``operator``, as it is called in the nodes."""
        return f"rserpool-{name}:{self.version}"

    def environment(self) -> dict[str, str]:
        """Of every program that is to reach this cluster and no other."""
        path = os.environ["PATH"]
        if self.offline:
            path = f"{CACHE / 'bin'}{os.pathsep}{path}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}


@cache
def cluster() -> Cluster:
    """The one that is there.

    Raises:
        NoClusterError: there is none.
    """
    state, kubeconfig = CACHE / f"{NAME}.env", CACHE / f"{NAME}.kubeconfig"
    if not state.exists() or not kubeconfig.exists():
        raise NoClusterError("there is no cluster for the end-to-end tests: run e2e/up.sh, or make e2e")
    told = dict(line.split("=", 1) for line in state.read_text().splitlines())
    return Cluster(name=told["CLUSTER"], version=told["VERSION"], offline=told["OFFLINE"] == "1", kubeconfig=kubeconfig)
