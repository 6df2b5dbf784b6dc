# SPDX-License-Identifier: Apache-2.0
"""The command line, as a user types it."""

from __future__ import annotations

import subprocess
import sys

from harness.cluster import cluster


def rserpool(*words: str, status: int = 0, program: tuple[str, ...] = (sys.executable, "-m", "rserpool_cli")) -> str:
    """Run it; returns what it prints: on standard output, or its one line of error."""
    environment = {key: value for key, value in cluster().environment().items() if not key.startswith("RSERPOOL_")}
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=150, env=environment, check=False)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout or done.stderr
