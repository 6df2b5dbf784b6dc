# SPDX-License-Identifier: Apache-2.0
"""Processes of a plan of `rserpool up`, started by a test itself: with certificates of its own, and logs beside them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rserpool_cli.up.plan import ProcessPlan
from support.rogue import Leaf
from support.running import PATIENCE


def security_from_files(leaf: Leaf, bundle: bytes, folder: Path) -> dict[str, Any]:
    """The section ``security`` of whoever has this leaf; its files are written into the folder."""
    uid = leaf.identity.pod_uid
    section: dict[str, Any] = {"mode": "Secure", "source": "files", "pod_uid": uid}
    for name, pem in (("chain", leaf.chain), ("key", leaf.key_pem), ("bundle", bundle)):
        file = folder / f"{uid}.{name}"
        file.write_bytes(pem)
        section[f"{name}_file"] = str(file)
    return section


def start(plan: ProcessPlan, directory: Path, command: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a process where the plan has it, by another command if there is one."""
    with (directory / f"{plan.name.replace('/', '-')}.log").open("wb") as log:
        environment = {**os.environ, **plan.environment}
        return subprocess.Popen(command or plan.command, env=environment, stdout=log, stderr=log, cwd=plan.folder)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, unless it has ended; one that does not is killed, and the test fails."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextlib.contextmanager
def running(plan: ProcessPlan, directory: Path) -> Iterator[None]:
    """Start a process, and end it."""
    process = start(plan, directory)
    try:
        yield
    finally:
        end(process)
