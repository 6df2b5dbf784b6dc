# SPDX-License-Identifier: Apache-2.0
"""The demo is a promise: all of its parts are shown, within a minute, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.running import REPOSITORY


def test_the_demo_shows_all_it_promises_within_a_minute_and_leaves_nothing() -> None:
    before = left_in_temporary_folders()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "demo.py"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    for part in (
        "every registrar holds every element",
        "$ rserpool pools",
        "$ rserpool resolve echo",
        "hello'  resolved",
        "it is out of every registrar",
        "the others have taken its elements over",
        "rejected: SECURITY_REJECTION",
        "TLS alert",
        "what registrars hold is unchanged",
        "nothing is left",
    ):
        assert part in done.stdout
    assert done.stderr == ""
    assert left_in_temporary_folders() <= before


def left_in_temporary_folders() -> set[Path]:
    """Folders of demos; those of other tests that run beside this one are not told apart, so only the demo's."""
    return set(Path(tempfile.gettempdir()).glob("rsp-demo-*"))
