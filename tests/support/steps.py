# SPDX-License-Identifier: Apache-2.0
"""How much the handlespace's own code does, whatever else the machine does: steps of the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import rserpool.handlespace

FOLDER: Final = str(Path(rserpool.handlespace.__file__).parent)


def steps(job: Callable[[], object], times: int) -> float:
    """Bytecode instructions that the handlespace's code runs for a job, on average."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(times):
            job()
    finally:
        sys.settrace(before)
    return count / times
