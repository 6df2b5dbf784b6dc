# SPDX-License-Identifier: Apache-2.0
"""The registrar on an event loop of our choice: RSERPOOL_BENCHMARK_LOOP is uvloop or asyncio."""

from __future__ import annotations

import os
import sys

from rserpool.daemon.lean import without_second_openssl

if __name__ == "__main__":
    uvloop = os.environ.pop("RSERPOOL_BENCHMARK_LOOP") == "uvloop"
    without_second_openssl(uvloop=uvloop)
    from rserpool.daemon.process import run_daemon
    from rserpool_registrar.config import RegistrarSettings
    from rserpool_registrar.daemon import main

    sys.exit(run_daemon("rserpool-registrar", RegistrarSettings, main, None, uvloop=uvloop))
