# SPDX-License-Identifier: Apache-2.0
"""`rserpool-registrar`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rserpool.daemon.process import run_daemon
from rserpool_registrar.config import RegistrarSettings
from rserpool_registrar.daemon import main as run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    return run_daemon("rserpool-registrar", RegistrarSettings, run, argv, uvloop=True)


if __name__ == "__main__":
    sys.exit(main())
