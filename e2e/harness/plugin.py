# SPDX-License-Identifier: Apache-2.0
"""Fixtures and hooks of pytest; conftest.py only names them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness import artefacts, nodes
from harness.cluster import Cluster, NoClusterError
from harness.cluster import cluster as find_cluster
from harness.namespaces import fresh

TIMEOUT: Final = 300
"""Seconds for one test, where it does not say otherwise."""
_E2E: Final = Path(__file__).parent.parent
ENOUGH: Final = 3
"""Failures of one file of which everything is kept: more of them say the same, and each takes seconds."""
_kept: dict[Path, list[str]] = {}


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Cluster:
    """The cluster the tests run on."""
    try:
        return find_cluster()
    except NoClusterError as e:
        pytest.exit(str(e), returncode=2)


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A new namespace for the tests of one file."""
    with fresh(request.path.stem.replace("test_", "e2e-")) as name:
        yield name


@pytest.fixture(autouse=True)
def _nodes_are_repaired() -> Iterator[None]:
    yield
    nodes.repair_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_E2E) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what there is to see of a failure while it is still there."""
    report = yield
    if report.failed and call.excinfo is not None and not call.excinfo.errisinstance(pytest.exit.Exception):
        kept = _kept.setdefault(item.path, [])
        if len(kept) < ENOUGH:
            kept.append(str(artefacts.collect(f"{item.path.stem}.{item.name}")))
            report.sections.append(("artefacts", kept[-1]))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show measured figures, and where to look after a failure."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)]
    figures = [value for r in reports if r.when == "call" for name, value in r.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(str(figure))
    if _kept:
        terminalreporter.section("artefacts")
        terminalreporter.write_line(f"Logs, Events and dumps, at most {ENOUGH} times a file: {artefacts.folder()}")
