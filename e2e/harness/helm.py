# SPDX-License-Identifier: Apache-2.0
"""helm, and our release as it was installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from harness.cluster import REPOSITORY, SYSTEM, cluster

RELEASE: Final = "rserpool"
CHART: Final = REPOSITORY / "charts" / "rserpool"


class HelmError(Exception):
    """helm ended with an error; the text is what it wrote."""


def helm(*arguments: str, input: str | None = None, timeout: float = 240) -> str:  # noqa: A002 - as subprocess has it
    """Run it in our namespace; returns standard output.

    Raises:
        HelmError: it failed.
    """
    done = subprocess.run(  # noqa: PLW1510 - the status is looked at below
        ["helm", "-n", SYSTEM, *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=cluster().environment(),
    )
    if done.returncode:
        raise HelmError(f"{done.stdout}\n{done.stderr}")
    return done.stdout


def values() -> dict[str, Any]:
    """What the release was given."""
    found: dict[str, Any] = json.loads(helm("get", "values", RELEASE, "-o", "json")) or {}
    return found


def install(given: Mapping[str, Any], **changed: Any) -> None:
    """Install or upgrade with these values, changed by those: underscores stand for dots."""
    sets = [f"--set-json={key.replace('_', '.')}={json.dumps(value)}" for key, value in changed.items()]
    command = ("upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "--wait", "--timeout", "3m")
    helm(*command, "--reset-values", "-f", "-", *sets, input=json.dumps(given))


def roll_back() -> None:
    """Back to the last revision, whose uninstallation was refused: as helm has it, it can be nothing else before."""
    last = json.loads(helm("history", RELEASE, "-o", "json"))[-1]["revision"]
    helm("rollback", RELEASE, str(last), "--wait", "--timeout", "2m")


@contextmanager
def as_before() -> Iterator[dict[str, Any]]:
    """Gives the release's values, and brings it back to them at the end."""
    given = values()
    try:
        yield given
    finally:
        install(given)
