# SPDX-License-Identifier: Apache-2.0
"""`rserpool-sidecar`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rserpool.daemon.process import run_daemon
from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.daemon import main as run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    return run_daemon("rserpool-sidecar", SidecarSettings, run, argv, uvloop=False)


if __name__ == "__main__":
    sys.exit(main())
