# SPDX-License-Identifier: Apache-2.0
"""One pool for all commands that only look at it, and a cluster that is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fake_kubectl import FakeCluster
from support.rig_model import RunningPool, in_background, runtime_folder, server_pool


@pytest.fixture(scope="package")
def pool() -> Iterator[RunningPool]:
    """A secure pool of two registrars and three elements that commands find by themselves."""
    with runtime_folder(), in_background(server_pool(registrars={"replicas": 2}), 3) as (found, _):
        yield found


@pytest.fixture
def nothing_runs() -> Iterator[None]:
    """No pool runs on this machine."""
    with runtime_folder():
        yield


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs these tests may have a cluster; no test may ask it."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def cluster(
    nothing_runs: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> FakeCluster:
    """A cluster by way of a kubectl that is none; nothing runs on this machine."""
    folder = tmp_path_factory.mktemp("cluster")
    fake = FakeCluster(folder)
    (folder / "kubeconfig").touch()
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("PATH", f"{fake.program.parent}{os.pathsep}{os.environ['PATH']}")
    return fake
